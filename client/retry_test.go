package client_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb"
)

// failing returns a service that answers the first n calls with an error of this code, and counts
// the calls.
func failing(n int32, code connect.Code, calls *atomic.Int32) service {
	fail := func() error {
		if calls.Add(1) <= n {
			return connect.NewError(code, errors.New("not now"))
		}
		return nil
	}
	return service{
		health: func(context.Context) error { return fail() },
		user:   func(context.Context, []int32) (*apipb.UserReply, error) { return nil, fail() },
	}
}

const forever = 1 << 30

func TestALookUpIsRetriedOnUnavailable(t *testing.T) {
	for _, cfg := range configs() {
		t.Run(name(cfg), func(t *testing.T) {
			var calls atomic.Int32
			server := serveHTTP(t, handler(failing(2, connect.CodeUnavailable, &calls)))
			users, err := dial(t, server.url, cfg).Users(within(t, 5*time.Second), []int32{1})
			if err != nil || len(users) != 1 || calls.Load() != 3 {
				t.Errorf("Users = %v, %v after %d calls, want a user after 3", users, err, calls.Load())
			}
		})
	}
}

func TestALookUpIsRetriedUntilAServerListens(t *testing.T) {
	url := freeAddress()
	time.AfterFunc(150*time.Millisecond, func() {
		listener, err := relisten(url[len("http://"):])
		if err != nil {
			t.Error(err)
			return
		}
		serveOn(t, listener, handler(service{}))
	})
	users, err := dial(t, url, client.Config{}).Users(within(t, 10*time.Second), []int32{1})
	if err != nil || len(users) != 1 {
		t.Errorf("Users = %v, %v", users, err)
	}
}

func TestALookUpIsRetriedWhenTheConnectionBreaks(t *testing.T) {
	var calls atomic.Int32
	server := serveHTTP(t, brokenOnce(&calls, handler(service{})))
	users, err := dial(t, server.url, client.Config{}).Users(within(t, 10*time.Second), []int32{1})
	if err != nil || len(users) != 1 || calls.Load() < 2 {
		t.Errorf("Users = %v, %v after %d calls, want a user after 2", users, err, calls.Load())
	}
}

func TestNothingElseIsRetried(t *testing.T) {
	for _, code := range []connect.Code{
		connect.CodeInternal, connect.CodeUnknown, connect.CodeInvalidArgument, connect.CodeNotFound,
		connect.CodeResourceExhausted, connect.CodeAborted, connect.CodeDeadlineExceeded,
		connect.CodeUnimplemented, connect.CodeUnauthenticated,
	} {
		t.Run(code.String(), func(t *testing.T) {
			var calls atomic.Int32
			server := serveHTTP(t, handler(failing(forever, code, &calls)))
			_, err := dial(t, server.url, client.Config{}).Users(within(t, 2*time.Second), []int32{1})
			if connect.CodeOf(err) != code || calls.Load() != 1 {
				t.Errorf("%v after %d calls, want %v after 1", err, calls.Load(), code)
			}
		})
	}
}

func TestHealthIsNotRetried(t *testing.T) {
	var calls atomic.Int32
	server := serveHTTP(t, handler(failing(1, connect.CodeUnavailable, &calls)))
	err := dial(t, server.url, client.Config{}).Health(within(t, 2*time.Second))
	expect(t, err, client.ReasonUnavailable, connect.CodeUnavailable)
	if calls.Load() != 1 {
		t.Errorf("%d calls, want 1", calls.Load())
	}
}

func TestRetriesEndWithTheDeadline(t *testing.T) {
	var calls atomic.Int32
	server := serveHTTP(t, handler(failing(forever, connect.CodeUnavailable, &calls)))
	const deadline = 400 * time.Millisecond
	start := time.Now()
	_, err := dial(t, server.url, client.Config{}).Users(within(t, deadline), []int32{1})
	if took := time.Since(start); took > deadline+200*time.Millisecond {
		t.Errorf("a look-up of %v took %v", deadline, took)
	}
	failure := expect(t, err, client.ReasonUnavailable, connect.CodeUnavailable)
	if n := calls.Load(); n < 2 || int(n) != failure.Attempts {
		t.Errorf("%d calls, %d attempts in the error", n, failure.Attempts)
	}
}

func TestRetriesWithoutADeadlineAreCounted(t *testing.T) {
	var calls atomic.Int32
	server := serveHTTP(t, handler(failing(forever, connect.CodeUnavailable, &calls)))
	_, err := dial(t, server.url, client.Config{}).Users(context.Background(), []int32{1})
	failure := expect(t, err, client.ReasonUnavailable, connect.CodeUnavailable)
	if calls.Load() != 5 || failure.Attempts != 5 {
		t.Errorf("%d calls, %d attempts in the error, want 5", calls.Load(), failure.Attempts)
	}
}

func TestCancelEndsABackoffAtOnce(t *testing.T) {
	var calls atomic.Int32
	server := serveHTTP(t, handler(failing(forever, connect.CodeUnavailable, &calls)))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := dial(t, server.url, client.Config{})
	ended := make(chan error)
	go func() {
		_, err := c.Users(ctx, []int32{1})
		ended <- err
	}()
	// After six attempts the pauses are at least half a second.
	for calls.Load() < 6 {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	cancel()
	start := time.Now()
	err := <-ended
	if took := time.Since(start); took > 200*time.Millisecond {
		t.Errorf("the call ended %v after the cancel", took)
	}
	expect(t, err, client.ReasonCanceled, connect.CodeCanceled)
	expectIs(t, err, context.Canceled)
}

// An overloaded server says how long to wait before the next attempt.
func TestARetryWaitsAsLongAsTheServerAsks(t *testing.T) {
	busy := func(delay time.Duration) error {
		err := connect.NewError(connect.CodeUnavailable, errors.New("too many calls"))
		detail, failed := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
		if failed != nil {
			t.Fatal(failed)
		}
		err.AddDetail(detail)
		return err
	}
	for _, cfg := range configs() {
		t.Run(name(cfg), func(t *testing.T) {
			var calls atomic.Int32
			server := serveHTTP(t, handler(service{user: func(context.Context, []int32) (*apipb.UserReply, error) {
				if calls.Add(1) == 1 {
					return nil, busy(300 * time.Millisecond)
				}
				return nil, nil
			}}))
			start := time.Now()
			if _, err := dial(t, server.url, cfg).Users(within(t, 10*time.Second), []int32{1}); err != nil || calls.Load() != 2 {
				t.Errorf("%v after %d calls, want a user after 2", err, calls.Load())
			}
			if took := time.Since(start); took < 300*time.Millisecond {
				t.Errorf("it was tried again within %v, the server asked for 300ms", took)
			}
		})
	}
	for deadline, delay := range map[time.Duration]time.Duration{time.Second: 2 * time.Second, 0: time.Minute} {
		var calls atomic.Int32
		server := serveHTTP(t, handler(service{user: func(context.Context, []int32) (*apipb.UserReply, error) {
			calls.Add(1)
			return nil, busy(delay)
		}}))
		ctx := context.Background()
		if deadline > 0 {
			ctx = within(t, deadline)
		}
		start := time.Now()
		_, err := dial(t, server.url, client.Config{}).Users(ctx, []int32{1})
		expect(t, err, client.ReasonUnavailable, connect.CodeUnavailable)
		if took := time.Since(start); calls.Load() != 1 || took > 500*time.Millisecond {
			t.Errorf("deadline %v: %d calls in %v, want 1 at once: the server asked for %v", deadline, calls.Load(), took, delay)
		}
	}
}
