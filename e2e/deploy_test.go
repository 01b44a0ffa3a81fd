package e2e

import (
	"bufio"
	"encoding/json"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
)

// A family is the samples of one name in a scrape.
type family struct {
	kind   string                     // counter, gauge, histogram, summary
	labels map[string]map[string]bool // values by name
}

// families are all that the real binary can have, by name; those of a
// histogram have the names of its parts besides.
func families(t *testing.T) map[string]*family {
	t.Helper()
	c := newCredentials(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collect(t).url)
	upstream := grpc.NewServer() // a bridged server, which has one service
	reflection.Register(upstream)
	healthpb.RegisterHealthServer(upstream, health.NewServer())
	testgrpc.RegisterTestServiceServer(upstream, testgrpc.UnimplementedTestServiceServer{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go upstream.Serve(listener)
	defer upstream.Stop()
	_, address, admin := serveAdmin(t, "--tls-cert", c.file("cert.pem"), "--tls-key", c.file("key.pem"), "--bridge", "http://"+listener.Addr().String())
	eventually(t, "the schema of the bridged server to be learnt", func() bool {
		_, text := get(t, admin, "/metrics")
		return strings.Contains(text, "\nroster_bridge_schema_age_seconds{")
	})
	url := "https://localhost" + address[strings.LastIndex(address, ":"):]
	for _, protocol := range []string{"grpc", "grpcweb", "connect"} {
		if got := roster(t, "get", "1", "--server", url, "--protocol", protocol, "--timeout", "20s", "--ca", c.file("ca.pem")); got.code != 0 {
			t.Fatal(got.stderr)
		}
	}
	_, text := get(t, admin, "/metrics")
	all := make(map[string]*family)
	sample := regexp.MustCompile(`^([a-z0-9_]+)(?:\{(.*)\})? \S+$`)
	label := regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
	var last *family
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if kind, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(kind, " ")
			last = &family{kind: kind, labels: make(map[string]map[string]bool)}
			all[name] = last
			continue
		}
		found := sample.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		all[found[1]] = last
		for _, pair := range label.FindAllStringSubmatch(found[2], -1) {
			if last.labels[pair[1]] == nil {
				last.labels[pair[1]] = make(map[string]bool)
			}
			last.labels[pair[1]][pair[2]] = true
		}
	}
	return all
}

// Every metric, label and label's value that the dashboard and the alert rules
// name is one that the binary has, and so is every metric of the runbook.
func TestDashboardAlertsAndRunbookNameWhatThereIs(t *testing.T) {
	all := families(t)

	var dashboard struct {
		Panels []struct {
			Title, Description string
			Targets            []struct{ Expr, LegendFormat string }
		}
		Annotations struct{ List []struct{ Expr string } }
	}
	if err := json.Unmarshal(read(t, "deploy/grafana/roster.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			by := checkQuery(t, "dashboard, "+panel.Title, target.Expr, all, used)
			for _, named := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(by, named[1]) {
					t.Errorf("dashboard, %s: the legend has %s, the query keeps %v", panel.Title, named[1], by)
				}
			}
		}
		if len(panel.Targets) > 0 && panel.Description == "" {
			t.Errorf("dashboard, %s: no description", panel.Title)
		}
	}
	for _, annotation := range dashboard.Annotations.List {
		checkQuery(t, "dashboard, an annotation", annotation.Expr, all, used)
	}
	for name, f := range all {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "roster_") && !used[name] && !(f.kind == "histogram" && (used[base+"_bucket"])) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}

	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(read(t, "deploy/prometheus/alerts.yml"), &rules); err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules.Groups[0].Rules {
		by := checkQuery(t, rule.Alert, rule.Expr, all, used)
		if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			t.Errorf("%s: a severity, a summary or a description is missing", rule.Alert)
		}
		for _, text := range rule.Annotations {
			for _, named := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				if named[1] != "instance" && !slices.Contains(by, named[1]) {
					t.Errorf("%s: the text has the label %s, the query keeps %v", rule.Alert, named[1], by)
				}
			}
		}
	}
	if promtool, err := exec.LookPath("promtool"); err == nil {
		if got := run(t, exec.Command(promtool, "check", "rules", filepath.Join(root, "deploy/prometheus/alerts.yml"))); got.code != 0 {
			t.Errorf("promtool: %s%s", got.stdout, got.stderr)
		}
	}

	checkRunbook(t, all)
}

// checkRunbook holds the table of metrics to what there is, both ways.
func checkRunbook(t *testing.T, all map[string]*family) {
	t.Helper()
	_, section, _ := strings.Cut(string(read(t, "docs/operations.md")), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := make(map[string]bool)
	names := regexp.MustCompile("`(roster_[a-z0-9_]+)`")
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			continue
		}
		for _, name := range names.FindAllStringSubmatch(cells[1], -1) {
			documented[name[1]] = true
			f := all[name[1]]
			if f == nil {
				t.Errorf("the runbook has %s, the binary has not", name[1])
				continue
			}
			if kind := strings.TrimSpace(cells[2]); kind != f.kind {
				t.Errorf("the runbook calls %s a %s, it is a %s", name[1], kind, f.kind)
			}
			for label := range f.labels {
				if label != "le" && !strings.Contains(cells[3], "`"+label+"`") {
					t.Errorf("the runbook does not have the label %s of %s", label, name[1])
				}
			}
		}
	}
	for name, f := range all {
		part := f.kind == "histogram" && regexp.MustCompile(`_(bucket|sum|count)$`).MatchString(name)
		if strings.HasPrefix(name, "roster_") && !documented[name] && !part {
			t.Errorf("the runbook does not have %s", name)
		}
	}
}

// checkQuery fails the test if a query of PromQL names what there is not. It
// returns the labels that the query keeps, as far as an aggregation says so,
// and notes the metrics.
func checkQuery(t *testing.T, where, query string, all map[string]*family, used map[string]bool) (kept []string) {
	t.Helper()
	metrics, grouped := scanQuery(query)
	if len(metrics) == 0 {
		t.Errorf("%s: no metric in %q", where, query)
	}
	known := map[string]bool{"job": true, "instance": true} // Prometheus adds them
	for _, m := range metrics {
		if m.name == "up" { // Prometheus's own
			continue
		}
		f := all[m.name]
		if f == nil {
			t.Errorf("%s: there is no metric %s", where, m.name)
			continue
		}
		used[m.name] = true
		for label := range f.labels {
			known[label] = true
		}
		for _, match := range m.matchers {
			label, operator, value := match[1], match[2], match[3]
			switch values := f.labels[label]; {
			case label == "job" || label == "instance":
			case values == nil:
				t.Errorf("%s: %s has no label %s", where, m.name, label)
			case operator == "=" && !values[value]:
				t.Errorf("%s: %s has no %s %q, but %v", where, m.name, label, value, slices.Sorted(maps.Keys(values)))
			}
		}
	}
	for _, label := range grouped {
		if !known[label] {
			t.Errorf("%s: no metric of %q has the label %s", where, query, label)
		}
	}
	if len(grouped) == 0 && !regexp.MustCompile(`\b(sum|max|min|avg|count)\b`).MatchString(query) {
		return slices.Collect(maps.Keys(known))
	}
	return grouped
}

type selector struct {
	name     string
	matchers [][]string
}

var (
	token   = regexp.MustCompile(`"[^"]*"|[0-9][0-9a-z.]*|[a-zA-Z_:][a-zA-Z0-9_:]*|\[[^\]]*\]|[^\s]`)
	matcher = regexp.MustCompile(`([a-zA-Z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	word    = regexp.MustCompile(`^[a-zA-Z_:]`)
	braces  = regexp.MustCompile(`\{([^}]*)\}`)
)

// scanQuery finds the selectors of a query, and the labels it groups by. It
// knows as much of PromQL as the files here use.
func scanQuery(query string) (metrics []selector, grouped []string) {
	var inside []string // what the braces have, in order
	query = braces.ReplaceAllStringFunc(query, func(text string) string {
		inside = append(inside, text)
		return "{}"
	})
	tokens := token.FindAllString(query, -1)
	at := func(i int) string {
		if i < len(tokens) {
			return tokens[i]
		}
		return ""
	}
	for i := 0; i < len(tokens); i++ {
		switch text := tokens[i]; {
		case text == "by" || text == "without" || text == "on" || text == "ignoring":
			for i++; at(i) != ")" && i < len(tokens); i++ {
				if word.MatchString(at(i)) && text == "by" {
					grouped = append(grouped, at(i))
				}
			}
		case text == "and" || text == "or" || text == "unless" || text == "bool" || text == "offset":
		case !word.MatchString(text) || at(i+1) == "(" || at(i+1) == "by":
		default:
			m := selector{name: text}
			if at(i+1) == "{" {
				m.matchers = matcher.FindAllStringSubmatch(inside[0], -1)
				inside = inside[1:]
			}
			metrics = append(metrics, m)
		}
	}
	return metrics, grouped
}

func TestScanQuery(t *testing.T) {
	metrics, grouped := scanQuery(`sum by (instance, le) (rate(a_total{x="1",y=~"b|c"}[5m])) / on (job) sum(b) > 1 and c{} offset 5m`)
	var got []string
	for _, m := range metrics {
		got = append(got, m.name)
		for _, match := range m.matchers {
			got = append(got, match[1]+match[2]+match[3])
		}
	}
	if text := strings.Join(append(got, grouped...), " "); text != "a_total x=1 y=~b|c b c instance le" {
		t.Errorf("got %s", text)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
