// Package drain tells the parts of a server that it is shutting down. There are two steps. First
// the server asks clients not to send anything new, but still answers everything. Then it closes,
// and streams, which could last for ever, have to end.
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

// State says how far the shutdown of a server is. It is safe for concurrent use.
type State struct {
	begun, closing context.Context
	begin, close   context.CancelFunc
}

// New returns the State of a server that is not shutting down.
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

// Begun returns a channel that is closed at the first step.
func (s *State) Begun() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.begun.Done()
}

// Closing returns a channel that is closed at the second step, when streams have to end.
func (s *State) Closing() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.closing.Done()
}

// Draining reports whether the first step has begun.
func (s *State) Draining() bool { return s != nil && s.begun.Err() != nil }

// AfterClosing calls f on its own goroutine at the second step. The returned function cancels that,
// and reports whether it did.
func (s *State) AfterClosing(f func()) (stop func() bool) {
	if s == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(s.closing, f)
}

// Reconnect returns the error with which a stream ends at the second step.
func Reconnect() *connect.Error {
	return connect.NewError(connect.CodeUnavailable, errors.New("this server is being restarted: call again"))
}
