package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"

	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
)

// A server is a Roster that serves a store. It can be killed, and started again.
type server struct {
	binary, store string

	mu      sync.Mutex
	command *exec.Cmd
	client  rosterv1connect.DirectoryServiceClient
	url     string
	log     []string
}

// start starts it and waits until it serves.
func (s *server) start(ctx context.Context) error {
	command := exec.Command(s.binary, "serve", "--addr", "127.0.0.1:0", "--log-format", "json", "--store", s.store)
	pipe, err := command.StderrPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	address := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			var entry struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
				address <- entry.Address
			}
			s.mu.Lock()
			s.log = append(s.log, lines.Text())
			s.mu.Unlock()
		}
		close(address)
	}()
	select {
	case at, ok := <-address:
		if !ok {
			command.Wait()
			return fmt.Errorf("the server does not start: %v", s.lastLog())
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.command, s.url = command, "http://"+at
		s.client = rosterv1connect.NewDirectoryServiceClient(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}, s.url)
		return nil
	case <-time.After(time.Minute):
		command.Process.Kill()
		command.Wait()
		return fmt.Errorf("the server does not serve within a minute: %v", s.lastLog())
	case <-ctx.Done():
		command.Process.Kill()
		command.Wait()
		return ctx.Err()
	}
}

func (s *server) lastLog() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log[max(0, len(s.log)-5):]
}

func (s *server) now() rosterv1connect.DirectoryServiceClient {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

func (s *server) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.command.Process.Pid
}

// kill ends it as a power switch would end the process, and reports whether that is what ended it.
func (s *server) kill() bool {
	s.mu.Lock()
	command := s.command
	s.mu.Unlock()
	command.Process.Kill()
	command.Wait()
	status, ok := command.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// history reads the whole history.
func (s *server) history(ctx context.Context) (all []change, err error) {
	token := ""
	for {
		page, err := s.now().ListChanges(ctx, &rosterv1.ListChangesRequest{PageSize: 1000, PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, c := range page.GetChanges() {
			all = append(all, change{c.GetRevision(), c.GetId(), c.GetUser().GetName()})
		}
		if token = page.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}

// A watcher watches the whole history, and comes back to where it was when the watch ends.
type watcher struct {
	from func() *server

	told     []change
	progress int64 // everything up to it is in told
	epoch    string
	resumed  int
	broken   error // what no watch may do
}

// run watches until ctx ends or the progress has come to a revision that until returns.
func (w *watcher) run(ctx context.Context, until func() (revision int64, known bool)) {
	for ctx.Err() == nil && w.broken == nil {
		if revision, known := until(); known && w.progress >= revision {
			return
		}
		w.watch(ctx, until)
		w.resumed++
		time.Sleep(5 * time.Millisecond)
	}
	if w.broken == nil && ctx.Err() != nil {
		w.broken = fmt.Errorf("it stands at revision %d when the run ends", w.progress)
	}
}

func (w *watcher) watch(ctx context.Context, until func() (int64, bool)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What came after the last progress comes again.
	for len(w.told) > 0 && w.told[len(w.told)-1].revision > w.progress {
		w.told = w.told[:len(w.told)-1]
	}
	stream, err := w.from().now().WatchUsers(ctx, &rosterv1.WatchUsersRequest{
		Start: &rosterv1.WatchUsersRequest_FromRevision{FromRevision: w.progress}, Epoch: w.epoch,
		ProgressInterval: progressInterval})
	if err != nil {
		return
	}
	defer stream.Close()
	for stream.Receive() {
		if c := stream.Msg().GetChange(); c != nil {
			w.told = append(w.told, change{c.GetRevision(), c.GetId(), c.GetUser().GetName()})
		}
		if p := stream.Msg().GetProgress(); p != nil {
			if p.GetRevision() < w.progress || w.epoch != "" && p.GetEpoch() != w.epoch {
				w.broken = fmt.Errorf("the progress goes from %d in %s to %d in %s", w.progress, w.epoch, p.GetRevision(), p.GetEpoch())
				return
			}
			w.progress, w.epoch = p.GetRevision(), p.GetEpoch()
			if revision, known := until(); known && w.progress >= revision {
				return
			}
		}
	}
	if code := connect.CodeOf(stream.Err()); code == connect.CodeOutOfRange || code == connect.CodeInvalidArgument {
		w.broken = stream.Err()
	}
}
