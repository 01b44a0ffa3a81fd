package gate

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/roster/server/auth"
	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/telemetry"
)

// port is the gates before the methods /s/Look, which is unary, and /s/Follow, which streams.
type port struct {
	chain  *Chain
	conn   context.Context
	look   http.Handler
	follow http.Handler
	during func() // runs while a call is being answered
	peer   string // the address that calls come from, if not httptest's
}

var loopbackProxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}

func newPort(t *testing.T, change func(*Config)) *port {
	t.Helper()
	config := Config{MaxConcurrentCalls: 10, MaxDeadline: time.Minute, StallTimeout: time.Minute,
		Drain: drain.New(), Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&config)
	}
	p := &port{chain: New(config)}
	p.conn = p.chain.ConnContext(t.Context())
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if during := p.during; during != nil {
			p.during = nil
			during()
		}
		w.WriteHeader(http.StatusOK)
	})
	table, err := rpc.NewTable(rpctest.Mounts(t,
		rpctest.Route{Path: "/s/Look", Handler: answer},
		rpctest.Route{Path: "/s/Follow", Handler: answer, ServerStreams: true, Policy: rpc.Policy{MaxStreams: 1}})...)
	if err != nil {
		t.Fatal(err)
	}
	p.look, p.follow = p.chain.Wrap(table.Method("/s/Look")), p.chain.Wrap(table.Method("/s/Follow"))
	return p
}

// call sends one request with a body of {} and these header fields, and returns the status of the
// reply and the reason of a refusal.
func (p *port) call(t *testing.T, handler http.Handler, method string, header ...string) (status int, refused rpc.Reason) {
	t.Helper()
	return p.send(handler, method, strings.NewReader("{}"), header...)
}

func (p *port) send(handler http.Handler, method string, body io.Reader, header ...string) (status int, refused rpc.Reason) {
	r := httptest.NewRequestWithContext(p.conn, method, "/s/Look", body)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if p.peer != "" {
		r.RemoteAddr = p.peer
	}
	c, r := rpc.Of(r)
	defer c.End()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Code, c.Refused
}

func tokens(t *testing.T) (set func() *auth.Set, reader string) {
	t.Helper()
	entries, _, secret, err := auth.NewToken(nil, "reader", auth.Read, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := auth.NewSet(entries)
	if err != nil {
		t.Fatal(err)
	}
	return func() *auth.Set { return all }, "Bearer " + secret
}

// Why each gate stands where it does, in the order of the chain.
func TestTheOrderOfTheGates(t *testing.T) {
	set, bearer := tokens(t)
	const page = "https://app.example.com"
	order := []struct {
		name string
		why  string
		test func(t *testing.T)
	}{
		{"forwarded", "the lines of refused pages have the address of the client, and not of the proxy", func(t *testing.T) {
			var log strings.Builder
			p := newPort(t, func(c *Config) {
				c.TrustedProxies, c.Log = loopbackProxy, slog.New(slog.NewTextHandler(&log, nil))
			})
			p.peer = "127.0.0.1:4711"
			p.call(t, p.look, "OPTIONS", "Origin", page, "Access-Control-Request-Method", "POST", "X-Forwarded-For", "203.0.113.7")
			if !strings.Contains(log.String(), "address=203.0.113.7:0") {
				t.Errorf("logged %s", &log)
			}
		}},
		{"origins", "a preflight has no token, and is answered although calls need one", func(t *testing.T) {
			p := newPort(t, func(c *Config) { c.Access.Tokens, c.Origins.Allowed = set, []string{page} })
			status, refused := p.call(t, p.look, "OPTIONS", "Origin", page, "Access-Control-Request-Method", "POST")
			if status != http.StatusNoContent || refused != "" {
				t.Errorf("a preflight got %d, %q", status, refused)
			}
		}},
		{"access", "a rate belongs to an identity, so calls without a token do not use it up", func(t *testing.T) {
			p := newPort(t, func(c *Config) {
				c.Access.Tokens, c.Rate = set, RateConfig{PerSecond: 0.001, Burst: 1}
			})
			if status, refused := p.call(t, p.look, "POST"); status != 401 {
				t.Errorf("without a token: %d, %q", status, refused)
			}
			if status, refused := p.call(t, p.look, "POST", "Authorization", bearer); status != 200 {
				t.Errorf("with a token: %d, %q", status, refused)
			}
		}},
		{"rate", "a call over the rate of its caller does not use one of the slots that all share", func(t *testing.T) {
			p := newPort(t, func(c *Config) {
				c.Rate, c.MaxConcurrentCalls = RateConfig{PerSecond: 0.001, Burst: 1}, 1
			})
			p.during = func() { // the only slot is taken
				if _, refused := p.call(t, p.look, "POST"); refused != rpc.ReasonResourceExhausted {
					t.Errorf("a call over the rate is refused for %q, want its rate", refused)
				}
			}
			p.call(t, p.look, "POST")
		}},
		{"deadline", "the gates that may wait, body and budget, wait no longer than that", func(t *testing.T) {
			p := newPort(t, func(c *Config) { c.MaxDeadline = 20 * time.Millisecond })
			p.holdBudget(t)
			if refused := p.get(t, p.conn, longTarget); refused != rpc.ReasonDeadlineExceeded {
				t.Errorf("a call that waits for the budget is refused for %q", refused)
			}
		}},
		{"protocol", "what is no RPC has no message, so no later gate has to ask", func(t *testing.T) {
			p := newPort(t, nil)
			p.during = func() {
				if _, refused := p.call(t, p.follow, "POST", "Content-Type", "text/plain"); refused != rpc.ReasonContentType {
					t.Errorf("refused for %q, want the content type", refused)
				}
			}
			p.call(t, p.follow, "POST", "Content-Type", "application/connect+json")
		}},
		{"streams", "a stream that is one too many is refused before its body is read", func(t *testing.T) {
			p := newPort(t, nil)
			p.during = func() {
				if _, refused := p.call(t, p.follow, "POST", "Content-Type", "application/connect+json"); refused != rpc.ReasonResourceExhausted {
					t.Errorf("refused for %q, want the number of streams", refused)
				}
			}
			p.call(t, p.follow, "POST", "Content-Type", "application/connect+json")
		}},
		{"body", "no later gate has to wait for the body, or to count with one that never comes", nil},
		{"shed", "a call whose request is not complete does not use a slot", func(t *testing.T) {
			p := newPort(t, func(c *Config) { c.MaxConcurrentCalls = 1 })
			message, rest := io.Pipe()
			done := make(chan rpc.Reason)
			go func() {
				_, refused := p.send(p.look, "POST", message)
				done <- refused
			}()
			_, _ = rest.Write([]byte("{")) // is read, so the call has come as far as its body
			if status, refused := p.call(t, p.look, "POST"); status != 200 {
				t.Errorf("beside a request that has not arrived: %d, %q", status, refused)
			}
			_, _ = rest.Write([]byte("}"))
			rest.Close()
			if refused := <-done; refused != "" {
				t.Errorf("a slow request is refused for %q", refused)
			}
		}},
		{"budget", "it is charged for a request that every other gate has passed", nil},
		{"get", "it keeps a whole reply, which is charged until it has been sent", func(t *testing.T) {
			p := newPort(t, nil)
			held := p.conn.Value(connBudgetKey{}).(*connBudget)
			writes := 0
			p.get(t, p.conn, longTarget, func(w http.ResponseWriter) http.ResponseWriter {
				return written{w, func() {
					if writes++; held.conn.TryAcquire(replyBudget) {
						t.Error("a reply is written that is not charged")
					}
				}}
			})
			if writes == 0 {
				t.Error("no reply was written")
			}
		}},
	}
	gates := newPort(t, nil).chain.Gates()
	if len(gates) != len(order) {
		t.Fatalf("%d gates, want %d", len(gates), len(order))
	}
	for i, want := range order {
		if gates[i].Name != want.name {
			t.Errorf("gate %d is %s, want %s: %s", i, gates[i].Name, want.name, want.why)
		}
		if want.test != nil {
			t.Run(want.name+": "+want.why, want.test)
		}
	}
}

// holdBudget uses up the budget of the port's one connection until the test ends.
func (p *port) holdBudget(t *testing.T) {
	t.Helper()
	held := p.conn.Value(connBudgetKey{}).(*connBudget)
	if !held.conn.TryAcquire(replyBudget) {
		t.Fatal("the budget is in use")
	}
	t.Cleanup(func() { held.conn.Release(replyBudget) })
}

// Every gate declares the reasons for which it refuses, and no others.
func TestTheReasonsOfTheGates(t *testing.T) {
	set, bearer := tokens(t)
	plain := func(c *Config) {}
	withTokens := func(c *Config) { c.Access.Tokens = set }
	seen := make(map[string]map[rpc.Reason]bool)
	for _, test := range []struct {
		gate    string
		reason  rpc.Reason
		config  func(*Config)
		refused func(t *testing.T, p *port) rpc.Reason
	}{
		{"forwarded", rpc.ReasonForwarded, func(c *Config) { c.TrustedProxies = loopbackProxy }, func(t *testing.T, p *port) rpc.Reason {
			p.peer = "127.0.0.1:4711"
			_, reason := p.call(t, p.look, "POST", "X-Forwarded-For", "somebody")
			return reason
		}},
		{"origins", rpc.ReasonPreflight, func(c *Config) { c.Origins.Allowed = []string{"https://app.example.com"} }, func(t *testing.T, p *port) rpc.Reason {
			_, reason := p.call(t, p.look, "OPTIONS", "Origin", "https://app.example.com", "Access-Control-Request-Method", "PUT")
			return reason
		}},
		{"origins", rpc.ReasonOrigin, plain, func(t *testing.T, p *port) rpc.Reason {
			_, reason := p.call(t, p.look, "OPTIONS", "Origin", "https://app.example.com", "Access-Control-Request-Method", "POST")
			return reason
		}},
		{"access", rpc.ReasonUnauthenticated, withTokens, func(t *testing.T, p *port) rpc.Reason {
			_, reason := p.call(t, p.look, "POST")
			return reason
		}},
		{"access", rpc.ReasonPermissionDenied, withTokens, func(t *testing.T, p *port) rpc.Reason {
			method := &rpc.Method{Policy: rpc.Policy{Role: rpc.Writer}, Path: "/s/Write", Handler: http.NotFoundHandler()}
			_, reason := p.call(t, p.chain.Wrap(method), "POST", "Authorization", bearer)
			return reason
		}},
		{"access", rpc.ReasonResourceExhausted, func(c *Config) {
			c.Access.Tokens, c.Rate = set, RateConfig{PerSecond: 0.001, Burst: 1}
		}, func(t *testing.T, p *port) rpc.Reason {
			p.call(t, p.look, "POST")
			_, reason := p.call(t, p.look, "POST")
			return reason
		}},
		{"rate", rpc.ReasonResourceExhausted, func(c *Config) {
			c.Rate = RateConfig{PerSecond: 0.001, Burst: 1}
		}, func(t *testing.T, p *port) rpc.Reason {
			p.call(t, p.look, "POST")
			_, reason := p.call(t, p.look, "POST")
			return reason
		}},
		{"body", rpc.ReasonUnavailable, plain, func(t *testing.T, p *port) rpc.Reason {
			p.chain.body.receiving.used.Add(receiving)
			_, reason := p.send(p.look, "POST", strings.NewReader(strings.Repeat("x", 2*firstBuffer)))
			return reason
		}},
		{"shed", rpc.ReasonUnavailable, func(c *Config) { c.MaxConcurrentCalls = 1 }, func(t *testing.T, p *port) (reason rpc.Reason) {
			p.during = func() { _, reason = p.call(t, p.look, "POST") }
			p.call(t, p.look, "POST")
			return reason
		}},
		{"protocol", rpc.ReasonMethod, plain, func(t *testing.T, p *port) rpc.Reason {
			_, reason := p.call(t, p.look, "PUT")
			return reason
		}},
		{"protocol", rpc.ReasonContentType, plain, func(t *testing.T, p *port) rpc.Reason {
			_, reason := p.call(t, p.look, "POST", "Content-Type", "text/plain")
			return reason
		}},
		{"protocol", rpc.ReasonUnimplemented, plain, func(t *testing.T, p *port) rpc.Reason {
			_, reason := p.call(t, p.look, "POST", "Content-Type", "application/grpc", "Grpc-Encoding", "br")
			return reason
		}},
		{"protocol", rpc.ReasonInvalidArgument, plain, func(t *testing.T, p *port) rpc.Reason {
			_, reason := p.call(t, p.look, "POST", "Connect-Timeout-Ms", "soon")
			return reason
		}},
		{"get", rpc.ReasonContentType, plain, func(t *testing.T, p *port) rpc.Reason {
			method := &rpc.Method{Policy: rpc.Policy{Role: rpc.Reader}, Path: "/s/Look", SideEffectFree: true,
				Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(http.StatusUnsupportedMediaType) // as Connect does for a GET with a body
				})}
			r := httptest.NewRequestWithContext(p.conn, "GET", "/s/Look?encoding=json&message={}", nil)
			c, r := rpc.Of(r)
			defer c.End()
			p.chain.Wrap(method).ServeHTTP(httptest.NewRecorder(), r)
			return c.Refused
		}},
		{"streams", rpc.ReasonResourceExhausted, plain, func(t *testing.T, p *port) (reason rpc.Reason) {
			p.during = func() { _, reason = p.call(t, p.follow, "POST", "Content-Type", "application/connect+json") }
			p.call(t, p.follow, "POST", "Content-Type", "application/connect+json")
			return reason
		}},
		{"budget", rpc.ReasonDeadlineExceeded, func(c *Config) { c.MaxDeadline = 20 * time.Millisecond }, func(t *testing.T, p *port) rpc.Reason {
			p.holdBudget(t)
			return p.get(t, p.conn, longTarget)
		}},
		{"budget", rpc.ReasonCanceled, plain, func(t *testing.T, p *port) rpc.Reason {
			p.holdBudget(t)
			ctx, cancel := context.WithTimeout(p.conn, 20*time.Millisecond)
			defer cancel()
			return p.get(t, ctx, longTarget)
		}},
	} {
		if seen[test.gate] == nil {
			seen[test.gate] = make(map[rpc.Reason]bool)
		}
		seen[test.gate][test.reason] = true
		t.Run(test.gate+" "+string(test.reason), func(t *testing.T) {
			if reason := test.refused(t, newPort(t, test.config)); reason != test.reason {
				t.Errorf("refused for %q", reason)
			}
		})
	}
	for _, gate := range newPort(t, nil).chain.Gates() {
		declared, tested := slices.Sorted(slices.Values(gate.Reasons)), slices.Sorted(maps.Keys(seen[gate.Name]))
		if !slices.Equal(declared, tested) {
			t.Errorf("the gate %s declares the reasons %v, and refuses here for %v", gate.Name, declared, tested)
		}
		for _, reason := range gate.Reasons {
			if !slices.Contains(rpc.Reasons[:], reason) {
				t.Errorf("the gate %s refuses for %q, which rpc.Reasons does not have", gate.Name, reason)
			}
		}
	}
}

// longTarget has a message that is charged to the budget.
var longTarget = "/s/Look?message=" + strings.Repeat("x", 4*shortReply)

// get sends a GET to a method without side effects; wrap may replace the ResponseWriter.
func (p *port) get(t *testing.T, ctx context.Context, target string, wrap ...func(http.ResponseWriter) http.ResponseWriter) rpc.Reason {
	t.Helper()
	method := &rpc.Method{Policy: rpc.Policy{Role: rpc.Reader}, Path: "/s/Look", SideEffectFree: true, Handler: http.NotFoundHandler()}
	r := httptest.NewRequestWithContext(ctx, "GET", target+"&encoding=json", nil)
	c, r := rpc.Of(r)
	defer c.End()
	var w http.ResponseWriter = httptest.NewRecorder()
	for _, f := range wrap {
		w = f(w)
	}
	p.chain.Wrap(method).ServeHTTP(w, r)
	return c.Refused
}

// written calls a function when a reply is written.
type written struct {
	http.ResponseWriter
	during func()
}

func (w written) Write(p []byte) (int, error) {
	w.during()
	return w.ResponseWriter.Write(p)
}

// The documentation and the metrics have every reason, and no others.
func TestEveryReasonIsDocumentedAndCounted(t *testing.T) {
	var want []string
	for _, reason := range rpc.Reasons {
		want = append(want, string(reason))
	}
	slices.Sort(want)
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `roster_requests_refused_total` \\| counter \\| `reason` \\| (.*)$").FindSubmatch(text)
	if row == nil {
		t.Fatal("docs/operations.md has no row for roster_requests_refused_total")
	}
	var documented []string
	for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllSubmatch(row[1], -1) {
		documented = append(documented, string(name[1]))
	}
	if slices.Sort(documented); !slices.Equal(documented, want) {
		t.Errorf("docs/operations.md has the reasons %v, want %v", documented, want)
	}
	w := httptest.NewRecorder()
	telemetry.NewMetrics().Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var counted []string
	for _, name := range regexp.MustCompile(`(?m)^roster_requests_refused_total\{reason="([a-z_]+)"\} 0$`).FindAllStringSubmatch(w.Body.String(), -1) {
		counted = append(counted, name[1])
	}
	if slices.Sort(counted); !slices.Equal(counted, want) {
		t.Errorf("the metrics have the reasons %v, want %v", counted, want)
	}
}
