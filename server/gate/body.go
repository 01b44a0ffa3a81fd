package gate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/server/h2"
	"example.com/roster/server/rpc"
)

const (
	// maxBodyBytes bounds what is read of a request, unless the method has a larger message limit: then
	// as much more is read. What exceeds the message limit of the method is discarded: see discard.
	maxBodyBytes = rpc.MaxMessageBytes + extraBytes
	extraBytes   = 64 << 10
	// minProgress is the number of bytes that have to arrive of a body in each stall timeout.
	minProgress = 64
	// receiving is the maximum size of the requests of the port that are being received or answered, in
	// bytes. A request that fits the first buffer, or that package h2 has received as a whole before its
	// handler starts, is not counted. Of the last quarter a caller gets up to 1 MiB and a connection up
	// to 512 KiB. If a method has a larger message limit than rpc.MaxMessageBytes, the maximum is at least
	// receivingFactor times that: while a buffer is replaced by a larger one, both count.
	receiving       = 16 << 20
	receivingFactor = 4
	firstBuffer     = 512
)

// body receives the message of a request before the request is passed on, and bounds its size and the
// time that it may stall. It does not apply to a stream of messages, which the gate streams bounds.
type body struct {
	stall     time.Duration
	receiving *limit
}

func newBody(stall time.Duration) body {
	return body{stall, newLimit(receiving, receiving/4, 1<<20, 512<<10)}
}

// full is the error of a request for which there is no room.
func (b body) full() *connect.Error {
	return retryLater(connect.CodeUnavailable, shedRetry, fmt.Errorf(
		"this server is already receiving requests of %d bytes in all, its maximum (a fixed limit, no flag): call again later", b.receiving.size.Load()))
}

func (b body) wrap(method *rpc.Method, next http.Handler) http.Handler {
	if method.ClientStreams {
		return next
	}
	most := int64(method.MessageLimit())
	if most > rpc.MaxMessageBytes {
		b.receiving.grow(receivingFactor * most)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, engine := r.Body.(h2.Body)
		if size, ok := complete(r); r.Body != http.NoBody && (!ok || size > most || rpc.Compressed(r)) {
			incoming := &incoming{
				ReadCloser: http.MaxBytesReader(serversOwn(w), r.Body, max(maxBodyBytes, most+extraBytes)),
				request:    r,
				control:    http.NewResponseController(w),
				timeout:    b.stall,
				policy:     method.Policy,
			}
			if timeout, ok := rpc.Timeout(r); ok {
				incoming.until = rpc.From(r.Context()).Start.Add(timeout)
			}
			whole, claimed, ok := b.receive(incoming)
			defer claimed.giveBack()
			if !ok {
				rpc.Refuse(w, r, rpc.ReasonUnavailable, b.full())
				return
			}
			r.Body = whole
			if incoming.isEnded() && r.ProtoMajor == 1 {
				// The HTTP server takes the connection for one that the client has left, and would cancel all
				// later requests on it.
				w.Header().Set("Connection", "close")
			}
		}
		if method.ServerStreams {
			next.ServeHTTP(w, r)
			return
		}
		if !engine {
			next.ServeHTTP(w, r)
			return
		}
		// Connect flushes after the message and again after the trailers.
		next.ServeHTTP(h2.OnePiece(w), r)
		w.WriteHeader(http.StatusOK) // for observers, if the reply was nothing but trailers
	})
}

// receive reads the whole body. An error of the body becomes one of whole, so that Connect answers it.
// receive reports false if the port is receiving too much already.
func (b body) receive(in *incoming) (whole *wholeBody, claimed claim, ok bool) {
	defer in.stop()
	media, _ := rpc.RequestMediaType(in.request)
	most := int64(in.policy.MessageLimit())
	if media.Enveloped {
		most += rpc.EnvelopeBytes
	}
	size := int64(firstBuffer)
	if length := in.request.ContentLength; length >= 0 {
		size = min(length+1, size) // so that a read finds the end
	}
	data := make([]byte, 0, size)
	for {
		if len(data) == cap(data) {
			// By what has arrived and not by what is promised, which costs its sender nothing.
			size = min(4*size, most+1)
			larger, ok := b.receiving.take(in.request, size)
			if !ok {
				return nil, claimed, false
			}
			claimed.giveBack()
			claimed = larger
			data = append(make([]byte, 0, size), data...)
		}
		n, err := in.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		promised := media.Enveloped && len(data) >= rpc.EnvelopeBytes && int64(binary.BigEndian.Uint32(data[1:])) > most-rpc.EnvelopeBytes
		if promised || int64(len(data)) > most {
			return &wholeBody{err: in.discard(err)}, claimed, true
		}
		if err != nil {
			whole = &wholeBody{data: data, size: int64(len(data)), unpacked: int64(len(data)), err: err}
			if rpc.Compressed(in.request) {
				whole.unpacked = max(whole.size, countUnpacked(data, rpc.Compression(in.request), media.Enveloped, most))
			}
			return whole, claimed, true
		}
	}
}

// complete reports whether the whole body has been received already, and the body's size in bytes:
// reading it never waits.
func complete(r *http.Request) (size int64, ok bool) {
	if body, ok := r.Body.(h2.Body); ok {
		return body.Complete()
	}
	return 0, r.Body == http.NoBody
}

// serversOwn unwraps w down to the ResponseWriter of the HTTP server. http.MaxBytesReader has to be
// given that one in order to close the connection after a body that is too long.
func serversOwn(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// wholeBody is a body that has been received, up to its end or to an error.
type wholeBody struct {
	data           []byte
	size, unpacked int64 // in bytes, as received and decompressed
	err            error
}

// Read implements io.Reader. It does not keep what has been read: a stream may last long after that.
func (b *wholeBody) Read(p []byte) (int, error) {
	if len(b.data) == 0 {
		b.data = nil
		return 0, b.err
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

// Complete implements h2.Body.
func (b *wholeBody) Complete() (int64, bool) { return b.size, b.err == io.EOF }

// Close does nothing: the server closes the request's own body after the handler, and then reads the
// rest of it, which conn.BoundLeftovers limits.
func (b *wholeBody) Close() error { return nil }

// incoming is a body of one message that has not arrived completely. A read fails if less than
// minProgress bytes have arrived in timeout. One timer serves the whole body: a read only records what
// has arrived, which the timer checks when it fires.
type incoming struct {
	io.ReadCloser
	request *http.Request
	control *http.ResponseController
	timeout time.Duration
	policy  rpc.Policy
	until   time.Time // the client's own deadline; zero if it has none. Connect keeps it from then on

	mu      sync.Mutex
	timer   *time.Timer
	since   time.Time // when the current timeout began
	arrived int       // bytes since then
	stopped bool      // the body has ended, or the handler has returned
	ended   bool      // check has ended the reads
}

// Read implements io.Reader.
func (b *incoming) Read(p []byte) (int, error) {
	b.note(0, nil)
	n, err := b.ReadCloser.Read(p)
	b.note(n, err)
	// check may come too late for a read that gets the rest. The call is ended all the same: see body.wrap.
	if errors.Is(err, os.ErrDeadlineExceeded) || b.isEnded() {
		if !b.until.IsZero() && !time.Now().Before(b.until) {
			return n, connect.NewError(connect.CodeDeadlineExceeded, errDeadline)
		}
		return n, late(b.request.Context(), connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf(
			"the request's body stood still for %v: less than %d bytes have arrived", b.timeout, minProgress)))
	}
	return n, err
}

var errDeadline = errors.New("the deadline passed before the answer was ready")

// discard reads the rest of the body, up to the bound of the body, because some clients do not read the reply
// before they have sent the whole request. err is the error of the last read.
func (b *incoming) discard(err error) error {
	for buffer := make([]byte, 32<<10); err == nil; {
		_, err = b.Read(buffer)
	}
	return b.policy.TooLong()
}

// late is the error of a request whose wait was ended: Overdue if the call's deadline has passed, else
// why.
func late(ctx context.Context, why *connect.Error) *connect.Error {
	if limit, over := rpc.From(ctx).Overdue(); over {
		return rpc.Overdue(limit)
	}
	return why
}

// gone is the error of a request whose context has ended with err.
func gone(ctx context.Context, err error) *connect.Error {
	return late(ctx, connect.NewError(connect.CodeCanceled, err))
}

func (b *incoming) note(n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	if err != nil {
		b.stopLocked()
		return
	}
	if b.arrived += n; b.timer == nil || b.arrived >= minProgress {
		b.since, b.arrived = time.Now(), 0
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(b.left(), b.check)
	}
}

// left is how long the read may still wait: until the stall timeout or the call's deadline.
func (b *incoming) left() time.Duration {
	left := b.timeout - time.Since(b.since)
	if deadline, ok := b.request.Context().Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	if !b.until.IsZero() {
		left = min(left, time.Until(b.until))
	}
	return left
}

// check ends the current read if it has waited too long.
func (b *incoming) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	if left := b.left(); left > 0 {
		b.timer.Reset(left)
		return
	}
	b.ended = true
	// A deadline in the past ends the read. An HTTP server that does not support it has its own timers.
	_ = b.control.SetReadDeadline(time.Unix(1, 0))
}

func (b *incoming) isEnded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// stop is called before the request is passed on.
func (b *incoming) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopLocked()
}

func (b *incoming) stopLocked() {
	b.stopped = true
	if b.timer != nil {
		b.timer.Stop()
	}
}
