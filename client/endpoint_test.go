package client_test

import (
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
)

func TestEndpointSharesTheConnectionAndItsWays(t *testing.T) {
	server := serveHTTP(t, handler(service{}))
	for i, cfg := range configs() {
		c := dial(t, server.url, cfg)
		ctx := within(t, 5*time.Second)
		if _, err := c.Users(ctx, []int32{1}); err != nil {
			t.Fatal(err)
		}
		reply, err := apipbconnect.NewMyServiceClient(c.Endpoint()).User(ctx, &apipb.UserReq{UserIDs: []int32{2}})
		if err != nil || reply.GetData()[0].GetName() != "Grace" {
			t.Errorf("%s: User = %v, %v, want Grace", name(cfg), reply, err)
		}
		if n := server.connections.Load(); int(n) != i+1 {
			t.Errorf("%s: %d connections, want one for each client: %d", name(cfg), n, i+1)
		}
	}
}

// Such a call fails as Connect's own do, without a second try.
func TestEndpointDoesNotRetry(t *testing.T) {
	var calls atomic.Int32
	server := serveHTTP(t, brokenOnce(&calls, handler(service{})))
	generated := apipbconnect.NewMyServiceClient(dial(t, server.url, client.Config{}).Endpoint())
	_, err := generated.User(within(t, 5*time.Second), &apipb.UserReq{UserIDs: []int32{1}})
	if connect.CodeOf(err) != connect.CodeUnavailable || calls.Load() != 1 {
		t.Errorf("%v after %d calls, want UNAVAILABLE after one", err, calls.Load())
	}
}
