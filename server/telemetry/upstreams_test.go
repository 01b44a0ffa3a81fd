package telemetry_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"example.com/roster/server"
	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/telemetry"
)

func TestMetricsOfUpstreams(t *testing.T) {
	m := telemetry.NewMetrics()
	m.Read(telemetry.Sources{Upstreams: func() []telemetry.Upstream {
		return []telemetry.Upstream{
			{Name: "http://a:1,http://a:2", Up: true, Processes: map[string]int{"known": 2, "ready": 1, "left_alone": 0},
				Services: map[string]int{"mounted": 3, "differs": 1}, Ejections: 4, Attempts: 50, Failed: 6, SchemaAge: 7 * time.Second},
			{Name: "s.S=http://b:1", SchemaAge: -1},
		}
	}})
	samples, _, text := scrape(t, m, "")
	for name, want := range map[string]string{
		`roster_bridge_up{upstream="http://a:1,http://a:2"}`:                           "1",
		`roster_bridge_up{upstream="s.S=http://b:1"}`:                                  "0",
		`roster_bridge_processes{state="ready",upstream="http://a:1,http://a:2"}`:      "1",
		`roster_bridge_processes{state="left_alone",upstream="http://a:1,http://a:2"}`: "0",
		`roster_bridge_services{state="differs",upstream="http://a:1,http://a:2"}`:     "1",
		`roster_bridge_ejections_total{upstream="http://a:1,http://a:2"}`:              "4",
		`roster_bridge_attempts_total{upstream="http://a:1,http://a:2"}`:               "50",
		`roster_bridge_attempts_failed_total{upstream="http://a:1,http://a:2"}`:        "6",
		`roster_bridge_schema_age_seconds{upstream="http://a:1,http://a:2"}`:           "7",
		`roster_bridge_schema_age_seconds{upstream="s.S=http://b:1"}`:                  "",
	} {
		if samples[name] != want {
			t.Errorf("%s is %q, want %q", name, samples[name], want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// An upstream says itself which procedures it has, and may say something else every time. They cannot make
// the metrics grow without bound.
func TestTheNumberOfProceduresWithMetricsIsBounded(t *testing.T) {
	m := telemetry.NewMetrics()
	srv := telemetry.NewServer(t, server.Config{Directory: newDirectory(t, nil), Observers: []rpc.Observer{m}})
	m.Read(telemetry.Sources{})
	const each = 900
	var last string
	for service := range 4 {
		var routes []rpctest.Route
		for method := range each {
			last = fmt.Sprintf("/s%d/M%d", service, method)
			routes = append(routes, failing(last, nil))
		}
		if err := srv.Mount(rpctest.Mounts(t, routes...)...); err != nil {
			t.Fatal(err)
		}
	}
	request(srv.Handler(), "POST", last, "application/grpc", grpcBody(t))
	request(srv.Handler(), "POST", "/MyService/User", "application/grpc", grpcBody(t, 1))
	samples, _, _ := scrape(t, m, "")
	procedures := make(map[string]bool)
	for name := range samples {
		if strings.HasPrefix(name, "roster_calls_in_flight{") {
			procedures[name] = true
		}
	}
	if len(procedures) > 2001 || len(procedures) < 2000 {
		t.Errorf("there are metrics of %d procedures", len(procedures))
	}
	for name, want := range map[string]string{
		`roster_calls_total{code="ok",codec="proto",procedure="other",protocol="grpc"}`:           "1",
		`roster_calls_total{code="ok",codec="proto",procedure="/MyService/User",protocol="grpc"}`: "1",
		`roster_calls_in_flight{procedure="other"}`:                                               "0",
	} {
		if samples[name] != want {
			t.Errorf("%s is %q, want %q", name, samples[name], want)
		}
	}
}

func TestTheAccessLogNamesTheUpstream(t *testing.T) {
	route := failing("/s/Far", nil)
	route.Policy.Upstream = "http://jobs:50052"
	lines := logged(t, slog.LevelInfo, telemetry.AccessLogConfig{Successes: -1, Errors: -1}, []rpctest.Route{route, failing("/n/Near", nil)},
		func(post func(path, contentType, body string, headers ...string)) {
			post("/s/Far", "application/grpc", string(grpcBody(t)))
			post("/n/Near", "application/grpc", string(grpcBody(t)))
			post("/MyService/User", "application/json", `{"userIDs":[1]}`)
		})
	if len(lines) != 3 || lines[0]["upstream"] != "http://jobs:50052" || lines[1]["upstream"] != nil || lines[2]["upstream"] != nil {
		t.Error(lines)
	}
}
