package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

// A method is one procedure of an upstream.
type method struct {
	upstream      *upstream
	path          string
	descriptor    protoreflect.MethodDescriptor
	input, output *form
	refused       *connect.Error // the answer to every call, if it is set
	drain         *drain.State
	replies       replySize // of a unary call
}

// handler returns the handler of the method, in every protocol.
func (m *method) handler(options ...connect.HandlerOption) http.Handler {
	options = append(options,
		connect.WithSchema(m.descriptor),
		connect.WithIdempotency(idempotency(m.descriptor)),
		connect.WithRequestInitializer(func(_ connect.Spec, request any) error {
			request.(*message).form = m.input
			return nil
		}),
		codecs(),
	)
	switch client, server := m.descriptor.IsStreamingClient(), m.descriptor.IsStreamingServer(); {
	case client && server:
		return m.recorded(connect.NewBidiStreamHandler(m.path, m.bidiStream, options...))
	case client:
		return m.recorded(connect.NewClientStreamHandler(m.path, m.clientStream, options...))
	case server:
		return m.recorded(connect.NewServerStreamHandler(m.path, m.serverStream, options...))
	}
	return m.recorded(connect.NewUnaryHandler(m.path, m.unary, options...))
}

// recorded puts a call into the context of each request, charges the request, and gives back what the
// call holds once it has been answered.
func (m *method) recorded(next http.Handler) http.Handler {
	memory := m.upstream.memory
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := memory.begin(r.Context(), w)
		c.littleMetadata, c.http1 = takesLittleMetadata(r.Header), r.ProtoMajor == 1
		defer c.leave()
		if m.descriptor.IsStreamingClient() {
			c.body = &streamBody{ReadCloser: r.Body, memory: memory}
			defer c.body.release()
			r.Body = c.body
		} else if record := rpc.From(r.Context()); record != nil {
			if err := c.request(r.Context(), record.RequestBytes); err != nil {
				rpc.Answer(w, r, connect.NewError(connect.CodeOf(err), errors.New("the call ended while it waited for room for its request")))
				return
			}
		}
		switch {
		case m.descriptor.IsStreamingServer():
			defer m.drain.AfterClosing(func() { c.end(drain.Reconnect()) })()
			r = r.WithContext(c)
		case m.descriptor.IsStreamingClient():
			r = r.WithContext(c)
		default:
			if r = m.direct(w, r, c); r == nil {
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// idempotency is what the proto says of a method. One without side effects may be called by GET.
func idempotency(method protoreflect.MethodDescriptor) connect.IdempotencyLevel {
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	switch options.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		return connect.IdempotencyNoSideEffects
	case descriptorpb.MethodOptions_IDEMPOTENT:
		return connect.IdempotencyIdempotent
	}
	return connect.IdempotencyUnknown
}

func (m *method) unary(ctx context.Context, request *connect.Request[message]) (*connect.Response[message], error) {
	if m.refused != nil {
		return nil, m.refused
	}
	done := callOf(ctx).outcome
	if done == nil {
		done = m.call(ctx, request.Msg, request.Header())
	}
	if done.err != nil {
		return nil, done.err
	}
	response := connect.NewResponse(done.reply)
	incoming(response.Header(), "", done.header)
	incoming(response.Trailer(), "", done.trailer)
	return response, nil
}

// call makes a unary call of the upstream.
func (m *method) call(ctx context.Context, request *message, sent http.Header) *outcome {
	if err := request.usable(); err != nil {
		return &outcome{err: err}
	}
	c := callOf(ctx)
	if why := c.calls(); why != nil {
		return &outcome{err: why}
	}
	ctx = m.outgoing(ctx, sent)
	if err := c.expect(ctx, m.replies.expected()); err != nil {
		return &outcome{err: m.error(ctx, err, nil, nil)}
	}
	done := &outcome{reply: &message{form: m.output, call: c}}
	options := append(m.compression(sent), grpc.Header(&done.header), grpc.Trailer(&done.trailer), keepRequest)
	err := m.upstream.conn.Invoke(ctx, m.path, request, done.reply, options...)
	m.upstream.heard(done.header)
	if err == nil {
		err = c.tooMuchMetadata(done.header, done.trailer)
	}
	if err == nil {
		err = m.convert(ctx, done.reply)
	}
	if err != nil {
		done.err = m.error(ctx, err, done.header, done.trailer)
		return done
	}
	m.replies.add(done.reply.sent.Len(), time.Since(c.began))
	c.sends()
	return done
}

func (m *method) serverStream(ctx context.Context, request *connect.Request[message], replies *connect.ServerStream[message]) error {
	if err := request.Msg.usable(); err != nil {
		return err
	}
	stream, stop, err := m.open(ctx, request.Header(), keepRequest)
	if err != nil {
		return err
	}
	defer stop()
	// io.EOF means that the call has ended already: its status comes from reading.
	if err := stream.SendMsg(request.Msg); err != nil && !errors.Is(err, io.EOF) {
		return m.error(ctx, err, nil, nil)
	}
	if err := stream.CloseSend(); err != nil {
		return m.error(ctx, err, nil, nil)
	}
	return m.relay(ctx, stream, replies.ResponseHeader(), replies.ResponseTrailer(), replies.Send)
}

func (m *method) clientStream(ctx context.Context, requests *connect.ClientStream[message]) (*connect.Response[message], error) {
	stream, stop, err := m.open(ctx, requests.RequestHeader())
	if err != nil {
		return nil, err
	}
	defer stop()
	var complete atomic.Bool // the caller has sent all
	sent := make(chan error, 1)
	go func() {
		sent <- m.pump(ctx, stream, stop, func() (*message, error) {
			if requests.Receive() {
				return requests.Msg(), nil
			}
			if err := requests.Err(); err != nil {
				return nil, err
			}
			complete.Store(true)
			return nil, io.EOF
		})
	}()
	response, err := m.onlyReply(ctx, stream)
	if !complete.Load() { // the upstream has ended the call before that, and the caller may keep the rest for long
		stop()
		callOf(ctx).endRead()
	}
	if failed := <-sent; failed != nil {
		return nil, failed
	}
	return response, err
}

// onlyReply waits for the reply of a stream that has one.
func (m *method) onlyReply(ctx context.Context, stream grpc.ClientStream) (*connect.Response[message], error) {
	c := callOf(ctx)
	reply := &message{form: m.output, call: c}
	if err := stream.RecvMsg(reply); err != nil {
		header, _ := stream.Header()
		return nil, m.error(ctx, err, header, stream.Trailer())
	}
	header, _ := stream.Header()
	response := connect.NewResponse(reply)
	incoming(response.Header(), "", header)
	// The status comes after the reply.
	if err := stream.RecvMsg(new(message)); !errors.Is(err, io.EOF) {
		if err == nil {
			err = connect.NewError(connect.CodeInternal, errors.New("the server sent two replies to a call that has one"))
		}
		return nil, m.error(ctx, err, header, stream.Trailer())
	}
	err := c.tooMuchMetadata(header, stream.Trailer())
	if err == nil {
		err = m.convert(ctx, reply)
	}
	if err != nil {
		return nil, m.error(ctx, err, nil, nil)
	}
	c.sends()
	incoming(response.Trailer(), "", stream.Trailer())
	return response, nil
}

func (m *method) bidiStream(ctx context.Context, calls *connect.BidiStream[message, message]) error {
	stream, stop, err := m.open(ctx, calls.RequestHeader())
	if err != nil {
		return err
	}
	defer stop()
	sent := make(chan error, 1)
	go func() { sent <- m.pump(ctx, stream, stop, calls.Receive) }()
	err = m.relay(ctx, stream, calls.ResponseHeader(), calls.ResponseTrailer(), calls.Send)
	// The goroutine reads the request, which nobody may do once the handler has returned. It may also
	// wait for an upstream that does not read.
	stop()
	callOf(ctx).endRead()
	if failed := <-sent; failed != nil {
		return failed
	}
	return err
}

// pump passes the caller's messages on until it has sent all, or the call has ended. An error of the
// caller cancels the call.
func (m *method) pump(ctx context.Context, stream grpc.ClientStream, cancel func(), receive func() (*message, error)) error {
	for {
		request, err := receive()
		switch {
		case errors.Is(err, io.EOF):
			_ = stream.CloseSend() // it returns nil
			return nil
		case err != nil && stream.Context().Err() != nil:
			return nil // the call has ended, and with it our interest in the request
		case err != nil:
			cancel()
			return m.received(callOf(ctx), err)
		}
		if err := m.send(stream, request); err != nil {
			if !errors.Is(err, io.EOF) {
				cancel()
				return m.error(ctx, err, nil, nil)
			}
			return nil // relay returns the status
		}
	}
}

// convert puts a reply into JSON, for a caller that speaks that.
func (m *method) convert(ctx context.Context, reply *message) error {
	if record := rpc.From(ctx); record == nil || record.Codec != rpc.JSON {
		return nil
	}
	var err error
	if reply.json, err = m.output.toJSON(reply.sent); err != nil {
		var limit *connect.Error
		if errors.As(err, &limit) {
			return limit
		}
		return connect.NewError(connect.CodeInternal, err)
	}
	reply.call.hold(len(reply.json))
	return nil
}

// usable returns the error of a request that could not be converted.
func (m *message) usable() error {
	var limit *connect.Error
	if m.err == nil || errors.As(m.err, &limit) {
		return m.err
	}
	return connect.NewError(connect.CodeInvalidArgument, m.err)
}

// send sends a message of a stream, and charges it until grpc-go has taken it.
func (m *method) send(stream grpc.ClientStream, request *message) error {
	if err := request.usable(); err != nil {
		return err
	}
	if size := int64(len(request.wire)); size > smallMessage {
		requests := m.upstream.memory.requests
		if !requests.TryAcquire(size) {
			return m.upstream.memory.requestsFull()
		}
		defer requests.Release(size)
	}
	return stream.SendMsg(request)
}

// keepRequest has grpc-go keep the one request of a call until it is answered, however long that is, since
// a process may refuse the call, and another one is tried then. The handler holds the request anyway. Of
// the requests of a stream, which nobody else holds, grpc-go keeps 256 KB.
var keepRequest = grpc.MaxRetryRPCBufferSize(math.MaxInt)

// open begins a call with the metadata of the request. The caller must call stop, which cancels it.
func (m *method) open(ctx context.Context, header http.Header, options ...grpc.CallOption) (stream grpc.ClientStream, stop func(), err error) {
	if m.refused != nil {
		return nil, nil, m.refused
	}
	limited, cancel := callOf(ctx).with(m.outgoing(ctx, header))
	stream, err = m.upstream.conn.NewStream(limited, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, m.path,
		append(options, m.compression(header)...)...)
	if err != nil {
		cancel()
		return nil, nil, m.error(ctx, err, nil, nil)
	}
	return stream, cancel, nil
}

// relay passes on the replies of a stream, and then its trailers or its error.
func (m *method) relay(ctx context.Context, stream grpc.ClientStream, header, trailer http.Header, send func(*message) error) error {
	c := callOf(ctx)
	replied, err := stream.Header()
	m.upstream.heard(replied)
	if err == nil {
		err = c.tooMuchMetadata(replied)
	}
	if err == nil && len(replied) > 0 {
		incoming(header, "", replied)
		err = send(nil) // the header alone: the first message may take long
	}
	if err != nil {
		return m.error(ctx, err, nil, stream.Trailer())
	}
	for {
		reply := &message{form: m.output, call: c}
		switch err := stream.RecvMsg(reply); {
		case errors.Is(err, io.EOF):
			if err := c.tooMuchMetadata(stream.Trailer()); err != nil {
				return err
			}
			incoming(trailer, "", stream.Trailer())
			return nil
		case err != nil:
			return m.error(ctx, err, nil, stream.Trailer())
		}
		if err := m.convert(ctx, reply); err != nil {
			return err
		}
		c.sends()
		err := send(reply)
		c.sent()
		if err != nil {
			if why := c.ended(); why != nil {
				return why
			}
			return err
		}
	}
}

// outgoing returns the context of a call to the upstream, with the metadata of the request.
func (m *method) outgoing(ctx context.Context, header http.Header) context.Context {
	config := m.upstream.config
	md := outgoing(header, config.leaveOut())
	if config.IdentityHeader != "" {
		delete(md, config.IdentityHeader) // the caller may not claim to be somebody
		if call := rpc.From(ctx); call != nil && call.Identity != "" {
			if md == nil {
				md = make(metadata.MD)
			}
			md.Set(config.IdentityHeader, inASCII(call.Identity))
		}
	}
	if len(md) == 0 {
		return ctx
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// compression returns the options of a call to the upstream: its messages are compressed if the caller's
// may be, and the upstream is known to accept that.
func (m *method) compression(header http.Header) []grpc.CallOption {
	if !m.upstream.gzip.Load() {
		return nil
	}
	for _, name := range []string{"Grpc-Encoding", "Connect-Content-Encoding", "Content-Encoding"} {
		if header.Get(name) == gzip.Name {
			return []grpc.CallOption{grpc.UseCompressor(gzip.Name)}
		}
	}
	return nil
}

// heard notes what the header of a reply says of the upstream.
func (u *upstream) heard(header metadata.MD) {
	if u.gzip.Load() {
		return
	}
	for _, accepted := range header["grpc-accept-encoding"] {
		if strings.Contains(accepted, gzip.Name) {
			u.gzip.Store(true)
		}
	}
}

// error returns the error of a call as its caller gets it: with the code, the text, the details and the
// metadata of the upstream. An error that names an address of the upstream, which is that of a
// connection, is replaced by one that names the service, and is logged.
func (m *method) error(ctx context.Context, err error, header, trailer metadata.MD) error {
	var ours *connect.Error
	if errors.As(err, &ours) {
		return err
	}
	if why := callOf(ctx).ended(); why != nil {
		return why
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		if call := rpc.From(ctx); call != nil {
			if limit, over := call.Overdue(); over {
				return rpc.Overdue(limit)
			}
		}
	}
	st := status.FromContextError(err)
	if found, ok := status.FromError(err); ok {
		st = found
	}
	if isReplyTooLong(st, m.upstream.config.MaxMessage) {
		return m.replyTooLong()
	}
	if endsInAMessage(st) {
		return connect.NewError(connect.CodeInternal, fmt.Errorf("the server ended its reply to %s in the middle of a message", m.path))
	}
	about, header, trailer := callOf(ctx).fit(st.Proto(), header, trailer)
	wire := connect.NewError(connect.Code(about.GetCode()), errors.New(about.GetMessage()))
	if wire.Code() == connect.CodeUnavailable && m.upstream.namesAddress(st.Message()) {
		m.upstream.failed(m.path, st.Message())
		service := string(m.descriptor.Parent().FullName())
		why := " is unavailable: its server does not answer, or has ended the connection"
		if strings.Contains(st.Message(), "health check failed") {
			why = " is unavailable: its server says that it is not serving (grpc.health.v1)"
		}
		wire = connect.NewError(connect.CodeUnavailable, errors.New(service+why))
	}
	for _, detail := range about.GetDetails() {
		if detail, err := connect.NewErrorDetail(detail); err == nil {
			wire.AddDetail(detail)
		}
	}
	incoming(wire.Meta(), "", header)
	incoming(wire.Meta(), "", trailer)
	return wire
}

// replyTooLong is the error of a reply over the limit, which is found by grpc-go.
func (m *method) replyTooLong() *connect.Error {
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
		"a reply of %s is longer than %d bytes, before or after compression (as much as --bridge-max-message allows): ask for less, or raise the limit",
		m.path, m.upstream.config.MaxMessage))
}

// namesAddress reports whether the text has an address of the upstream, or another detail of a connection
// to it.
func (u *upstream) namesAddress(text string) bool {
	known, _, _ := u.addresses.current()
	for _, address := range known {
		if strings.Contains(text, address.Addr) {
			return true
		}
	}
	return len(known) == 0 || isOfConnection(text)
}
