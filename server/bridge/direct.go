package bridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"

	"google.golang.org/grpc/metadata"

	"example.com/roster/server/rpc"
)

// Nearly every unary call of gRPC is one short message that is not compressed and has arrived as a whole,
// and gets a short reply. Such a call does not pass Connect's handler, which would be about a sixth of its
// CPU. Whatever is out of the ordinary is Connect's: the other protocols, requests of another form, all
// errors, and replies that may be worth compressing. If that shows only after the upstream has answered,
// Connect's handler gets that outcome (see method.unary).

// directReply is the size in bytes from which a reply is left to Connect. It does not compress shorter ones
// either, whatever their caller accepts (service.HandlerOptions).
const directReply = 1 << 10

// An outcome is how a unary call of the upstream has ended.
type outcome struct {
	reply           *message
	header, trailer metadata.MD
	err             error
}

// direct answers a unary call, or returns the request that Connect's handler has to answer.
func (m *method) direct(w http.ResponseWriter, r *http.Request, c *call) (left *http.Request) {
	body, ok := m.plainBody(r)
	if !ok {
		left = r.WithContext(c)
		if body != nil {
			left.Body = io.NopCloser(bytes.NewReader(body))
		}
		return left
	}
	var ctx context.Context = c
	if timeout, ok := rpc.Timeout(r); ok {
		limited, stop := context.WithTimeout(ctx, timeout)
		defer stop()
		ctx = limited
	}
	done := m.call(ctx, &message{wire: body[rpc.EnvelopeBytes:], form: m.input}, r.Header)
	if done.err != nil || done.reply.sent.Len() >= directReply {
		c.outcome = done
		left = r.WithContext(context.WithoutCancel(c)) // Connect would answer that the call was cancelled
		left.Body = io.NopCloser(bytes.NewReader(body))
		return left
	}
	rpc.From(ctx).Handled = true
	header := w.Header()
	header["Content-Type"] = r.Header["Content-Type"]
	header["Grpc-Accept-Encoding"] = acceptedEncodings
	header[http.TrailerPrefix+"Grpc-Status"] = statusOK
	incoming(header, "", done.header)
	incoming(header, http.TrailerPrefix, done.trailer)
	binary.BigEndian.PutUint32(c.prefix[1:], uint32(done.reply.sent.Len()))
	// If writing fails, the caller has left, or end has ended the call. Nothing is left to do.
	_, err := w.Write(c.prefix[:])
	for _, piece := range done.reply.sent {
		if err == nil {
			_, err = w.Write(piece.ReadOnlyData())
		}
	}
	return nil
}

// The values of header fields that are the same in all replies. Nobody may change them.
var (
	acceptedEncodings = []string{rpc.Compressions}
	statusOK          = []string{"0"}
)

// plainBody returns the body of a request that direct may answer: an envelope (gRPC's
// "PROTOCOL-HTTP2") with one message that is not compressed. Without ok, it returns what it has read.
func (m *method) plainBody(r *http.Request) (body []byte, ok bool) {
	record := rpc.From(r.Context())
	if record == nil || record.Protocol != rpc.GRPC || record.Codec != rpc.Proto || r.ProtoMajor != 2 || m.refused != nil {
		return nil, false
	}
	whole, ok := r.Body.(interface{ Complete() (int64, bool) })
	if !ok {
		return nil, false
	}
	size, complete := whole.Complete()
	if !complete || size < rpc.EnvelopeBytes || size > int64(m.upstream.config.MaxRequest)+rpc.EnvelopeBytes || r.Context().Err() != nil {
		return nil, false
	}
	body = make([]byte, size)
	n, err := io.ReadFull(r.Body, body)
	length := int64(binary.BigEndian.Uint32(body[1:]))
	return body[:n], err == nil && body[0] == 0 && length == size-rpc.EnvelopeBytes
}
