package admin_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/roster/server/admin"
)

func config() admin.Config {
	return admin.Config{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "roster_x 1\n") }),
		Ready:   func(context.Context) error { return nil },
		Version: "v1 <b>",
		Log:     slog.New(slog.DiscardHandler),
	}
}

func TestHandler(t *testing.T) {
	ready := config()
	broken := config()
	broken.Ready = func(context.Context) error { return errors.New("the store is gone") }
	hanging := config()
	hanging.Ready = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	tests := []struct {
		config       admin.Config
		method, path string
		header       string
		status       int
		want         string
	}{
		{ready, "GET", "/", "", 200, "Roster v1 &lt;b&gt;"},
		{ready, "GET", "/livez", "", 200, "alive"},
		{ready, "HEAD", "/livez", "", 200, ""},
		{ready, "GET", "/readyz", "", 200, "ready"},
		{broken, "GET", "/readyz", "", 503, "not ready: the store is gone"},
		{broken, "GET", "/livez", "", 200, "alive"},
		{hanging, "GET", "/readyz", "", 503, "not ready: context deadline exceeded"},
		{ready, "GET", "/metrics", "", 200, "roster_x 1"},
		{ready, "GET", "/debug/pprof/", "", 200, "goroutine"},
		{ready, "GET", "/debug/pprof/goroutine?debug=1", "", 200, "goroutine profile"},
		{ready, "GET", "/debug/pprof/cmdline", "", 200, ""},
		{ready, "GET", "/debug/pprof/symbol", "", 200, "num_symbols"},
		{ready, "POST", "/metrics", "", 405, ""},
		{ready, "GET", "/none", "", 404, ""},
		{ready, "GET", "/debug/pprof/goroutine", "cross-site", 403, "not for pages of other origins"},
		{ready, "GET", "/livez", "same-origin", 200, "alive"},
	}
	for _, test := range tests {
		r := httptest.NewRequest(test.method, test.path, nil)
		if test.header != "" {
			r.Header.Set("Sec-Fetch-Site", test.header)
		}
		w := httptest.NewRecorder()
		admin.Handler(test.config).ServeHTTP(w, r)
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s %s: %d %.200s\nwant %d %s", test.method, test.path, w.Code, w.Body, test.status, test.want)
		}
	}
}

// A peer that connects and sends nothing is disconnected.
func TestSlowPeersAreLetGo(t *testing.T) {
	s := admin.New(config())
	if s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout == 0 || s.IdleTimeout == 0 {
		t.Fatalf("a timeout is missing: %v %v %v %v", s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout)
	}
	s.ReadHeaderTimeout = 50 * time.Millisecond
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(listener)
	defer s.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection stays: %v", err)
	}
}

func TestALocalPortAnswersToItsOwnNames(t *testing.T) {
	for host, want := range map[string]int{
		"localhost:9090": 200, "LOCALHOST": 200, "localhost.:9090": 200, "roster.localhost": 200, "127.0.0.1:9090": 200, "[::1]:9090": 200, "[::1]": 200,
		"evil.example": 403, "evil.example:9090": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example:9090": 403, "": 403,
	} {
		for _, local := range []bool{true, false} {
			c := config()
			c.Local = local
			r := httptest.NewRequest("GET", "/metrics", nil)
			r.Host = host
			w := httptest.NewRecorder()
			admin.Handler(c).ServeHTTP(w, r)
			if w.Code != want && (local || w.Code != 200) {
				t.Errorf("Host %q, local %v: %d", host, local, w.Code)
			}
		}
	}
}
