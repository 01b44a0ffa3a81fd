package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/internal/measure"
	"example.com/roster/bench/internal/service"
)

const (
	after = 2500 * time.Millisecond
	// pace is the time between two calls of the well-behaved caller.
	pace = 5 * time.Millisecond
)

// call is one call of the well-behaved caller.
type call struct {
	At    time.Time
	Took  time.Duration
	Error string
}

// Call is the well-behaved caller: it calls a server at an even pace, as a program with one grpc-go
// connection and a deadline of 5 s would, and writes its calls as JSON.
func Call(ctx context.Context, addr string, d time.Duration, w io.Writer) error {
	client, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer client.Close()
	users := apipb.NewMyServiceClient(client)
	request := &apipb.UserReq{UserIDs: service.IDs(2)}
	var calls []call
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		began := time.Now()
		_, err := users.User(one, request)
		made := call{At: began, Took: time.Since(began)}
		cancel()
		if err != nil {
			made.Error = err.Error()
		}
		calls = append(calls, made)
		time.Sleep(pace - made.Took)
	}
	return json.NewEncoder(w).Encode(calls)
}

// startCaller runs Call in a process of its own, as `bench caller`, so that its times are not those
// of a program that is busy attacking. It returns what waits for the calls.
func startCaller(ctx context.Context, addr string, d time.Duration) (func() ([]call, error), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "caller", addr, d.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (calls []call, err error) {
		if err := json.NewDecoder(out).Decode(&calls); err != nil {
			return nil, fmt.Errorf("the well-behaved caller: %w", err)
		}
		return calls, cmd.Wait()
	}, nil
}

// Caller is what the well-behaved caller saw.
type Caller struct {
	Calls, Failed int
	FirstError    string
	// The times are of calls before the attack, in it, and from half a second to a second after it.
	QuietP50, QuietP99, DuringP50, DuringP99, AfterP50 time.Duration
}

// Recovered tells whether latency was back within a second: the median of the half second before
// that is no more than twice the quiet one, or no more than the quiet p99.
func (c Caller) Recovered() bool {
	return c.AfterP50 > 0 && (c.AfterP50 <= 2*c.QuietP50 || c.AfterP50 <= c.QuietP99)
}

func judge(calls []call, began, ended time.Time) (result Caller) {
	calls = calls[min(len(calls), 20):] // the first calls make the connection
	result.Calls = len(calls)
	var before, during, after []time.Duration
	for _, call := range calls {
		if call.Error != "" {
			if result.Failed++; result.FirstError == "" {
				result.FirstError = call.Error
			}
		}
		switch since := call.At.Sub(ended); {
		case call.At.Before(began):
			before = append(before, call.Took)
		case since < 0:
			during = append(during, call.Took)
		case since >= time.Second/2 && since < time.Second:
			after = append(after, call.Took)
		}
	}
	result.QuietP50, result.QuietP99 = measure.Percentile(before, 0.5), measure.Percentile(before, 0.99)
	result.DuringP50, result.DuringP99 = measure.Percentile(during, 0.5), measure.Percentile(during, 0.99)
	result.AfterP50 = measure.Percentile(after, 0.5)
	return result
}
