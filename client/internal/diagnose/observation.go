package diagnose

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"sync"
)

// Observation is what the transport saw of one attempt. Connect passes on only the code and the
// text of an error, and a diagnosis should not depend on texts. It is safe for concurrent use: a
// dial may outlive the attempt that began it.
type Observation struct {
	mu          sync.Mutex
	connected   bool   // a TCP connection existed already, or was made
	status      int    // of the HTTP response; 0 if there was none
	contentType string // of the HTTP response
	err         error  // the transport's own error, before connect wrapped it
}

type observationKey struct{}

// Observe derives the context of one attempt, whose transport is to record what it sees.
func Observe(ctx context.Context) context.Context {
	o := &Observation{}
	ctx = context.WithValue(ctx, observationKey{}, o)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { o.connect() },
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				o.connect()
			}
		},
	})
}

// ObservationOf returns the observation of an attempt's context. A call whose context is not from
// Observe gets one that nothing reads.
func ObservationOf(ctx context.Context) *Observation {
	if o, ok := ctx.Value(observationKey{}).(*Observation); ok {
		return o
	}
	return &Observation{}
}

func (o *Observation) connect() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.connected = true
}

// Responded records that the header of an HTTP response arrived.
func (o *Observation) Responded(response *http.Response) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.status = response.StatusCode
	o.contentType = response.Header.Get("Content-Type")
}

// Failed records the transport's error; the first one counts.
func (o *Observation) Failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
}

// facts are an observation at one moment.
type facts struct {
	connected   bool
	status      int
	contentType string
	err         error
	ctxErr      error // of the attempt's context
}

// factsOf copies what was observed so far of the attempt with this context.
func factsOf(attempt context.Context) facts {
	o := ObservationOf(attempt)
	o.mu.Lock()
	defer o.mu.Unlock()
	return facts{o.connected, o.status, o.contentType, o.err, attempt.Err()}
}
