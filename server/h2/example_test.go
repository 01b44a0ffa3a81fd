package h2_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/roster/server/h2"
)

// Any http.Handler is served by an http.Server that Configure was called on. NewListener is
// optional.
func ExampleConfigure() {
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello over %s", r.Proto)
	})}
	if err := h2.Configure(server, h2.Config{}); err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(h2.NewListener(listener))

	fmt.Println(post("http://"+listener.Addr().String(), ""))
	if err := server.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output: hello over HTTP/2.0
}

// Middleware that bounds how long a request body may take needs no timer for one that is there.
func ExampleBody() {
	const patience = 10 * time.Second
	bounded := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			complete := r.Body == http.NoBody
			if body, ok := r.Body.(h2.Body); ok {
				_, complete = body.Complete()
			}
			if !complete {
				http.NewResponseController(w).SetReadDeadline(time.Now().Add(patience))
			}
			next.ServeHTTP(w, r)
		})
	}
	url, stop := serve(bounded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})))
	defer stop()

	fmt.Println(post(url, "one message"))
	// Output: one message
}

// An RPC library flushes after every message. For a call with one message in its reply that costs a
// second write, which this middleware saves.
func ExampleOnePiece() {
	unary := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(h2.OnePiece(w), r)
		})
	}
	url, stop := serve(unary(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "the only message")
		if f, ok := w.(http.Flusher); ok {
			f.Flush() // not reached: header, message and trailer leave together
		}
		w.Header().Set(http.TrailerPrefix+"X-Status", "0")
	})))
	defer stop()

	fmt.Println(post(url, ""))
	// Output: the only message
}

// serve serves h on a port of the loopback interface.
func serve(h http.Handler) (url string, stop func()) {
	server := &http.Server{Handler: h}
	if err := h2.Configure(server, h2.Config{}); err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(h2.NewListener(listener))
	return "http://" + listener.Addr().String(), func() { server.Close() }
}

// post sends body over HTTP/2 without TLS and returns the body of the reply.
func post(url, body string) string {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(text)
}
