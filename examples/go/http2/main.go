// This program serves an http.Handler of yours with Roster's HTTP/2 engine. Run it with
// "go run ./http2" in examples/go of a checkout of Roster, and call it with
//
//	curl --http2-prior-knowledge http://localhost:8080/
package main

import (
	"fmt"
	"log"
	"net/http"

	"example.com/roster/server/h2"
)

func main() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello over %s\n", r.Proto)
	})
	srv := &http.Server{Addr: "localhost:8080", Handler: handler}
	if err := h2.Configure(srv, h2.Config{}); err != nil {
		log.Fatal(err)
	}
	log.Fatal(srv.ListenAndServe())
}
