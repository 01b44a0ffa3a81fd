package rpc

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"connectrpc.com/connect"
)

// TextMode lets a handler of gRPC-Web answer its text mode, in which the body is base64: Google's
// client and protobuf-ts use it by default, since XMLHttpRequest gives a page binary data only at the
// end of a reply. The content type of the request decides how its body is read, and Accept, if it names
// a type of gRPC-Web, how the reply is written
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md).
//
// If a call uses the text mode, TextMode changes r to the request that the handler knows, and returns
// the ResponseWriter for the handler. Call end when the handler has returned. Other calls are not
// changed. All limits hold for the decoded body.
func TextMode(w http.ResponseWriter, r *http.Request) (inner http.ResponseWriter, end func()) {
	contentType := Header(r, "Content-Type")
	media, canonical, ok := parseMediaType(contentType)
	if !ok || media.Protocol != GRPCWeb {
		return w, func() {}
	}
	text := media.Text
	for accept := range strings.SplitSeq(strings.Join(r.Header["Accept"], ","), ",") {
		if wanted, ok := ParseMediaType(accept); ok && wanted.Protocol == GRPCWeb {
			text = wanted.Text
			break
		}
	}
	if media.Text {
		r.Body, r.ContentLength = &textBody{body: r.Body}, -1
		canonical = grpcWeb + strings.TrimPrefix(canonical, grpcWebText)
		r.Header["Content-Type"] = []string{canonical}
	}
	if !text {
		return w, func() {}
	}
	delete(r.Header, "Accept") // so that another call of TextMode changes nothing
	reply := &textReply{ResponseWriter: w}
	return reply, reply.end
}

const (
	grpcWeb     = "application/grpc-web"
	grpcWebText = "application/grpc-web-text"
)

// A textBody decodes a request in text mode. A client may encode its body in pieces, so padding may
// stand in the middle.
type textBody struct {
	body    io.ReadCloser
	raw     [4 << 10]byte
	begun   int    // bytes of raw that are no whole group of four characters yet
	space   []byte // for the decoded bytes
	decoded []byte // the part of it that has not been read
	err     error
}

// Read implements io.Reader.
func (b *textBody) Read(p []byte) (int, error) {
	for len(b.decoded) == 0 && b.err == nil {
		b.fill()
	}
	if len(b.decoded) == 0 {
		return 0, b.err
	}
	n := copy(p, b.decoded)
	b.decoded = b.decoded[n:]
	return n, nil
}

// fill reads once, and decodes the groups of four characters that have arrived.
func (b *textBody) fill() {
	n, err := b.body.Read(b.raw[b.begun:])
	text := b.raw[:b.begun+n]
	whole := len(text) - len(text)%4
	decoded, malformed := appendDecoded(b.space[:0], text[:whole])
	switch {
	case malformed != nil:
		err = malformedText(malformed)
	case err == io.EOF && whole < len(text):
		err = malformedText(errors.New("it ends within a group of four characters"))
	}
	b.space, b.decoded, b.err = decoded, decoded, err
	b.begun = copy(b.raw[:], text[whole:])
}

// appendDecoded appends what text means, which is whole groups of four characters.
func appendDecoded(dst, text []byte) ([]byte, error) {
	if bytes.ContainsAny(text, "\r\n") {
		return dst, errors.New("it has a line break") // which package base64 would skip
	}
	for len(text) > 0 {
		end := len(text)
		if padding := bytes.IndexByte(text, '='); padding >= 0 {
			end = padding - padding%4 + 4
		}
		var err error
		if dst, err = base64.StdEncoding.AppendDecode(dst, text[:end]); err != nil {
			return dst, err
		}
		text = text[end:]
	}
	return dst, nil
}

func malformedText(err error) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(
		"the body is not base64, which application/grpc-web-text means (application/grpc-web is binary): %w", err))
}

// Close implements io.Closer.
func (b *textBody) Close() error { return b.body.Close() }

// A textReply encodes a reply of gRPC-Web. Every flush ends a piece of base64 with its padding, so that
// the client can decode all that it has received.
type textReply struct {
	http.ResponseWriter
	begun   bool
	text    bool           // false for a reply that is not one of gRPC-Web, such as the status 415
	encoder io.WriteCloser // of the current piece; nil before its first byte
}

// WriteHeader implements http.ResponseWriter.
func (w *textReply) WriteHeader(status int) {
	if status >= 200 {
		w.begin()
	}
	w.ResponseWriter.WriteHeader(status)
}

// begin prepares the header, before it is sent.
func (w *textReply) begin() {
	if w.begun {
		return
	}
	w.begun = true
	header := w.Header()
	suffix, ok := strings.CutPrefix(header.Get("Content-Type"), grpcWeb)
	if !ok {
		return
	}
	if suffix == "" {
		suffix = "+proto"
	}
	w.text = true
	header["Content-Type"] = []string{grpcWebText + suffix}
	header.Del("Content-Length") // that of the binary form
}

// Write implements http.ResponseWriter.
func (w *textReply) Write(p []byte) (int, error) {
	w.begin()
	if !w.text {
		return w.ResponseWriter.Write(p)
	}
	if w.encoder == nil {
		w.encoder = base64.NewEncoder(base64.StdEncoding, w.ResponseWriter)
	}
	return w.encoder.Write(p)
}

// Flush implements http.Flusher.
func (w *textReply) Flush() {
	w.end()
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// end writes what is left of the current piece.
func (w *textReply) end() {
	w.begin()
	if w.encoder != nil {
		// If writing fails, the caller has disconnected, and nothing is left to do.
		_ = w.encoder.Close()
		w.encoder = nil
	}
}

// Unwrap is for http.ResponseController.
func (w *textReply) Unwrap() http.ResponseWriter { return w.ResponseWriter }
