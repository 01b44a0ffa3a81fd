// Package attack does to an HTTP/2 server what hostile clients do, and measures what that does to
// the server and to a well-behaved caller beside it.
//
// It attacks 127.0.0.1 alone, a server that it has started, for as long as it is told.
package attack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"example.com/roster/bench/internal/measure"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/server/h2/h2test"
)

const (
	// Connections is how many attack, and FloodConnections how many flood.
	Connections      = 4
	FloodConnections = 16
	// MostGrowth is what memory may grow by, in bytes. An attack is ended early at tooMuch: what it
	// shows is shown by then.
	MostGrowth = 64e6
	tooMuch    = 3 << 30
)

// Attack is what one hostile connection does until it is cut off or its time is up.
type Attack struct {
	Key, Title string

	// start runs once, step again and again until the connection ends. Without a step the connection
	// is held until the end of the attack.
	start, step func(*conn) error
	// settings are those that the connection opens with.
	settings []http2.Setting
	// silent attacks do not read what the server sends, and bare ones send no preface.
	silent, bare bool
	// many is how many connections attack in place of one, if it is not 0.
	many int
	// flood makes as many calls as the server answers, on FloodConnections; flags are more flags of
	// the server.
	flood bool
	flags []string
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
	server, err := setup.Start(ctx, name, peer.Options{Flags: a.flags})
	if err != nil {
		return result, err
	}
	defer server.Stop()
	quiet, connections := 1500*time.Millisecond, Connections
	if a.flood {
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
					// A server that refuses is not to be measured by how fast it can be called again.
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

// conn is one attacking connection. What it writes is sent by Flush.
type conn struct {
	*h2test.Client
	net  net.Conn
	wire *bufio.ReadWriter
}

// open opens a stream.
func (c *conn) open(end bool) (uint32, error) {
	return c.Open(end, h2test.Call("/MyService/User")...)
}

// once attacks until the connection or the attack ends.
func (a Attack) once(ctx context.Context, addr string, result *Result) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for range max(a.many, 1) {
		// Its own address, so that a limit for each caller tells it from the well-behaved one.
		dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
		raw, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		// The end of the attack ends every write and read under way.
		context.AfterFunc(ctx, func() { raw.Close() })
		wire := bufio.NewReadWriter(bufio.NewReaderSize(raw, 4<<10), bufio.NewWriterSize(raw, 16<<10))
		c := &conn{h2test.New(wire), raw, wire}
		if !a.bare {
			if err := c.Hello(a.settings...); err != nil {
				return err
			}
		}
		if a.flood {
			return c.flood(ctx, result)
		}
		if !a.silent {
			readers.Go(func() {
				_, _ = io.Copy(io.Discard, raw)
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

func (a Attack) run(ctx context.Context, c *conn) error {
	if a.start != nil {
		if err := a.start(c); err != nil {
			return err
		}
	}
	for n := 0; ctx.Err() == nil; n++ {
		// The network is given a few hundred at a time.
		if n%256 == 0 {
			if err := c.wire.Flush(); err != nil {
				return err
			}
		}
		if a.step == nil {
			return nil
		}
		if err := a.step(c); err != nil {
			return err
		}
	}
	return nil
}

// Missed says which marks of an attack were missed in its rounds.
func (a Attack) Missed(rounds []Result) (missed []string) {
	var times []float64
	for _, r := range rounds {
		c := r.Caller
		if r.Died {
			missed = append(missed, "the server ended")
		}
		if over := r.Growth - MostGrowth; over > 0 && !a.flood {
			missed = append(missed, fmt.Sprintf("memory by %d MB", over/1e6))
		}
		if c.Failed > 0 {
			missed = append(missed, fmt.Sprintf("%d calls failed", c.Failed))
		}
		if !c.Recovered() && !a.flood {
			missed = append(missed, "latency not back")
		}
		times = append(times, float64(c.DuringP99)/float64(max(c.QuietP99, 1)))
	}
	if t := measure.Median(times); a.flood && t > 2 {
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
