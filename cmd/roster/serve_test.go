package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A serving is a roster serve that runs in this process.
type serving struct {
	t    *testing.T
	stop context.CancelFunc
	code chan int

	mu  sync.Mutex
	log bytes.Buffer
}

func (s *serving) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(line)
}

// startServing runs roster serve on a free port until the end of the test or until end is called.
func startServing(t *testing.T, arguments ...string) *serving {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	s := &serving{t: t, stop: stop, code: make(chan int, 1)}
	go func() {
		s.code <- run(ctx, append([]string{"serve", "--addr", "localhost:0"}, arguments...), nil, s, s)
	}()
	for began := time.Now(); s.lines("serving") == nil; time.Sleep(5 * time.Millisecond) {
		if len(s.code) > 0 || time.Since(began) > 30*time.Second {
			stop()
			t.Fatalf("it does not serve:\n%s", s.text())
		}
	}
	t.Cleanup(stop)
	return s
}

func (s *serving) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// lines returns the lines of the log whose message begins with message.
func (s *serving) lines(message string) (found []map[string]any) {
	for line := range strings.Lines(s.text()) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil && strings.HasPrefix(entry["msg"].(string), message) {
			found = append(found, entry)
		}
	}
	return found
}

// end stops the server and waits until it has closed everything.
func (s *serving) end() {
	s.t.Helper()
	s.stop()
	if code := <-s.code; code != 0 {
		s.t.Errorf("exit code %d:\n%s", code, s.text())
	}
}

// What is in the folder is what somebody has there, sample or not.
func TestTheSampleWithoutAStoreIsTemporary(t *testing.T) {
	for _, before := range []string{"", "users of somebody"} {
		t.Chdir(t.TempDir())
		t.Setenv("TMPDIR", t.TempDir())
		if before != "" {
			if err := os.WriteFile("roster.db", []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := startServing(t, "--sample")
		line := s.lines("serving")[0]
		store, _ := line["store"].(string)
		if _, err := os.Stat(store); err != nil || filepath.Dir(filepath.Dir(store)) != os.Getenv("TMPDIR") || line["users"] != 300.0 {
			t.Errorf("serving %v (%v), want 300 users in a temporary store", line, err)
		}
		if s.lines("the sample users are in a temporary store, which is removed at the end") == nil {
			t.Errorf("the log does not say so:\n%s", s.text())
		}
		s.end()
		if left, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*")); len(left) > 0 {
			t.Errorf("it left %v", left)
		}
		if content, _ := os.ReadFile("roster.db"); string(content) != before {
			t.Errorf("roster.db was %q and is %.20q", before, content)
		}
		if files, _ := filepath.Glob("*"); len(files) > 1 || before == "" && len(files) > 0 {
			t.Errorf("it made %v", files)
		}
	}
}

// A store that cannot be opened leaves no temporary folder either.
func TestTheTemporaryStoreIsRemovedAfterAFailure(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openServedStore(ctx, serveFlags{store: defaultStore, sample: true}, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was canceled", err)
	}
	if left, _ := filepath.Glob(filepath.Join(temporary, "*")); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestTheSampleInAStoreThatIsNamed(t *testing.T) {
	t.Chdir(t.TempDir())
	for range 2 { // into an empty store; and from then on it is there
		s := startServing(t, "--sample", "--store", "flag.db")
		if line := s.lines("serving")[0]; line["store"] != "flag.db" || line["users"] != 300.0 {
			t.Errorf("serving %v", line)
		}
		s.end()
	}
	t.Setenv("ROSTER_STORE", "roster.db") // the default, but named
	s := startServing(t, "--sample")
	if line := s.lines("serving")[0]; line["store"] != "roster.db" || line["users"] != 300.0 {
		t.Errorf("serving %v", line)
	}
	s.end()
	if _, err := os.Stat("roster.db"); err != nil {
		t.Error(err)
	}
}

func TestServingSaysHowManyUsersThereAre(t *testing.T) {
	store := filepath.Join(t.TempDir(), "the users.db")
	s := startServing(t, "--store", store)
	if line := s.lines("serving")[0]; line["users"] != 0.0 {
		t.Errorf("serving %v", line)
	}
	want := "the store has no users: load some with roster import --store '" + store + "' FILE"
	if s.lines(want) == nil || !strings.Contains(s.text(), "--sample") {
		t.Errorf("the log does not say %s:\n%s", want, s.text())
	}
	file := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(file, []byte("id,name,age,email\n1,A,1,\n2,B,2,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := roster(t, "import", "--store", store, file); code != 0 {
		t.Fatal(stderr)
	}
	s.end()
	s = startServing(t, "--store", store)
	if line := s.lines("serving")[0]; line["users"] != 2.0 || s.lines("the store has no users") != nil {
		t.Errorf("serving %v", s.text())
	}
	s.end()
}

func TestServingSaysWhichOriginsMayCall(t *testing.T) {
	s := startServing(t, "--sample", "--cors-origin", "https://a.example,http://localhost:3000")
	line := s.lines("pages of these origins may call")
	if len(line) != 1 || !slices.Equal(line[0]["origins"].([]any), []any{"https://a.example", "http://localhost:3000"}) {
		t.Errorf("logged %v", line)
	}
	s.end()
	s = startServing(t, "--sample")
	if s.lines("pages of these origins may call") != nil {
		t.Error(s.text())
	}
	s.end()
}
