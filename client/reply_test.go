package client_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb"
)

// replyOf is a reply whose one user has a name of n bytes.
func replyOf(n int) *apipb.UserReply {
	return &apipb.UserReply{Message: "success", Data: []*apipb.User{{Name: strings.Repeat("a", n)}}}
}

func TestAReplyMayHoldFourMebibytes(t *testing.T) {
	var size int
	server := serveHTTP(t, handler(service{user: func(context.Context, []int32) (*apipb.UserReply, error) {
		return replyOf(size), nil
	}}))
	var clients int32
	for _, cfg := range configs() {
		if cfg.JSON != cfg.Gzip {
			continue // two combinations suffice: large replies are slow under the race detector
		}
		clients++
		t.Run(name(cfg), func(t *testing.T) {
			c := dial(t, server.url, cfg)
			size = client.MaxReplyBytes - 100
			users, err := c.Users(within(t, 20*time.Second), []int32{1})
			if err != nil || len(users) != 1 || len(users[0].Name) != size {
				t.Fatalf("%d users, %v", len(users), err)
			}
			size = client.MaxReplyBytes
			_, err = c.Users(within(t, 20*time.Second), []int32{1})
			expect(t, err, client.ReasonReplyTooLarge, connect.CodeResourceExhausted)
			expectText(t, err, "the reply is longer than 4 MiB; ask for fewer ids a call")
			// The connection can still be used.
			size = 1
			if _, err := c.Users(within(t, 20*time.Second), []int32{1}); err != nil {
				t.Error(err)
			}
		})
	}
	if n := server.connections.Load(); n != clients {
		t.Errorf("%d connections, want one for each of %d clients", n, clients)
	}
}

// An endless reply is cut off at the limit and not at the deadline.
func TestAnEndlessReplyIsCutOff(t *testing.T) {
	endless := func(contentType string, prefix []byte) port {
		return serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Write(prefix)
			chunk := make([]byte, 1<<16)
			for {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}))
	}
	huge := binary.BigEndian.AppendUint32([]byte{0}, 1<<32-1)
	for _, tc := range []struct {
		protocol client.Protocol
		server   port
	}{
		{client.GRPC, endless("application/grpc", huge)},
		{client.GRPCWeb, endless("application/grpc-web+proto", huge)},
		{client.Connect, endless("application/proto", nil)},
	} {
		start := time.Now()
		_, err := dial(t, tc.server.url, client.Config{Protocol: tc.protocol}).Users(within(t, 20*time.Second), []int32{1})
		expect(t, err, client.ReasonReplyTooLarge, connect.CodeResourceExhausted)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%v: it took %v", tc.protocol, took)
		}
	}
}

// A message that would decompress to 64 MiB is not decompressed completely.
func TestAGzipBombIsNotInflated(t *testing.T) {
	var bomb bytes.Buffer
	z, _ := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	zeros := make([]byte, 1<<20)
	for range 64 {
		z.Write(zeros)
	}
	z.Close()
	server := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") == "application/grpc" {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Encoding", "gzip")
			w.Write(binary.BigEndian.AppendUint32([]byte{1}, uint32(bomb.Len())))
			w.Write(bomb.Bytes())
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			return
		}
		w.Header().Set("Content-Type", "application/proto")
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb.Bytes())
	}))
	for _, protocol := range []client.Protocol{client.GRPC, client.Connect} {
		start := time.Now()
		_, err := dial(t, server.url, client.Config{Protocol: protocol}).Users(within(t, 20*time.Second), []int32{1})
		expect(t, err, client.ReasonReplyTooLarge, connect.CodeResourceExhausted)
		t.Logf("%v: %v", protocol, time.Since(start))
	}
}

func TestAReplyThatBreaksOffIsUnavailable(t *testing.T) {
	for _, tc := range []struct {
		protocol    client.Protocol
		contentType string
		start       []byte
	}{
		{client.GRPC, "application/grpc", []byte{0, 0}},
		{client.GRPC, "application/grpc", []byte{0, 0, 0, 1, 0, 'x'}},
		{client.GRPCWeb, "application/grpc-web+proto", []byte{0, 0, 0, 1, 0, 'x'}},
		{client.Connect, "application/proto", []byte{'x'}},
	} {
		server := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", tc.contentType)
			w.Write(tc.start)
			http.NewResponseController(w).Flush()
			breakConnection(r)
		}))
		err := dial(t, server.url, client.Config{Protocol: tc.protocol}).Health(within(t, 5*time.Second))
		expect(t, err, client.ReasonConnectionLost, connect.CodeUnavailable)
	}
}

func TestAResetStreamKeepsItsCode(t *testing.T) {
	server := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}))
	for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
		err := dial(t, server.url, client.Config{Protocol: protocol}).Health(within(t, 5*time.Second))
		expect(t, err, client.ReasonServerError, connect.CodeInternal)
	}
}
