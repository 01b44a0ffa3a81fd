package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	rosterv1 "example.com/roster/gen/go/roster/v1"
)

// WatchOptions say where a watch begins, and what it tells.
type WatchOptions struct {
	// From is the position to begin after; nil for now.
	From *Position
	// FromBeginning begins with all users, then a Progress, then changes. From is nil then.
	FromBeginning bool
	// Filter is as in Query.
	Filter string
	// ProgressInterval is the time between two messages of progress, 100 ms to 10 min; 0 means 10 s. A
	// stream that is silent for about three times as long counts as broken.
	ProgressInterval time.Duration
	// OnBreak, if set, is told why a stream broke or could not be opened, each time before the watch comes back.
	OnBreak func(error)
}

// An Event is one piece of news. One of its fields is set.
type Event struct {
	Change *Change `json:"change,omitempty"`
	// Progress says that everything up to a position has been told.
	Progress *Position `json:"progress,omitempty"`
	// Reset says why the watch begins again: where it was is not in the history any more, or cannot be
	// gone on from. Forget all users; those that there are follow, as Existing.
	Reset string `json:"reset,omitempty"`
}

const (
	defaultInterval  = 10 * time.Second
	shortestInterval = 100 * time.Millisecond
	longestInterval  = 10 * time.Minute
	maxWatchBackoff  = 5 * time.Second
	positionTimeout  = 5 * time.Second
)

// Watch iterates over what happens, each change once and in order. It comes back by itself when its
// connection breaks, from where it was; if that place is not in the history any more it tells a Reset,
// and then all users. It ends with ctx, or with an error that another attempt would not change, such as
// PERMISSION_DENIED.
func (d *Directory) Watch(ctx context.Context, options WatchOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		state, err := newWatching(options)
		if err != nil {
			yield(Event{}, err)
			return
		}
		d.follow(ctx, state, yield)
	}
}

// follow is a watch that begins, or goes on, where state is.
func (d *Directory) follow(ctx context.Context, state *watching, yield func(Event, error) bool) {
	for attempt := 0; ; {
		left, told, err := d.stream(ctx, state, func(e Event) bool { return yield(e, nil) })
		if left {
			return
		}
		if ctx.Err() != nil {
			yield(Event{}, fmt.Errorf("watch: %w", context.Cause(ctx)))
			return
		}
		var asked time.Duration
		reset := ""
		if failure := (*Error)(nil); errors.As(err, &failure) {
			asked = failure.RetryAfter()
			switch code := connect.CodeOf(failure); {
			case code == connect.CodeOutOfRange:
				reset = failure.cause()
			case lastingCode(code) || failure.Reason.Lasts():
				yield(Event{}, failure)
				return
			}
		} else if err != nil {
			reset = err.Error() // errAnotherHistory
		}
		if reset == "" && state.resetsOnFailure {
			reset = "the stream broke before all users were told"
		}
		if state.onBreak != nil && reset == "" {
			state.onBreak(cmp.Or(err, errEnded))
		}
		attempt = state.attempts(attempt, told, reset != "")
		if reset != "" && !yield(state.reset(reset), nil) {
			return
		}
		// Half of the pause is random, so that the callers of a server that restarts do not come back
		// all at once.
		pause := min(firstBackoff<<min(attempt, 10), maxWatchBackoff)
		sleep(ctx, asked+pause/2+rand.N(pause/2))
	}
}

// lastingCode reports whether another attempt would fail likewise.
func lastingCode(code connect.Code) bool {
	switch code {
	case connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodePermissionDenied, connect.CodeUnauthenticated,
		connect.CodeFailedPrecondition, connect.CodeUnimplemented:
		return true
	}
	return false
}

// stream tells what one stream brings. It reports whether tell asked for the end, and whether there was
// anything to tell. A stream that ended in order is no error.
func (d *Directory) stream(ctx context.Context, state *watching, tell func(Event) bool) (left, told bool, err error) {
	if state.position == nil && !state.loading {
		ctx, cancel := context.WithTimeout(ctx, positionTimeout)
		at, err := d.Position(ctx)
		cancel()
		if err != nil {
			return false, false, err
		}
		state.position = &at
	}
	var another error
	err = d.once(ctx, "WatchUsers", func(ctx context.Context) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		// A connection may be cut without a word.
		silent := time.AfterFunc(state.silence(), func() { cancel(errSilent) })
		defer silent.Stop()
		stream, err := d.streams.WatchUsers(ctx, state.request())
		for err == nil && stream.Receive() {
			silent.Stop()
			told = true
			event, news, failed := state.take(stream.Msg())
			if failed != nil {
				another = failed
				return nil
			}
			if news && !tell(event) {
				left = true
				return nil
			}
			silent.Reset(state.silence())
		}
		if err == nil {
			err = stream.Err()
		}
		if errors.Is(context.Cause(ctx), errSilent) {
			return nil // as a stream that ended: the next one finds out what is wrong
		}
		return err
	})
	if another != nil {
		err = another
	}
	return left, told, err
}

var (
	errSilent         = errors.New("the stream is silent")
	errEnded          = errors.New("the stream ended")
	errAnotherHistory = errors.New("the directory has another epoch, or has gone back")
)

// watching is the state of one watch over all its streams. After a stream breaks, the next one begins so
// that each change is told once: after the last revision of which all has been told, without the changes
// of the revision after it that have been told already. A server tells the changes of a revision in the
// same order each time.
type watching struct {
	filter   string
	interval time.Duration
	onBreak  func(error)
	// position: all up to here has been told; nil if it has not begun.
	position        *Position
	loading         bool // all users, from the beginning
	resetsOnFailure bool
	// Of the revision that is being told: its number, how many of its changes have been told, and how
	// many of those the present stream will repeat.
	revision       int64
	told, repeated int
}

func newWatching(options WatchOptions) (*watching, error) {
	w := &watching{filter: options.Filter, interval: options.ProgressInterval, onBreak: options.OnBreak, position: options.From, loading: options.FromBeginning}
	if w.interval == 0 {
		w.interval = defaultInterval
	}
	switch {
	case w.position != nil && w.loading:
		return nil, errors.New("watch: it begins at a position or from the beginning, not both")
	case w.interval < shortestInterval || w.interval > longestInterval:
		return nil, fmt.Errorf("watch: a progress interval of %v is not between %v and %v", w.interval, shortestInterval, longestInterval)
	}
	return w, nil
}

// attempts returns how many attempts in a row have failed with this one, after so many before it. A
// server that answers that the place is not in the history is there: all users are asked for soon, but not
// again and again.
func (w *watching) attempts(before int, told, resets bool) int {
	if told || resets && !w.loading {
		return 1
	}
	return before + 1
}

// silence is how long a stream may bring nothing before it counts as broken.
func (w *watching) silence() time.Duration { return 3*w.interval + 2*time.Second }

// request returns the request of the next stream.
func (w *watching) request() *rosterv1.WatchUsersRequest {
	request := &rosterv1.WatchUsersRequest{Filter: w.filter, ProgressInterval: durationpb.New(w.interval)}
	w.repeated = w.told
	if w.loading {
		request.Start = &rosterv1.WatchUsersRequest_FromBeginning{FromBeginning: true}
		return request
	}
	from := w.position.Revision
	if w.told > 0 { // then all before that revision have been told
		from = max(from, w.revision-1)
	}
	request.Epoch = w.position.Epoch
	request.Start = &rosterv1.WatchUsersRequest_FromRevision{FromRevision: from}
	return request
}

// reset begins again from the beginning.
func (w *watching) reset(reason string) Event {
	*w = watching{filter: w.filter, interval: w.interval, onBreak: w.onBreak, loading: true}
	return Event{Reset: reason}
}

// take returns what a message tells, if it is news.
func (w *watching) take(message *rosterv1.WatchUsersResponse) (event Event, news bool, err error) {
	if progress := message.GetProgress(); progress != nil {
		at := Position{progress.GetRevision(), progress.GetEpoch()}
		if known := w.position; known != nil && !w.loading &&
			(known.Epoch != "" && at.Epoch != known.Epoch || at.Revision < known.Revision) {
			return Event{}, false, errAnotherHistory
		}
		w.loading, w.resetsOnFailure, w.position = false, false, &at
		if at.Revision >= w.revision {
			w.told, w.repeated = 0, 0
		}
		return Event{Progress: &at}, true, nil
	}
	told := message.GetChange()
	if told == nil {
		return Event{}, false, nil
	}
	change := changeOf(told)
	if change.Kind == Existing {
		w.resetsOnFailure = true
		return Event{Change: &change}, true, nil
	}
	return Event{Change: &change}, w.isNew(change.Revision), nil
}

// isNew reports whether a change of a revision has not been told.
func (w *watching) isNew(revision int64) bool {
	if w.position != nil && revision <= w.position.Revision || revision < w.revision {
		return false
	}
	if revision > w.revision {
		w.revision, w.told, w.repeated = revision, 0, 0
	}
	if w.repeated > 0 {
		w.repeated--
		return false
	}
	w.told++
	return true
}
