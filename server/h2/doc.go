// Package h2 is an HTTP/2 server (RFC 9113) for any [http.Handler]. It replaces the HTTP/2 server
// inside net/http and leaves the rest of net/http in place: accepting connections, TLS, HTTP/1.1
// and Shutdown remain those of a stock [http.Server].
//
//	srv := &http.Server{Addr: "localhost:8080", Handler: handler}
//	if err := h2.Configure(srv, h2.Config{}); err != nil {
//		return err
//	}
//	return srv.ListenAndServe() // or ListenAndServeTLS
//
// The server then speaks HTTP/2 to TLS clients that negotiate "h2" and, without TLS, to clients
// that start with the HTTP/2 preface ("prior knowledge"). Everything else is served as HTTP/1.1. An
// idle cleartext connection takes half the memory if the server gets its listener from
// [NewListener].
//
// The package knows HTTP and no protocol on top of it. [Config] has fields for what an RPC protocol
// needs: the names of its header fields, and its reply to a request whose header is too large. A
// server that bounds the number of its connections learns from [Config.Idle] which ones have no request,
// and can close them without losing one.
//
// # How it works
//
// One goroutine per connection reads frames, decodes header blocks and fills request bodies. It
// starts a handler when the request is complete or when there is nothing more to read at once, so a
// handler usually finds a short body in memory, and a streaming request does not wait for its end.
// Handlers run on reused goroutines.
//
// A reply is appended to the connection's output buffer in one piece. If no goroutine is writing
// that buffer to the socket, one starts to; it writes all replies that have been added by then.
// Memory that a handler can keep a reference to ([http.Request], header maps, the ResponseWriter,
// the request's context) is never reused for another request.
//
// # Limits
//
// A client can make a connection hold only so much: there are limits for streams, header bytes,
// request bytes, unread replies, control frames and resets, and a client that stops reading or sending
// is disconnected. [Config.MaxMemory] limits what all connections hold together. The defaults are
// meant for a port that is reachable from the internet.
//
// # Differences from net/http
//
// Which connections and requests are served:
//
//   - A connection without TLS may speak HTTP/2 unless [http.Server.Protocols] forbids it; with
//     net/http it has to be allowed there. GODEBUG=http2server=0 and http2debug have no effect.
//   - CONNECT is answered with status 501; net/http leaves it to the handler.
//   - There is no server push: the ResponseWriter does not implement [http.Pusher]. Priorities
//     are checked and otherwise ignored (RFC 9113 §5.3.2). The upgrade from HTTP/1.1 that RFC
//     7540 had is not supported (RFC 9113 §3.1 deprecates it).
//   - A request that RFC 9113 calls malformed is reset: for example one whose path does not start
//     with a slash, or whose body is not as long as its Content-Length says. One whose Host names
//     another host than its :authority is answered with status 400. net/http leaves some of these
//     to the handler.
//
// Limits:
//
//   - Without [http.Server.MaxHeaderBytes], a header may have 32 KiB, and never more than 256 fields;
//     net/http allows 1 MB.
//   - Without [http.Server.IdleTimeout], a connection without streams is closed after 10 minutes;
//     net/http takes ReadTimeout then. Without [http.Server.ReadHeaderTimeout], a header has 10
//     seconds.
//   - Streams and connections that make no progress are ended ([Config.StallTimeout]), and silent
//     ones are probed ([Config.PingInterval]); a stream on which neither side sends anything is reset
//     after an hour. net/http bounds a peer that reads nothing by WriteTimeout and
//     HTTP2.WriteByteTimeout alone, and sends no PING unless HTTP2.SendPingTimeout is set.
//   - [http.Server.ReadTimeout] bounds the body of each request and [http.Server.WriteTimeout] each
//     reply, as with net/http, but from when the handler starts and not from when the header has been
//     read.
//   - A window for a request body has 256 KiB and a frame 16 KiB; with net/http both have 1 MB.
//     [http.Server.HTTP2] changes them.
//
// Handlers:
//
//   - A handler starts when its request is complete or nothing more can be read at once. With
//     net/http it starts as soon as the header has been read.
//   - Handlers run on goroutines that run other handlers later. Their pprof labels and
//     [debug.SetPanicOnFault] are reset in between. A handler that calls [runtime.LockOSThread] calls
//     [runtime.UnlockOSThread] before it returns.
//   - The rest of a request whose handler has returned is read and dropped, up to 64 KiB of it and for
//     a few seconds, before the stream is reset with NO_ERROR, which some clients take for a failure.
//     net/http resets it at once.
//   - Names of a reply's header fields mean the same in any case, although [http.Header] is a map: a
//     handler that sets "transfer-encoding" does not send that field, which HTTP/2 forbids.
//   - WriteHeader(101) does nothing (RFC 9113 §8.6); net/http sends the status. WriteHeader with
//     another code below 200 waits until the connection has buffered it, as Write does.
//   - A reply that has a field with [KnownHeader.NoContentLength] gets no Content-Length.
//
// The server:
//
//   - [http.Server.ConnState] is called from a goroutine of its own, in order, so that a slow hook
//     does not hold up the connection.
//   - An HTTP/2 connection of a [NewListener] is closed by http.Server.Close and waited for by
//     Shutdown as any other, but net/http believes that most of them have ended.
//   - [http.Server.HTTP2] sets what the engine has too. Configure returns an error for a setting that
//     the engine has no equivalent for: CountError, PermitProhibitedCipherSuites, WriteByteTimeout, and
//     a MaxEncoderHeaderTableSize of its own.
//   - [http.Server.SetKeepAlivesEnabled] does not reach HTTP/2 connections, since net/http tells no
//     other package about it. A handler ends its connection, once the other calls on it are done,
//     with the header Connection: close.
//
// These are as with net/http: BaseContext and ConnContext, ErrorLog, the log of a panic and
// [http.ErrAbortHandler], the deadlines of [http.ResponseController] and its EnableFullDuplex, which
// has nothing to do, and its Hijack, which is not supported; statuses from 102 to 199,
// Expect: 100-continue, and trailers.
//
// # Contracts
//
// What a handler can rely on:
//
//   - The Body of a request is a [Body], which tells whether all of it has arrived.
//   - The ResponseWriter implements [http.Flusher] and everything that [http.ResponseController]
//     looks for. [OnePiece] hides Flush, so that a short reply leaves in one write.
//   - The context of a request ends when its handler returns, its stream is reset or its
//     connection ends. [Config.RequestContext] can derive another from it before the handler sees
//     it.
//
// What the server around the engine must do:
//
//   - [Configure] is called once, before the server serves. The hooks ConnContext and ConnState
//     of the server are set before that; a hook that is set later turns NewListener off.
//   - NewListener is the outermost wrapper of the listener, so that net/http sees the connections
//     that it returns. Listeners and connections beneath it may be of any type.
//   - A connection type that wraps another implements CloseWrite() error if the other does. The
//     engine calls it to end its side of the connection and still read what the client sends;
//     without it, a client that is still sending may lose the last reply.
//   - Configure registers two functions in [http.Server.TLSNextProto]. net/http passes them a
//     handler that also has a method BaseContext() context.Context, the context of the
//     connection. Code that wraps these functions passes that handler on unchanged.
package h2
