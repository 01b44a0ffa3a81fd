package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/roster/bench/internal/calls"
)

func TestWriteSectionLeavesTheOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	for _, step := range []struct{ section, text string }{
		{SectionRun, "first run"},
		{SectionSoak, "a soak"},
		{SectionRun, "second run"},
	} {
		if err := WriteSection(file, step.section, step.text); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# Benchmarks", "second run", "a soak", "`make bench-attacks` has not been run yet."} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "first run") {
		t.Errorf("the page still has the section of the run before:\n%s", text)
	}
}

func TestWriteSectionRefusesAPageOfAnotherForm(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(file, []byte("# By hand\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteSection(file, SectionRun, "text"); err == nil {
		t.Error("a page without the section's lines was overwritten")
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		mark Mark
		want string
	}{
		{Mark{Most: 1}, "not measured"},
		{Mark{Value: 1.5, Most: 1}, "**missed** by 50.0%"},
		{Mark{Value: 0.95, Most: 1}, "met"},
		{Mark{Value: 0.8, Most: 0.9, Aim: 0.6}, "met; the aim is 0.60×"},
		{Mark{Value: 0.5, Most: 0.9, Aim: 0.6}, "met, and the aim of 0.60×"},
	} {
		if got := c.mark.verdict(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.mark, got, c.want)
		}
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	samples := map[string][]*calls.Sample{
		"a": {{CPU: 10}, {CPU: 40}, nil},
		"b": {{CPU: 20}, {CPU: 80}, {CPU: 1}},
	}
	if got := ratioOf(samples, "a", "b", cpu); got != 0.5 {
		t.Errorf("ratio %v, want 0.5: each round against its own, a failed one left out", got)
	}
	if got := ratioOf(samples, "a", "c", cpu); got != 0 {
		t.Errorf("ratio %v against a peer that was not measured, want 0", got)
	}
}

func TestThousands(t *testing.T) {
	for number, want := range map[float64]string{0: none, 7: "7", 1234.4: "1,234", 1000000: "1,000,000"} {
		if got := thousands(number); got != want {
			t.Errorf("thousands(%v) = %q, want %q", number, got, want)
		}
	}
}
