// Package attack does to an HTTP/2 server what hostile clients do, and measures what that does to
// the server and to a well-behaved caller beside it.
//
// It attacks 127.0.0.1 alone, a server that it has started, for as long as it is told.
package attack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/roster/bench/internal/measure"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/server/h2/h2test"
)

const (
	// Connections is how many attack, and FloodConnections how many flood.
	Connections      = 4
	FloodConnections = 16
	// FloodStreams is how many calls each of those makes at a time.
	FloodStreams = 100
	// MostGrowth is what memory may grow by, in bytes. An attack is ended early at tooMuch: what it
	// shows is shown by then.
	MostGrowth = 64e6
	tooMuch    = 3 << 30
)

// Attack is what a hostile client does. One with Streams is a flood instead, which makes as many
// calls as the server answers, so many at a time on each connection.
type Attack struct {
	h2test.Attack
	Streams int
	// Flags are more flags of the server.
	Flags []string
}

// All is every attack but the floods.
func All() (all []Attack) {
	for _, a := range h2test.Attacks {
		all = append(all, Attack{Attack: a})
	}
	return all
}

// Floods makes calls of two ids, without and with a rate limit from which the well-behaved caller
// stays far.
func Floods() (floods []Attack) {
	for _, title := range []string{"no rate limit", "--rate-limit 1000 --rate-burst 100"} {
		flood := Attack{Attack: h2test.Attack{Key: title, Title: title, Settings: h2test.WideWindow}, Streams: FloodStreams}
		if strings.HasPrefix(title, "--") {
			flood.Flags = strings.Fields(title)
		}
		floods = append(floods, flood)
	}
	return floods
}

// Result is what one attack did to one server.
type Result struct {
	// Growth is how much resident memory grew at most, in bytes.
	Growth int64
	// CutOff is how often the server ended an attacking connection.
	CutOff int64
	// Stopped tells that the attack was ended early, since memory grew too far, and Died that the
	// server ended.
	Stopped, Died bool
	// Answered and Refused count the calls of a flood.
	Answered, Refused int64
	Caller            Caller
}

// Measure runs an attack on a new server. The well-behaved caller makes calls for a quiet time, the
// attack and a while after.
func Measure(ctx context.Context, setup *peer.Setup, name string, a Attack, duration time.Duration) (Result, error) {
	var result Result
	server, err := setup.Start(ctx, name, peer.Options{Flags: a.Flags})
	if err != nil {
		return result, err
	}
	defer server.Stop()
	quiet, connections := 1500*time.Millisecond, Connections
	if a.Streams > 0 {
		quiet, connections = duration, FloodConnections
	}
	calls, err := startCaller(ctx, server.Addr, quiet+duration+after)
	if err != nil {
		return result, err
	}
	sleep(ctx, quiet)
	before, err := server.RSS()
	if err != nil {
		return result, err
	}
	attacking, end := context.WithTimeout(ctx, duration)
	defer end()
	began := time.Now()
	var all sync.WaitGroup
	for range connections {
		all.Go(func() {
			for attacking.Err() == nil {
				if err := a.once(attacking, server.Addr, &result); err != nil && attacking.Err() == nil {
					atomic.AddInt64(&result.CutOff, 1)
					// A server that refuses is not to be measured by how fast it can be called
					// again.
					sleep(attacking, 5*time.Millisecond)
				}
			}
		})
	}
	for more := true; more; sleep(attacking, 20*time.Millisecond) {
		more = attacking.Err() == nil // once more when it is over
		rss, err := server.RSS()
		result.Died = err != nil
		result.Growth = max(result.Growth, rss-before)
		result.Stopped = result.Growth > tooMuch
		if result.Died || result.Stopped {
			end()
		}
	}
	all.Wait()
	ended := time.Now()
	seen, err := calls()
	result.Caller = judge(seen, began, ended)
	return result, err
}

// request asks for 10,000 users, some 450 KB.
var request = h2test.Request{Fields: h2test.Call("/MyService/User"), Large: measure.Request(10_000)}

// once attacks until the connection or the attack ends.
func (a Attack) once(ctx context.Context, addr string, result *Result) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for range max(a.Many, 1) {
		// Its own address, so that a limit for each caller tells it from the well-behaved one.
		dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		// The end of the attack ends every write and read under way.
		context.AfterFunc(ctx, func() { conn.Close() })
		c := h2test.New(bufio.NewReadWriter(bufio.NewReaderSize(conn, 4<<10), bufio.NewWriterSize(conn, 16<<10)))
		if !a.Bare {
			if err := errors.Join(c.Hello(a.Settings...), c.Flush()); err != nil {
				return err
			}
		}
		if a.Streams > 0 {
			return c.Pump(a.Streams, "/MyService/User", measure.Request(2), func() bool { return ctx.Err() == nil }, func(answered bool) {
				if answered {
					atomic.AddInt64(&result.Answered, 1)
				} else {
					atomic.AddInt64(&result.Refused, 1)
				}
			})
		}
		if !a.Silent {
			readers.Go(func() {
				_, _ = io.Copy(io.Discard, conn)
				cancel()
			})
		}
		if err := a.run(ctx, c); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (a Attack) run(ctx context.Context, c *h2test.Client) error {
	if a.Start != nil {
		if err := a.Start(c, request); err != nil {
			return err
		}
	}
	for n := 0; a.Step != nil && ctx.Err() == nil; n++ {
		if err := a.Step(c, request); err != nil {
			return err
		}
		// The network is given a few hundred at a time.
		if n%256 == 0 {
			if err := c.Flush(); err != nil {
				return err
			}
		}
	}
	return c.Flush()
}

// Missed says which marks of an attack were missed in its rounds.
func (a Attack) Missed(rounds []Result) (missed []string) {
	var times []float64
	for _, r := range rounds {
		c := r.Caller
		if r.Died {
			missed = append(missed, "the server ended")
		}
		if over := r.Growth - MostGrowth; over > 0 && a.Streams == 0 {
			missed = append(missed, fmt.Sprintf("memory by %d MB", over/1e6))
		}
		if c.Failed > 0 {
			missed = append(missed, fmt.Sprintf("%d calls failed", c.Failed))
		}
		if !c.Recovered() && a.Streams == 0 {
			missed = append(missed, "latency not back")
		}
		times = append(times, float64(c.DuringP99)/float64(max(c.QuietP99, 1)))
	}
	if t := measure.Median(times); a.Flags != nil && t > 2 {
		missed = append(missed, fmt.Sprintf("p99 is %.2f times the quiet one", t))
	}
	return missed
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
