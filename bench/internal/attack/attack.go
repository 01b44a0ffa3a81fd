// Package attack measures what a few hostile connections do to a server: how
// its memory grows, and what a well-behaved caller beside them sees.
//
// It attacks 127.0.0.1 alone, servers that it started, for as long as it is
// told, and stops at once if a server's memory grows beyond a bound.
package attack

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/rawh2"
	"example.com/roster/bench/internal/sample"
	"google.golang.org/protobuf/proto"
)

const (
	// Connections is how many attack.
	Connections = 4
	// mostGrowth ends an attack early: what it shows is shown by then.
	mostGrowth = 3 << 30
)

// Result is what one attack did to one server.
type Result struct {
	Key, Title string
	// Growth is the most that resident memory grew by, in bytes.
	Growth int64
	// Reconnects is how often the server ended an attacking connection.
	Reconnects int
	// Cut tells that the attack was ended early, since memory grew too far.
	Cut bool
	// Died tells that the server ended.
	Died   bool
	Caller Caller
}

// Measure runs one attack on a new server. Caller starts the well-behaved
// caller: it calls for the quiet time, the attack and a while after.
func Measure(ctx context.Context, setup *peer.Setup, name string, attack Attack, duration time.Duration,
	startCaller func(ctx context.Context, addr string, d time.Duration) (func() ([]Call, error), error)) (Result, error) {
	result := Result{Key: attack.Key, Title: attack.Title}
	server, err := setup.Start(ctx, name, peer.Options{GC: peer.Default})
	if err != nil {
		return result, err
	}
	defer server.Stop()
	calls, err := startCaller(ctx, server.Addr, quiet+duration+after)
	if err != nil {
		return result, err
	}
	if err := sleep(ctx, quiet); err != nil {
		return result, err
	}
	before, err := server.RSS()
	if err != nil {
		return result, err
	}
	attacking, end := context.WithTimeout(ctx, duration)
	defer end()
	began := time.Now()
	var all sync.WaitGroup
	var mu sync.Mutex
	for range Connections {
		all.Go(func() {
			n := attack.attackWith(attacking, server.Addr)
			mu.Lock()
			defer mu.Unlock()
			result.Reconnects += n
		})
	}
	watch := func() {
		rss, err := server.RSS()
		if err != nil {
			result.Died = true
			return
		}
		result.Growth = max(result.Growth, rss-before)
		if rss-before > mostGrowth {
			result.Cut = true
			end()
		}
	}
	for attacking.Err() == nil && !result.Died {
		watch()
		_ = sleep(attacking, 20*time.Millisecond) // its end is looked at above
	}
	end()
	all.Wait()
	ended := time.Now()
	watch()
	seen, err := calls()
	if err != nil {
		return result, err
	}
	result.Caller = judge(seen, began, ended)
	return result, ctx.Err()
}

// attackWith attacks by one connection after another until ctx is done, and
// returns how many the server ended.
func (a Attack) attackWith(ctx context.Context, addr string) (ended int) {
	for ctx.Err() == nil {
		if err := a.once(ctx, addr); err != nil && ctx.Err() == nil {
			ended++
			// A server that refuses is not to be measured by how fast it can
			// be called again.
			_ = sleep(ctx, 5*time.Millisecond)
		}
	}
	return ended
}

func (a Attack) once(ctx context.Context, addr string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conns := make([]*rawh2.Conn, 0, max(a.many, 1))
	var readers sync.WaitGroup
	defer func() {
		for _, c := range conns {
			c.Close()
		}
		readers.Wait()
	}()
	for range max(a.many, 1) {
		c, err := rawh2.Dial(ctx, addr, net.IPv4(127, 0, 0, 9))
		if err != nil {
			return err
		}
		conns = append(conns, c)
		// The end of the attack ends every write and read under way.
		stop := context.AfterFunc(ctx, func() { c.Close() })
		defer stop()
		if !a.bare {
			if err := c.Hello(a.settings...); err != nil {
				return err
			}
		}
		if !a.silent {
			readers.Go(func() {
				_, _ = io.Copy(io.Discard, c.Conn)
				cancel()
			})
		}
		if err := a.run(ctx, c); err != nil {
			return err
		}
	}
	if a.hold {
		<-ctx.Done()
	}
	return context.Cause(ctx)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// manyIDs is a request with its gRPC prefix.
func manyIDs(n int) []byte {
	message, err := proto.Marshal(&apipb.UserReq{UserIDs: sample.IDs(n)})
	if err != nil {
		panic(err) // a message of numbers can be encoded
	}
	return append([]byte{0, byte(len(message) >> 24), byte(len(message) >> 16), byte(len(message) >> 8), byte(len(message))}, message...)
}
