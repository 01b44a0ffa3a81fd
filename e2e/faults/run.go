package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	rosterv1 "example.com/roster/gen/go/roster/v1"
)

// What a run consists of.
const (
	writers  = 50
	watchers = 8
	users    = 20
	// firstOfImport is the lowest id of the import that is killed.
	firstOfImport = 1000
)

var progressInterval = durationpb.New(100 * time.Millisecond)

// A run is one store, its servers, and those who work with them.
type run struct {
	random  *rand.Rand
	folder  string
	binary  string
	servers []*server
	history history
	stop    chan struct{}
	working sync.WaitGroup
}

// A fault breaks something while writers work, and mends it. It returns what shows that it took effect,
// and an error if nothing does.
type fault struct {
	name    string
	servers int
	do      func(context.Context, *run) (effect string, err error)
}

var faults = []fault{
	{"a server is killed under writers", 1, killServer},
	{"an import is killed", 1, killImport},
	{"the disk is full", 1, fillDisk},
	{"two servers on one file", 2, nothing},
	{"one of two servers on one file is killed", 2, killServer},
}

// do makes a run: writes and reads, the fault, and as many writes again.
func do(ctx context.Context, folder, binary string, seed uint64, f fault, writes int) (summary string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	r := &run{random: rand.New(rand.NewPCG(seed, 0)), folder: folder, binary: binary, stop: make(chan struct{})}
	r.history.began = time.Now()
	store := filepath.Join(folder, "roster.db")
	if err := r.seed(ctx, store); err != nil {
		return "", err
	}
	for range f.servers {
		s := &server{binary: binary, store: store}
		if err := s.start(ctx); err != nil {
			return "", err
		}
		defer s.kill()
		r.servers = append(r.servers, s)
	}
	var mu sync.Mutex
	last, known := int64(0), false
	until := func() (int64, bool) { mu.Lock(); defer mu.Unlock(); return last, known }
	var watching sync.WaitGroup
	watches := make([]*watcher, watchers)
	for n := range watches {
		turn := n
		watches[n] = &watcher{from: func() *server { turn++; return r.servers[turn%len(r.servers)] }}
		watching.Go(func() { watches[n].run(ctx, until) })
	}
	defer watching.Wait()
	defer cancel()
	for n := range writers {
		random := rand.New(rand.NewPCG(seed, uint64(1+n)))
		r.working.Go(func() { r.work(ctx, n, random) })
	}
	err = r.acknowledge(ctx, writes)
	effect := ""
	if err == nil {
		time.Sleep(time.Duration(r.random.IntN(50)) * time.Millisecond)
		if effect, err = f.do(ctx, r); err == nil {
			err = r.acknowledge(ctx, r.history.acknowledged()+writes)
		}
	}
	close(r.stop)
	r.working.Wait()
	if err != nil {
		return "", err
	}
	truth, err := r.servers[0].history(ctx)
	if err != nil {
		return "", fmt.Errorf("read the history: %w", err)
	}
	mu.Lock()
	last, known = truth[len(truth)-1].revision, true
	mu.Unlock()
	watching.Wait()
	r.history.settle(truth)
	if err := r.history.check(truth, watches); err != nil {
		return "", err
	}
	resumed := 0
	for _, w := range watches {
		resumed += w.resumed
	}
	return fmt.Sprintf("%d writes acknowledged, %d without an answer, %d revisions, watches came back %d times; %s",
		len(r.history.acks), r.history.unknown, last, resumed, effect), nil
}

// seed makes the store, with all users in its first revision.
func (r *run) seed(ctx context.Context, store string) error {
	var rows strings.Builder
	rows.WriteString("id,name,age,email\n")
	for id := range users {
		fmt.Fprintf(&rows, "%d,%s,30,\n", id, firstName)
	}
	return r.importFile(ctx, store, rows.String()).Run()
}

func (r *run) importFile(ctx context.Context, store, rows string) *exec.Cmd {
	file := filepath.Join(r.folder, "users.csv")
	if err := os.WriteFile(file, []byte(rows), 0o600); err != nil {
		panic(err)
	}
	return exec.CommandContext(ctx, r.binary, "import", file, "--store", store)
}

// work writes and reads until the run stops.
func (r *run) work(ctx context.Context, writer int, random *rand.Rand) {
	s := r.servers[writer%len(r.servers)]
	for n := 0; ; n++ {
		select {
		case <-r.stop:
			return
		case <-ctx.Done():
			return
		default:
		}
		o := operation{id: random.Int32N(users)}
		if random.IntN(2) == 0 {
			o.write, o.name = true, fmt.Sprintf("W%d N%d", writer, n)
		}
		call := r.history.now()
		limited, cancel := context.WithTimeout(ctx, 20*time.Second)
		user, err := r.call(limited, s, o)
		cancel()
		switch {
		case err == nil:
			o.name = user.GetName()
			r.history.done(writer, o, call, user.GetRevision())
		case o.write:
			r.history.lost(writer, o, call)
			fallthrough
		default:
			time.Sleep(time.Duration(20+random.IntN(50)) * time.Millisecond)
		}
	}
}

func (r *run) call(ctx context.Context, s *server, o operation) (*rosterv1.User, error) {
	if o.write {
		reply, err := s.now().UpdateUser(ctx, &rosterv1.UpdateUserRequest{
			User: &rosterv1.User{Id: o.id, Name: o.name}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}}})
		if err != nil {
			return nil, err
		}
		return reply, nil
	}
	request := &rosterv1.GetUserRequest{Id: o.id}
	if len(r.servers) > 1 {
		request.MinRevision = r.history.seen() // what another server has answered
	}
	return s.now().GetUser(ctx, request)
}

// acknowledge waits until so many writes were acknowledged.
func (r *run) acknowledge(ctx context.Context, writes int) error {
	for r.history.acknowledged() < writes {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d writes were acknowledged, not %d, until: %w", r.history.acknowledged(), writes, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

// settle drops the writes without an answer that were not made. The others may have been made at any time.
func (h *history) settle(truth []change) {
	made := make(map[operation]bool)
	for _, c := range truth {
		made[operation{c.id, true, c.name}] = true
	}
	kept := h.operations[:0]
	for _, o := range h.operations {
		if o.Return < 1<<62 || made[o.Input.(operation)] {
			kept = append(kept, o)
		}
	}
	h.operations = kept
}

func nothing(context.Context, *run) (string, error) { return "both took writes", nil }

// killServer kills a server and starts it again. It took effect if the store was left as no server leaves
// it that ends by itself, with its log, and if writes were under way.
func killServer(ctx context.Context, r *run) (string, error) {
	s := r.servers[len(r.servers)-1]
	r.history.mu.Lock()
	unknown := r.history.unknown
	r.history.mu.Unlock()
	if !s.kill() {
		return "", errors.New("the kill did not end the server")
	}
	size := r.logSize()
	if size == 0 {
		return "", errors.New("the kill took no effect: the store has no log")
	}
	time.Sleep(20 * time.Millisecond) // so that the calls that it cut off are known to be
	r.history.mu.Lock()
	cut := r.history.unknown - unknown
	r.history.mu.Unlock()
	if cut == 0 {
		return "", errors.New("the kill took no effect: no write was under way")
	}
	return fmt.Sprintf("killed with %d writes under way and a log of %d bytes", cut, size), s.start(ctx)
}

func (r *run) logSize() int64 {
	info, err := os.Stat(filepath.Join(r.folder, "roster.db-wal"))
	if err != nil {
		return 0
	}
	return info.Size()
}

// killImport kills an import of many users. It took effect if a part of them was in the log, and none
// is in the store.
func killImport(ctx context.Context, r *run) (string, error) {
	var rows strings.Builder
	rows.WriteString("id,name,age,email\n")
	const imported = 200_000
	for id := range imported {
		fmt.Fprintf(&rows, "%d,User Number %d,30,u%d@example.com\n", firstOfImport+id, id, id)
	}
	command := r.importFile(ctx, filepath.Join(r.folder, "roster.db"), rows.String())
	before := r.logSize()
	if err := command.Start(); err != nil {
		return "", err
	}
	ended := make(chan struct{})
	go func() { command.Wait(); close(ended) }()
	const enough = 4 << 20 // of users who are not committed
	for r.logSize() < before+enough {
		select {
		case <-ended:
			return "", errors.New("the import ended before it could be killed")
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	size := r.logSize()
	command.Process.Kill()
	<-ended
	if status, ok := command.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		return "", errors.New("the import ended before it could be killed")
	}
	list, err := r.servers[0].now().ListUsers(ctx, &rosterv1.ListUsersRequest{ShowTotal: true, PageSize: 1})
	if err != nil {
		return "", err
	}
	if list.GetTotalSize() != users {
		return "", fmt.Errorf("an import that was killed left %d users", list.GetTotalSize()-users)
	}
	return fmt.Sprintf("killed with %d bytes of it in the log", size-before), nil
}

// fillDisk leaves the server no room: no file can grow. It took effect if writes fail and none is
// acknowledged; then there is room again.
func fillDisk(_ context.Context, r *run) (string, error) {
	pid := r.servers[0].pid()
	var before unix.Rlimit
	limit := unix.Rlimit{Cur: uint64(4096), Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &before); err != nil {
		return "", err
	}
	limit.Max = before.Max
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		return "", err
	}
	time.Sleep(300 * time.Millisecond) // for writes that were under way
	acks := r.history.acknowledged()
	r.history.mu.Lock()
	unknown := r.history.unknown
	r.history.mu.Unlock()
	time.Sleep(time.Duration(300+r.random.IntN(700)) * time.Millisecond)
	r.history.mu.Lock()
	refused := r.history.unknown - unknown
	r.history.mu.Unlock()
	written := r.history.acknowledged() - acks
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &before, nil); err != nil {
		return "", err
	}
	if refused == 0 || written > 0 {
		return "", fmt.Errorf("the full disk took no effect: %d writes failed, %d were acknowledged", refused, written)
	}
	return fmt.Sprintf("%d writes failed on the full disk", refused), nil
}
