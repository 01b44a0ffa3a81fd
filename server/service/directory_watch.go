package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

// defaultProgress is how often a watch tells of its progress if the caller does not say.
const defaultProgress = 10 * time.Second

// slowRetry is how long a caller that was too slow should wait before it watches again.
const slowRetry = time.Second

// watchEvent is a WatchUsersResponse that encodes itself: a change, or else a progress.
type watchEvent struct {
	change   *directory.Change
	epoch    string // of the change
	progress directory.State
}

func (e *watchEvent) told() *toldChange {
	return &toldChange{Change: e.change, kind: kinds[e.change.Kind], etag: etagOf(e.epoch, &e.change.User)}
}

// AppendProto implements encoder.
func (e *watchEvent) AppendProto(dst []byte) ([]byte, error) {
	if e.change == nil {
		return appendMessageProto(dst, 2, func(dst []byte) ([]byte, error) { return appendStateProto(dst, 1, e.progress), nil })
	}
	text, err := e.change.Encoded(int(rpc.Proto), func() ([]byte, error) { return appendMessageProto(nil, 1, e.told().appendProto) })
	return append(dst, text...), err
}

// AppendJSON implements encoder.
func (e *watchEvent) AppendJSON(dst []byte) ([]byte, error) {
	if e.change == nil {
		dst = appendInt64JSON(append(dst, `{"progress":{"revision":`...), e.progress.Revision)
		return append(appendJSONString(append(dst, `,"epoch":`...), e.progress.Epoch), `}}`...), nil
	}
	text, err := e.change.Encoded(int(rpc.JSON), func() ([]byte, error) {
		return append(e.told().appendJSON([]byte(`{"change":`)), '}'), nil
	})
	return append(dst, text...), err
}

// WatchUsers tells of changes as they are made.
func (s *directoryService) WatchUsers(ctx context.Context, request *rosterv1.WatchUsersRequest, stream *connect.ServerStream[watchEvent]) error {
	from, err := watchFrom(request)
	if err != nil {
		return err
	}
	interval := defaultProgress
	if request.GetProgressInterval() != nil {
		interval = request.GetProgressInterval().AsDuration()
	}
	proto.Reset(request) // free it, unknown fields included: a watch may last for ever
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := s.drain.AfterClosing(func() { cancel(drain.Reconnect()) })
	defer stop()
	watch, err := s.directory.Watch(ctx, from)
	if err != nil {
		return ended(ctx, err)
	}
	defer watch.Close()
	upTo, _ := watch.Progress()
	w := &watching{watch: watch, stream: stream, interval: interval, epoch: cmp.Or(upTo.Epoch, s.directory.State().Epoch)}
	return ended(ctx, w.run(ctx))
}

// ended is the error of a watch: that the port closes, if it does.
func ended(ctx context.Context, err error) error {
	if closing := (*connect.Error)(nil); errors.As(context.Cause(ctx), &closing) {
		return closing
	}
	return err
}

func watchFrom(request *rosterv1.WatchUsersRequest) (from directory.WatchFrom, err error) {
	if from.Filter, err = parseFilter(request.GetFilter()); err != nil {
		return from, err
	}
	switch start := request.GetStart().(type) {
	case *rosterv1.WatchUsersRequest_FromRevision:
		from.Cursor = &directory.Cursor{Epoch: request.GetEpoch(), Revision: start.FromRevision}
	case *rosterv1.WatchUsersRequest_FromBeginning:
		from.Beginning = start.FromBeginning
	}
	return from, nil
}

// watching is one call of WatchUsers.
type watching struct {
	watch    *directory.Watch
	stream   *connect.ServerStream[watchEvent]
	interval time.Duration
	epoch    string

	due time.Time // when to tell of the progress again
	// told is the last progress that was sent, and asOf the time that it was true of.
	told directory.State
	asOf time.Time
}

func (w *watching) run(ctx context.Context) error {
	w.due = time.Now().Add(w.interval)
	for {
		if err := w.runUntilDue(ctx); err != nil {
			return err
		}
	}
}

// runUntilDue runs until the progress is due and was told. It has one context for all that comes until then:
// a timer for each change would be a tenth of what it takes.
func (w *watching) runUntilDue(ctx context.Context) error {
	limited, cancel := context.WithDeadline(ctx, w.due)
	defer cancel()
	for due := w.due; ; {
		if err := w.progress(); err != nil || w.due != due {
			return err
		}
		batch, err := w.watch.Next(limited)
		switch {
		case err == nil:
			if err := w.send(batch.Changes); err != nil {
				return err
			}
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil: // it is time to tell of the progress
		case errors.Is(err, directory.ErrSlow):
			return w.slow()
		default:
			return err
		}
	}
}

func (w *watching) send(changes []directory.Change) error {
	event := &watchEvent{epoch: w.epoch}
	for i := range changes {
		event.change = &changes[i]
		if err := w.stream.Send(event); err != nil {
			return err
		}
	}
	return nil
}

// progress sends up to where everything has been sent: once everything has been, and from then on at
// every interval. It says nothing while the store does not answer, since its caller would take it that
// there is nothing new.
func (w *watching) progress() error {
	now := time.Now()
	upTo, asOf := w.watch.Progress()
	first := w.told.Epoch == "" && !asOf.IsZero()
	if !first && now.Before(w.due) {
		return nil
	}
	for !w.due.After(now) {
		w.due = now.Add(w.interval)
	}
	if upTo.Epoch == "" || upTo.Revision == w.told.Revision && !asOf.After(w.asOf) {
		return nil
	}
	w.told, w.asOf = upTo, asOf
	return w.stream.Send(&watchEvent{progress: upTo})
}

// slow is the error of a caller that reads more slowly than changes are made.
func (w *watching) slow() error {
	again := "watch again from the revision where this call began"
	if w.told.Epoch != "" {
		again = fmt.Sprintf("watch again from revision %d, the last progress", w.told.Revision)
	}
	return retryAfter(connect.NewError(connect.CodeResourceExhausted, errors.New(
		"the changes of this watch are read more slowly than they are made, so it was ended: "+again)), slowRetry)
}
