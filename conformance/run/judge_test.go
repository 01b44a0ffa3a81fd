package main

import (
	"fmt"
	"strings"
	"testing"
)

// report returns h2spec's report of a run in which these cases fail, by section and title.
func report(cases int, failing ...[2]string) []byte {
	var text strings.Builder
	text.WriteString("<testsuites>")
	for _, one := range failing {
		fmt.Fprintf(&text, `<testsuite package="%s"><testcase classname="%s"><error>Expected & it</error></testcase></testsuite>`,
			one[0], strings.ReplaceAll(one[1], `"`, "&quot;"))
	}
	text.WriteString(`<testsuite package="generic/1">`)
	for i := range cases - len(failing) {
		fmt.Fprintf(&text, `<testcase classname="case %d"></testcase>`, i)
	}
	text.WriteString("</testsuite></testsuites>")
	return []byte(text.String())
}

func TestJudgeH2spec(t *testing.T) {
	var excused [][2]string
	for _, exception := range cleartextExceptions {
		excused = append(excused, [2]string{exception.section, exception.title})
	}
	tests := []struct {
		name   string
		report []byte
		passed int
		want   string
	}{
		{"the exceptions fail", report(h2specCases, excused...), h2specCases - len(excused), ""},
		{"an exception passes", report(h2specCases, excused[1:]...), h2specCases - len(excused) + 1,
			"an exception passed: remove it from conformance/run/h2spec.go: " + excused[0][0] + " " + excused[0][1]},
		{"another case fails", report(h2specCases, append(excused, [2]string{"hpack/2", "Sends"})...), h2specCases - len(excused) - 1, "failed: hpack/2 Sends"},
		{"a case is missing", report(h2specCases-1, excused...), h2specCases - len(excused) - 1, "145 cases were run, not 146"},
		{"no report", []byte("Error: connection refused"), 0, "read the report"},
	}
	for _, test := range tests {
		passed, err := h2specSuite{exceptions: cleartextExceptions}.judge(test.report)
		if passed != test.passed || (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %d passed, %v\nwant %d, %q", test.name, passed, err, test.passed, test.want)
		}
	}
}

func TestJudgeConnect(t *testing.T) {
	suite := connectSuite{config: "server.yaml", program: "server", cases: 10}
	tests := []struct{ name, output, want string }{
		{"all passed", "Total cases: 10\n10 passed, 0 failed\n", ""},
		{"one failed", "FAILED: x\n\nTotal cases: 10\n9 passed, 1 failed\n", "1 of 10 cases failed"},
		{"fewer cases", "Total cases: 9\n9 passed, 0 failed\n", "9 cases passed, 10 are expected"},
		{"no summary", "Usage:\n", "its output has no summary"},
		{"a race", "WARNING: DATA RACE\n10 passed, 0 failed\n", "the log has a DATA RACE"},
		{"a panic", "http: panic serving\n10 passed, 0 failed\n", "the log has a panic"},
	}
	for _, test := range tests {
		_, err := suite.judge(test.output)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}
