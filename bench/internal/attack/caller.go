package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	At     time.Time
	Took   time.Duration
	Failed bool
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
		made := call{At: began, Took: time.Since(began), Failed: err != nil}
		cancel()
		if err != nil {
			fmt.Fprintln(os.Stderr, "the well-behaved caller:", err)
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
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	return func() (calls []call, err error) {
		if err := errors.Join(cmd.Wait(), json.Unmarshal(out.Bytes(), &calls)); err != nil {
			return nil, fmt.Errorf("the well-behaved caller: %w", err)
		}
		return calls, nil
	}, cmd.Start()
}

// judge returns what the well-behaved caller saw before the attack, in it, and from half a second
// to a second after it.
func judge(calls []call, began, ended time.Time) (s measure.Sample) {
	calls = calls[min(len(calls), 20):] // the first calls make the connection
	s[measure.Calls] = float64(len(calls))
	var before, during, after []time.Duration
	for _, call := range calls {
		if call.Failed {
			s[measure.Failed]++
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
	s[measure.QuietP50], s[measure.QuietP99] = measure.Percentile(before, 0.5).Seconds(), measure.Percentile(before, 0.99).Seconds()
	s[measure.P50], s[measure.P99] = measure.Percentile(during, 0.5).Seconds(), measure.Percentile(during, 0.99).Seconds()
	s[measure.AfterP50] = measure.Percentile(after, 0.5).Seconds()
	return s
}
