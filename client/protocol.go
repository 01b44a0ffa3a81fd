package client

import "fmt"

// Protocol is the wire protocol a Client speaks. Roster's port answers all
// three; a Python grpcio server answers GRPC alone.
type Protocol int

const (
	// GRPC is gRPC over HTTP/2, the zero value: every server of the contract
	// speaks it.
	GRPC Protocol = iota
	// GRPCWeb is gRPC-Web, which carries the trailers in the body.
	GRPCWeb
	// Connect is the Connect protocol, whose unary calls are plain POSTs.
	Connect
)

// ParseProtocol reads what String writes: grpc, grpcweb or connect.
func ParseProtocol(name string) (Protocol, error) {
	for _, p := range []Protocol{GRPC, GRPCWeb, Connect} {
		if name == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown protocol %q: use grpc, grpcweb or connect", name)
}

func (p Protocol) String() string {
	switch p {
	case GRPC:
		return "grpc"
	case GRPCWeb:
		return "grpcweb"
	case Connect:
		return "connect"
	default:
		return fmt.Sprintf("Protocol(%d)", int(p))
	}
}
