package conn

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxied serves HTTP/1.1 behind the PROXY protocol. It answers each request with the address that it
// comes from, and returns what it logs.
func proxied(t *testing.T, config Config) (address string, log func() string, stop func()) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var text bytes.Buffer
	config.Log = NewErrorLog(slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), nil)))
	config.ProxyProtocol, config.StallTimeout, config.Stats, config.HTTP1Drain = true, time.Minute, new(Stats), new(HTTP1Drain)
	server := &http.Server{ConnContext: Context, Handler: config.HTTP1Drain.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.RemoteAddr)
	}))}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(NewListener(inner, config))
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return inner.Addr().String(), func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}, func() { inner.Close() }
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func dial(t *testing.T, address, from string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := dialer.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// ask sends a header of the PROXY protocol with a request, and returns the body of the reply, empty if
// the connection was closed instead.
func ask(t *testing.T, c net.Conn, header string) string {
	t.Helper()
	if _, err := io.WriteString(c, header+request); err != nil {
		return ""
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}

// version2 is a header of version 2 for a client's address.
func version2(t *testing.T, client string, tlv []byte) string {
	t.Helper()
	header := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client)),
		net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client)))
	if tlv != nil {
		if err := header.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_NOOP, Value: tlv}}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := header.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const signature = "\r\n\r\n\x00\r\nQUIT\n"

func TestTheAddressOfTheProxyProtocol(t *testing.T) {
	address, _, _ := proxied(t, Config{})
	const itself = "127.0.0.1:"
	for name, test := range map[string]struct{ header, want string }{
		"version 1":                {"PROXY TCP4 203.0.113.7 192.0.2.1 1234 50051\r\n", "203.0.113.7:1234"},
		"version 1, IPv6":          {"PROXY TCP6 2001:db8::7 2001:db8::1 1234 50051\r\n", "[2001:db8::7]:1234"},
		"version 1, unknown":       {"PROXY UNKNOWN\r\n", itself},
		"version 2":                {version2(t, "203.0.113.7:1234", nil), "203.0.113.7:1234"},
		"version 2, IPv6":          {version2(t, "[2001:db8::7]:1234", nil), "[2001:db8::7]:1234"},
		"version 2, with a TLV":    {version2(t, "203.0.113.7:1234", make([]byte, 1000)), "203.0.113.7:1234"},
		"version 2, a check":       {signature + "\x20\x00\x00\x00", itself},
		"version 2, a Unix socket": {signature + "\x21\x31\x00\xd8" + strings.Repeat("x", 216), itself},
	} {
		if got := ask(t, dial(t, address, "127.0.0.1"), test.header); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: the request comes from %q, want %s", name, got, test.want)
		}
	}
}

func TestAConnectionWithoutTheProxyProtocolIsRefused(t *testing.T) {
	for name, header := range map[string]string{
		"a request": "", "TLS": "\x16\x03\x01\x02\x00\x01", "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a word that begins as it": "PROPFIND / HTTP/1.1\r\n", "no addresses": "PROXY TCP4\r\n", "no address": "PROXY TCP4 a b 1 2\r\n",
		"a long line": "PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", "another version": signature + "\x31\x11\x00\x0c" + strings.Repeat("\x01", 12),
		"addresses that are cut": signature + "\x21\x11\x00\x04abcd", "64 KB": signature + "\x21\x11\xff\xff" + strings.Repeat("x", 1<<16),
	} {
		address, log, _ := proxied(t, Config{})
		if got := ask(t, dial(t, address, "127.0.0.1"), header); got != "" {
			t.Errorf("%s: answered to %q", name, got)
		}
		if text := log(); !strings.Contains(text, "a connection was refused: it has no usable header of the PROXY protocol") || !strings.Contains(text, "remote=127.0.0.1:") {
			t.Errorf("%s: the log has %q", name, text)
		}
	}
}

func TestOnlyTrustedProxiesMaySendTheProxyProtocol(t *testing.T) {
	address, log, _ := proxied(t, Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}})
	const header = "PROXY TCP4 203.0.113.7 192.0.2.1 1234 50051\r\n"
	if got := ask(t, dial(t, address, "127.0.0.2"), header); got != "203.0.113.7:1234" {
		t.Errorf("a trusted proxy: %q", got)
	}
	for _, header := range []string{header, ""} {
		if got := ask(t, dial(t, address, "127.0.0.3"), header); got != "" {
			t.Errorf("another one, with %q: %q", header, got)
		}
	}
	if text := log(); !strings.Contains(text, "it does not come from one of --trusted-proxies") {
		t.Errorf("the log has %q", text)
	}
}

// A connection that sends nothing neither delays others nor is kept, and a check of a balancer, which
// leaves at once, is not worth a line.
func TestTheHeaderOfTheProxyProtocolIsBounded(t *testing.T) {
	t.Parallel()
	address, log, _ := proxied(t, Config{})
	dial(t, address, "127.0.0.1").Close()
	silent := dial(t, address, "127.0.0.1")
	partial := dial(t, address, "127.0.0.1")
	io.WriteString(partial, signature)
	begun := time.Now()
	if got := ask(t, dial(t, address, "127.0.0.1"), "PROXY UNKNOWN\r\n"); got == "" || time.Since(begun) > proxyHeaderTimeout {
		t.Errorf("beside them: %q after %v", got, time.Since(begun))
	}
	for _, c := range []net.Conn{silent, partial} {
		if n, err := c.Read(make([]byte, 1)); err == nil || time.Since(begun) < proxyHeaderTimeout/2 {
			t.Errorf("%d bytes, %v after %v", n, err, time.Since(begun))
		}
	}
	if n := strings.Count(log(), "a connection was refused"); n != 2 {
		t.Errorf("%d lines, want those of the silent and of the partial one: %s", n, log())
	}
}

func TestTheOldestConnectionThatOwesItsHeaderMakesRoom(t *testing.T) {
	address, _, _ := proxied(t, Config{})
	first := dial(t, address, "127.0.0.1")
	for range proxyHeaders {
		dial(t, address, "127.0.0.1")
	}
	begun := time.Now()
	if _, err := first.Read(make([]byte, 1)); err == nil || time.Since(begun) > proxyHeaderTimeout/2 {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
}

// A drain loses no connection that has been accepted, and waits only a moment for one that is silent.
func TestTheProxyProtocolWhileTheListenerCloses(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newProxyListener(inner, nil, NewErrorLog(slog.New(slog.DiscardHandler)))
	late := dial(t, inner.Addr().String(), "127.0.0.1")
	dial(t, inner.Addr().String(), "127.0.0.1") // says nothing
	for owing := 0; owing < 2; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		owing = l.owing.Len()
		l.mu.Unlock()
	}
	inner.Close()
	io.WriteString(late, "PROXY UNKNOWN\r\n")
	begun := time.Now()
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("the connection that was accepted before: %v", err)
	}
	c.Close()
	if c, err := l.Accept(); err == nil || time.Since(begun) > proxyHeaderTimeout-time.Second {
		t.Errorf("then: %v, %v after %v", c, err, time.Since(begun))
	}
}

// --max-connections is shared out between the clients, and not between the balancers.
func TestMaxConnectionsAreOfTheClientsBehindABalancer(t *testing.T) {
	address, _, _ := proxied(t, Config{MaxConnections: 4})
	header := func(client string) string { return "PROXY TCP4 " + client + " 192.0.2.1 1234 50051\r\n" }
	for range 4 {
		if ask(t, dial(t, address, "127.0.0.1"), header("203.0.113.7")) == "" {
			t.Fatal("a connection below the maximum is refused")
		}
	}
	other := dial(t, address, "127.0.0.1")
	if got := ask(t, other, header("203.0.113.8")); got != "203.0.113.8:1234" {
		t.Fatalf("another client: %q", got)
	}
	for answered := 0; answered < 8; { // the first one goes on connecting, and is refused until some of its own are idle
		if ask(t, dial(t, address, "127.0.0.1"), header("203.0.113.7")) != "" {
			answered++
		}
	}
	if got := ask(t, other, ""); got != "203.0.113.8:1234" {
		t.Errorf("the other client's connection gave way: %q", got)
	}
}
