// Package admin is the second port of a server, for its operators: metrics, probes, profiles. It
// does not authenticate, it shows the internals of the process, and a profile takes CPU, so it
// belongs on the loopback or on a private network.
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

	"example.com/roster/internal/loopback"
)

// Config says what an admin port serves.
type Config struct {
	// Metrics answers /metrics.
	Metrics http.Handler
	// Ready returns nil if the server can answer calls now, else what is wrong. Each request of
	// /readyz calls it, with a context that ends after two seconds.
	Ready func(context.Context) error
	// Local is for a port on the loopback: it refuses requests whose Host is not a name of the
	// loopback or an IP address. Otherwise a web page whose host name resolves to 127.0.0.1 could
	// read the port through a browser on this machine (DNS rebinding).
	Local bool
	// Version is shown at /.
	Version string
	// Log gets the errors of the HTTP server.
	Log *slog.Logger
}

const (
	readyTimeout  = 2 * time.Second
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// writeTimeout is enough for a profile of two minutes.
	writeTimeout   = 150 * time.Second
	maxHeaderBytes = 16 << 10
)

// New returns the HTTP server of an admin port; the caller provides the listener.
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

// Handler returns the handler of an admin port.
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
	// Any method is allowed, since `go tool pprof` requests /symbol by POST.
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		// A write fails only if the client has left.
		_ = index.Execute(w, config.Version)
	})
	if config.Local {
		return sameSite(ownNames(mux))
	}
	return sameSite(mux)
}

// sameSite refuses requests that a web page of another origin makes through a browser. Such a page
// could not read a profile, but taking it costs CPU.
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

// ownNames refuses a request whose Host is neither an IP address nor a name of the loopback.
func ownNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil && !loopback.Host(host) {
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
