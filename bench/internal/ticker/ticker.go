// Package ticker is the bench-only stream as a connect-go program implements it. Roster and stock
// connect-go mount the same one.
package ticker

import (
	"context"

	"connectrpc.com/connect"

	"example.com/roster/bench/gen/tickerpb"
)

// Service implements tickerpbconnect.TickerServiceHandler.
type Service struct{}

// Count sends the messages asked for, as fast as the connection takes them.
func (Service) Count(ctx context.Context, request *tickerpb.CountRequest, stream *connect.ServerStream[tickerpb.CountResponse]) error {
	for n := range request.GetMessages() {
		// Messages to a caller that has left may still be accepted.
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := stream.Send(&tickerpb.CountResponse{Number: n + 1}); err != nil {
			return err
		}
	}
	return nil
}
