package h2

import (
	"io"
	"net/http"
)

// Body is the type of Request.Body in a request that this package serves and that has a body. It
// tells middleware whether there is anything left to wait for, so that middleware can leave out the
// timer or the limit that it would put on a body which is still to come:
//
//	if body, ok := r.Body.(h2.Body); ok {
//		size, complete := body.Complete()
//		…
//	}
//
// The assertion fails for a request without a body, which has [http.NoBody], for a request that
// net/http serves over HTTP/1.1, and for a body that other middleware has wrapped.
type Body interface {
	io.ReadCloser

	// Complete reports whether all of the body has arrived: ok is true if no Read will wait for the
	// client or fail. size is how many bytes have arrived and are unread; with ok, it is what
	// remains of the body in bytes. A body that is complete stays so until it is closed. One that
	// has arrived when its handler starts is at most 256 KiB long, or
	// http.HTTP2Config.MaxReceiveBufferPerStream.
	Complete() (size int64, ok bool)
}

var _ Body = (*requestBody)(nil)

// OnePiece returns a ResponseWriter that hides the Flush method of w, for a handler that flushes
// although its reply has only one part. This package then keeps the header, a body of up to 4 KiB
// and the trailers until the handler returns, and sends them in a single write. A longer body is
// sent as it is written.
//
// Do not use it for handlers that stream: their Flush would do nothing. [http.ResponseController]
// finds w through the Unwrap method of the returned value, so its Flush still works. OnePiece works
// with the ResponseWriter of any server, also when it is wrapped.
func OnePiece(w http.ResponseWriter) http.ResponseWriter { return onePiece{w} }

type onePiece struct{ http.ResponseWriter }

// Unwrap is for http.ResponseController.
func (w onePiece) Unwrap() http.ResponseWriter { return w.ResponseWriter }
