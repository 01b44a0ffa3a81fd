package h2

import (
	"context"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
)

// onRequest opens a stream for a new request. Its handler starts when the request is complete or
// when nothing more can be read at once.
func (c *conn) onRequest(b *headerBlock) error {
	s := &stream{c: c, id: b.id, declared: -1, charged: StreamCost + b.size(&c.srv.cfg)}
	if !c.share.take(s.charged) {
		return streamError{b.id, http2.ErrCodeRefusedStream, "no memory for another stream"}
	}
	s.ctx.parent = c.ctx
	s.body.init(s)
	var req http.Request
	if err := c.fillRequest(&req, s, b); err != nil {
		c.share.give(s.charged)
		return err
	}
	var ctx context.Context = &s.ctx
	if own := c.srv.cfg.RequestContext; own != nil {
		ctx = own(ctx)
	}
	s.req = *req.WithContext(ctx) // net/http has no other way to set the context
	s.reply.init(s)
	switch {
	case b.tooLarge:
		c.srv.stats.refusedHeader.Add(1)
		s.reply.override = c.srv.cfg.HeaderTooLarge
	case s.reply.override != nil:
		c.srv.stats.refusedHost.Add(1)
	case b.method == http.MethodConnect:
		c.srv.stats.refusedConnect.Add(1)
		s.reply.override = replyConnect
	}

	c.overhead.earn(4)
	c.mu.Lock()
	c.active++
	c.opened++
	if c.active == 1 {
		c.becameActive()
	}
	c.streams.open[s.id] = s
	s.recvEnd = b.endStream
	s.flow = c.flow.open(c.srv.cfg.streamWindow)
	s.awaits100 = s.body.expects
	cancelled := c.cancelled
	c.mu.Unlock()
	if cancelled {
		s.ctx.cancel()
	}
	if b.endStream {
		s.body.end(io.EOF, true)
		c.start(s)
	} else {
		c.waiting = append(c.waiting, s)
	}
	return nil
}

// fillRequest makes the http.Request of a header block (RFC 9113 §8.3.1).
func (c *conn) fillRequest(req *http.Request, s *stream, b *headerBlock) error {
	malformed := func(reason string) error {
		return streamError{b.id, http2.ErrCodeProtocol, reason}
	}
	req.Method = b.method
	req.URL = &s.url
	req.Proto, req.ProtoMajor = "HTTP/2.0", 2
	req.Body = http.NoBody
	req.RemoteAddr = c.remoteAddr
	req.TLS = c.tls
	if !b.endStream {
		req.Body = &s.body
		req.ContentLength = -1
	}
	connect := b.method == http.MethodConnect
	switch {
	case b.tooLarge:
		// The rest of the list is lost, so the request cannot be checked; it is only refused.
		req.Header = c.headers.partialHeader()
		return nil
	case connect && (b.seen&(sawPath|sawScheme) != 0 || b.authority == ""):
		return malformed("CONNECT with :path or :scheme, or without :authority")
	case !connect && (b.method == "" || b.path == "" || b.scheme != "http" && b.scheme != "https"):
		return malformed("request without a :method, :path or usable :scheme")
	case !httpguts.ValidHeaderFieldName(b.method):
		return malformed(":method is not a token")
	}

	header, err := c.headers.header()
	if err != nil {
		return err
	}
	req.Header = header
	var sameHost bool
	if req.Host, sameHost, err = hostOf(b, header); err != nil {
		return err
	}
	if !sameHost {
		s.reply.override = replyBadHost
	}
	if connect {
		s.url.Host, req.RequestURI = req.Host, req.Host
	} else {
		if s.url, err = c.headers.parsePath(b.path); err != nil {
			return malformed(":path is not a path")
		}
		req.RequestURI = b.path
	}
	if err := s.setLength(req, b); err != nil {
		return err
	}
	if expect := header["Expect"]; expect != nil && httpguts.HeaderValuesContainsToken(expect, "100-continue") {
		delete(header, "Expect")
		s.body.expects = !b.endStream
	}
	if cookies := header["Cookie"]; len(cookies) > 1 {
		header["Cookie"] = []string{strings.Join(cookies, "; ")} // RFC 9113 §8.2.3
	}
	if announced, ok := header["Trailer"]; ok {
		req.Trailer = announcedTrailer(announced)
		s.body.announced = req.Trailer
		delete(header, "Trailer")
	}
	return nil
}

// hostOf returns the authority of the request, from :authority or Host, which must not differ (RFC
// 9113 §8.3.1). If they do, same is false.
func hostOf(b *headerBlock, header http.Header) (host string, same bool, err error) {
	host = b.authority
	if h, found := header["Host"]; found {
		delete(header, "Host")
		switch {
		case len(h) > 1:
			return "", false, nil
		case host == "":
			host = h[0]
		case h[0] != host && !equalHosts(h[0], host, b.scheme):
			return "", false, nil
		}
	}
	if host != "" && !validAuthority(host) {
		return "", false, streamError{b.id, http2.ErrCodeProtocol, "malformed authority"}
	}
	return host, true, nil
}

// equalHosts reports whether two authorities name the same, whatever the case of their letters and
// whether or not they name the default port of the scheme (RFC 9110 §4.2.3).
func equalHosts(a, b, scheme string) bool {
	port := ":80"
	if scheme == "https" {
		port = ":443"
	}
	return strings.EqualFold(strings.TrimSuffix(a, port), strings.TrimSuffix(b, port))
}

// validAuthority reports whether host may be an authority. Clients of a Unix socket send its path,
// percent-encoded (gRPC) or as it is (grpc-java).
func validAuthority(host string) bool {
	if host[0] == '/' {
		host = strings.ReplaceAll(host, "/", "")
	}
	return strings.IndexByte(host, '@') < 0 && httpguts.ValidHostHeader(host)
}

// setLength sets the length of the request's body from Content-Length (RFC 9113 §8.1.1).
func (s *stream) setLength(req *http.Request, b *headerBlock) error {
	lengths, ok := req.Header["Content-Length"]
	if !ok {
		return nil
	}
	n, err := strconv.ParseUint(lengths[0], 10, 63)
	for _, other := range lengths[1:] {
		if other != lengths[0] {
			err = strconv.ErrSyntax
		}
	}
	if err != nil {
		return streamError{b.id, http2.ErrCodeProtocol, "malformed Content-Length"}
	}
	if b.endStream {
		if n != 0 {
			return streamError{b.id, http2.ErrCodeProtocol, "request without a body has a Content-Length"}
		}
		return nil
	}
	s.declared = int64(n)
	req.ContentLength = int64(n)
	return nil
}

// announcedTrailer returns the map for Request.Trailer, with the keys that the request announces.
func announcedTrailer(values []string) http.Header {
	var trailer http.Header
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			key := textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))
			switch key {
			case "", "Transfer-Encoding", "Trailer", "Content-Length":
				continue // never trailers (RFC 9110 §6.5.1)
			}
			if trailer == nil {
				trailer = make(http.Header)
			}
			trailer[key] = nil
		}
	}
	return trailer
}
