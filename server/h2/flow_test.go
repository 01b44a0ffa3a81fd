package h2

import (
	"math/rand/v2"
	"testing"
)

func TestWindow(t *testing.T) {
	w := window(10)
	if w.take(11) || w != 10 {
		t.Error("a window was taken that is too small")
	}
	if !w.take(10) || !w.closed() || !w.take(0) {
		t.Errorf("all of a window was taken: %d is left", w)
	}
	if !w.grow(maxWindow) || w.closed() {
		t.Error("the largest window is allowed")
	}
	if w.grow(1) {
		t.Error("a window beyond the largest was allowed")
	}
	w = 5
	if !w.grow(-20) || !w.closed() || w.take(1) || w.take(0) {
		t.Errorf("a window of %d, which is negative, lets nothing pass", w)
	}
	if w.grow(20); w.closed() || !w.take(5) {
		t.Error("a window that was negative opens again")
	}
}

// A change of the initial window reaches the streams that are open and those to come (RFC 9113
// §6.9.2).
func TestInitialWindow(t *testing.T) {
	var f connFlow
	f.init(1 << 20)
	s := f.open(100)
	s.send.take(60000)
	if !s.send.grow(f.setInitial(1000)) || s.send != 1000-60000 {
		t.Errorf("window of %d after 60,000 bytes and an initial window of 1,000", s.send)
	}
	if next := f.open(100); next.send != 1000 {
		t.Errorf("a new stream has a window of %d", next.send)
	}
	s.send.grow(maxWindow) // by WINDOW_UPDATE
	if s.send.grow(f.setInitial(maxWindow)) {
		t.Error("the change makes a window larger than the protocol allows")
	}
	if f.send != initialWindow {
		t.Errorf("the connection's window has changed to %d", f.send)
	}
}

// Whatever comes and is consumed, in whatever pieces, no byte of the receive windows is lost or
// returned twice, and a peer whose bytes are all consumed can always go on.
func TestReceiveWindowsKeepTheirSize(t *testing.T) {
	const connSize, streamSize = 1 << 16, 1 << 14
	var f connFlow
	f.init(connSize)
	s := f.open(streamSize)
	connHeld, held := 0, 0 // in bodies
	peerConn, peer := connSize, streamSize
	updates := 0
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		n := r.IntN(streamSize / 3)
		if r.IntN(2) == 0 {
			if fits, ok := n <= peerConn, f.recv.take(int64(n)); fits != ok {
				t.Fatalf("%d bytes for a window of the connection of %d: taken %v", n, peerConn, ok)
			} else if !ok {
				continue
			}
			peerConn -= n
			connHeld += n
			if fits, ok := n <= peer, s.recv.take(int64(n)); fits != ok {
				t.Fatalf("%d bytes for a window of %d: taken %v", n, peer, ok)
			} else if ok {
				peer -= n
				held += n
			}
		}
		n = min(n, held) // the rest belongs to streams that drop it
		if n == 0 {
			n = connHeld - held
			f.consume(n)
			connHeld -= n
		} else {
			due := f.consume(n)
			if connHeld -= n; due != (f.consumed.Load() >= connSize/4) {
				t.Fatalf("%d bytes are to be returned, due %v", f.consumed.Load(), due)
			}
			held -= n
			if increment := int(s.consume(n)); increment > 0 {
				peer += increment
				updates++
			}
		}
		if increment := int(f.update()); increment > 0 {
			peerConn += increment
			updates++
		}
		if int(f.recv) != peerConn || peerConn+connHeld+int(f.consumed.Load()) != connSize {
			t.Fatalf("the connection: %d may be sent, %d are held, %d are to be returned, of %d", f.recv, connHeld, f.consumed.Load(), connSize)
		}
		if int(s.recv) != peer || peer+held+int(s.consumed) != streamSize {
			t.Fatalf("the stream: %d may be sent, %d are held, %d are to be returned, of %d", s.recv, held, s.consumed, streamSize)
		}
		if held == 0 && s.recv.closed() || connHeld == 0 && f.recv.closed() {
			t.Fatal("everything is consumed, and the peer waits")
		}
	}
	if updates > 15000 || updates < 1000 {
		t.Errorf("%d updates", updates)
	}
}
