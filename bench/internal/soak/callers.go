package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/gen/tickerpb"
	"example.com/roster/bench/internal/rawh2"
	"example.com/roster/bench/internal/sample"
)

// caller is one kind of load. Work goes on until ctx is done or something is
// wrong, on connections of its own.
type caller struct {
	name  string
	count int
	work  func(ctx context.Context, addr string, done *atomic.Int64) error
}

var callers = []caller{
	{"unary calls", 4, unary},
	{"JSON calls over HTTP/1.1", 2, jsonCalls},
	{"streams read to the end", 2, streams},
	{"calls and streams cancelled", 3, cancels},
	{"streams reset", 1, resets},
	{"slow readers", 3, slowReaders},
	{"connections made and cut", 2, reconnects},
}

func dial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func unary(ctx context.Context, addr string, done *atomic.Int64) error {
	conn, err := dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	users := apipb.NewMyServiceClient(conn)
	for ctx.Err() == nil {
		n := rand.IntN(1000) + 1
		reply, err := users.User(ctx, &apipb.UserReq{UserIDs: sample.IDs(n)})
		if err != nil {
			return err
		}
		if len(reply.GetData()) != n {
			return fmt.Errorf("%d users for %d ids", len(reply.GetData()), n)
		}
		done.Add(1)
		time.Sleep(time.Millisecond)
	}
	return nil
}

func jsonCalls(ctx context.Context, addr string, done *atomic.Int64) error {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/MyService/User", strings.NewReader(`{"userIDs":[1,2]}`))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", response.Status, body)
		}
		done.Add(1)
		time.Sleep(time.Millisecond)
	}
	return nil
}

func streams(ctx context.Context, addr string, done *atomic.Int64) error {
	conn, err := dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	ticker := tickerpb.NewTickerServiceClient(conn)
	for ctx.Err() == nil {
		const messages = 500
		stream, err := ticker.Count(ctx, &tickerpb.CountRequest{Messages: messages})
		if err != nil {
			return err
		}
		n := 0
		for ; ; n++ {
			if _, err = stream.Recv(); err != nil {
				break
			}
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		if n != messages {
			return fmt.Errorf("%d messages in a stream of %d", n, messages)
		}
		done.Add(1)
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// cancels leaves calls by deadline, and streams in the middle.
func cancels(ctx context.Context, addr string, done *atomic.Int64) error {
	conn, err := dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	users, ticker := apipb.NewMyServiceClient(conn), tickerpb.NewTickerServiceClient(conn)
	for ctx.Err() == nil {
		short, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(2000))*time.Microsecond)
		_, err := users.User(short, &apipb.UserReq{UserIDs: sample.IDs(1000)})
		cancel()
		if code := status.Code(err); code != codes.OK && code != codes.DeadlineExceeded {
			return err
		}
		one, cancel := context.WithCancel(ctx)
		stream, err := ticker.Count(one, &tickerpb.CountRequest{Messages: 1 << 40})
		if err != nil {
			cancel()
			return err
		}
		for range rand.IntN(50) {
			if _, err := stream.Recv(); err != nil {
				cancel()
				return err
			}
		}
		cancel()
		done.Add(1)
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// resets opens streams by hand and resets them, slowly enough to be no attack.
func resets(ctx context.Context, addr string, done *atomic.Int64) error {
	conn, err := rawh2.Dial(ctx, addr, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Hello(); err != nil {
		return err
	}
	go func() { _, _ = io.Copy(io.Discard, conn.Conn) }() // until it is closed
	// A new connection now and then, before its settings go unanswered for long.
	for range 50 {
		id, err := conn.Open("/MyService/User", rand.IntN(2) == 0)
		if err != nil {
			return err
		}
		if err := conn.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
			return err
		}
		if err := conn.Flush(); err != nil {
			return err
		}
		done.Add(1)
		time.Sleep(20 * time.Millisecond)
		if ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// slowReaders take a few messages of a stream a second, so that flow control
// holds the server back, and leave in the middle.
func slowReaders(ctx context.Context, addr string, done *atomic.Int64) error {
	conn, err := dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	one, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := tickerpb.NewTickerServiceClient(conn).Count(one, &tickerpb.CountRequest{Messages: 1 << 40})
	if err != nil {
		return err
	}
	for range 100 {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
	done.Add(1)
	return nil
}

// reconnects makes a connection, a call, and cuts the connection while another
// call is under way.
func reconnects(ctx context.Context, addr string, done *atomic.Int64) error {
	conn, err := rawh2.Dial(ctx, addr, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Hello(); err != nil {
		return err
	}
	// One message without ids: an answer with nobody in it.
	if err := conn.Call("/MyService/User", []byte{0, 0, 0, 0, 0}); err != nil {
		return err
	}
	if _, err := conn.Open("/MyService/User", false); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	done.Add(1)
	time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	return nil
}
