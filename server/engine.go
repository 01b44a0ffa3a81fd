package server

import (
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"example.com/roster/server/h2"
)

// knownHeaders are the header fields of gRPC, gRPC-Web and Connect, for package h2, which knows
// only those of HTTP. A gRPC client shows its caller every header field that it does not know as
// metadata of the call, so replies of gRPC have no Content-Length.
var knownHeaders = []h2.KnownHeader{
	{Name: "Connect-Accept-Encoding"},
	{Name: "Connect-Content-Encoding"},
	{Name: "Connect-Protocol-Version"},
	{Name: "Connect-Timeout-Ms"},
	{Name: "Grpc-Accept-Encoding"},
	{Name: "Grpc-Encoding"},
	{Name: "Grpc-Message", Trailer: true, RarelyRepeats: true},
	{Name: "Grpc-Previous-Rpc-Attempts"},
	{Name: "Grpc-Status", Trailer: true, NoContentLength: true},
	{Name: "Grpc-Status-Details-Bin", RarelyRepeats: true},
	{Name: "Grpc-Tags-Bin"},
	{Name: "Grpc-Timeout"},
	{Name: "Grpc-Trace-Bin"},
	{Name: "X-Grpc-Web"},
	{Name: "X-User-Agent"},
}

// refuseLongHeader replies to a request whose header is longer than maxHeaderBytes: to gRPC with
// RESOURCE_EXHAUSTED, since its clients turn the status 431, which all others get, into UNKNOWN.
func refuseLongHeader(w http.ResponseWriter, r *http.Request) {
	contentType := header(r, "Content-Type")
	if contentType != "application/grpc" && !strings.HasPrefix(contentType, "application/grpc+") {
		h2.HeaderTooLarge(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", fmt.Sprint(uint32(connect.CodeResourceExhausted)))
	h.Set("Grpc-Message", fmt.Sprintf("the header is longer than the %d bytes that this server takes", maxHeaderBytes))
	w.WriteHeader(http.StatusOK)
}
