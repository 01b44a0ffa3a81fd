package conn

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// A slow reader is not cut off while it goes on reading, however long one piece takes it.
func TestASlowReaderIsNotCut(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	go func(far io.Reader) {
		for piece := make([]byte, 1024); ; time.Sleep(2 * time.Millisecond) {
			if _, err := far.Read(piece); err != nil {
				return
			}
		}
	}(far)
	c := &stallConn{Conn: near, timeout: 50 * time.Millisecond, stats: new(Stats), drain: new(HTTP1Drain), limit: newLimit(0), heads: newHeads()}
	if n, err := c.Write(make([]byte, stallPiece)); n != stallPiece || err != nil {
		t.Errorf("%d of %d bytes written: %v", n, stallPiece, err)
	}
	far.Close()
	near, far = net.Pipe()
	defer far.Close()
	c.Conn = near
	if n, err := c.Write(make([]byte, stallPiece)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("to a peer that does not read: %d bytes, %v", n, err)
	}
}

// A reader of one byte at a time is cut: less than 64 bytes in the timeout are no progress.
func TestAReaderOfSingleBytesIsCut(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	go func() {
		for piece := make([]byte, 1); ; time.Sleep(5 * time.Millisecond) {
			if _, err := far.Read(piece); err != nil {
				return
			}
		}
	}()
	c := &stallConn{Conn: near, timeout: 50 * time.Millisecond, stats: new(Stats), drain: new(HTTP1Drain), limit: newLimit(0), heads: newHeads()}
	if n, err := c.Write(make([]byte, 200)); n >= minProgress || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes written: %v", n, err)
	}
}

// A deadline ends a write to a peer that reads on, set before the write or during it.
func TestAWriteEndsAtItsDeadline(t *testing.T) {
	for _, during := range []bool{false, true} {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		go func() {
			for piece := make([]byte, 128); ; time.Sleep(2 * time.Millisecond) {
				if _, err := far.Read(piece); err != nil {
					return
				}
			}
		}()
		c := &stallConn{Conn: near, timeout: time.Minute, stats: new(Stats), drain: new(HTTP1Drain), limit: newLimit(0), heads: newHeads()}
		set := func() { c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) }
		if during {
			time.AfterFunc(20*time.Millisecond, set)
		} else {
			set()
		}
		began := time.Now()
		n, err := c.Write(make([]byte, 4<<20))
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took > 30*time.Second {
			t.Errorf("set during the write %v: %d bytes in %v, %v", during, n, took, err)
		}
		// The next reply on the connection is bound by the stall timeout alone.
		c.SetWriteDeadline(time.Time{})
		if _, err := c.Write(make([]byte, 256)); err != nil {
			t.Errorf("without the deadline: %v", err)
		}
	}
}

// deadlineConn calls before each time that a write deadline is to be set on the connection.
type deadlineConn struct {
	net.Conn
	before func()
}

func (c *deadlineConn) SetWriteDeadline(t time.Time) error {
	if before := c.before; before != nil {
		c.before = nil
		before()
	}
	return c.Conn.SetWriteDeadline(t)
}

// A deadline that is set in the moment in which a write sets that of the stall timeout is kept.
func TestAWriteDoesNotReplaceADeadline(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	inner := &deadlineConn{Conn: near}
	c := &stallConn{Conn: inner, timeout: time.Minute, stats: new(Stats), drain: new(HTTP1Drain), limit: newLimit(0)}
	inner.before = func() { c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) }
	time.AfterFunc(10*time.Second, func() { near.Close() })
	if _, err := c.Write([]byte("nobody reads this")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the write ended with %v, want the deadline that was set", err)
	}
}

// A deadline that is taken back or put off during a write no longer ends it.
func TestADeadlineCanBePutOffDuringAWrite(t *testing.T) {
	for _, later := range []time.Time{{}, time.Now().Add(time.Hour)} {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		c := &stallConn{Conn: near, timeout: time.Minute, stats: new(Stats), drain: new(HTTP1Drain), limit: newLimit(0)}
		c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write(make([]byte, 100))
			wrote <- err
		}()
		if _, err := io.ReadFull(far, make([]byte, 10)); err != nil { // so the write is under way
			t.Fatal(err)
		}
		c.SetWriteDeadline(later)
		time.Sleep(600 * time.Millisecond) // past the deadline that was set first
		if _, err := io.ReadFull(far, make([]byte, 90)); err != nil {
			t.Errorf("put off to %v: %v", later, err)
		}
		if err := <-wrote; err != nil {
			t.Errorf("put off to %v: the write ended with %v", later, err)
		}
	}
}
