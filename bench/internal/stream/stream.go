// Package stream measures server streams of small messages: eight connections,
// one stream on each, read by grpc-go's client as fast as it can.
package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/roster/bench/gen/tickerpb"
	"example.com/roster/bench/internal/peer"
)

// Connections is how many there are.
const Connections = 8

// Sample is what one round measured of one peer.
type Sample struct {
	// CPU is the server's time for one message.
	CPU time.Duration
	// Rate is messages per second.
	Rate float64
}

// Peers are the servers, the one to compare with first.
var Peers = []string{peer.GRPC, peer.Roster, peer.RosterStd, peer.Connect, peer.GRPCTuned}

// Measure runs the peers in turn, as often as there are rounds, with streams
// that last about as long as told.
func Measure(ctx context.Context, setup *peer.Setup, without map[string]string, rounds int, duration time.Duration) (map[string][]Sample, error) {
	results := make(map[string][]Sample)
	for range rounds {
		for _, name := range Peers {
			if without[name] != "" {
				continue
			}
			measured, err := one(ctx, setup, name, duration)
			if err != nil {
				return nil, fmt.Errorf("a stream of %s: %w", name, err)
			}
			results[name] = append(results[name], measured)
		}
	}
	return results, nil
}

func one(ctx context.Context, setup *peer.Setup, name string, duration time.Duration) (Sample, error) {
	server, err := setup.Start(ctx, name, peer.Options{GC: peer.Equal, Stream: true})
	if err != nil {
		return Sample{}, err
	}
	defer server.Stop()
	var clients []tickerpb.TickerServiceClient
	for range Connections {
		conn, err := grpc.NewClient("passthrough:///"+server.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return Sample{}, err
		}
		defer conn.Close()
		clients = append(clients, tickerpb.NewTickerServiceClient(conn))
	}
	// A short stream warms up and tells how long a long one is to be.
	const short = 2000
	began := time.Now()
	if err := readAll(ctx, clients, short); err != nil {
		return Sample{}, err
	}
	messages := int64(short*duration.Seconds()/time.Since(began).Seconds()) + 1
	before, err := server.CPU()
	if err != nil {
		return Sample{}, err
	}
	began = time.Now()
	if err := readAll(ctx, clients, messages); err != nil {
		return Sample{}, err
	}
	took := time.Since(began)
	after, err := server.CPU()
	total := messages * int64(len(clients))
	return Sample{CPU: (after - before) / time.Duration(total), Rate: float64(total) / took.Seconds()}, err
}

// readAll reads a stream from each client, and every message must be the one
// that is due.
func readAll(ctx context.Context, clients []tickerpb.TickerServiceClient, messages int64) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, client := range clients {
		group.Go(func() error {
			stream, err := client.Count(ctx, &tickerpb.CountRequest{Messages: messages})
			if err != nil {
				return err
			}
			for due := int64(1); ; due++ {
				message, err := stream.Recv()
				if errors.Is(err, io.EOF) && due == messages+1 {
					return nil
				}
				if err != nil {
					return err
				}
				if message.GetNumber() != due {
					return fmt.Errorf("message %d came where %d was due", message.GetNumber(), due)
				}
			}
		})
	}
	return group.Wait()
}
