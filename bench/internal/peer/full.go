package peer

import (
	"io"
	"net"
	"net/http"
	"time"

	"example.com/roster/bench/internal/process"
)

// full is Roster with all that a port in production has and that calls pass:
// metrics, an access log that goes to a file, and traces, of which one in a
// hundred goes to a collector.
func (s *Setup) full(addr, store string) (process.Command, error) {
	if s.collector == "" {
		url, err := collect()
		if err != nil {
			return process.Command{}, err
		}
		s.collector = url
	}
	admin, err := process.FreeAddr()
	if err != nil {
		return process.Command{}, err
	}
	arguments := []string{"serve", "--addr", addr, "--store", store, "--sample", "--admin-addr", admin}
	if s.HasFlag("--cors-origin") {
		arguments = append(arguments, "--cors-origin", "https://app.example.com")
	}
	return process.Command{
		Path: s.Roster,
		Args: arguments,
		Env: []string{
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.collector,
			"OTEL_TRACES_SAMPLER=parentbased_traceidratio",
			"OTEL_TRACES_SAMPLER_ARG=0.01",
		},
	}, nil
}

// collect takes traces and drops them, for as long as this process runs.
func collect() (url string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/x-protobuf")
		}),
	}
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), nil
}
