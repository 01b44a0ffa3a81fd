package server

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// For a header that is too long a gRPC client gets RESOURCE_EXHAUSTED, and others get status 431.
func TestALongHeaderIsRefusedInTheCallersProtocol(t *testing.T) {
	p := start(t, Config{}, nil)
	for contentType, want := range map[string]string{
		"application/grpc":       "200 8 the header is longer than the 16384 bytes that this server accepts",
		"application/grpc+proto": "200 8 the header is longer than the 16384 bytes that this server accepts",
		"application/grpc-web":   "431  ",
		"application/json":       "431  ",
	} {
		reply := rawHTTP2(t, p.address, hpack.HeaderField{Name: "content-type", Value: contentType},
			hpack.HeaderField{Name: "x-1", Value: strings.Repeat("x", 10<<10)},
			hpack.HeaderField{Name: "x-2", Value: strings.Repeat("x", 10<<10)})
		if got := fmt.Sprint(reply[":status"], " ", reply["grpc-status"], " ", reply["grpc-message"]); got != want {
			t.Errorf("%s: got %q, want %q", contentType, got, want)
		}
	}
}

// Replies of gRPC have no Content-Length, which its clients would take for metadata.
func TestGRPCRepliesHaveNoContentLength(t *testing.T) {
	p := start(t, Config{}, nil)
	for contentType, want := range map[string]bool{"application/grpc": false, "application/json": true} {
		reply := rawHTTP2(t, p.address, hpack.HeaderField{Name: "content-type", Value: contentType})
		if _, got := reply["content-length"]; got != want {
			t.Errorf("%s: %v", contentType, reply)
		}
	}
}

// rawHTTP2 calls Health without a body and without regard for the server's limits, which Go's own
// client obeys. It returns the header and the trailers of the reply.
func rawHTTP2(t *testing.T, address string, fields ...hpack.HeaderField) map[string]string {
	t.Helper()
	return rawHTTP2To(t, address, "/MyService/Health", fields...)
}

func rawHTTP2To(t *testing.T, address, path string, fields ...hpack.HeaderField) map[string]string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: path},
		{Name: ":authority", Value: "localhost"},
	}, fields...) {
		encoder.WriteField(f)
	}
	conn.Write([]byte(http2.ClientPreface))
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.WriteSettings()
	fragment := block.Next(16 << 10)
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fragment, EndStream: true, EndHeaders: block.Len() == 0})
	if block.Len() > 0 {
		framer.WriteContinuation(1, true, block.Bytes())
	}
	reply := make(map[string]string)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if headers, ok := frame.(*http2.MetaHeadersFrame); ok {
			for _, f := range headers.Fields {
				reply[f.Name] = f.Value
			}
		}
		if frame.Header().StreamID == 1 && frame.Header().Flags.Has(http2.FlagDataEndStream) {
			return reply
		}
	}
}

// The statistics of the port are those of its engine, also with TLS, where a second HTTP server
// refuses cleartext clients.
func TestTheStreamsOfATLSPortAreCounted(t *testing.T) {
	certificate, roots := credentials(t)
	p := start(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}}, nil)
	response, err := tlsClient(t, true, &tls.Config{RootCAs: roots}).Post(
		"https://"+p.address+"/MyService/User", "application/json", strings.NewReader(`{"userIDs":[1]}`))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if counts := p.server.Stats().HTTP2.Read(); counts.ConnectionsOpen != 1 || counts.Streams != 1 {
		t.Errorf("after one call the engine counts %+v", counts)
	}
}
