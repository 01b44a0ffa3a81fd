package h2

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// A handler that sends informational replies waits for a peer that does not read them.
func TestInformationalRepliesWaitForThePeer(t *testing.T) {
	var sent atomic.Int64
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", strings.Repeat("x", 1000))
		for r.Context().Err() == nil && sent.Load() < 50_000 {
			w.Header().Set("X-Request-Id", fmt.Sprint(sent.Load()))
			w.WriteHeader(http.StatusEarlyHints)
			sent.Add(1)
		}
	}), Config{}, smallSockets)
	c := s.dialRaw(t)
	c.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	c.write([]byte(http2.ClientPreface))
	c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}))
	c.request("", "/", true)
	eventually(t, "the first are sent", func() bool { return sent.Load() > 0 })
	var before int64
	eventually(t, "the handler waits", func() bool {
		time.Sleep(100 * time.Millisecond)
		now := sent.Load()
		waits := now == before
		before = now
		return waits
	})
	if before > 5000 {
		t.Errorf("%d informational replies were taken from the handler, and none was read", before)
	}
	// They are all there, in order, once the peer reads.
	for i := range before {
		h := nextFrame[*http2.MetaHeadersFrame](c)
		if last := h.Fields[len(h.Fields)-1]; h.PseudoValue("status") != "103" || last.Value != fmt.Sprint(i) {
			t.Fatalf("reply %d has status %s, %v", i, h.PseudoValue("status"), last)
		}
	}
}

// What a handler changes of its goroutine does not reach the next handler on it.
func TestGoroutinesAreReset(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/label" {
			pprof.SetGoroutineLabels(pprof.WithLabels(r.Context(), pprof.Labels("tenant", "alice")))
			return
		}
		var all bytes.Buffer
		pprof.Lookup("goroutine").WriteTo(&all, 1)
		for part := range strings.SplitSeq(all.String(), "\n\n") {
			if strings.Contains(part, "TestGoroutinesAreReset") && strings.Contains(part, "alice") {
				fmt.Fprint(w, "labelled")
			}
		}
	}), Config{})
	c := s.dial(t)
	for range 5 {
		c.get("/label")
		eventually(t, "the worker is idle", func() bool { return s.idleWorkers() > 0 })
		if r := c.get("/other"); r.body != "" {
			t.Fatal("the handler of another request has the label of the one before")
		}
	}
}
