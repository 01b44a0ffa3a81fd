package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
)

// A thousand calls of WatchUsers on the real port, over 20 connections, hear of 50 changes in a second, each once
// and in order. The test logs how long a change took to the last of them, from the call that made it, and
// what it cost the server; it asserts no time, since the machine may be busy. On an idle one:
//
//	make test-e2e RUN='^TestAThousandWatchers$'
func TestAThousandWatchers(t *testing.T) {
	const watchers, connections, changes = 1000, 20, 100
	p, url, _ := serveEmpty(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	connected := func() rosterv1connect.DirectoryServiceClient {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		t.Cleanup(transport.CloseIdleConnections)
		return rosterv1connect.NewDirectoryServiceClient(&http.Client{Transport: transport}, url, connect.WithGRPC())
	}
	writer := connected()
	created, err := writer.CreateUser(ctx, &rosterv1.CreateUserRequest{User: &rosterv1.User{Name: "Ann"}})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	var ready sync.WaitGroup
	heard := make([][]time.Time, watchers) // when each heard of each change
	var one rosterv1connect.DirectoryServiceClient
	for n := range watchers {
		if n%(watchers/connections) == 0 {
			one = connected()
		}
		service := one
		ready.Add(1)
		group.Go(func() {
			began := sync.OnceFunc(ready.Done)
			defer began()
			stream, err := service.WatchUsers(ctx, &rosterv1.WatchUsersRequest{
				Start: &rosterv1.WatchUsersRequest_FromRevision{FromRevision: created.GetRevision()}})
			if err != nil {
				t.Error(err)
				return
			}
			defer stream.Close()
			for next := created.GetRevision() + 1; next <= created.GetRevision()+changes && stream.Receive(); {
				change := stream.Msg().GetChange()
				if change == nil {
					began() // that is the first progress
					continue
				}
				heard[n] = append(heard[n], time.Now())
				if change.GetRevision() != next {
					t.Errorf("heard of revision %d, want %d", change.GetRevision(), next)
					return
				}
				next++
			}
			if err := stream.Err(); err != nil {
				t.Error(err)
			}
		})
	}
	ready.Wait()
	before := cpuTime(t, p)
	var made []time.Time
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for n := range changes {
		<-ticker.C
		made = append(made, time.Now())
		user := &rosterv1.User{Id: created.GetId(), Name: fmt.Sprint("Ann ", n)}
		if _, err := writer.UpdateUser(ctx, &rosterv1.UpdateUserRequest{User: user}); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
	cost := cpuTime(t, p) - before
	var took []time.Duration
	for n := range heard {
		if len(heard[n]) != changes {
			t.Fatalf("watcher %d heard of %d changes, want %d", n, len(heard[n]), changes)
		}
		for i := range heard[n] {
			took = append(took, heard[n][i].Sub(made[i]))
		}
	}
	slices.Sort(took)
	t.Logf("a change reached %d watchers: p50 %v, p99 %v, max %v; the server used %v of CPU for each change and watcher",
		watchers, took[len(took)/2], took[len(took)*99/100], took[len(took)-1], cost/(watchers*changes))
}

// cpuTime is what a process has used so far.
func cpuTime(t *testing.T, p *process) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		t.Skip(err) // not Linux
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
