package diagnose

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"
)

// Observation is what the transport saw of one attempt. Connect passes on only the code and the
// text of an error, and a diagnosis should not depend on texts. It is safe for concurrent use: a
// dial may outlive the attempt that began it.
type Observation struct {
	began time.Time

	mu          sync.Mutex
	connected   bool   // a TCP connection existed already, or was made
	status      int    // of the HTTP response; 0 if there was none
	contentType string // of the HTTP response
	told        error  // the gRPC status in the response's header, nil if there is none or it is OK
	err         error  // the transport's own error, before connect wrapped it
}

type observationKey struct{}

// Observe derives the context of one attempt, whose transport is to record what it sees.
func Observe(ctx context.Context) context.Context {
	o := &Observation{began: time.Now()}
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
	o.told = statusOf(response.Header)
}

// statusOf returns the gRPC status that a header has in place of a reply (Trailers-Only), nil if there
// is none.
func statusOf(header http.Header) error {
	code, err := strconv.ParseUint(header.Get("Grpc-Status"), 10, 32)
	if err != nil || code == 0 {
		return nil
	}
	message, err := url.PathUnescape(header.Get("Grpc-Message")) // percent-encoded
	if err != nil {
		message = header.Get("Grpc-Message")
	}
	return connect.NewError(connect.Code(code), errors.New(message))
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
	told        error
	err         error
	ctxErr      error // of the attempt's context
	atDeadline  bool  // the attempt's deadline has passed, or is about to
}

// factsOf copies what was observed so far of the attempt with this context.
func factsOf(attempt context.Context) facts {
	o := ObservationOf(attempt)
	o.mu.Lock()
	defer o.mu.Unlock()
	return facts{o.connected, o.status, o.contentType, o.told, o.err, attempt.Err(), o.atDeadline(attempt)}
}

// slack is how long before the deadline an answer may come that is due to the deadline. The server
// has a clock of its own, and is told the time that is left in whole units, a millisecond in some
// protocols.
const slack = 50 * time.Millisecond

// atDeadline reports whether the deadline of an attempt that has failed just now is why it failed.
func (o *Observation) atDeadline(attempt context.Context) bool {
	deadline, ok := attempt.Deadline()
	return ok && time.Until(deadline) <= min(slack, deadline.Sub(o.began)/10)
}
