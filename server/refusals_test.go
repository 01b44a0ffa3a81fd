package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/service"
	"example.com/roster/server/telemetry"
)

// Whatever a client does wrong, and a deadline that is too short, no alert is raised by it.
func TestAClientsMistakeIsNoFault(t *testing.T) {
	metrics := telemetry.NewMetrics()
	waits := func(path string) rpctest.Route {
		return rpctest.Route{Path: path, Handler: connect.NewUnaryHandlerSimple(path,
			func(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}, service.HandlerOptions(Config{}.withDefaults().Log))}
	}
	p := start(t, Config{Observers: []rpc.Observer{metrics}, MaxBatch: 3}, nil,
		failing("/s/Fails", connect.NewError(connect.CodeDataLoss, nil)), waits("/s/Waits"))
	faults := func() string {
		w := httptest.NewRecorder()
		metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return strings.Join(regexp.MustCompile(`(?m)^roster_call_faults_total\{.* [^0].*$`).FindAllString(w.Body.String(), -1), "\n")
	}
	good := string(envelope(0, marshal(t, 1)))
	for _, test := range []struct {
		path, contentType, body string
		headers                 []string
	}{
		{"/MyService/User", "application/json; v=1", `{"userIDs":[1]}`, nil},
		{"/MyService/User", "application/connect+json", `{}`, nil},
		{"/MyService/User", "text/plain", `{}`, nil},
		{"/MyService/User", "application/json", `{`, nil},
		{"/MyService/User", "application/json", `{"userIDs":[1,2,3,4]}`, nil},
		{"/MyService/User", "application/json", `{}`, []string{"Content-Encoding", "gzip"}},
		{"/MyService/User", "application/json", `{}`, []string{"Content-Encoding", "br"}},
		{"/MyService/User", "application/json", `{}`, []string{"Connect-Protocol-Version", "2"}},
		{"/MyService/User", "application/json", `{}`, []string{"Connect-Timeout-Ms", "1.5"}},
		{"/MyService/User", "application/json", `{}`, []string{"Connect-Timeout-Ms", "0"}},
		{"/s/Waits", "application/json", `{}`, []string{"Connect-Timeout-Ms", "1"}},
		{"/s/Waits", "application/grpc", "\x00\x00\x00\x00\x00", []string{"Grpc-Timeout", "1m"}},
		{"/s/Waits", "application/grpc-web-text", "AAAAAAA=", []string{"Grpc-Timeout", "1m"}},
		{"/MyService/User", "application/grpc; charset=utf-8", good, nil},
		{"/MyService/User", "application/grpc", good, []string{"Grpc-Encoding", "snappy"}},
		{"/MyService/User", "application/grpc", good, []string{"Grpc-Timeout", "soon"}},
		{"/MyService/User", "application/grpc", "", nil},                           // no message
		{"/MyService/User", "application/grpc", good + good, nil},                  // two messages
		{"/MyService/User", "application/grpc", good[:3], nil},                     // a part of an envelope
		{"/MyService/User", "application/grpc", good[:len(good)-1], nil},           // a part of a message
		{"/MyService/User", "application/grpc", "\x01\x00\x00\x00\x02xx", nil},     // compressed by nothing
		{"/MyService/User", "application/grpc", "\x80\x00\x00\x00\x00", nil},       // a flag of gRPC-Web
		{"/MyService/User", "application/grpc-web", "\xff\x00\x00\x00\x01x", nil},  // flags that nobody knows
		{"/MyService/User", "application/grpc-web-text", "AAAAAAA", nil},           // cut
		{"/grpc.health.v1.Health/Watch", "application/connect+json", good, nil},    // protobuf in place of JSON
		{"/grpc.health.v1.Health/Watch", "application/connect+json", "{}xxx", nil}, // no envelope
		{"/grpc.health.v1.Health/Watch", "application/connect+json", good[:3], nil},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "application/grpc", good[:3], nil},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "application/grpc", "\x01\x00\x00\x00\x02xx", nil},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "application/grpc", "\xff\x00\x00\x00\x02xx", nil},
	} {
		for _, http2 := range []bool{false, true} {
			p.post(http2, test.path, test.contentType, strings.NewReader(test.body), test.headers...)
			if got := faults(); got != "" {
				t.Fatalf("%s, %s %q %v, HTTP/2 %v: %s", test.path, test.contentType, test.body, test.headers, http2, got)
			}
		}
	}
	p.post(true, "/s/Fails", "application/json", strings.NewReader("{}"))
	if got := faults(); got != `roster_call_faults_total{procedure="/s/Fails"} 1` {
		t.Errorf("after a fault of the server: %q", got)
	}
	p.post(true, "/s/Waits", "application/json", strings.NewReader("{}"), "Connect-Timeout-Ms", "1000")
	if got := faults(); !strings.Contains(got, `{procedure="/s/Waits"} 1`) {
		t.Errorf("after a second without an answer: %q", got)
	}
	if log := p.log.String(); strings.Contains(log, "WARN") || strings.Contains(log, "ERROR") {
		t.Errorf("logged %s", log)
	}
}

// A refusal of gRPC is one header and has nothing that a client takes for metadata of the call.
func TestARefusalOfGRPCHasNoMetadata(t *testing.T) {
	p := start(t, Config{}, nil)
	for _, test := range []struct{ path, name, value, want string }{
		{"//MyService/User", "", "", "12 no such procedure: this server has"},
		{"/./MyService/User", "", "", "12 no such procedure: this server has"},
		{"/MyService/Health", "grpc-encoding", "snappy", `12 unknown compression "snappy"`},
		{"/MyService/Health", "grpc-timeout", "soon", `3 grpc-timeout: "soon" is not`},
	} {
		fields := []hpack.HeaderField{{Name: "content-type", Value: "application/grpc;x=1"}}
		if test.name != "" {
			fields = append(fields, hpack.HeaderField{Name: test.name, Value: test.value})
		}
		reply := rawHTTP2To(t, p.address, test.path, fields...)
		if got := reply["grpc-status"] + " " + reply["grpc-message"]; !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.path, got, test.want)
		}
		for field := range reply {
			switch field {
			case ":status", "content-type", "date", "grpc-status", "grpc-message", "grpc-accept-encoding", "grpc-status-details-bin":
			default:
				t.Errorf("%s: the reply has %s: %q", test.want, field, reply[field])
			}
		}
	}
}

// A message that is neither protobuf nor JSON is refused in the protocol of its caller.
func TestAnUnknownCodecIsNamed(t *testing.T) {
	p := start(t, Config{}, nil)
	for _, contentType := range []string{"application/grpc+thrift", "application/grpc-web+thrift", "application/grpc-web-text+thrift; x=1"} {
		response, body := p.post(true, "/MyService/User", contentType, bytes.NewReader(envelope(0, nil)))
		if response.StatusCode != 200 || response.Header.Get("Grpc-Status") != "12" || body != "" ||
			!strings.Contains(response.Header.Get("Grpc-Message"), "messages can be protobuf (+proto) or JSON (+json)") {
			t.Errorf("%s: %d %v %q", contentType, response.StatusCode, response.Header, body)
		}
	}
}

// A path that is not clean is no procedure, in any protocol, and is not redirected to one.
func TestAPathThatIsNotCleanIsUnimplemented(t *testing.T) {
	p := start(t, Config{}, nil)
	for _, path := range []string{"//MyService/User", "/MyService//User", "/MyService/User/"} {
		for contentType, want := range map[string]string{
			"application/grpc": "200 12", "application/grpc-web": "200 12", "application/grpc-web-text": "200 12",
			"application/json": "404 ", "application/proto; v=1": "404 ", "application/connect+json": "200 ",
		} {
			for _, http2 := range []bool{false, true} {
				response, body := p.post(http2, path, contentType, bytes.NewReader(envelope(0, nil)))
				got := fmt.Sprint(response.StatusCode, " ", response.Header.Get("Grpc-Status"))
				if all := body + response.Header.Get("Grpc-Message"); got != want || !strings.Contains(all, "no such procedure") {
					t.Errorf("%s as %s, HTTP/2 %v: %s %v %q", path, contentType, http2, got, response.Header, body)
				}
			}
		}
	}
}

// Retry-After and RetryInfo say that another attempt may succeed: an error that would be the same
// after any wait has neither.
func TestOnlyWhatMaySucceedLaterSaysWhen(t *testing.T) {
	p := start(t, Config{RateLimit: 0.5, RateBurst: 2, MaxBatch: 3}, nil)
	for _, test := range []struct {
		body, after string
		retryInfo   bool
	}{
		{`{"userIDs":[1,2,3,4]}`, "", false},                             // too many ids
		{`{"userIDs":[` + strings.Repeat(" ", 20<<10) + `]}`, "", false}, // too large
		{`{"userIDs":[1]}`, "2", true},                                   // too often
	} {
		response, body := p.post(true, "/MyService/User", "application/json", strings.NewReader(test.body))
		if response.StatusCode != 429 || response.Header.Get("Retry-After") != test.after || strings.Contains(body, "google.rpc.RetryInfo") != test.retryInfo {
			t.Errorf("%.40s: %d %v %s", test.body, response.StatusCode, response.Header, body)
		}
	}
	if response, _ := p.post(true, "/MyService/User", "application/grpc", bytes.NewReader(envelope(0, nil))); response.Header.Get("Retry-After") != "" ||
		response.Header.Get("Grpc-Status") != "8" {
		t.Errorf("gRPC: %v", response.Header)
	}
}

// A stream that is one too many may be opened later.
func TestAStreamTooManySaysWhen(t *testing.T) {
	p := start(t, Config{MaxWatches: 1}, nil)
	watching(t, p.health(), "").want(serving)
	response, _ := p.post(true, "/grpc.health.v1.Health/Watch", "application/grpc", bytes.NewReader(envelope(0, nil)))
	details, _ := base64.RawStdEncoding.DecodeString(response.Header.Get("Grpc-Status-Details-Bin"))
	if response.Header.Get("Grpc-Status") != "8" || !bytes.Contains(details, []byte("google.rpc.RetryInfo")) {
		t.Errorf("%v", response.Header)
	}
}

// Connect answers a call that needs HTTP/2 with a status alone.
func TestAStreamInBothDirectionsNeedsHTTP2(t *testing.T) {
	p := start(t, Config{}, nil)
	for contentType, status := range map[string]string{"application/grpc": "12", "application/grpc-web-text": "12", "application/connect+json": ""} {
		response, body := p.post(false, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", contentType, bytes.NewReader(envelope(0, nil)))
		if got := response.Header.Get("Grpc-Status"); response.StatusCode != 200 || got != status || !strings.Contains(response.Header.Get("Grpc-Message")+body, "needs HTTP/2") {
			t.Errorf("%s: %d %v %s", contentType, response.StatusCode, response.Header, body)
		}
	}
}

func TestJSONAfterAByteOrderMark(t *testing.T) {
	p := start(t, Config{}, nil)
	for _, message := range []string{`{"userIDs":[2]}`, `{"userIDs":[2.0]}`} {
		response, body := p.post(true, "/MyService/User", "application/json", strings.NewReader("\uFEFF"+message))
		if response.StatusCode != http.StatusOK || !strings.Contains(body, "Ben") {
			t.Errorf("%d %s", response.StatusCode, body)
		}
	}
}

// Names of content codings ignore case, and have weights.
func TestContentCodings(t *testing.T) {
	p := start(t, Config{}, nil)
	long := `{"userIDs":[3` + strings.Repeat(",3", 20) + `]}`
	for accept, want := range map[string]string{
		"": "", "gzip": "gzip", "gzip;q=1.0": "gzip", "GZIP": "gzip", "x-gzip": "gzip", "br;q=1.0, gzip;q=0.8, *;q=0.1": "gzip",
		"gzip;q=0": "", "gzip; q=0.000": "", "gzip;q=no": "", "identity;q=1, gzip;q=0.5": "gzip", "*": "",
		"deflate": "deflate", "gzip;q=0.5, deflate;q=0.9": "deflate", "deflate, gzip;q=1.0": "deflate", "gzip, deflate, br, zstd": "gzip", "br, zstd": "",
	} {
		response, _ := p.post(true, "/MyService/User", "application/json", strings.NewReader(long), "Accept-Encoding", accept)
		if got := response.Header.Get("Content-Encoding"); response.StatusCode != 200 || got != want {
			t.Errorf("Accept-Encoding: %s: %d, %q, want %q", accept, response.StatusCode, got, want)
		}
	}
	for _, encoding := range []string{"gzip", "GZIP", "x-gzip"} {
		response, body := p.post(true, "/MyService/User", "application/json", bytes.NewReader(zipped([]byte(`{"userIDs":[1]}`))), "Content-Encoding", encoding)
		if response.StatusCode != 200 || !strings.Contains(body, "Ann") {
			t.Errorf("Content-Encoding: %s: %d %s", encoding, response.StatusCode, body)
		}
	}
}
