package measure

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

const streamConnections = 8

// stream measures server streams of small messages, one on each connection, that grpc-go's client
// reads as fast as it can.
func stream(ctx context.Context, r *Run, _ Case, name string) (Sample, error) {
	var sample Sample
	server, err := r.Setup.Start(ctx, name, peer.Options{EqualGC: true, Stream: true})
	if err != nil {
		return sample, err
	}
	defer server.Stop()
	var clients []tickerpb.TickerServiceClient
	for range streamConnections {
		conn, err := grpc.NewClient("passthrough:///"+server.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return sample, err
		}
		defer conn.Close()
		clients = append(clients, tickerpb.NewTickerServiceClient(conn))
	}
	// A short stream warms up and tells how long a long one is to be.
	const short = 2000
	began := time.Now()
	if err := readAll(ctx, clients, short); err != nil {
		return sample, err
	}
	messages := int64(short*r.Duration.Seconds()/time.Since(began).Seconds()) + 1
	began = time.Now()
	cpu, err := usage(server, func() error { return readAll(ctx, clients, messages) })
	total := float64(messages * streamConnections)
	return Sample{CPU: cpu / total, Rate: total / time.Since(began).Seconds()}, err
}

// readAll reads a stream of each client, in which every message must be the one that is due.
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
