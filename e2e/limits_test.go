package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
	"example.com/roster/gen/go/grpc/health/v1/healthv1connect"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
	"example.com/roster/server/h2"
	"example.com/roster/server/service"
)

// plainHTTP2 is a client without bounds of its own.
func plainHTTP2(t *testing.T) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// Whoever meets a limit reads which one it is and by which flag it is set, or
// that there is none, in every protocol.
func TestEachLimitSaysWhichItIs(t *testing.T) {
	var text strings.Builder
	text.WriteString("id,name,age,email\n")
	for id := range 10_000 {
		fmt.Fprintf(&text, "%d,%s,30,%s%05d@example.com\n", id, strings.Repeat("N", 256), strings.Repeat("e", 295), id)
	}
	store := filepath.Join(t.TempDir(), "roster.db")
	if got := roster(t, "import", "--store", store, write(t, filepath.Join(t.TempDir(), "long.csv"), text.String())); got.code != 0 {
		t.Fatal(got.stderr)
	}
	_, address := serve(t, "--store", store, "--max-batch", "9999", "--max-watches", "1")
	url := "http://" + address
	ids := make([]int32, 10_000)
	for i := range ids {
		ids[i] = int32(i)
	}
	const tooLong = "a message is longer than 336352 bytes, before or after compression (as much as --max-batch allows)"
	long := &apipb.UserReq{UserIDs: make([]int32, 5<<20)}
	for i := range long.UserIDs {
		long.UserIDs[i] = 1
	}

	for name, protocol := range map[string]connect.ClientOption{
		"gRPC": connect.WithGRPC(), "gRPC-Web": connect.WithGRPCWeb(), "Connect": connect.WithClientOptions(),
		"gRPC, JSON":    connect.WithClientOptions(connect.WithGRPC(), connect.WithProtoJSON()),
		"Connect, JSON": connect.WithProtoJSON(),
	} {
		frozen := apipbconnect.NewMyServiceClient(plainHTTP2(t), url, protocol)
		zipped := apipbconnect.NewMyServiceClient(plainHTTP2(t), url, protocol, connect.WithSendGzip())
		own := rosterv1connect.NewDirectoryServiceClient(plainHTTP2(t), url, protocol)
		health := healthv1connect.NewHealthClient(plainHTTP2(t), url, protocol)
		tests := []struct {
			limit string
			call  func(ctx context.Context) error
			want  string
		}{
			{"ids in a call", func(ctx context.Context) error {
				_, err := frozen.User(ctx, &apipb.UserReq{UserIDs: ids})
				return err
			}, "10000 ids in one call, this server takes at most 9999 (--max-batch): split them over several calls"},
			{"ids in a call of roster.v1", func(ctx context.Context) error {
				_, err := own.BatchGetUsers(ctx, &rosterv1.BatchGetUsersRequest{Ids: ids})
				return err
			}, "10000 ids in one call, this server takes at most 9999 (--max-batch): split them over several calls"},
			{"a request", func(ctx context.Context) error {
				_, err := frozen.User(ctx, long)
				return err
			}, tooLong},
			{"a request, unpacked", func(ctx context.Context) error {
				_, err := zipped.User(ctx, long)
				return err
			}, tooLong},
			{"a reply", func(ctx context.Context) error {
				_, err := frozen.User(ctx, &apipb.UserReq{UserIDs: ids[:9999]})
				return err
			}, "bytes, the limit is 4194304 (fixed, no flag): ask for fewer ids"},
			{"a reply of roster.v1", func(ctx context.Context) error {
				_, err := own.BatchGetUsers(ctx, &rosterv1.BatchGetUsersRequest{Ids: ids[:9999]})
				return err
			}, "bytes, the limit is 4194304 (fixed, no flag): ask for fewer ids"},
			{"watches", func(ctx context.Context) error {
				first, err := health.Watch(ctx, &healthv1.HealthCheckRequest{})
				if err != nil {
					return err
				}
				defer first.Close()
				for first.Receive() {
					second, err := health.Watch(ctx, &healthv1.HealthCheckRequest{})
					if err != nil {
						return err
					}
					defer second.Close()
					if !second.Receive() {
						return second.Err()
					}
				}
				// The one of the test before has not gone yet.
				return first.Err()
			}, "1 calls of /grpc.health.v1.Health/Watch are open, the maximum of this server (--max-watches): call again later"},
		}
		for _, test := range tests {
			t.Run(test.limit+", "+name, func(t *testing.T) {
				err := test.call(t.Context())
				if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %.500v, want %s", err, test.want)
				}
			})
		}
	}
	t.Run("reflections", func(t *testing.T) {
		reflection := grpcreflect.NewClient(plainHTTP2(t), url, connect.WithGRPC())
		var refused error
		for range 101 {
			stream := reflection.NewStream(t.Context())
			defer stream.Close()
			if _, refused = stream.ListServices(); refused != nil {
				break
			}
		}
		if connect.CodeOf(refused) != connect.CodeResourceExhausted ||
			!strings.Contains(refused.Error(), "100 calls of /grpc.reflection.v1.ServerReflection/ServerReflectionInfo are open, the maximum of this server (a fixed limit, no flag)") {
			t.Errorf("got %v", refused)
		}
	})
	t.Run("a header", func(t *testing.T) {
		// Before it is known what the request is: a status of HTTP. Go's client, as
		// grpcio, does not even send it.
		got := run(t, exec.Command("curl", "-sS", "--noproxy", "*", "--max-time", "20", "--http1.1", "-o", "/dev/null", "-w", "%{http_code}",
			"-H", "x-long: "+strings.Repeat("x", 30_000), "-H", "content-type: application/json", "-d", "{}", url+"/MyService/User"))
		if got.stdout != "431" {
			t.Errorf("curl exited %d: %s%s", got.code, got.stdout, got.stderr)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/MyService/User", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("X-Long", strings.Repeat("x", 30_000))
		if response, err := plainHTTP2(t).Do(request); err == nil {
			defer response.Body.Close()
			if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("HTTP/2: status %d", response.StatusCode)
			}
		}
	})
}

// The most that a refusal may have fits what grpcio, old and new, takes of
// trailers: 8 KiB.
func TestTheLargestRefusalReachesPython(t *testing.T) {
	refusal := connect.NewError(connect.CodeInvalidArgument, errors.New(strings.Repeat("ü", 450)))
	var details errdetails.BadRequest
	for i := range 20 {
		details.FieldViolations = append(details.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: fmt.Sprintf("users[%d].name", i), Description: strings.Repeat("d", 110), Reason: "STRING_MIN_BYTES",
		})
	}
	if size := proto.Size(&details); size < 2800 {
		t.Fatalf("%d bytes of details are not the most", size)
	}
	detail, err := connect.NewErrorDetail(&details)
	if err != nil {
		t.Fatal(err)
	}
	refusal.AddDetail(detail)
	const procedure = "/test.Service/Refuse"
	handler := connect.NewUnaryHandlerSimple(procedure,
		func(context.Context, *emptypb.Empty) (*emptypb.Empty, error) { return nil, refusal },
		service.HandlerOptions(slog.New(slog.DiscardHandler)))
	mux := http.NewServeMux()
	mux.Handle(procedure, handler)
	port := httptest.NewUnstartedServer(mux)
	port.Config.Protocols = new(http.Protocols)
	port.Config.Protocols.SetUnencryptedHTTP2(true)
	if err := h2.Configure(port.Config, h2.Config{}); err != nil {
		t.Fatal(err)
	}
	port.Start()
	defer port.Close()
	for _, variable := range []string{"ROSTER_E2E_NEWEST", "ROSTER_E2E_OLDEST"} {
		got := run(t, exec.Command(filepath.Join(need(t, variable), "bin", "python"), "-c", `
import sys
import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

with grpc.insecure_channel(sys.argv[1], [("grpc.enable_http_proxy", 0)]) as channel:
    try:
        channel.unary_unary("/test.Service/Refuse")(b"", timeout=20)
    except grpc.RpcError as error:
        details = error_details_pb2.BadRequest()
        rpc_status.from_call(error).details[0].Unpack(details)
        print(error.code().name, len(error.details()), len(details.field_violations))
`, port.Listener.Addr().String()))
		if got.stdout != "INVALID_ARGUMENT 450 20\n" {
			t.Errorf("%s: exit %d: %s%s", variable, got.code, got.stdout, got.stderr)
		}
	}
}
