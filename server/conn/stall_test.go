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
	c := &stallConn{Conn: near, timeout: 50 * time.Millisecond, stats: new(Stats), drain: new(HTTP1Drain)}
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
