package telemetry_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/roster/server/rpc"
	"example.com/roster/server/telemetry"
)

// Every reason of a refusal is in the metrics from the start, and in the runbook; and neither has
// another one.
func TestTheReasonsOfRefusals(t *testing.T) {
	var want []string
	for _, reason := range rpc.Reasons {
		want = append(want, string(reason))
	}
	slices.Sort(want)

	const name = "roster_requests_refused_total"
	families, err := telemetry.NewMetrics().Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var counted []string
	for _, family := range families {
		if family.GetName() == name {
			for _, metric := range family.GetMetric() {
				counted = append(counted, metric.GetLabel()[0].GetValue())
			}
		}
	}
	if slices.Sort(counted); !slices.Equal(counted, want) {
		t.Errorf("the metrics have %q from the start, want %q", counted, want)
	}

	runbook, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, row, found := strings.Cut(string(runbook), "| `"+name+"` |")
	if !found {
		t.Fatalf("no row of %s in the runbook", name)
	}
	row, _, _ = strings.Cut(row, "\n")
	var documented []string
	for _, quoted := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row, -1) {
		if quoted[1] != "reason" {
			documented = append(documented, quoted[1])
		}
	}
	if slices.Sort(documented); !slices.Equal(documented, want) {
		t.Errorf("the runbook has %q, want %q", documented, want)
	}
}
