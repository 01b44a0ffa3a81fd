package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/server"
	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/telemetry"
)

// logged serves requests with an access log and returns its lines.
func logged(t *testing.T, level slog.Level, config telemetry.AccessLogConfig, routes []rpctest.Route, serve func(post func(path, contentType, body string, headers ...string))) []map[string]any {
	t.Helper()
	var text bytes.Buffer
	log := telemetry.NewAccessLog(slog.New(slog.NewJSONHandler(&text, &slog.HandlerOptions{Level: level})), config)
	handler := telemetry.NewServer(t, server.Config{Directory: newDirectory(t, nil), Observers: []rpc.Observer{log}}, routes...).Handler()
	serve(func(path, contentType, body string, headers ...string) {
		method := "POST"
		if contentType == "" {
			method = "GET"
		}
		request(handler, method, path, contentType, []byte(body), headers...)
	})
	var lines []map[string]any
	for _, line := range strings.Split(strings.TrimSpace(text.String()), "\n") {
		var fields map[string]any
		if line == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for _, secret := range []string{"Secret", "ann@", "2042424242", "198.51.100.77", "private", "?"} {
			if level >= slog.LevelInfo && strings.Contains(line, secret) {
				t.Errorf("%q is in the log: %s", secret, line)
			}
		}
		lines = append(lines, fields)
	}
	return lines
}

func TestAccessLog(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	routes := []rpctest.Route{failing("/s/Fails", errors.New("user ann@example.com is private")),
		failing("/s/Refuses", connect.NewError(connect.CodeFailedPrecondition, errors.New("user 2042424242 is private")))}
	lines := logged(t, slog.LevelInfo, telemetry.AccessLogConfig{Successes: -1, Errors: -1}, routes, func(post func(path, contentType, body string, headers ...string)) {
		post("/MyService/User", "application/grpc", string(grpcBody(t, 1, 2042424242)), "Traceparent", parent)
		post("/MyService/User", "application/json", `{"userIDs":[1]}`)
		post("/s/Fails", "application/grpc-web", string(grpcBody(t)))
		post("/s/Refuses", "application/json", "{}")
		post("/MyService/User", "text/plain", "private")
		post("/private/path?private=1", "application/json", "{}")
		post("/private?ann@example.com", "", "")
		post("/", "", "")
	})
	want := []string{
		"level=INFO msg=call procedure=/MyService/User protocol=grpc codec=proto code=ok http=HTTP/1.1 peer=198.51.100.0/24 trace=0af7651916cd43dd8448eb211c80319c",
		"level=INFO msg=call procedure=/MyService/User protocol=connect codec=json code=ok http=HTTP/1.1 peer=198.51.100.0/24",
		"level=WARN msg=call procedure=/s/Fails protocol=grpc-web codec=proto code=internal http=HTTP/1.1 peer=198.51.100.0/24",
		"level=INFO msg=call procedure=/s/Refuses protocol=connect codec=json code=failed_precondition http=HTTP/1.1 peer=198.51.100.0/24",
		"level=INFO msg=call procedure=/MyService/User method=POST status=415 refused=content_type http=HTTP/1.1 peer=198.51.100.0/24",
		"level=INFO msg=request method=POST status=404 code=unimplemented refused=unimplemented http=HTTP/1.1 peer=198.51.100.0/24",
		"level=INFO msg=request method=GET status=404 http=HTTP/1.1 peer=198.51.100.0/24",
		"level=INFO msg=request method=GET status=200 http=HTTP/1.1 peer=198.51.100.0/24",
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d: %v", len(lines), len(want), lines)
	}
	for i, line := range lines {
		if ms, ok := line["ms"].(float64); !ok || ms < 0 || ms > 60_000 {
			t.Errorf("line %d: ms is %v", i, line["ms"])
		}
		if sent, ok := line["sent"].(float64); !ok || i != 2 && sent == 0 {
			t.Errorf("line %d: sent is %v", i, line["sent"])
		}
		var got []string
		for _, key := range []string{"level", "msg", "procedure", "protocol", "codec", "method", "status", "code", "refused", "http", "peer", "trace"} {
			if value, ok := line[key]; ok {
				got = append(got, fmt.Sprintf("%s=%v", key, value))
			}
		}
		if got := strings.Join(got, " "); got != want[i] {
			t.Errorf("line %d: %s\nwant    %s", i, got, want[i])
		}
	}
}

func TestAccessLogOfDebugHasAll(t *testing.T) {
	lines := logged(t, slog.LevelDebug, telemetry.AccessLogConfig{Successes: -1}, nil, func(post func(path, contentType, body string, headers ...string)) {
		post("/", "", "")
	})
	if len(lines) != 1 || lines[0]["peer"] != "198.51.100.77:4321" || lines[0]["path"] != "/" {
		t.Errorf("got %v, want the whole address and the path", lines)
	}
}

func TestAccessLogAtWarnHasFaultsAlone(t *testing.T) {
	routes := []rpctest.Route{failing("/s/Fails", errors.New("broken"))}
	lines := logged(t, slog.LevelWarn, telemetry.AccessLogConfig{Successes: -1, Errors: -1}, routes, func(post func(path, contentType, body string, headers ...string)) {
		post("/", "", "")
		post("/none", "", "")
		post("/s/Fails", "application/json", "{}")
	})
	if len(lines) != 1 || lines[0]["code"] != "internal" {
		t.Errorf("got %v, want one line of a fault", lines)
	}
}

func TestAccessLogKeepsToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := telemetry.NewAccessLog(slog.New(slog.NewTextHandler(&text, nil)), telemetry.AccessLogConfig{Successes: 3, Errors: 2, Slow: time.Second})
		table, err := rpc.NewTable(rpctest.Mounts(t, rpctest.Route{Path: "/s/Waits", Handler: http.NotFoundHandler()},
			rpctest.Route{Path: "/s/Watch", Handler: http.NotFoundHandler(), ServerStreams: true})...)
		if err != nil {
			t.Fatal(err)
		}
		log.Serves(table)
		ended := func(procedure string, took time.Duration, failure *connect.Error) {
			c, r := rpc.Of(post(t, procedure))
			c.Procedure, c.Protocol, c.Failure = procedure, rpc.GRPC, failure
			time.Sleep(took)
			c.Took = took
			log.End(c, r)
		}
		lines := func(want ...string) {
			t.Helper()
			got := strings.Split(strings.TrimSpace(text.String()), "\n")
			text.Reset()
			if len(got) != len(want) {
				t.Fatalf("%d lines, want %d: %q", len(got), len(want), got)
			}
			for i := range got {
				if !strings.Contains(got[i], want[i]) {
					t.Errorf("line %d: %s\nwant %q", i, got[i], want[i])
				}
			}
		}
		failed := connect.NewError(connect.CodeInternal, nil)
		time.Sleep(time.Second)
		for range 10 {
			ended("/s/Waits", 0, nil)
			ended("/s/Waits", 0, failed)
		}
		lines("code=ok", "code=internal", "code=ok", "code=internal", "code=ok")
		if log.Skipped() != 15 {
			t.Errorf("skipped %d, want 15", log.Skipped())
		}
		time.Sleep(time.Second)
		ended("/s/Waits", 0, nil)
		ended("/s/Waits", 0, failed)
		lines("left_out=7", "left_out=8")
		ended("/s/Watch", 2*time.Second, nil) // a stream is not slow
		for range 3 {
			ended("/s/Waits", 0, nil)
		}
		ended("/s/Waits", time.Second, nil)
		ended("/s/Waits", 999*time.Millisecond, nil)
		lines("ms=2000", "ms=0", "ms=0", "ms=1000", "ms=999")
	})
}

// The lines for a flood of failing calls, from many goroutines, are bounded too.
func TestAccessLogUnderAFlood(t *testing.T) {
	var text bytes.Buffer
	log := telemetry.NewAccessLog(slog.New(slog.NewTextHandler(&text, nil)), telemetry.AccessLogConfig{Successes: 10, Errors: 100})
	log.Serves(new(rpc.Table))
	start := time.Now()
	var all sync.WaitGroup
	const each, floods = 5000, 4
	for range floods {
		all.Go(func() {
			for range each {
				c, r := rpc.Of(post(t, "/s/Fails"))
				c.Protocol, c.Failure = rpc.GRPC, connect.NewError(connect.CodeInternal, nil)
				log.End(c, r)
			}
		})
	}
	all.Wait()
	seconds := int(time.Since(start)/time.Second) + 2
	lines := strings.Count(text.String(), "\n")
	if lines < 100 || lines > 100*seconds+floods {
		t.Errorf("%d lines in %d seconds", lines, seconds)
	}
	if lines+int(log.Skipped()) != each*floods {
		t.Errorf("%d lines and %d skipped, want %d together", lines, log.Skipped(), each*floods)
	}
}

// A handler that gives its caller's identity has it in the log.
func TestAccessLogHasTheIdentity(t *testing.T) {
	answer := func(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
		rpc.From(ctx).Identity = "batch-import"
		return &emptypb.Empty{}, nil
	}
	routes := []rpctest.Route{{Path: "/s/Who", Handler: connect.NewUnaryHandlerSimple("/s/Who", answer)}}
	lines := logged(t, slog.LevelInfo, telemetry.AccessLogConfig{Successes: -1}, routes, func(post func(path, contentType, body string, headers ...string)) {
		post("/s/Who", "application/json", "{}")
	})
	if len(lines) != 1 || lines[0]["identity"] != "batch-import" {
		t.Errorf("got %v", lines)
	}
}
