package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	rosterv1 "example.com/roster/gen/go/roster/v1"
)

// What a run consists of.
const (
	writers  = 50
	watchers = 8
	users    = 20
	// attempts is how often a fault is made until it takes effect.
	attempts = 10
	// limit is how long a run may take, on a machine that is busy with others.
	limit = 10 * time.Minute
)

var progressInterval = durationpb.New(100 * time.Millisecond)

// A run is one store, its servers, and those who work with them.
type run struct {
	random   *rand.Rand
	folder   string
	store    string
	binary   string
	servers  []*server
	history  history
	imported int // users that an import was to bring, beside those of the run
	stop     chan struct{}
	working  sync.WaitGroup
}

// A fault breaks something while writers work, and mends it. It returns what shows in the store itself
// that it took effect; or errNoEffect, with everything mended, and is then made again.
type fault struct {
	name    string
	servers int
	tags    string // of the build that it needs
	disk    bool   // it needs a disk of its own
	do      func(context.Context, *run) (effect string, err error)
}

var faults = []fault{
	{"a server is killed under writers", 1, "", false, killServer},
	{"an import is killed", 1, "", false, killImport},
	{"no file can grow", 1, "", false, limitFiles},
	{"two servers on one file", 2, "", false, bothWrite},
	{"one of two servers on one file is killed", 2, "", false, killServer},
	{"the disk is full", 1, "", true, fillDisk},
	{"the power is cut", 1, "roster_power_cut", false, cutPower},
	{"a server is killed in an import by batches", 1, "", false, killServerOfImport},
	{"an import by batches is killed", 1, "", false, killImportByBatches},
}

// errNoEffect is that a fault has broken nothing, so that the run shows nothing.
var errNoEffect = errors.New("the fault took no effect")

// do makes a run: writes and reads, the fault, and as many writes again.
func do(ctx context.Context, folder, binary string, seed uint64, f fault, writes int) (summary string, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r := &run{random: rand.New(rand.NewPCG(seed, 0)), folder: folder, binary: binary, stop: make(chan struct{})}
	r.history.began = time.Now()
	r.store = filepath.Join(folder, "roster.db")
	if f.disk {
		unmount, err := r.mount()
		if err != nil {
			return "", err
		}
		defer unmount()
	}
	if err := r.seed(ctx); err != nil {
		return "", err
	}
	for range f.servers {
		s := &server{binary: binary, store: r.store}
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
	effect, err := r.breakOnce(ctx, f, writes)
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
	counts, err := r.revisions(ctx)
	if err != nil {
		return "", err
	}
	if err := r.history.check(truth, counts, watches); err != nil {
		return "", err
	}
	if err := r.checkImport(truth); err != nil {
		return "", err
	}
	resumed, told := 0, 0
	for _, w := range watches {
		resumed += w.resumed
		told += len(w.told)
	}
	return fmt.Sprintf("%d writes acknowledged, %d without an answer, %d revisions, watches were told of %d changes and came back %d times; %s",
		len(r.history.acks), r.history.unknown, last, told, resumed, effect), nil
}

// breakOnce makes a fault until it takes effect, between writes that are acknowledged.
func (r *run) breakOnce(ctx context.Context, f fault, writes int) (effect string, err error) {
	if err := r.acknowledge(ctx, writes); err != nil {
		return "", err
	}
	for range attempts {
		time.Sleep(time.Duration(r.random.IntN(50)) * time.Millisecond)
		if effect, err = f.do(ctx, r); err == nil {
			break
		}
		if !errors.Is(err, errNoEffect) {
			return "", err
		}
		if err := r.acknowledge(ctx, r.history.acknowledged()+writers); err != nil {
			return "", err
		}
	}
	if err != nil {
		return "", fmt.Errorf("%d times: %w", attempts, err)
	}
	return effect, r.acknowledge(ctx, r.history.acknowledged()+writes)
}

// seed makes the store, with all users in its first revision.
func (r *run) seed(ctx context.Context) error {
	var rows strings.Builder
	rows.WriteString("id,name,age,email\n")
	for id := range users {
		fmt.Fprintf(&rows, "%d,%s,30,\n", id, firstName)
	}
	return r.importFile(ctx, rows.String(), "--store", r.store).Run()
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
			r.history.lost(writer, o, call, err)
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
