package client_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
)

func TestEndpointSharesTheConnectionAndItsConfiguration(t *testing.T) {
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

// A call of Endpoint fails as other calls of Connect do, without a second attempt. A connection
// that the server resets gives the same code as one that it closes.
func TestEndpointDoesNotRetry(t *testing.T) {
	for how, end := range map[string]func(*http.Request){"closed": breakConnection, "reset": resetConnection} {
		t.Run(how, func(t *testing.T) {
			var calls atomic.Int32
			server := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				end(r)
			}))
			generated := apipbconnect.NewMyServiceClient(dial(t, server.url, client.Config{}).Endpoint())
			_, err := generated.User(within(t, 5*time.Second), &apipb.UserReq{UserIDs: []int32{1}})
			if connect.CodeOf(err) != connect.CodeUnavailable || calls.Load() != 1 {
				t.Errorf("%v after %d calls, want UNAVAILABLE after one", err, calls.Load())
			}
		})
	}
}

// A connection that is reset in the middle of the reply gives the same code.
func TestResetAmidTheReplyIsUnavailable(t *testing.T) {
	server := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Write([]byte{0, 0, 0, 0, 9})
		w.(http.Flusher).Flush()
		time.Sleep(50 * time.Millisecond) // the headers are to arrive first
		resetConnection(r)
	}))
	generated := apipbconnect.NewMyServiceClient(dial(t, server.url, client.Config{}).Endpoint())
	_, err := generated.User(within(t, 5*time.Second), &apipb.UserReq{UserIDs: []int32{1}})
	if connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("%v, want UNAVAILABLE", err)
	}
}
