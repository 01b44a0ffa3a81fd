// Package admin is the second port of a server, for those who run it: metrics,
// probes, profiles. It says how the process is to whoever reaches it, and a
// profile costs CPU, so it belongs on the loopback or a network of one's own.
//
//	s := admin.New(admin.Config{Metrics: metrics.Handler(), Ready: ready, Log: log})
//	go s.Serve(listener)
//	defer s.Close()
package admin

import (
	"context"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"
)

// Config is what an admin port tells.
type Config struct {
	// Metrics answers /metrics.
	Metrics http.Handler
	// Ready is nil if the server can answer calls now, else what is wrong. It is
	// asked at each request of /readyz, and has readyTimeout for it.
	Ready func(context.Context) error
	// Local is for a port on the loopback: it answers to this machine's own
	// names alone. Else a page whose name turns into 127.0.0.1 could read it in
	// a browser on this machine (DNS rebinding).
	Local bool
	// Version is shown at /.
	Version string
	// Log gets what goes wrong.
	Log *slog.Logger
}

const (
	readyTimeout  = 2 * time.Second
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// writeTimeout leaves room for a profile of two minutes.
	writeTimeout   = 150 * time.Second
	maxHeaderBytes = 16 << 10
)

// New returns the server of an admin port, without a listener.
func New(config Config) *http.Server {
	return &http.Server{
		Handler:           Handler(config),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(config.Log.Handler(), slog.LevelWarn),
	}
}

// Handler returns what an admin port answers.
func Handler(config Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", config.Metrics)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusOK, "alive")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		if err := config.Ready(ctx); err != nil {
			plain(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	// POST is for `go tool pprof`, which asks /symbol so.
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		// A failed write is a reader who left.
		_ = index.Execute(w, config.Version)
	})
	if config.Local {
		return sameSite(ownNames(mux))
	}
	return sameSite(mux)
}

// sameSite keeps pages of other origins from having a browser on this machine
// take profiles: they cannot read the answer, but it costs.
func sameSite(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
			plain(w, http.StatusForbidden, "not for pages of other origins")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownNames refuses a Host that is neither an address nor a name of the loopback.
func ownNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
		if _, err := netip.ParseAddr(host); err != nil && host != "localhost" && !strings.HasSuffix(host, ".localhost") {
			plain(w, http.StatusForbidden, "this port is on the loopback, and answers to localhost or an address")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}

var index = template.Must(template.New("index").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Roster, admin port</title>
<style>body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem }</style>
<h1>Roster {{.}}</h1>
<ul>
<li><a href="/metrics">/metrics</a>: Prometheus metrics, as text or OpenMetrics</li>
<li><a href="/livez">/livez</a>: 200 while the process runs</li>
<li><a href="/readyz">/readyz</a>: 200 while it can answer calls, else 503 and what is wrong</li>
<li><a href="/debug/pprof/">/debug/pprof/</a>: profiles, for <code>go tool pprof</code></li>
</ul>
</html>
`))
