package measure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sync/errgroup"

	"example.com/roster/bench/internal/peer"
	"example.com/roster/server/h2/h2test"
)

// idleConn is a connection that has made one call.
type idleConn struct {
	net.Conn
	*h2test.Client
}

// idle measures the memory of connections that have made one call each and then say nothing.
func idle(ctx context.Context, r *Run, _ Case, name string) (Sample, error) {
	if err := raiseFiles(uint64(r.Connections) + 1000); err != nil {
		return Sample{}, err
	}
	server, err := r.Setup.Start(ctx, name, peer.Options{EqualGC: true})
	if err != nil {
		return Sample{}, err
	}
	defer server.Stop()
	// A few connections first, so that what the server makes once is not counted.
	conns := make([]idleConn, 20+r.Connections)
	defer func() {
		for _, conn := range conns {
			if conn.Conn != nil {
				conn.Close()
			}
		}
	}()
	if err := connect(ctx, server.Addr, conns[:20]); err != nil {
		return Sample{}, err
	}
	time.Sleep(time.Second)
	before, err := server.Memory()
	if err != nil {
		return Sample{}, err
	}
	if err := connect(ctx, server.Addr, conns[20:]); err != nil {
		return Sample{}, err
	}
	time.Sleep(3 * time.Second)
	after, err := server.Memory()
	if err != nil {
		return Sample{}, err
	}
	// A server that has closed connections would look cheap.
	for i := 0; i < len(conns); i += max(len(conns)/100, 1) {
		if err := conns[i].ping(); err != nil {
			return Sample{}, fmt.Errorf("idle connection %d of %d has gone: %w", i+1, len(conns), err)
		}
	}
	return Sample{Memory: float64(after-before) / float64(r.Connections)}, nil
}

// connect fills conns.
func connect(ctx context.Context, addr string, conns []idleConn) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for i := range conns {
		group.Go(func() error {
			// A source address has 28,000 ports, and closed connections hold theirs for a minute.
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i/4000))}}
			conn, err := dialer.DialContext(ctx, "tcp", addr)
			if err != nil {
				return err
			}
			conns[i] = idleConn{conn, h2test.New(conn)}
			return errors.Join(conns[i].Hello(), conns[i].call(Request(2)))
		})
	}
	return group.Wait()
}

func (c idleConn) call(body []byte) error {
	id := c.NextID
	_, err := c.Open(false, h2test.Call("/MyService/User")...)
	return c.wait(errors.Join(err, c.WriteData(id, true, body)), func(f http2.Frame) bool {
		return f.Header().StreamID == id && h2test.Ends(f)
	})
}

func (c idleConn) ping() error {
	return c.wait(c.WritePing(false, [8]byte{}), func(f http2.Frame) bool {
		ping, ok := f.(*http2.PingFrame)
		return ok && ping.IsAck()
	})
}

func (c idleConn) wait(err error, done func(http2.Frame) bool) error {
	if err := errors.Join(err, c.SetReadDeadline(time.Now().Add(20*time.Second))); err != nil {
		return err
	}
	return c.Wait(done)
}

// raiseFiles lets this process and the servers that it starts have that many files open.
func raiseFiles(files uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	// Set even where it is enough: Go hands down what was set, not what it found.
	limit.Cur = max(limit.Cur, files)
	limit.Max = max(limit.Max, limit.Cur)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("%d open files are needed: %w (raise the limit with ulimit -n)", files, err)
	}
	return nil
}
