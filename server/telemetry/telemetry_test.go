package telemetry_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/directory/storetest"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/server"
	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/service"
	"example.com/roster/server/telemetry"
)

// newDirectory returns a directory with two users. Its store is wrapped by wrap, if given.
func newDirectory(t testing.TB, wrap func(directory.Store) directory.Store) *directory.Directory {
	t.Helper()
	ctx := context.Background() // a test's own ends before its cleanup
	store, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "roster.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := storetest.Put(ctx, store, []directory.User{
		{ID: 1, Name: "Ann Secret", Age: 30, Email: "ann@example.com"},
		{ID: 2, Name: "Ben Secret", Age: 40, Email: "ben@example.com"},
	}...); err != nil {
		t.Fatal(err)
	}
	var of directory.Store = store
	if wrap != nil {
		of = wrap(of)
	}
	dir, err := directory.New(ctx, of, directory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dir.Close)
	return dir
}

// failing is a route whose handler ends with err.
func failing(path string, err error) rpctest.Route {
	answer := func(context.Context, *emptypb.Empty) (*emptypb.Empty, error) { return &emptypb.Empty{}, err }
	return rpctest.Route{Path: path, Handler: connect.NewUnaryHandlerSimple(path, answer, service.HandlerOptions(slog.New(slog.DiscardHandler)))}
}

func grpcBody(t testing.TB, ids ...int32) []byte {
	t.Helper()
	message, err := proto.Marshal(&apipb.UserReq{UserIDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// request has handler serve one request and returns the reply.
func request(handler http.Handler, method, path, contentType string, body []byte, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.RemoteAddr = "198.51.100.77:4321"
	r.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// scrape returns the samples of m by name and labels.
func scrape(t testing.TB, m *telemetry.Metrics, accept string) (samples map[string]string, contentType, text string) {
	t.Helper()
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	body, _ := io.ReadAll(w.Body)
	samples = make(map[string]string)
	for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			i := strings.LastIndexByte(line, ' ')
			samples[line[:i]] = line[i+1:]
		}
	}
	return samples, w.Header().Get("Content-Type"), string(body)
}

func TestMetrics(t *testing.T) {
	m := telemetry.NewMetrics()
	dir := newDirectory(t, m.Store)
	draining := false
	routes := []rpctest.Route{failing("/s/Exhausted", connect.NewError(connect.CodeResourceExhausted, nil))}
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		routes = append(routes, failing(fmt.Sprintf("/s/Code%d", code), connect.NewError(code, nil)))
	}
	routes = append(routes, failing("/s/Beyond", connect.NewError(99, nil)))
	config := server.Config{Directory: dir, Observers: []rpc.Observer{m}}
	srv := telemetry.NewServer(t, config, routes...)
	handler := srv.Handler()
	m.Read(telemetry.Sources{Version: "v1.2.3", Directory: dir.Stats, Connections: srv.Stats().Connections.Connections, Refused: func() uint64 { return 7 }, HTTP2: &srv.Stats().HTTP2, Draining: func() bool { return draining }})

	before, _, _ := scrape(t, m, "")
	if got := before[`roster_calls_total{code="ok",codec="proto",procedure="/MyService/User",protocol="grpc"}`]; got != "0" {
		t.Errorf("before the first call its counter is %q, want 0", got)
	}
	for range 3 {
		request(handler, "POST", "/MyService/User", "application/grpc", grpcBody(t, 1, 2))
	}
	request(handler, "POST", "/MyService/User", "application/grpc-web+proto", grpcBody(t, 1))
	request(handler, "POST", "/MyService/User", "application/json", []byte(`{"userIDs":[1,7]}`))
	request(handler, "POST", "/MyService/User", "application/json", []byte(`{`))
	for _, route := range routes {
		request(handler, "POST", route.Path, "application/grpc", grpcBody(t))
	}
	request(handler, "POST", "/MyService/None", "application/grpc", nil)
	request(handler, "POST", "/MyService/User", "text/plain", nil)
	request(handler, "PUT", "/MyService/User", "", nil)
	request(handler, "GET", "/", "", nil)
	request(handler, "GET", "/none", "", nil)
	draining = true

	samples, _, text := scrape(t, m, "")
	calls := func(procedure, protocol, codec, code string) string {
		return fmt.Sprintf("roster_calls_total{code=%q,codec=%q,procedure=%q,protocol=%q}", code, codec, procedure, protocol)
	}
	want := map[string]string{
		`roster_connections_refused_total{tls="false"}`:                 "7",
		calls("/MyService/User", "grpc", "proto", "ok"):                 "3",
		calls("/MyService/User", "grpc-web", "proto", "ok"):             "1",
		calls("/MyService/User", "connect", "json", "ok"):               "1",
		calls("/MyService/User", "connect", "json", "invalid_argument"): "1",
		calls("/s/Exhausted", "grpc", "proto", "resource_exhausted"):    "1",
		calls("/s/Beyond", "grpc", "proto", "unknown"):                  "1",

		`roster_call_duration_seconds_count{procedure="/MyService/User",protocol="grpc"}`: "3",
		`roster_calls_in_flight{procedure="/MyService/User"}`:                             "0",
		`roster_requests_refused_total{reason="unimplemented"}`:                           "1",
		`roster_requests_refused_total{reason="content_type"}`:                            "1",
		`roster_requests_refused_total{reason="method"}`:                                  "1",
		`roster_page_requests_total{status="2xx"}`:                                        "1",
		`roster_page_requests_total{status="4xx"}`:                                        "1",
		`roster_cache_hits_total`:                                                         "6",
		`roster_cache_misses_total`:                                                       "3",
		`roster_cache_loads_total{outcome="ok"}`:                                          "2",
		`roster_cache_loads_total{outcome="error"}`:                                       "0",
		`roster_cache_entries`:                                                            "3",
		`roster_store_query_duration_seconds_count{operation="get"}`:                      "2",
		`roster_store_errors_total{operation="get"}`:                                      "0",
		`roster_draining`: "1",
	}
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		want[calls(fmt.Sprintf("/s/Code%d", code), "grpc", "proto", code.String())] = "1"
	}
	for name, value := range want {
		if samples[name] != value {
			t.Errorf("%s is %q, want %s", name, samples[name], value)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", `roster_build_info{goversion="`, "roster_store_poll_age_seconds",
		`roster_connections_open{http="2",tls="false"}`, `roster_http2_goaways_total{direction="sent",reason="enhance_your_calm"}`} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
	if strings.Contains(text, "Secret") || strings.Contains(text, "198.51") {
		t.Error("the metrics have what callers sent")
	}
	if _, contentType, text := scrape(t, m, "application/openmetrics-text; version=1.0.0"); !strings.HasPrefix(contentType, "application/openmetrics-text") || !strings.HasSuffix(text, "# EOF\n") {
		t.Errorf("asked for OpenMetrics: %s", contentType)
	}
}

// Failures of the store are counted, but not errors that the caller caused.
func TestStoreErrors(t *testing.T) {
	m := telemetry.NewMetrics()
	broken := &brokenStore{}
	dir := newDirectory(t, func(store directory.Store) directory.Store {
		broken.Store = store
		return m.Store(broken)
	})
	m.Read(telemetry.Sources{Directory: dir.Stats})
	broken.err = directory.ErrUnavailable
	_, _ = dir.Users(t.Context(), []int32{1})
	_, _ = dir.Write(t.Context(), directory.Write{Deletes: []directory.Delete{{ID: 99}}}) // the caller's error
	samples, _, _ := scrape(t, m, "")
	for name, want := range map[string]string{
		`roster_store_errors_total{operation="get"}`:                   "1",
		`roster_store_errors_total{operation="write"}`:                 "0",
		`roster_cache_loads_total{outcome="error"}`:                    "1",
		`roster_cache_loads_total{outcome="ok"}`:                       "0",
		`roster_cache_misses_total`:                                    "1",
		`roster_store_query_duration_seconds_count{operation="write"}`: "1",
	} {
		if samples[name] != want {
			t.Errorf("%s is %q, want %s", name, samples[name], want)
		}
	}
}

type brokenStore struct {
	directory.Store
	err error
}

func (s *brokenStore) Get(ctx context.Context, ids []int32) ([]directory.Record, directory.State, error) {
	return nil, directory.State{}, s.err
}

func TestInFlight(t *testing.T) {
	m := telemetry.NewMetrics()
	entered, release := make(chan bool), make(chan bool)
	answer := func(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
		entered <- true
		<-release
		return &emptypb.Empty{}, nil
	}
	route := rpctest.Route{Path: "/s/Waits", Handler: connect.NewUnaryHandlerSimple("/s/Waits", answer)}
	handler := telemetry.NewServer(t, server.Config{Directory: newDirectory(t, nil), Observers: []rpc.Observer{m}}, route).Handler()
	m.Read(telemetry.Sources{})
	done := make(chan bool)
	go func() {
		request(handler, "POST", "/s/Waits", "application/json", []byte("{}"))
		close(done)
	}()
	<-entered
	if samples, _, _ := scrape(t, m, ""); samples[`roster_calls_in_flight{procedure="/s/Waits"}`] != "1" {
		t.Errorf("in flight: %v", samples[`roster_calls_in_flight{procedure="/s/Waits"}`])
	}
	close(release)
	<-done
	samples, _, _ := scrape(t, m, "")
	if samples[`roster_calls_in_flight{procedure="/s/Waits"}`] != "0" {
		t.Errorf("in flight in the end: %v", samples[`roster_calls_in_flight{procedure="/s/Waits"}`])
	}
}

func post(t testing.TB, path string) *http.Request {
	t.Helper()
	r := httptest.NewRequest("POST", path, nil)
	r.RemoteAddr = "198.51.100.77:4321"
	return r
}
