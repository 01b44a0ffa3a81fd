package conn

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Long headers that never end hold no more than their bound, and a header from elsewhere is read.
func TestLongHeadersAreBounded(t *testing.T) {
	heads := newHeads()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	drain := new(HTTP1Drain)
	listener := stallListener{inner, time.Minute, new(Stats), drain, newLimit(0), heads, nil}
	server := &http.Server{ConnContext: Context, Handler: drain.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "answered")
	}))}
	go server.Serve(listener)
	defer server.Close()
	dial := func(from byte) net.Conn {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, from)}}).Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	used := func() int {
		heads.mu.Lock()
		defer heads.mu.Unlock()
		return heads.used
	}
	const request, length = "GET / HTTP/1.1\r\nHost: x\r\n", 20 << 10
	var held []net.Conn
	for range maxHeads/headCost/length + 50 {
		conn := dial(3)
		fmt.Fprintf(conn, "%s%s", request, strings.Repeat("a:b\r\n", length/5))
		held = append(held, conn)
	}
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for range 1000 {
			if ok() {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("never came true: %s; %d bytes are charged", what, used())
	}
	eventually("most of the bound is used", func() bool { return used() > maxHeads/2 })
	if used() > maxHeads {
		t.Errorf("%d bytes are charged, the bound is %d", used(), maxHeads)
	}
	other := dial(4)
	for range 2 {
		fmt.Fprintf(other, "%sX: %s\r\n\r\n", request, strings.Repeat("x", 8<<10))
		other.SetReadDeadline(time.Now().Add(10 * time.Second))
		if reply := make([]byte, 1024); true {
			if n, err := other.Read(reply); err != nil || !strings.Contains(string(reply[:n]), "answered") {
				t.Fatalf("a header from elsewhere: %v %q", err, reply[:n])
			}
		}
	}
	for _, conn := range append(held, other) {
		conn.Close()
	}
	eventually("everything is given back", func() bool { return used() == 0 })
}
