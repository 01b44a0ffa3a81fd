package service

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/roster/server/rpc"
)

// decoded is how a handler of Connect read a request.
type decoded struct {
	accepted   bool // the content type, or the encoding of a GET
	compressed bool // the message was unpacked
}

// The gates and Connect read one request in one way: whether it is an RPC, and whether its message is
// compressed. A gate that reads less than the handler does not charge it; one that reads more refuses
// what the handler would have answered.
func TestTheGatesReadRequestsAsConnectDoes(t *testing.T) {
	unpacked := 0
	options := connect.WithHandlerOptions(HandlerOptions(slog.New(slog.DiscardHandler)), connect.WithIdempotency(connect.IdempotencyNoSideEffects),
		connect.WithCompression("gzip",
			func() connect.Decompressor { return &countedGzip{count: &unpacked} },
			func() connect.Compressor { return gzip.NewWriter(io.Discard) }))
	unary := connect.NewUnaryHandlerSimple("/s/Unary", func(_ context.Context, request *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		return request, nil
	}, options)
	stream := connect.NewServerStreamHandlerSimple("/s/Stream", func(_ context.Context, request *wrapperspb.StringValue, stream *connect.ServerStream[wrapperspb.StringValue]) error {
		return stream.Send(request)
	}, options)

	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write([]byte(`"x"`))
	w.Close()
	enveloped := append([]byte{1, 0, 0, 0, byte(zipped.Len())}, zipped.Bytes()...)
	check := func(what string, handler http.Handler, method *rpc.Method, r *http.Request) {
		t.Helper()
		rpc.Canonicalize(r) // as the port does
		rpc.TextMode(nil, r)
		media, ok := rpc.RequestMediaType(r)
		want := decoded{accepted: ok && media.Fits(method) && !media.UnknownCodec}
		want.compressed = want.accepted && rpc.Compressed(r) && rpc.IsCompression(rpc.Compression(r))
		unpacked = 0
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		got := decoded{w.Code != http.StatusUnsupportedMediaType && w.Code != http.StatusMethodNotAllowed, unpacked > 0}
		if got != want {
			t.Errorf("%s: Connect has it as %+v, the gates as %+v", what, got, want)
		}
	}
	contentTypes := []string{
		"application/grpc", "application/grpc+proto", "application/grpc+json", "application/grpc-web", "application/grpc-web+json",
		"application/proto", "application/json", "application/connect+proto", "application/connect+json",
		"application/json; charset=utf-8", "application/json;charset=UTF-8", "application/json; Charset=\"utf-8\"", "Application/JSON",
		"application/json;", "application/json; v=1", "application/json; charset=utf-8; v=1", "application/json; charset=latin-1",
		"application/proto; charset=utf-8", "application/grpc; charset=utf-8", "application/grpc+json; charset=utf-8",
		"application/connect+json; charset=utf-8", "application/grpc-web-text", "application/grpc+thrift", "text/plain", "",
		"application/json, application/json", " application/json", "application/json; charset", "application/json; charset=",
	}
	for name, kind := range map[string]struct {
		handler http.Handler
		method  *rpc.Method
	}{
		"unary":  {unary, &rpc.Method{SideEffectFree: true}},
		"stream": {stream, &rpc.Method{ServerStreams: true}},
	} {
		for _, contentType := range contentTypes {
			for _, header := range []string{"Grpc-Encoding", "Content-Encoding", "Connect-Content-Encoding"} {
				for _, values := range [][]string{{"gzip"}, {"identity"}, {""}, {"GZIP"}, {"identity", "gzip"}, {"gzip", "identity"}, {"br"}} {
					media, _ := rpc.ParseMediaType(contentType)
					body := zipped.Bytes()
					if media.Enveloped {
						body = enveloped
					}
					if media.Text {
						body = base64.StdEncoding.AppendEncode(nil, body)
					}
					r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
					r.Header["Content-Type"], r.Header[header] = []string{contentType}, values
					check(name+" "+contentType+" "+header+": "+values[0], kind.handler, kind.method, r)
				}
			}
		}
	}
	message := url.QueryEscape(zipped.String())
	for _, query := range []string{
		"encoding=json&compression=gzip", "encoding=json&%63ompression=gzip", "%65ncoding=json&compression=%67zip",
		"encoding=json&compression=identity&compression=gzip", "encoding=json&compression=gzip&compression=identity",
		"encoding=proto&compression=gzip", "encoding=json%3B+charset=utf-8&compression=gzip", "encoding=text&compression=gzip",
		"encoding=json&encoding=text&compression=gzip", "encoding=json;compression=gzip", "encoding=json&Compression=gzip", "compression=gzip",
		"encoding=json&compression=gzip;x", "encoding=json&compression=GZIP",
	} {
		r := httptest.NewRequest("GET", "/?"+query+"&connect=v1&message="+message, nil)
		r.Header.Set("Content-Encoding", "gzip") // which means nothing for a GET
		r.Header.Set("Content-Type", "application/grpc")
		check("GET "+query, unary, &rpc.Method{SideEffectFree: true}, r)
	}
}

type countedGzip struct {
	gzip.Reader
	count *int
}

func (r *countedGzip) Reset(source io.Reader) error {
	if source != http.NoBody { // where a decompressor waits for its next use
		*r.count++
	}
	return r.Reader.Reset(source)
}
