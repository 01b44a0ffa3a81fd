// Package drain tells the parts of a port how far it is on its way out. There
// are two steps: first it asks not to be sent anything new, while it still
// answers all that comes; then it closes, and whatever could last for ever ends.
//
//	state := drain.New() // in server.Config, for the handlers and for Serve
//	select {
//	case <-state.Begun(): // health says NOT_SERVING, /readyz 503
//	case <-state.Closing(): // a stream ends with drain.Reconnect()
//	}
//
// A nil *State never drains.
package drain

import (
	"context"
	"errors"

	"connectrpc.com/connect"
)

// State is how far a port is. It is safe for concurrent use.
type State struct {
	begun, closing context.Context
	begin, close   context.CancelFunc
}

// New returns the state of a port that does not drain.
func New() *State {
	s := &State{}
	s.begun, s.begin = context.WithCancel(context.Background())
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// Begin starts the first step.
func (s *State) Begin() {
	if s != nil {
		s.begin()
	}
}

// Close starts the second step, and the first if that has not begun.
func (s *State) Close() {
	if s != nil {
		s.begin()
		s.close()
	}
}

// Begun is closed when the port asks not to be sent anything new.
func (s *State) Begun() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.begun.Done()
}

// Closing is closed when streams are to end.
func (s *State) Closing() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.closing.Done()
}

// Draining tells whether the first step has begun.
func (s *State) Draining() bool { return s != nil && s.begun.Err() != nil }

// AfterClosing calls f on a goroutine of its own when streams are to end. The
// function returned prevents that, and reports whether it did.
func (s *State) AfterClosing(f func()) (stop func() bool) {
	if s == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(s.closing, f)
}

// Reconnect is what a stream ends with when the port closes.
func Reconnect() *connect.Error {
	return connect.NewError(connect.CodeUnavailable, errors.New("this server is being restarted: call again"))
}
