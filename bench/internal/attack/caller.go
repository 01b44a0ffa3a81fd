package attack

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/internal/sample"
	"example.com/roster/bench/internal/stats"
)

const (
	quiet = 1500 * time.Millisecond
	after = 2500 * time.Millisecond
	// pace is the time between two calls of the well-behaved caller.
	pace = 5 * time.Millisecond
)

// A Call is one call of the well-behaved caller.
type Call struct {
	At    time.Time
	Took  time.Duration
	Error string
}

// Calls calls a server at an even pace, as a program with one grpc-go
// connection and a deadline of 5 s would. It runs in a process of its own.
func Calls(ctx context.Context, addr string, d time.Duration) ([]Call, error) {
	client, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	users := apipb.NewMyServiceClient(client)
	request := &apipb.UserReq{UserIDs: sample.IDs(2)}
	var calls []Call
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		began := time.Now()
		_, err := users.User(one, request)
		call := Call{At: began, Took: time.Since(began)}
		cancel()
		if err != nil {
			call.Error = err.Error()
		}
		calls = append(calls, call)
		time.Sleep(pace - call.Took)
	}
	return calls, nil
}

// Caller is what the well-behaved caller saw.
type Caller struct {
	Calls, Failed int
	FirstError    string
	// QuietP50 and QuietP99 are of calls before the attack, DuringP50 and
	// DuringP99 of those in it, AfterP50 of those that began from half a
	// second to a second after its end.
	QuietP50, QuietP99, DuringP50, DuringP99, AfterP50 time.Duration
}

// Recovered tells whether latency was back within a second: the median of the
// half second before that is no more than twice the quiet one, or no more than
// the quiet p99.
func (c Caller) Recovered() bool {
	return c.AfterP50 > 0 && (c.AfterP50 <= 2*c.QuietP50 || c.AfterP50 <= c.QuietP99)
}

func judge(calls []Call, began, ended time.Time) Caller {
	var result Caller
	// The first calls make the connection.
	calls = calls[min(len(calls), 20):]
	between := func(from, to time.Time) []time.Duration {
		var times []time.Duration
		for _, call := range calls {
			if !call.At.Before(from) && call.At.Before(to) {
				times = append(times, call.Took)
			}
		}
		return times
	}
	result.Calls = len(calls)
	for _, call := range calls {
		if call.Error != "" {
			result.Failed++
			if result.FirstError == "" {
				result.FirstError = call.Error
			}
		}
	}
	before, during := between(time.Time{}, began), between(began, ended)
	result.QuietP50, result.QuietP99 = stats.Percentile(before, 0.5), stats.Percentile(before, 0.99)
	result.DuringP50, result.DuringP99 = stats.Percentile(during, 0.5), stats.Percentile(during, 0.99)
	result.AfterP50 = stats.Percentile(between(ended.Add(time.Second/2), ended.Add(time.Second)), 0.5)
	return result
}
