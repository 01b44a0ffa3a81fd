package main

import (
	"context"
	"fmt"
	"io"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"example.com/roster/client"
	"example.com/roster/gen/go/grpc/health/v1/healthv1connect"
)

func newHealthCommand() *cobra.Command {
	var f callFlags
	command := &cobra.Command{
		Use:   "health",
		Short: "Ask a server whether it can answer",
		Long: `Health asks a server once whether it can answer. If it can, the exit code is 0.
If not, the exit code is 1 and standard error says what is wrong: nothing
listens, only one side speaks TLS, it is not a gRPC server, it does not answer
within --timeout, and so on.

It calls MyService.Health, and so works with every server of api.proto, also
one in Python. A server without MyService, such as roster bridge, is asked by
grpc.health.v1; a bridge is healthy while one of its servers can be called.`,
		Example: `  roster health
  roster health --server http://10.0.0.5:50051 --timeout 200ms
  roster health --protocol connect --output json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runHealth(cmd.Context(), cmd.OutOrStdout(), f)
		},
	}
	addFlags(command, f.table())
	return command
}

func runHealth(ctx context.Context, stdout io.Writer, f callFlags) error {
	err := f.call(ctx, func(ctx context.Context, c *client.Client) error {
		err := c.Health(ctx)
		switch connect.CodeOf(err) {
		case connect.CodeUnimplemented, connect.CodeUnavailable:
			return standardHealth(ctx, c, err)
		}
		return err
	})
	if err != nil {
		return err
	}
	if f.output == outputJSON {
		return printJSON(stdout, struct {
			Server  string `json:"server"`
			Healthy bool   `json:"healthy"`
		}{f.server, true})
	}
	_, err = fmt.Fprintf(stdout, "%s is healthy\n", f.server)
	return err
}

// standardHealth asks a server by grpc.health.v1 if it has no MyService; else the answer is that of
// MyService, failed. A bridge that has yet to learn what a server behind it has says UNAVAILABLE for
// MyService, too, since that server might have it.
func standardHealth(ctx context.Context, c *client.Client, failed error) error {
	_, address, _ := c.Endpoint()
	standard := healthv1connect.NewHealthClient(c.Endpoint())
	if connect.CodeOf(failed) == connect.CodeUnavailable {
		_, err := standard.Check(ctx, &healthv1.HealthCheckRequest{Service: "MyService"})
		if connect.CodeOf(err) != connect.CodeNotFound {
			return failed
		}
	}
	reply, err := standard.Check(ctx, &healthv1.HealthCheckRequest{})
	switch {
	case connect.CodeOf(err) == connect.CodeUnimplemented:
		return failed
	case err != nil:
		return fmt.Errorf("grpc.health.v1 at %s: %w", address, err)
	case reply.GetStatus() != healthv1.HealthCheckResponse_SERVING:
		return fmt.Errorf("grpc.health.v1 at %s says %s: if it is a bridge, none of its servers can be called; its log and /readyz of its --admin-addr say why",
			address, reply.GetStatus())
	}
	return nil
}
