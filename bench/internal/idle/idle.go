// Package idle measures what a connection costs that has made one call and
// then says nothing.
package idle

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/rawh2"
	"example.com/roster/bench/internal/sample"
	"example.com/roster/bench/internal/verify"
)

// Peers are the servers, the one to compare with first.
var Peers = []string{peer.GRPC, peer.Roster, peer.RosterStd, peer.Connect, peer.GRPCTuned, peer.Tonic, peer.Nginx}

// Measure returns the bytes of resident memory for one idle connection of each
// peer. All runs one after the other.
func Measure(ctx context.Context, setup *peer.Setup, without map[string]string, connections int) (map[string]int64, error) {
	if err := raiseFiles(uint64(connections) + 1000); err != nil {
		return nil, err
	}
	body := filepath.Join(setup.Temp, "idle.body")
	if err := verify.WriteBody(body, sample.IDs(2), true, false); err != nil {
		return nil, err
	}
	request, err := os.ReadFile(body)
	if err != nil {
		return nil, err
	}
	results := make(map[string]int64)
	for _, name := range Peers {
		if without[name] != "" {
			continue
		}
		results[name], err = one(ctx, setup, name, connections, request)
		if err != nil {
			return nil, fmt.Errorf("idle connections to %s: %w", name, err)
		}
	}
	return results, nil
}

func one(ctx context.Context, setup *peer.Setup, name string, connections int, request []byte) (int64, error) {
	server, err := setup.Start(ctx, name, peer.Options{GC: peer.Equal})
	if err != nil {
		return 0, err
	}
	defer server.Stop()
	// A few connections first, so that what the server makes once is not
	// counted.
	if err := open(ctx, server.Addr, make([]*rawh2.Conn, 20), request); err != nil {
		return 0, err
	}
	time.Sleep(time.Second)
	before, err := server.Memory()
	if err != nil {
		return 0, err
	}
	conns := make([]*rawh2.Conn, connections)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	if err := open(ctx, server.Addr, conns, request); err != nil {
		return 0, err
	}
	time.Sleep(3 * time.Second)
	after, err := server.Memory()
	if err != nil {
		return 0, err
	}
	// A server that had closed connections would look cheap.
	for i := 0; i < len(conns); i += max(len(conns)/100, 1) {
		if err := conns[i].Ping(); err != nil {
			return 0, fmt.Errorf("connection %d of %d is not there any more: %w", i+1, connections, err)
		}
	}
	return (after - before) / int64(connections), nil
}

// open fills conns with connections that have made one call each.
func open(ctx context.Context, addr string, conns []*rawh2.Conn, request []byte) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for i := range conns {
		group.Go(func() error {
			// A source address has 28,000 ports, and closed connections hold
			// theirs for a minute.
			conn, err := rawh2.Dial(ctx, addr, net.IPv4(127, 0, 0, byte(2+i/4000)))
			if err != nil {
				return err
			}
			conns[i] = conn
			if err := conn.Hello(); err != nil {
				return err
			}
			return conn.Call("/MyService/User", request)
		})
	}
	return group.Wait()
}

// raiseFiles lets this process and the servers that it starts have that many
// files open.
func raiseFiles(files uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	// Set even where it is enough: Go hands down what was set, not what it
	// found.
	limit.Cur = max(limit.Cur, files)
	limit.Max = max(limit.Max, limit.Cur)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("%d open files are needed: %w (raise the limit with ulimit -n)", files, err)
	}
	return nil
}
