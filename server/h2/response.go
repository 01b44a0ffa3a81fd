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

// response is the http.ResponseWriter of one request. Like net/http's it buffers up to 4 KiB, so that a short reply
// gets its Content-Length, and leaves in one piece. It also offers Flush and what http.ResponseController looks for.
//
// mu is held while a Write waits for the peer. It makes misuse (a Write after the handler has returned) an error
// rather than a mix-up, for the buffer may serve another stream by then.
type response struct {
	s        *stream
	override http.HandlerFunc // replies in place of the handler

	mu          sync.Mutex
	header      http.Header
	buf         *buffer // there is one from WriteHeader on
	status      int
	fields      []field // the header as it was at WriteHeader, then the trailers; in buf
	length      int64   // Content-Length, or -1
	written     int64
	trailer     []string // names announced by the header Trailer
	wroteHeader bool
	sentHeader  bool
	head        bool // the request's method is HEAD
	done        bool // the handler has returned
	typed       bool // no Content-Type needs to be guessed
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

// WriteHeader implements http.ResponseWriter. Codes from 100 to 199 are sent at once and are not the reply yet.
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
		case "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
			continue // RFC 9113 §8.2.2
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
		switch name {
		case "Content-Length", "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
			continue
		}
		for _, v := range values {
			fields = append(fields, field{name, v})
		}
	}
	sortFields(fields)
	w.s.c.sendInformational(w.s, code, fields)
}

// announce notes the trailers that the header Trailer names.
func (w *response) announce(values []string) {
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" {
				w.addTrailer(name)
			}
		}
	}
}

func (w *response) addTrailer(name string) {
	name, ok := w.s.c.srv.names.trailer(name)
	if !ok {
		w.s.c.srv.logf("h2: handler sets %q as a trailer, which it cannot be; left out", name)
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

// Write implements http.ResponseWriter. It waits until the peer's windows and the connection have taken what does not
// fit the buffer.
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

// beforeWrite checks that n more bytes are welcome.
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

// FlushError sends what is buffered, the header at least. http.ResponseController looks for it.
func (w *response) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return errHandlerDone
	}
	w.writeHeader(http.StatusOK)
	return w.send(nil)
}

// send hands the buffer and p to the connection and waits until it has taken them.
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

// completeHeader adds what the handler has left out, before the first bytes of the body are sent. It reports whether
// this is the first time, so that the header is to be sent with them.
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

// sniffLen is how much of a body http.DetectContentType looks at.
const sniffLen = 512

// finish ends the reply after the handler has returned. It does not wait: what cannot be sent yet stays with the
// stream, which is at most the small buffer. It reports whether the caller must call conn.flush.
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
	c.running.Add(-1)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.handlerDone = true
	switch {
	case s.closed:
		c.freeSlot()
	case s.sendEnd:
		// A reply to HEAD that was flushed.
	default:
		out := &s.out
		out.header, out.end = first, true
		if !w.head {
			out.data[0], out.trailer = buffered, trailer
		}
		c.submit(s)
		if s.queued {
			c.scheduleFlush() // those before it may wait for windows that this one does not need
		}
		if !s.closed && !out.empty() {
			out.owned, w.buf = w.buf, nil
		}
	}
	w.releaseBuffer()
	return c.takeFlush()
}

// abandon ends the reply of a handler that did not return.
func (w *response) abandon() {
	// A panic inside one of our own methods, such as WriteHeader's, has released mu by now.
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.releaseBuffer()
}

// releaseBuffer returns the buffer, unless the stream has it for what is not sent yet.
func (w *response) releaseBuffer() {
	if w.buf != nil {
		w.fields = nil
		w.s.c.srv.buffers.put(w.buf)
		w.buf = nil
	}
}

// collectTrailer returns the trailers that the handler has set, announced or marked with http.TrailerPrefix.
func (w *response) collectTrailer() (trailer []field) {
	fields := w.fields
	for name, values := range w.header {
		if key, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			if key, ok = w.s.c.srv.names.trailer(key); !ok {
				w.s.c.srv.logf("h2: handler sets %q as a trailer, which it cannot be; left out", key)
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

// SetWriteDeadline resets the stream at t unless the reply is complete. The zero time lifts the deadline.
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

// CloseNotify implements the deprecated http.CloseNotifier, which older middleware asks for.
func (w *response) CloseNotify() <-chan bool {
	gone := make(chan bool, 1)
	w.s.ctx.AfterFunc(func() { gone <- true })
	return gone
}

// HeaderTooLarge replies to a request with status 431 and the text of net/http. It is the default of
// [Config.HeaderTooLarge].
func HeaderTooLarge(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	fmt.Fprint(w, "<h1>HTTP Error 431</h1><p>Request Header Field(s) Too Large</p>")
}

// replyConnect answers CONNECT. This is not a proxy.
func replyConnect(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "CONNECT is not supported", http.StatusNotImplemented)
}
