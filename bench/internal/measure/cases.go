package measure

import (
	"fmt"

	"example.com/roster/bench/internal/peer"
)

// Keys of the cases that the marks name.
const (
	Two      = "grpc-2-8x16"
	Thousand = "grpc-1000-8x16"
	Python   = "python"
	Stream   = "stream"
	Idle     = "idle"
	Import   = "import"
)

var (
	inGo     = []string{peer.GRPC, peer.Roster, peer.RosterStd, peer.Connect, peer.GRPCTuned}
	servers  = append(inGo[:5:5], peer.Tonic)
	everyone = append(servers[:6:6], peer.Python, peer.Nginx)
	connects = []string{peer.Connect, peer.Roster, peer.RosterStd}
	jsons    = append(connects[:3:3], peer.Gateway)
)

// Table is every case of make bench.
func (r *Run) Table() []Case {
	cases := []Case{
		{Key: Two, Title: "gRPC, 2 ids, 8 connections × 16 streams", Peers: append(everyone[:8:8], peer.RosterBare, peer.RosterFull), load: load{ids: 2, connections: 8, streams: 16}},
		{Key: "grpc-100-8x16", Title: "gRPC, 100 ids, 8 × 16", Peers: servers, load: load{ids: 100, connections: 8, streams: 16}},
		{Key: Thousand, Title: "gRPC, 1,000 ids, 8 × 16", Peers: servers, load: load{ids: 1000, connections: 8, streams: 16}},
		{Key: "grpc-2-1x1", Title: "gRPC, 2 ids, 1 × 1", Peers: everyone, load: load{ids: 2, connections: 1, streams: 1}},
		{Key: "grpc-2-1x100", Title: "gRPC, 2 ids, 1 × 100", Peers: servers, load: load{ids: 2, connections: 1, streams: 100}},
		{Key: "grpc-2-200x4", Title: "gRPC, 2 ids, 200 × 4", Peers: servers, load: load{ids: 2, connections: 200, streams: 4}},
		{Key: "connect-proto-h2c", Title: "Connect, protobuf, h2c, 2 ids, 8 × 16", Peers: connects, load: load{ids: 2, connections: 8, streams: 16, codec: connectProto}},
		{Key: "connect-json-h2c", Title: "Connect, JSON, h2c, 2 ids, 8 × 16", Peers: jsons, load: load{ids: 2, connections: 8, streams: 16, codec: connectJSON}},
		{Key: "connect-proto-h1", Title: "Connect, protobuf, HTTP/1.1, 2 ids, 8 connections", Peers: connects, load: load{ids: 2, connections: 8, streams: 1, codec: connectProto, http1: true}},
		{Key: "connect-json-h1", Title: "Connect, JSON, HTTP/1.1, 2 ids, 8 connections", Peers: jsons, load: load{ids: 2, connections: 8, streams: 1, codec: connectJSON, http1: true}},
		{Key: "grpc-2-tls", Title: "gRPC over TLS, 2 ids, 8 × 16", Peers: inGo, load: load{ids: 2, connections: 8, streams: 16, tls: true}},
		{Key: Two + "-default", Title: "gRPC, 2 ids, 8 × 16, each server's own GC settings", Peers: inGo, load: load{ids: 2, connections: 8, streams: 16}, ownGC: true},
		{Key: Thousand + "-default", Title: "gRPC, 1,000 ids, 8 × 16, each server's own GC settings", Peers: inGo, load: load{ids: 1000, connections: 8, streams: 16}, ownGC: true},
	}
	for i := range cases {
		c := &cases[i]
		gc := "equal GC settings"
		if c.ownGC {
			gc = "each server's own GC settings"
		}
		c.Intro = fmt.Sprintf("%s; × is against %s.", gc, peer.Title(c.Peers[0]))
		c.Columns = []Column{
			{"CPU µs/call", CPU, 1e6, 1, true}, {"calls/s", Rate, 1, 0, false},
			{"p50 µs", P50, 1e6, 0, false}, {"p99 µs", P99, 1e6, 0, true}, {"memory MB", Memory, 1e-6, 1, false},
		}
		if c.Key == Two || c.Key == Thousand || c.Key == "connect-json-h2c" {
			c.PlotTitle = "CPU per call: " + c.Title
		}
		c.Measure = Each(calls)
	}
	return append(cases,
		Case{
			Key: Python, Title: "An unchanged Python client", Peers: append(servers[:6:6], peer.Python), Measure: python,
			Intro:     fmt.Sprintf("grpcio, `User` of 2 ids, one call after the other, %d calls of each server in a round, in blocks that take turns.", r.PythonCalls),
			Columns:   []Column{{"p50 µs", P50, 1e6, 0, true}, {"p99 µs", P99, 1e6, 0, true}},
			PlotTitle: "p50 that a Python client sees",
		},
		Case{
			Key: Stream, Title: "A server stream of small messages", Peers: inGo, Measure: Each(stream),
			Intro: fmt.Sprintf("%d connections, a stream of some %v on each, read by grpc-go's client as fast as it can; Roster with the stream mounted on its own handler chain.",
				streamConnections, r.Duration),
			Columns:   []Column{{"CPU µs/message", CPU, 1e6, 2, true}, {"messages/s", Rate, 1, 0, false}},
			PlotTitle: "CPU per message of a server stream",
		},
		Case{
			Key: Idle, Title: "Idle connections", Peers: append(servers[:6:6], peer.Nginx), Measure: Each(idle),
			Intro:     fmt.Sprintf("%d connections that have made one call each; how much the server's resident memory grew, for each of them.", r.Connections),
			Columns:   []Column{{"KB/connection", Memory, 1e-3, 1, true}},
			PlotTitle: "Memory of an idle connection",
		},
		Case{
			Key: Import, Title: "Import into SQLite", What: "program", Peers: []string{Shell, RosterImport, RosterSmall}, Measure: Each(imports),
			Intro: fmt.Sprintf("A CSV file of %d rows into a new store, in turns with the sqlite3 shell's `.import --csv` of the same file into the same table without its revision column; memory is the largest that was resident.",
				r.Rows),
			Columns: []Column{{"seconds", Took, 1, 2, true}, {"memory MB", Memory, 1e-6, 1, false}},
		})
}
