package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/roster/bench/internal/measure"
	"example.com/roster/bench/internal/peer"
)

func TestWriteSectionLeavesTheOthers(t *testing.T) {
	docs := t.TempDir()
	file := filepath.Join(docs, "benchmarks.md")
	page := "# Benchmarks\n\n" + begin("bench") + "\nold\n" + end("bench") + "\n\n" + begin("bench-flood") + "\na flood\n" + end("bench-flood") + "\n"
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeSection(docs, "bench", "\nnew\n\n"); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(file); string(got) != strings.Replace(page, "old", "new", 1) {
		t.Errorf("the page is now\n%s", got)
	}
	if err := writeSection(docs, "bench-attacks", "text"); err == nil {
		t.Error("a section was written for which the page has no place")
	}
}

func TestVerdictAndNumbers(t *testing.T) {
	for got, want := range map[string]string{
		mark{most: 1}.verdict(0):                "not measured",
		mark{most: 1}.verdict(1.5):              "**missed** by 50.0%",
		mark{most: 1}.verdict(0.95):             "met",
		mark{most: 0.9, aim: 0.6}.verdict(0.8):  "met; the aim is 0.60×",
		mark{most: 0.9, aim: 0.65}.verdict(0.5): "met, and the aim of 0.65×",
		number(0, 1):                            "–",
		number(1234567.8, 1):                    "1,234,567.8",
		number(123, 0):                          "123",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMissedByBridgeNamesWhatWasMeasured(t *testing.T) {
	r := &measure.Run{Samples: map[string]map[string][]measure.Sample{
		measure.ProxyTwo: {
			peer.Bridge:     {{measure.CPU: 9}},
			peer.NginxProxy: {{measure.CPU: 10}},
			peer.Envoy:      {{measure.CPU: 10}},
		},
	}}
	err := MissedByBridge(r)
	if err == nil || !strings.Contains(err.Error(), "1 marks were missed") || !strings.Contains(err.Error(), "nginx") {
		t.Errorf("%v, want the mark against nginx alone: those of other cases were not measured", err)
	}
	r.Samples[measure.ProxyTwo][peer.Bridge][0][measure.CPU] = 7
	if err := MissedByBridge(r); err != nil {
		t.Errorf("%v, want nothing", err)
	}
}
