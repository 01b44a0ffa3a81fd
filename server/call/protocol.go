package call

import (
	"net/http"
	"strings"
)

// Protocol is what an RPC speaks.
type Protocol uint8

// The protocols. A request that is no RPC, or not yet known to be one, speaks
// NotRPC.
const (
	NotRPC Protocol = iota
	GRPC
	GRPCWeb
	Connect
)

// Protocols is how many there are, NotRPC among them.
const Protocols = 4

// String returns the protocol's name as logs and metrics have it.
func (p Protocol) String() string {
	switch p {
	case GRPC:
		return "grpc"
	case GRPCWeb:
		return "grpc-web"
	case Connect:
		return "connect"
	}
	return ""
}

// Recognize notes which procedure is called, in which protocol and codec. The
// content type says so, and for Connect's GET the query.
func (c *Call) Recognize(procedure string, r *http.Request) {
	c.Procedure = procedure
	if r.Method == http.MethodGet {
		if query := r.URL.RawQuery; strings.Contains(query, "encoding=") {
			c.Protocol, c.JSON = Connect, strings.Contains(query, "encoding=json")
		}
		return
	}
	contentType := r.Header["Content-Type"]
	if len(contentType) == 0 {
		return
	}
	c.Protocol, c.JSON = protocolOf(contentType[0])
}

func protocolOf(contentType string) (protocol Protocol, json bool) {
	switch contentType {
	case "application/grpc", "application/grpc+proto":
		return GRPC, false
	case "application/grpc+json":
		return GRPC, true
	case "application/grpc-web", "application/grpc-web+proto":
		return GRPCWeb, false
	case "application/grpc-web+json":
		return GRPCWeb, true
	case "application/proto", "application/connect+proto":
		return Connect, false
	case "application/json", "application/connect+json":
		return Connect, true
	}
	if base, _, ok := strings.Cut(contentType, ";"); ok {
		return protocolOf(strings.ToLower(strings.TrimSpace(base)))
	}
	return NotRPC, false
}
