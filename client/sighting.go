package client

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"sync"
)

// sighting is what the transport saw of one attempt. Connect hands on an
// error's code and text only, and a diagnosis should not be read out of texts.
type sighting struct {
	mu   sync.Mutex
	seen facts
}

type facts struct {
	connected   bool   // a TCP connection was there, or came about
	status      int    // of the HTTP response; 0 when there was none
	contentType string // of the HTTP response
	err         error  // of the transport, before connect wrapped it
	callErr     error  // of the attempt's context
}

type sightingKey struct{}

// watch returns a context for one attempt, and what will be seen of it.
func watch(ctx context.Context) (context.Context, *sighting) {
	s := &sighting{}
	ctx = context.WithValue(ctx, sightingKey{}, s)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { s.sawConnection() },
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				s.sawConnection()
			}
		},
	}), s
}

// sightingFrom is the sighting of a watched attempt; a call that came by
// Endpoint has one that nobody looks at.
func sightingFrom(ctx context.Context) *sighting {
	if s, ok := ctx.Value(sightingKey{}).(*sighting); ok {
		return s
	}
	return &sighting{}
}

func (s *sighting) sawConnection() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.connected = true
}

func (s *sighting) answered(response *http.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.status = response.StatusCode
	s.seen.contentType = response.Header.Get("Content-Type")
}

func (s *sighting) broke(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen.err == nil {
		s.seen.err = err
	}
}

// facts is a copy of what was seen so far: a dial may outlive the attempt.
func (s *sighting) facts(callCtx context.Context) facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	seen.callErr = callCtx.Err()
	return seen
}
