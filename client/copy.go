package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
)

// CopyConfig says what a Copy keeps and how old it may be.
type CopyConfig struct {
	// MaxStaleness is how old the copy may be for a look-up. Below about a second a healthy copy may miss
	// it. There is no default.
	MaxStaleness time.Duration
	// AskIfStale has a look-up beyond it ask the server, instead of failing with ErrStale. Not with a
	// Filter, for which the server's answer would be another.
	AskIfStale bool
	// Filter keeps only the users that match; as in Query.
	Filter string
}

// A Copy is the users of a directory in memory, kept fresh by a watch. A look-up makes no call as long as
// the copy is at most MaxStaleness old; beyond that it fails with ErrStale, or asks the server. Whatever
// happens to the server, the network or a clock, it never takes itself for fresher than it is. It is safe
// for concurrent use.
//
// How its age is known: besides following the watch the copy asks the server again and again for its
// position. The answer is a revision that the directory had at some time after the question was sent.
// Once the watch has said that everything up to that revision has been told, the copy has all that was
// written before the question was sent, so its age counts from then. That a message of the watch arrives
// proves nothing by itself: it may have been on its way for long.
type Copy struct {
	directory *Directory
	config    CopyConfig
	interval  time.Duration
	cancel    context.CancelFunc
	running   sync.WaitGroup

	// completeAt is when the users had everything that was written until then, by clock(); 0 before they
	// are complete.
	completeAt atomic.Int64
	lastError  atomic.Pointer[Error]

	mu       sync.RWMutex
	users    map[int32]Record
	loading  map[int32]Record // from the beginning; nil if they are not being loaded
	position *Position
	asked    *question
	fresh    chan struct{} // closed and made anew when completeAt rises
}

// A question is one that the copy has not reached the answer of.
type question struct {
	at     int64 // when it was asked, by clock()
	answer Position
}

// ErrStale is the error of a copy that cannot say that it is as fresh as its MaxStaleness asks.
var ErrStale = errors.New("the copy is too old")

// NewCopy begins to fetch all users, in the background: see Copy.Wait. Close the copy to end that.
func (d *Directory) NewCopy(config CopyConfig) (*Copy, error) {
	switch {
	case config.MaxStaleness <= 0:
		return nil, errors.New("copy: MaxStaleness must be more than 0")
	case config.AskIfStale && config.Filter != "":
		return nil, errors.New("copy: AskIfStale does not go with a Filter")
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Copy{
		directory: d, config: config, cancel: cancel,
		// A question is settled by the progress after its answer, and the next one comes an interval
		// later: a healthy copy is at most three intervals old, and calls that take one are no harm.
		interval: min(max(config.MaxStaleness/5, shortestInterval), defaultInterval),
		loading:  make(map[int32]Record), fresh: make(chan struct{}),
	}
	c.running.Go(func() { c.follow(ctx) })
	c.running.Go(func() { c.question(ctx) })
	return c, nil
}

// Get returns a user, and whether there is one. It fails with ErrStale or, if the copy asks, as
// Directory.Get.
func (c *Copy) Get(ctx context.Context, id int32) (Record, bool, error) {
	// The age is that of the users when the answer is given: the process may stand still at any point.
	complete := c.completeAt.Load()
	c.mu.RLock()
	user, found := c.users[id]
	c.mu.RUnlock()
	if age(complete) <= c.config.MaxStaleness {
		return user, found, nil
	}
	if !c.config.AskIfStale {
		return Record{}, false, c.stale()
	}
	user, err := c.directory.Get(ctx, id, 0)
	if connect.CodeOf(err) == connect.CodeNotFound {
		return Record{}, false, nil
	}
	return user, err == nil, err
}

// Age is how old the copy may be; very long before it has all users.
func (c *Copy) Age() time.Duration { return age(c.completeAt.Load()) }

// age is the age of users that were complete at a time by clock(), 0 for never.
func age(complete int64) time.Duration {
	if complete == 0 {
		return math.MaxInt64
	}
	return time.Duration(clock() - complete)
}

// Position returns how far the copy has got, and false before it has all users.
func (c *Copy) Position() (Position, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.position == nil {
		return Position{}, false
	}
	return *c.position, true
}

// Len returns the number of users.
func (c *Copy) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.users)
}

// LastError returns why the last call of the copy failed, nil if it did not.
func (c *Copy) LastError() *Error { return c.lastError.Load() }

// Wait waits until the copy is fresh enough. It fails with ErrStale, and ctx's error, when ctx ends first.
func (c *Copy) Wait(ctx context.Context) error {
	for {
		c.mu.RLock()
		fresh := c.fresh
		c.mu.RUnlock()
		if c.Age() <= c.config.MaxStaleness {
			return nil
		}
		select {
		case <-fresh:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", c.stale(), ctx.Err())
		}
	}
}

// Close ends what keeps the copy fresh. Look-ups go on as its age allows.
func (c *Copy) Close() {
	c.cancel()
	c.running.Wait()
}

func (c *Copy) stale() error {
	text := "it has not got all users yet"
	if age := c.Age(); age != math.MaxInt64 {
		text = fmt.Sprintf("it may be %v old, and %v are allowed", roundTime(age), c.config.MaxStaleness)
	}
	if last := c.LastError(); last != nil {
		return fmt.Errorf("%w: %s: %w", ErrStale, text, last)
	}
	return fmt.Errorf("%w: %s", ErrStale, text)
}

// follow takes the events of a watch.
func (c *Copy) follow(ctx context.Context) {
	state := &watching{filter: c.config.Filter, interval: c.interval, loading: true}
	for attempt := 1; ctx.Err() == nil; attempt++ {
		c.directory.follow(ctx, state, func(event Event, err error) bool {
			if err == nil {
				attempt = 1
				c.take(event)
				return true
			}
			// Even an error that lasts, such as a token that was revoked, may end: the copy is as old
			// as it says until then.
			c.failed(err)
			return false
		})
		if state.resetsOnFailure {
			c.take(state.reset("the watch broke before all users were told"))
		}
		sleep(ctx, min(firstBackoff<<min(attempt, 10), maxWatchBackoff))
	}
}

// question asks for the server's position.
func (c *Copy) question(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.RLock()
		waits := c.asked != nil
		c.mu.RUnlock()
		if !waits {
			at := clock()
			call, cancel := context.WithTimeout(ctx, max(time.Second, c.config.MaxStaleness))
			answer, err := c.directory.Position(call)
			cancel()
			if err != nil {
				c.failed(err)
			} else {
				c.lastError.Store(nil)
				c.answered(at, answer)
			}
		}
		sleep(ctx, c.interval)
	}
}

func (c *Copy) failed(err error) {
	if failure := (*Error)(nil); errors.As(err, &failure) {
		c.lastError.Store(failure)
	}
}

func (c *Copy) take(event Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case event.Reset != "":
		c.loading = make(map[int32]Record)
	case event.Progress != nil:
		if c.loading != nil {
			c.users, c.loading = c.loading, nil
		}
		c.position = event.Progress
		c.settle()
	default:
		users := c.users
		if c.loading != nil {
			users = c.loading
		}
		if change := event.Change; change.User == nil {
			delete(users, change.ID)
		} else {
			users[change.ID] = *change.User
		}
	}
}

func (c *Copy) answered(at int64, answer Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = &question{at, answer}
	c.settle()
}

// settle looks whether the copy has reached the answer to its question.
func (c *Copy) settle() {
	if c.asked == nil || c.position == nil || c.loading != nil {
		return
	}
	switch asked := *c.asked; {
	case asked.answer.Epoch != c.position.Epoch:
		c.asked = nil // of another history: the copy cannot be compared with it
	case c.position.Revision >= asked.answer.Revision:
		c.asked = nil
		c.completeAt.Store(max(c.completeAt.Load(), asked.at))
		close(c.fresh)
		c.fresh = make(chan struct{})
	}
}
