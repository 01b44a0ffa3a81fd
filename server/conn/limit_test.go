package conn

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// limited serves HTTP/1.1 with at most max connections. The path /wait is answered when the test ends.
func limited(t *testing.T, max int) (dial func(address string) net.Conn, stats *Stats) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	parting, log := new(HTTP1Drain), NewErrorLog(slog.New(slog.DiscardHandler))
	stats = new(Stats)
	ended := make(chan struct{})
	server := &http.Server{ConnContext: Context, Handler: parting.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			select {
			case <-ended:
			case <-r.Context().Done():
			}
		}
	}))}
	go server.Serve(NewListener(inner, Config{StallTimeout: time.Minute, Stats: stats, HTTP1Drain: parting, Log: log, MaxConnections: max}))
	t.Cleanup(func() {
		close(ended)
		server.Close()
	})
	return func(address string) net.Conn {
		t.Helper()
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		c, err := from.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}, stats
}

// get makes a request on a connection and reports whether it is answered.
func get(c net.Conn) bool {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return false
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == 200
}

// closed reports whether the server has closed a connection.
func closed(c net.Conn) bool {
	c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	timeout, ok := err.(net.Error)
	return err == io.EOF || err != nil && !(ok && timeout.Timeout())
}

func busy(c net.Conn) { fmt.Fprint(c, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n") }

const one, two = "127.0.0.1", "127.0.0.2"

func TestIdleConnectionsGiveWay(t *testing.T) {
	dial, _ := limited(t, 3)
	first, second, third := dial(one), dial(one), dial(one)
	busy(second)
	get(first)
	get(third)
	time.Sleep(2 * minIdle)
	if !get(dial(one)) {
		t.Error("a new connection is refused although others are idle")
	}
	if !closed(first) || closed(second) || closed(third) {
		t.Error("another connection than the one that has been idle for longest was closed")
	}
}

func TestNoAddressKeepsAllConnections(t *testing.T) {
	dial, stats := limited(t, 4)
	var held []net.Conn
	for range 4 {
		c := dial(one)
		busy(c)
		held = append(held, c)
		time.Sleep(20 * time.Millisecond) // accepted in this order
	}
	time.Sleep(2 * minIdle)
	if get(dial(one)) {
		t.Error("the address that has all connections gets another one")
	}
	if refused := stats.Refused(); refused != 1 {
		t.Errorf("%d connections were refused, want 1", refused)
	}
	a, b := dial(two), dial(two)
	busy(a)
	if !get(b) {
		t.Error("another address gets no connections")
	}
	if !closed(held[0]) || !closed(held[1]) || closed(held[2]) || closed(held[3]) {
		t.Error("the oldest two did not give way")
	}
	busy(b)
	time.Sleep(2 * minIdle)
	if get(dial(two)) {
		t.Error("an address with half of the connections takes more")
	}
	// What is closed makes room.
	held[2].Close()
	for range 100 {
		if _, open := stats.Connections(); open < 4 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !get(dial(two)) {
		t.Error("a connection is refused below the maximum")
	}
}

// HTTP/2 connections that are being shut down are no longer counted, but there is a bound on them, too.
// Those without a call are closed first.
func TestOnlySoManyConnectionsAreLeaving(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stats := new(Stats)
	listener := NewListener(inner, Config{StallTimeout: time.Minute, Stats: stats, HTTP1Drain: new(HTTP1Drain),
		Log: NewErrorLog(slog.New(slog.DiscardHandler)), MaxConnections: 1})
	defer listener.Close()
	const maxLeaving = 32
	var shutdowns int
	var first net.Conn
	var setFirst func(idle bool)
	for n := range maxLeaving + 3 {
		client, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		c, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		set := Idle(Context(t.Context(), c), func() { shutdowns++ })
		set(false)
		set(true)
		if n == 0 {
			first = client
			setFirst = set
		}
		if n == 1 {
			setFirst(false) // a call of the first connection crosses its GOAWAY
		}
	}
	if closed(first) {
		t.Error("a connection with a call was closed although others without one were leaving")
	}
	if shutdowns != maxLeaving+2 {
		t.Errorf("%d connections were shut down, want %d", shutdowns, maxLeaving+2)
	}
	if _, open := stats.Connections(); open != maxLeaving+1 {
		t.Errorf("%d connections are open, want %d", open, maxLeaving+1)
	}
}
