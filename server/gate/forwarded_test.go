package gate

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"example.com/roster/server/rpc"
)

// passed sends a request through the gate forwarded of a port that trusts these proxies, and returns the
// address that the next gate sees, or the text of the refusal.
func passed(t *testing.T, trusted []string, peer string, header http.Header) string {
	t.Helper()
	var f forwarded
	for _, text := range trusted {
		prefix, err := ParseProxy(text)
		if err != nil {
			t.Fatal(err)
		}
		f.trusted = append(f.trusted, prefix)
	}
	f.log = newRefusalLog(slog.New(slog.DiscardHandler))
	var seen string
	r := httptest.NewRequest("POST", "/s/Look", nil)
	r.RemoteAddr, r.Header = peer, header
	c, r := rpc.Of(r)
	defer c.End()
	w := httptest.NewRecorder()
	f.pass(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.RemoteAddr })).ServeHTTP(w, r)
	if seen == "" {
		if w.Code != 400 || c.Refused != rpc.ReasonForwarded {
			t.Errorf("%v: status %d, refused for %q", header, w.Code, c.Refused)
		}
		return strings.TrimSpace(w.Body.String())
	}
	return seen
}

func TestTheClientBehindProxies(t *testing.T) {
	const (
		peer     = "10.0.0.1:50000"
		itself   = peer
		disagree = "the headers Forwarded and X-Forwarded-For name different clients: have the proxy set one of them, and remove the other"
		broken   = "the header Forwarded is malformed: correct the proxy, or have it remove what clients send of it"
	)
	proxies := []string{"10.0.0.0/8", "2001:db8:1::/48"}
	for _, test := range []struct {
		forwarded, usual []string
		want             string
	}{
		{nil, nil, itself},
		{nil, []string{""}, itself},
		{nil, []string{"203.0.113.7"}, "203.0.113.7:0"},
		{nil, []string{"203.0.113.7:1234"}, "203.0.113.7:0"},
		{nil, []string{"2001:db8::7"}, "[2001:db8::7]:0"},
		{nil, []string{"[2001:db8::7]"}, "[2001:db8::7]:0"},
		{nil, []string{"[2001:db8::7]:99"}, "[2001:db8::7]:0"},
		{nil, []string{"::ffff:203.0.113.7"}, "203.0.113.7:0"},
		// The rightmost that is not trusted, whatever else there is.
		{nil, []string{"192.0.2.1, 203.0.113.7"}, "203.0.113.7:0"},
		{nil, []string{"192.0.2.1, 203.0.113.7, 10.9.9.9,10.1.1.1"}, "203.0.113.7:0"},
		{nil, []string{"192.0.2.1", "203.0.113.7", "10.9.9.9"}, "203.0.113.7:0"},
		{nil, []string{"203.0.113.7, 2001:db8:1::5"}, "203.0.113.7:0"},
		{nil, []string{"<script>, ,, 203.0.113.7 , "}, "203.0.113.7:0"},
		{nil, []string{"10.7.7.7, 10.1.1.1"}, "10.7.7.7:0"}, // a call of a trusted machine itself
		{nil, []string{"203.0.113.7, unknown"}, itself},
		{nil, []string{"203.0.113.7, unknown, 10.1.1.1"}, itself},
		// What cannot be read where it is needed.
		{nil, []string{"somebody"}, `the header X-Forwarded-For has "somebody" where the address of a client should be: correct the proxy`},
		{nil, []string{"203.0.113.7, 1.2.3"}, `the header X-Forwarded-For has "1.2.3" where`},
		{nil, []string{"203.0.113.7 10.1.1.1"}, `the header X-Forwarded-For has "203.0.113.7 10.1.1.1" where`},

		{[]string{"for=203.0.113.7"}, nil, "203.0.113.7:0"},
		{[]string{`For="203.0.113.7:1234";proto=https;by=10.0.0.1`}, nil, "203.0.113.7:0"},
		{[]string{`proto=https; for="[2001:db8::7]:99"`}, nil, "[2001:db8::7]:0"},
		{[]string{`for="\[2001:db8::7\]"`}, nil, "[2001:db8::7]:0"},
		{[]string{`for=[2001:db8::7]:99`}, nil, "[2001:db8::7]:0"},
		{[]string{`for=192.0.2.1, for=203.0.113.7;host="a,b;for=192.0.2.9", for=10.1.1.1`}, nil, "203.0.113.7:0"},
		{[]string{"for=192.0.2.1", "for=203.0.113.7"}, nil, "203.0.113.7:0"},
		{[]string{"for=192.0.2.1, for=_hidden"}, nil, itself},
		{[]string{"for=192.0.2.1, for=unknown"}, nil, itself},
		{[]string{"for=192.0.2.1, proto=https"}, nil, itself}, // this hop does not tell
		{[]string{", for=203.0.113.7, ,"}, nil, "203.0.113.7:0"},
		{[]string{`for="`, "for=203.0.113.7"}, nil, broken},
		{[]string{`for=192.0.2.1;host="`, `for="[2001:db8::7]"`}, nil, broken},
		{[]string{"for=192.0.2.1;for=203.0.113.7"}, nil, broken},
		{[]string{"for"}, nil, broken},
		{[]string{"for="}, nil, broken},
		{[]string{"for =203.0.113.7"}, nil, broken},
		{[]string{"for=203.0.113.7 for=192.0.2.1"}, nil, broken},
		{[]string{"203.0.113.7"}, nil, broken},
		{[]string{"for=nobody"}, nil, `the header Forwarded has "nobody" where`},

		{[]string{"for=203.0.113.7"}, []string{"203.0.113.7"}, "203.0.113.7:0"},
		{[]string{"for=192.0.2.1, for=203.0.113.7"}, []string{"198.51.100.1, 203.0.113.7, 10.1.1.1"}, "203.0.113.7:0"},
		{[]string{"for=203.0.113.8"}, []string{"203.0.113.7"}, disagree},
		{[]string{"for=unknown"}, []string{"203.0.113.7"}, disagree},
	} {
		header := make(http.Header)
		if test.forwarded != nil {
			header["Forwarded"] = test.forwarded
		}
		if test.usual != nil {
			header["X-Forwarded-For"] = test.usual
		}
		if got := passed(t, proxies, peer, header); !strings.HasPrefix(got, test.want) {
			t.Errorf("%q: %s, want %s", header, got, test.want)
		}
	}
}

// Who is not a trusted proxy cannot choose an address, whatever it sends.
func TestForwardedIsNotBelievedOfAnybodyElse(t *testing.T) {
	header := http.Header{"Forwarded": {`for="`}, "X-Forwarded-For": {"192.0.2.1"}}
	for _, test := range []struct {
		trusted []string
		peer    string
	}{
		{nil, "127.0.0.1:1"}, {[]string{"10.0.0.1"}, "10.0.0.2:1"}, {[]string{"10.0.0.0/8"}, "11.0.0.1:1"},
		{[]string{"::1"}, "127.0.0.1:1"}, {[]string{"127.0.0.1"}, "[::1]:1"}, {[]string{"127.0.0.1"}, "@"}, {[]string{"10.0.0.1"}, "192.0.2.1:1234"},
	} {
		if got := passed(t, test.trusted, test.peer, header); got != test.peer {
			t.Errorf("trusting %v, %s becomes %s", test.trusted, test.peer, got)
		}
	}
	if got := passed(t, []string{"127.0.0.0/8"}, "[::ffff:127.0.0.1]:1", http.Header{"X-Forwarded-For": {"192.0.2.1"}}); got != "192.0.2.1:0" {
		t.Errorf("a socket for both IPv4 and IPv6: %s", got)
	}
}

func TestNoTrustedProxiesCostNothing(t *testing.T) {
	f := forwarded{}
	called := false
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true })
	// The handler is next itself: it would panic in the gate, which has no request to look at.
	f.wrap(nil, next).ServeHTTP(nil, nil)
	if !called {
		t.Error("the request was not passed on")
	}
}

// The rate and the shares are those of the clients, also on the proxy's one connection.
func TestLimitsAreOfTheClientsBehindAProxy(t *testing.T) {
	p := newPort(t, func(c *Config) {
		c.TrustedProxies, c.Rate = loopbackProxy, RateConfig{PerSecond: 0.001, Burst: 1}
	})
	p.peer = "127.0.0.1:4711"
	for _, test := range []struct {
		client string
		status int
	}{{"203.0.113.7", 200}, {"203.0.113.7", 429}, {"203.0.113.8", 200}, {"203.0.113.8", 429}, {"192.0.2.1, 203.0.113.8", 429}} {
		if status, _ := p.call(t, p.look, "POST", "X-Forwarded-For", test.client); status != test.status {
			t.Errorf("%s: %d, want %d", test.client, status, test.status)
		}
	}

	for _, trusted := range [][]netip.Prefix{nil, loopbackProxy} {
		p = newPort(t, func(c *Config) { c.TrustedProxies, c.MaxConcurrentCalls = trusted, 8 })
		p.peer = "127.0.0.1:4711"
		var statuses [3]int
		// Six slots are free for all, the next ones are shared out: one to a caller and one to a connection.
		hold(t, p, 6, func() {
			p.during = func() {
				statuses[1], _ = p.call(t, p.look, "POST", "X-Forwarded-For", "203.0.113.7")
				statuses[2], _ = p.call(t, p.look, "POST", "X-Forwarded-For", "203.0.113.8")
			}
			statuses[0], _ = p.call(t, p.look, "POST", "X-Forwarded-For", "203.0.113.7")
		})
		want := [3]int{200, 503, 200}
		if trusted == nil {
			want = [3]int{200, 503, 503} // all are one caller
		}
		if statuses != want {
			t.Errorf("trusting %v: %v, want %v", trusted, statuses, want)
		}
	}
}

// hold runs f while n slots of the gate shed are taken by others.
func hold(t *testing.T, p *port, n int, f func()) {
	t.Helper()
	if n == 0 {
		f()
		return
	}
	p.during = func() { hold(t, p, n-1, f) }
	if status, refused := p.call(t, p.look, "POST", "X-Forwarded-For", netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}).String()); status != 200 {
		t.Errorf("slot %d: %d, %s", n, status, refused)
	}
}

// Without tokens a write needs a caller that is on this machine beyond doubt.
func TestWhoIsOnThisMachine(t *testing.T) {
	write := &rpc.Method{Policy: rpc.Policy{Role: rpc.Writer}, Path: "/s/Write", Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	for _, test := range []struct {
		peer, host, header, value string
		config                    func(*Config)
		want                      string // of the refusal
	}{
		{"127.0.0.1:9", "localhost:50051", "", "", nil, ""},
		{"127.0.0.1:9", "127.0.0.1", "", "", nil, ""},
		{"[::1]:9", "[::1]:50051", "", "", nil, ""},
		{"[::ffff:127.0.0.1]:9", "roster.localhost", "", "", nil, ""},
		{"@", "localhost", "", "", nil, ""}, // a Unix socket
		{"203.0.113.7:9", "localhost", "", "", nil, "its address is not of the loopback"},
		{"127.0.0.1:9", "roster.example.com", "", "", nil, `it calls the host "roster.example.com"`},
		{"127.0.0.1:9", "backend", "", "", nil, `it calls the host "backend"`},
		{"127.0.0.1:9", "", "", "", nil, `it calls the host ""`},
		{"127.0.0.1:9", "localhost", "X-Forwarded-For", "127.0.0.1", nil, "it has the header X-Forwarded-For, which proxies add"},
		{"127.0.0.1:9", "localhost", "X-Forwarded-Proto", "https", nil, "it has the header X-Forwarded-Proto, which proxies add"},
		{"127.0.0.1:9", "localhost", "Forwarded", "for=127.0.0.1", nil, "it has the header Forwarded, which proxies add"},
		{"127.0.0.1:9", "localhost", "X-Real-IP", "127.0.0.1", nil, "it has the header X-Real-Ip, which proxies add"},
		{"127.0.0.1:9", "localhost", "Via", "1.1 proxy", nil, "it has the header Via, which proxies add"},
		{"127.0.0.1:9", "localhost", "", "", func(c *Config) { c.TrustedProxies = loopbackProxy }, "it came through a proxy"},
		{"127.0.0.2:9", "localhost", "", "", func(c *Config) { c.TrustedProxies = loopbackProxy }, ""},
	} {
		p := newPort(t, func(c *Config) {
			c.Access.Local = true
			if test.config != nil {
				test.config(c)
			}
		})
		ctx := p.conn
		if test.peer == "@" {
			ctx = context.WithValue(ctx, http.LocalAddrContextKey, &net.UnixAddr{Name: "roster.sock", Net: "unix"})
		}
		r := httptest.NewRequestWithContext(ctx, "POST", "/s/Write", strings.NewReader("{}"))
		r.RemoteAddr, r.Host = test.peer, test.host
		r.Header.Set("Content-Type", "application/json")
		if test.header != "" {
			r.Header.Set(test.header, test.value)
		}
		c, r := rpc.Of(r)
		w := httptest.NewRecorder()
		p.chain.Wrap(write).ServeHTTP(w, r)
		c.End()
		switch {
		case test.want == "" && w.Code != 200:
			t.Errorf("%+v: %d %s", test, w.Code, w.Body)
		case test.want != "" && (w.Code != 403 || !strings.Contains(strings.ReplaceAll(w.Body.String(), `\"`, `"`), test.want+"; serve with --tokens")):
			t.Errorf("%+v: %d %s", test, w.Code, w.Body)
		}
	}
}

func BenchmarkForwarded(b *testing.B) {
	for name, f := range map[string]forwarded{"none": {}, "other peer": {trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"proxy": {trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}} {
		b.Run(name, func(b *testing.B) {
			handler := f.pass(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			r := httptest.NewRequest("POST", "/s/Look", nil)
			r.Header.Set("X-Forwarded-For", "203.0.113.7")
			b.ReportAllocs()
			for b.Loop() {
				r.RemoteAddr = "192.0.2.1:1234"
				handler.ServeHTTP(nil, r)
			}
		})
	}
}
