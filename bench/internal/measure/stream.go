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
	server, err := r.Setup.Start(ctx, name, peer.Options{EqualGC: true, Stream: true})
	if err != nil {
		return Sample{}, err
	}
	defer server.Stop()
	clients, hangUp, err := tickers(server.Addr)
	if err != nil {
		return Sample{}, err
	}
	defer hangUp()
	messages, err := pace(ctx, clients, r.Duration)
	if err != nil {
		return Sample{}, err
	}
	began := time.Now()
	cpu, err := usage(server, func() error { return readAll(ctx, clients, messages) })
	total := float64(messages * streamConnections)
	return Sample{CPU: cpu / total, Rate: total / time.Since(began).Seconds()}, err
}

// tickers returns clients of a server, each with a connection of its own.
func tickers(addr string) (clients []tickerpb.TickerServiceClient, hangUp func(), err error) {
	var conns []*grpc.ClientConn
	hangUp = func() {
		for _, conn := range conns {
			conn.Close()
		}
	}
	for range streamConnections {
		conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			hangUp()
			return nil, nil, err
		}
		conns = append(conns, conn)
		clients = append(clients, tickerpb.NewTickerServiceClient(conn))
	}
	return clients, hangUp, nil
}

// pace warms up with short streams, and returns how many messages a stream of that long has.
func pace(ctx context.Context, clients []tickerpb.TickerServiceClient, d time.Duration) (int64, error) {
	const short = 2000
	began := time.Now()
	err := readAll(ctx, clients, short)
	return int64(short*d.Seconds()/time.Since(began).Seconds()) + 1, err
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
