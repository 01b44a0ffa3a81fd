// Package calls measures unary calls under load: what one costs the server in
// CPU, how many go through in a second, and how long one takes at a load that
// every peer carries.
package calls

import (
	"slices"

	"example.com/roster/bench/internal/peer"
)

// Case is one kind of call under one load.
type Case struct {
	Key, Title           string
	IDs                  int
	Connections, Streams int
	GC                   peer.GC
	// Connect is the Connect protocol, else it is gRPC.
	Connect, JSON, HTTP1, TLS bool
	// Peers in the order they are run, the one to compare with first.
	Peers []string
}

// Base is the peer that the case compares with.
func (c Case) Base() string { return c.Peers[0] }

var (
	everyone = []string{peer.GRPC, peer.Roster, peer.RosterStd, peer.Connect, peer.GRPCTuned, peer.Tonic, peer.Python, peer.Nginx}
	ours     = []string{peer.RosterBare, peer.RosterFull}
	servers  = []string{peer.GRPC, peer.Roster, peer.RosterStd, peer.Connect, peer.GRPCTuned, peer.Tonic}
	inGo     = []string{peer.GRPC, peer.Roster, peer.RosterStd, peer.Connect, peer.GRPCTuned}
	connects = []string{peer.Connect, peer.Roster, peer.RosterStd}
	jsons    = []string{peer.Connect, peer.Roster, peer.RosterStd, peer.Gateway}
)

// Keys of cases that the marks are about.
const (
	KeyTwo      = "grpc-2-8x16"
	KeyThousand = "grpc-1000-8x16"
)

// Cases returns all cases.
func Cases(tls bool) []Case {
	cases := []Case{
		{Key: KeyTwo, Title: "gRPC, 2 ids, 8 connections × 16 streams", IDs: 2, Connections: 8, Streams: 16, Peers: append(slices.Clone(everyone), ours...)},
		{Key: "grpc-100-8x16", Title: "gRPC, 100 ids, 8 × 16", IDs: 100, Connections: 8, Streams: 16, Peers: servers},
		{Key: KeyThousand, Title: "gRPC, 1,000 ids, 8 × 16", IDs: 1000, Connections: 8, Streams: 16, Peers: servers},
		{Key: "grpc-2-1x1", Title: "gRPC, 2 ids, 1 × 1", IDs: 2, Connections: 1, Streams: 1, Peers: everyone},
		{Key: "grpc-2-1x100", Title: "gRPC, 2 ids, 1 × 100", IDs: 2, Connections: 1, Streams: 100, Peers: servers},
		{Key: "grpc-2-200x4", Title: "gRPC, 2 ids, 200 × 4", IDs: 2, Connections: 200, Streams: 4, Peers: servers},
		{Key: "connect-proto-h2c", Title: "Connect, protobuf, h2c, 2 ids, 8 × 16", IDs: 2, Connections: 8, Streams: 16, Connect: true, Peers: connects},
		{Key: "connect-json-h2c", Title: "Connect, JSON, h2c, 2 ids, 8 × 16", IDs: 2, Connections: 8, Streams: 16, Connect: true, JSON: true, Peers: jsons},
		{Key: "connect-proto-h1", Title: "Connect, protobuf, HTTP/1.1, 2 ids, 8 connections", IDs: 2, Connections: 8, Streams: 1, Connect: true, HTTP1: true, Peers: connects},
		{Key: "connect-json-h1", Title: "Connect, JSON, HTTP/1.1, 2 ids, 8 connections", IDs: 2, Connections: 8, Streams: 1, Connect: true, JSON: true, HTTP1: true, Peers: jsons},
	}
	if tls {
		cases = append(cases, Case{Key: "grpc-2-tls", Title: "gRPC over TLS, 2 ids, 8 × 16", IDs: 2, Connections: 8, Streams: 16, TLS: true, Peers: inGo})
	}
	for i := range cases {
		cases[i].GC = peer.Equal
	}
	return append(cases,
		Case{Key: KeyTwo + "-default", Title: "gRPC, 2 ids, 8 × 16, each server's own GC settings", IDs: 2, Connections: 8, Streams: 16, GC: peer.Default, Peers: inGo},
		Case{Key: KeyThousand + "-default", Title: "gRPC, 1,000 ids, 8 × 16, each server's own GC settings", IDs: 1000, Connections: 8, Streams: 16, GC: peer.Default, Peers: inGo},
	)
}
