package listen_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/roster/server/listen"
)

// answer accepts connections and sends a byte on each, until the listener is closed.
func answer(listener net.Listener, answered *atomic.Int64) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		var open sync.WaitGroup
		defer open.Wait()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			answered.Add(1)
			open.Go(func() {
				defer conn.Close()
				if _, err := io.ReadFull(conn, make([]byte, 1)); err == nil {
					conn.Write([]byte("."))
				}
			})
		}
	}()
	return done
}

func call(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("?")); err != nil {
		return err
	}
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

func open(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := listen.Open(t.Context(), listen.Config{Addr: address, Flag: "--addr", ReusePort: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// No connection is lost, whether the older or the newer process leaves.
func TestRetireLosesNoConnection(t *testing.T) {
	for name, host := range map[string]string{"IPv4": "127.0.0.1", "IPv6": "[::1]", "both": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			current := open(t, host+":0")
			_, port, _ := net.SplitHostPort(current.Addr().String())
			var answered atomic.Int64
			running := answer(current, &answered)
			ctx, cancel := context.WithCancel(t.Context())
			var callers sync.WaitGroup
			var calls, failures atomic.Int64
			for range 8 {
				callers.Go(func() {
					target := host
					if target == "" {
						target = "127.0.0.1"
					}
					for ctx.Err() == nil {
						calls.Add(1)
						if err := call(target + ":" + port); err != nil {
							failures.Add(1)
							t.Error(err)
							return
						}
					}
				})
			}
			for round := range 5 {
				next := open(t, host+":"+port)
				accepting := answer(next, &answered)
				leaving, left := current, running
				current, running = next, accepting
				if round == 3 { // the newer one leaves
					leaving, current, left, running = current, leaving, running, left
				}
				before := answered.Load()
				for answered.Load() < before+50 && failures.Load() == 0 {
					time.Sleep(time.Millisecond)
				}
				if err := listen.Retire(t.Context(), leaving); err != nil {
					t.Error(err)
				}
				<-left
			}
			cancel()
			callers.Wait()
			current.Close()
			<-running
			t.Logf("%d calls, %d failed", calls.Load(), failures.Load())
		})
	}
}

func TestOpenSaysThatTheAddressIsInUse(t *testing.T) {
	alone, err := listen.Open(t.Context(), listen.Config{Addr: "127.0.0.1:0", Flag: "--addr"})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	address := alone.Addr().String()
	for reuse, want := range map[bool]string{
		false: "is in use by another program: stop that one, or choose another port",
		true:  "is in use by a program that does not share it: it must run with --reuse-port too, and as the same user",
	} {
		_, err := listen.Open(t.Context(), listen.Config{Addr: address, Flag: "--addr", ReusePort: reuse})
		if err == nil || !strings.Contains(err.Error(), "--addr "+address+" "+want) {
			t.Errorf("reuse %v: %v, want %q", reuse, err, want)
		}
	}
}
