// Package h2 is an HTTP/2 server (RFC 9113) for any [http.Handler]. It replaces the HTTP/2 server inside net/http and
// leaves the rest of net/http in place: accepting, TLS, HTTP/1.1 and Shutdown stay those of a stock [http.Server].
//
//	srv := &http.Server{Addr: "localhost:8080", Handler: handler}
//	if err := h2.Configure(srv, h2.Config{}); err != nil { … }
//	err := srv.ListenAndServe() // or ListenAndServeTLS
//
// The server then speaks HTTP/2 to TLS clients that negotiate "h2" and, on a plain port, to clients that start with the
// HTTP/2 preface (prior knowledge). Everything else is served as HTTP/1.1. The upgrade from HTTP/1.1 that RFC 7540 had
// is not supported; RFC 9113 withdrew it. Idle plain connections take half the memory if the server gets its listener
// from [NewListener].
//
// # How it is made
//
// One goroutine per connection reads frames, decodes header blocks and fills request bodies. It starts a handler when
// the request is complete or when there is nothing more to read at once, so a unary call finds its whole body in
// memory and a stream does not wait for its end. Handlers run on reused goroutines. A reply is appended to the
// connection's output buffer in one piece and whoever finds the buffer unattended writes it to the socket, together
// with every reply that has joined it by then. Nothing that a handler can hold on to ([http.Request], header maps, the
// ResponseWriter, the request's context) is ever used for a second request.
//
// # What it refuses
//
// A peer can make a connection hold only what [Config] allows: streams, header bytes, request bytes, unread replies,
// control frames and resets are all bounded, and a peer that stops reading or sending is cut off. The defaults are
// meant for a port that strangers can reach.
//
// CONNECT is answered with 501, server push is not offered ([http.Pusher] is not implemented) and priorities are
// checked and otherwise ignored (RFC 9113 §5.3.2).
package h2
