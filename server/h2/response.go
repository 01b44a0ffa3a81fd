package h2

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// response is the http.ResponseWriter of one request. Like that of net/http, it buffers up to 4
// KiB, so that a short reply gets a Content-Length and is sent in one piece. It also implements
// http.Flusher and the methods that http.ResponseController looks for.
//
// mu is held while a Write waits for the peer. It also makes a Write after the handler has returned
// fail, rather than write into a buffer that another stream uses by then.
type response struct {
	s        *stream
	override http.HandlerFunc // if not nil, replies in place of the handler

	mu          sync.Mutex
	header      http.Header
	buf         *buffer // nil before WriteHeader
	status      int
	fields      []field // the header at the time of WriteHeader, then the trailers; kept in buf.fields
	length      int64   // Content-Length, or -1
	written     int64
	trailer     []string // names announced by the header Trailer
	wroteHeader bool
	sentHeader  bool
	head        bool // the request's method is HEAD
	done        bool // the handler has returned
	typed       bool // the handler has set Content-Type or Content-Encoding, so the type is not guessed
	dated       bool
}

func (w *response) init(s *stream) {
	w.s = s
	w.length = -1
	w.head = s.req.Method == http.MethodHead
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter. A code from 100 to 199 is sent at once, ahead of the
// reply (RFC 9110 §15.2).
func (w *response) WriteHeader(code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(code)
}

func (w *response) writeHeader(code int) {
	if w.wroteHeader || w.done {
		return
	}
	if code < 100 || code > 999 {
		panic(fmt.Sprintf("h2: invalid WriteHeader code %v", code))
	}
	if code < 200 {
		w.writeInformational(code)
		return
	}
	w.wroteHeader, w.status = true, code
	w.buf = w.s.c.srv.buffers.get(smallBuffer)
	w.fields = w.buf.takeFields()
	for name, values := range w.header {
		if key, odd := canonicalOdd(name); odd {
			if _, both := w.header[key]; both {
				continue
			}
			name = key
		}
		switch name {
		case "Content-Length":
			if len(values) > 0 {
				if n, err := strconv.ParseUint(values[0], 10, 63); err == nil {
					w.length = int64(n)
				}
			}
			continue
		case "Connection":
			if len(values) > 0 && values[0] == "close" {
				w.s.c.startShutdown()
			}
			continue
		case "Content-Type":
			w.typed = true
		case "Content-Encoding":
			w.typed = w.typed || len(values) > 0 && values[0] != ""
		case "Date":
			w.dated = true
		case "Trailer":
			w.announce(values)
		}
		if strings.HasPrefix(name, http.TrailerPrefix) {
			continue
		}
		for _, v := range values {
			w.fields = append(w.fields, field{name, v})
		}
	}
	sortFields(w.fields)
	w.buf.fields = w.fields
}

func (w *response) writeInformational(code int) {
	if code == http.StatusSwitchingProtocols {
		return // RFC 9113 §8.6
	}
	var fields []field
	for name, values := range w.header {
		if key, _ := canonicalOdd(name); key == "Content-Length" {
			continue // RFC 9110 §8.6
		}
		for _, v := range values {
			fields = append(fields, field{name, v})
		}
	}
	sortFields(fields)
	w.s.c.sendInformational(w.s, code, fields)
}

// announce records the trailers that are named in the header Trailer.
func (w *response) announce(values []string) {
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" {
				w.addTrailer(name)
			}
		}
	}
}

const badTrailer = "h2: handler set the trailer %q, which may not be a trailer (RFC 9110 §6.5.1); it was not sent"

func (w *response) addTrailer(name string) {
	name, ok := w.s.c.srv.names.trailer(name)
	if !ok {
		w.s.c.srv.logf(badTrailer, name)
		return
	}
	for _, have := range w.trailer {
		if have == name {
			return
		}
	}
	w.trailer = append(w.trailer, name)
}

func hasField(fields []field, name string) bool {
	for i := range fields {
		if fields[i].name == name {
			return true
		}
	}
	return false
}

// Write implements http.ResponseWriter. If p does not fit the buffer, it waits until the connection
// has buffered all of it, as the peer's windows allow.
func (w *response) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.beforeWrite(len(p)); err != nil {
		return 0, err
	}
	if len(w.buf.b)+len(p) <= smallBuffer {
		w.buf.b = append(w.buf.b, p...)
		return len(p), nil
	}
	if err := w.send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteString implements io.StringWriter.
func (w *response) WriteString(p string) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.beforeWrite(len(p)); err != nil {
		return 0, err
	}
	if len(w.buf.b)+len(p) <= smallBuffer {
		w.buf.b = append(w.buf.b, p...)
		return len(p), nil
	}
	if err := w.send([]byte(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// beforeWrite checks whether n more bytes may be written.
func (w *response) beforeWrite(n int) error {
	if w.done {
		return errHandlerDone
	}
	w.writeHeader(http.StatusOK)
	if !bodyAllowed(w.status) {
		return http.ErrBodyNotAllowed
	}
	if w.length >= 0 && w.written+int64(n) > w.length {
		return http.ErrContentLength
	}
	w.written += int64(n)
	return nil
}

// Flush implements http.Flusher.
func (w *response) Flush() { w.FlushError() }

// FlushError sends the header and what is buffered. http.ResponseController calls it.
func (w *response) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return errHandlerDone
	}
	w.writeHeader(http.StatusOK)
	return w.send(nil)
}

// send passes the buffer and p to the connection and waits until they are in its output buffer.
func (w *response) send(p []byte) error {
	buffered := w.buf.b
	w.buf.b = w.buf.b[:0]
	if w.head && w.sentHeader {
		return nil
	}
	first := w.completeHeader(buffered, p)
	c := w.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.s.closed {
		return w.s.closeErr
	}
	out := &w.s.out
	out.header = first
	if w.head {
		out.end = true
	} else {
		out.data = [2][]byte{buffered, p}
	}
	c.submit(w.s)
	c.scheduleFlush()
	if out.header || out.size() > 0 {
		return c.awaitTaken(w.s)
	}
	return nil
}

// completeHeader adds Content-Type and Date if the handler has not set them. It reports whether
// this is the first call, which means that the header is still to be sent.
func (w *response) completeHeader(buffered, p []byte) (first bool) {
	if w.sentHeader {
		return false
	}
	w.sentHeader = true
	if !w.typed && bodyAllowed(w.status) && len(buffered)+len(p) > 0 {
		sample := buffered
		if len(sample) == 0 {
			sample = p
		} else if len(sample) < sniffLen && len(p) > 0 {
			sample = append(append(make([]byte, 0, sniffLen), sample...), p[:min(len(p), sniffLen-len(sample))]...)
		}
		w.fields = append(w.fields, field{"Content-Type", http.DetectContentType(sample)})
	}
	if !w.dated {
		w.fields = append(w.fields, field{"Date", w.s.c.srv.dateHeader()})
	}
	w.buf.fields = w.fields
	return true
}

// sniffLen is how many bytes of a body http.DetectContentType looks at.
const sniffLen = 512

// finish ends the reply after the handler has returned. It does not wait: what cannot be sent yet,
// at most one small buffer, stays with the stream. It reports whether the caller must call
// conn.flush.
func (w *response) finish() (flush bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(http.StatusOK)
	w.done = true
	buffered := w.buf.b
	first := w.completeHeader(buffered, nil)
	trailer := w.collectTrailer()
	if w.length < 0 && first && bodyAllowed(w.status) && (len(buffered) > 0 || !w.head) &&
		w.s.c.srv.names.wantsLength(w.fields, trailer) {
		w.length = int64(len(buffered))
	}

	s, c := w.s, w.s.c
	c.out.handlers.Add(-1)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.handlerDone = true
	switch {
	case s.closed:
		c.freeSlot(s)
	case s.sendEnd:
		// A reply to HEAD that was flushed.
		if c.closing.started && s.answered() {
			c.stopRequest(s)
		}
	default:
		out := &s.out
		out.header, out.end = first, true
		if !w.head {
			out.data[0], out.trailer = buffered, trailer
		}
		c.submit(s)
		if s.queued {
			c.scheduleFlush() // the streams ahead of it may be waiting for their windows
		}
		if !s.closed && !out.empty() {
			out.owned, w.buf = w.buf, nil
		}
	}
	w.releaseBuffer()
	return c.takeFlush()
}

// abandon ends the reply of a handler that panicked or ended its goroutine.
func (w *response) abandon() {
	// A panic in a method of response, such as WriteHeader, has released mu by now.
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.releaseBuffer()
}

// releaseBuffer returns the buffer to its pool, unless finish has left it to the stream.
func (w *response) releaseBuffer() {
	if w.buf != nil {
		w.fields = nil
		w.s.c.srv.buffers.put(w.buf)
		w.buf = nil
	}
}

// collectTrailer returns the trailers that the handler has set: those that it announced and those
// with http.TrailerPrefix.
func (w *response) collectTrailer() (trailer []field) {
	fields := w.fields
	for name, values := range w.header {
		if key, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			if key, ok = w.s.c.srv.names.trailer(key); !ok {
				w.s.c.srv.logf(badTrailer, key)
				continue
			}
			for _, v := range values {
				fields = append(fields, field{key, v})
			}
		}
	}
	for _, name := range w.trailer {
		if _, replaced := w.header[http.TrailerPrefix+name]; replaced {
			continue
		}
		for _, v := range w.header[name] {
			fields = append(fields, field{name, v})
		}
	}
	header := len(w.fields)
	w.fields, w.buf.fields, trailer = fields[:header], fields, fields[header:]
	sortFields(trailer)
	return trailer
}

// SetReadDeadline makes reads of the request body fail from t on.
func (w *response) SetReadDeadline(t time.Time) error {
	w.s.body.setDeadline(t)
	return nil
}

// SetWriteDeadline resets the stream at t unless the reply is complete by then. The zero time
// removes the deadline.
func (w *response) SetWriteDeadline(t time.Time) error {
	s, c := w.s, w.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.writeTimer != nil {
		s.writeTimer.Stop()
		s.writeTimer = nil
	}
	if s.closed || t.IsZero() {
		return nil
	}
	if s.sendEnd {
		return nil
	}
	wait := time.Until(t)
	if wait <= 0 {
		c.resetStream(s, http2.ErrCodeInternal, errWriteLate)
		go s.interrupt(errWriteLate)
		return nil
	}
	s.writeTimer = time.AfterFunc(wait, func() {
		c.mu.Lock()
		complete := s.sendEnd
		if !complete {
			c.resetStream(s, http2.ErrCodeInternal, errWriteLate)
		}
		c.mu.Unlock()
		if !complete {
			s.interrupt(errWriteLate)
		}
	})
	return nil
}

// EnableFullDuplex does nothing: HTTP/2 bodies always go both ways at once.
func (w *response) EnableFullDuplex() error { return nil }

// CloseNotify implements the deprecated http.CloseNotifier, which older middleware uses.
func (w *response) CloseNotify() <-chan bool {
	gone := make(chan bool, 1)
	w.s.ctx.AfterFunc(func() { gone <- true })
	return gone
}

// HeaderTooLarge replies to a request with status 431 and the text of net/http. It is the default
// of [Config.HeaderTooLarge].
func HeaderTooLarge(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	fmt.Fprint(w, "<h1>HTTP Error 431</h1><p>Request Header Field(s) Too Large</p>")
}

// replyBadHost answers a request whose Host differs from its authority, or that has two.
func replyBadHost(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "Host differs from the authority of the request", http.StatusBadRequest)
}

// replyConnect answers CONNECT, which only a proxy supports.
func replyConnect(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "CONNECT is not supported", http.StatusNotImplemented)
}
