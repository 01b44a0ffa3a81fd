package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"example.com/roster/conformance/compat"
	"example.com/roster/conformance/gen/conformancepb"
	"example.com/roster/conformance/gen/conformancepb/conformancepbconnect"
)

// conformanceService answers every call with the response that the request describes, and echoes the request;
// service.proto says how. Unimplemented stays unimplemented, as the suite expects.
type conformanceService struct {
	conformancepbconnect.UnimplementedConformanceServiceHandler
}

// Unary implements conformancepbconnect.ConformanceServiceHandler.
func (conformanceService) Unary(ctx context.Context, request *conformancepb.UnaryRequest) (*conformancepb.UnaryResponse, error) {
	payload, err := answerOne(ctx, request.GetResponseDefinition(), request)
	if err != nil {
		return nil, err
	}
	return &conformancepb.UnaryResponse{Payload: payload}, nil
}

// IdempotentUnary implements conformancepbconnect.ConformanceServiceHandler.
func (conformanceService) IdempotentUnary(ctx context.Context, request *conformancepb.IdempotentUnaryRequest) (*conformancepb.IdempotentUnaryResponse, error) {
	payload, err := answerOne(ctx, request.GetResponseDefinition(), request)
	if err != nil {
		return nil, err
	}
	return &conformancepb.IdempotentUnaryResponse{Payload: payload}, nil
}

// ClientStream implements conformancepbconnect.ConformanceServiceHandler.
func (conformanceService) ClientStream(ctx context.Context, stream *connect.ClientStream[conformancepb.ClientStreamRequest]) (*conformancepb.ClientStreamResponse, error) {
	var requests []proto.Message
	var definition *conformancepb.UnaryResponseDefinition
	for stream.Receive() {
		if len(requests) == 0 {
			definition = stream.Msg().GetResponseDefinition()
		}
		requests = append(requests, stream.Msg())
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	payload, err := answerOne(ctx, definition, requests...)
	if err != nil {
		return nil, err
	}
	return &conformancepb.ClientStreamResponse{Payload: payload}, nil
}

// ServerStream implements conformancepbconnect.ConformanceServiceHandler.
func (conformanceService) ServerStream(ctx context.Context, request *conformancepb.ServerStreamRequest, stream *connect.ServerStream[conformancepb.ServerStreamResponse]) error {
	replies := &replies{
		definition: request.GetResponseDefinition(),
		send: func(payload *conformancepb.ConformancePayload) error {
			return stream.Send(&conformancepb.ServerStreamResponse{Payload: payload})
		},
	}
	if err := replies.begin(stream.Conn()); err != nil {
		return err
	}
	return replies.rest(ctx, request)
}

// BidiStream implements conformancepbconnect.ConformanceServiceHandler.
func (conformanceService) BidiStream(ctx context.Context, stream *connect.BidiStream[conformancepb.BidiStreamRequest, conformancepb.BidiStreamResponse]) error {
	replies := &replies{
		send: func(payload *conformancepb.ConformancePayload) error {
			return stream.Send(&conformancepb.BidiStreamResponse{Payload: payload})
		},
	}
	var waiting []proto.Message // requests that no reply has echoed yet
	fullDuplex := false
	for first := true; ; first = false {
		request, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if first {
			fullDuplex = request.GetFullDuplex()
			replies.definition = request.GetResponseDefinition()
			if err := replies.begin(stream.Conn()); err != nil {
				return err
			}
		}
		waiting = append(waiting, request)
		if !fullDuplex {
			continue
		}
		if replies.done() {
			break
		}
		if err := replies.next(ctx, waiting...); err != nil {
			return err
		}
		waiting = nil
	}
	return replies.rest(ctx, waiting...)
}

// answerOne returns the answer of a call with one reply.
func answerOne(ctx context.Context, definition *conformancepb.UnaryResponseDefinition, requests ...proto.Message) (*conformancepb.ConformancePayload, error) {
	info, err := observe(ctx, requests)
	if err != nil {
		return nil, err
	}
	if call, ok := connect.CallInfoForHandlerContext(ctx); ok {
		compat.AddTo(call.ResponseHeader(), definition.GetResponseHeaders())
		compat.AddTo(call.ResponseTrailer(), definition.GetResponseTrailers())
	}
	if err := pause(ctx, definition.GetResponseDelayMs()); err != nil {
		return nil, err
	}
	if asked := definition.GetError(); asked != nil {
		return nil, compat.Error(asked, info)
	}
	return &conformancepb.ConformancePayload{Data: definition.GetResponseData(), RequestInfo: info}, nil
}

// replies sends the replies of a call with a stream of replies.
type replies struct {
	definition *conformancepb.StreamResponseDefinition
	send       func(*conformancepb.ConformancePayload) error
	sent       int
}

// begin sets the metadata. If there will be replies, it sends the header at once, since the caller
// may wait for it; otherwise the header is sent at the end of the call.
func (r *replies) begin(conn connect.StreamingHandlerConn) error {
	compat.AddTo(conn.ResponseHeader(), r.definition.GetResponseHeaders())
	compat.AddTo(conn.ResponseTrailer(), r.definition.GetResponseTrailers())
	if r.done() {
		return nil
	}
	return conn.Send(nil)
}

func (r *replies) done() bool {
	return r.sent == len(r.definition.GetResponseData())
}

// next sends one reply that echoes requests. The first reply also has the header and the deadline
// that were received.
func (r *replies) next(ctx context.Context, requests ...proto.Message) error {
	payload := &conformancepb.ConformancePayload{Data: r.definition.GetResponseData()[r.sent]}
	if r.sent == 0 {
		info, err := observe(ctx, requests)
		if err != nil {
			return err
		}
		payload.RequestInfo = info
	} else if len(requests) > 0 {
		echo, err := pack(requests)
		if err != nil {
			return err
		}
		payload.RequestInfo = &conformancepb.ConformancePayload_RequestInfo{Requests: echo}
	}
	if err := pause(ctx, r.definition.GetResponseDelayMs()); err != nil {
		return err
	}
	r.sent++
	return r.send(payload)
}

// rest sends the remaining replies, the first of them with an echo of requests, and ends the call.
// If the call ends with an error before any reply, the error has the echo.
func (r *replies) rest(ctx context.Context, requests ...proto.Message) error {
	for !r.done() {
		if err := r.next(ctx, requests...); err != nil {
			return err
		}
		requests = nil
	}
	asked := r.definition.GetError()
	switch {
	case asked == nil:
		return nil
	case r.sent > 0:
		return compat.Error(asked)
	}
	info, err := observe(ctx, requests)
	if err != nil {
		return err
	}
	return compat.Error(asked, info)
}

// observe returns what the server received of a call.
func observe(ctx context.Context, requests []proto.Message) (*conformancepb.ConformancePayload_RequestInfo, error) {
	echo, err := pack(requests)
	if err != nil {
		return nil, err
	}
	info := &conformancepb.ConformancePayload_RequestInfo{Requests: echo}
	if call, ok := connect.CallInfoForHandlerContext(ctx); ok {
		// The server sets a deadline for every call (server.Config.MaxDeadline), but the suite
		// wants to know the caller's.
		sent := call.RequestHeader().Get("Grpc-Timeout") + call.RequestHeader().Get("Connect-Timeout-Ms")
		if deadline, ok := ctx.Deadline(); ok && sent != "" {
			info.TimeoutMs = proto.Int64(time.Until(deadline).Milliseconds())
		}
		info.RequestHeaders = compat.Headers(call.RequestHeader())
		if call.HTTPMethod() == http.MethodGet {
			info.ConnectGetInfo = &conformancepb.ConformancePayload_ConnectGetInfo{
				QueryParams: compat.Headers(call.Peer().Query),
			}
		}
	}
	return info, nil
}

func pack(messages []proto.Message) ([]*anypb.Any, error) {
	var packed []*anypb.Any
	for _, message := range messages {
		one, err := anypb.New(message)
		if err != nil {
			return nil, err
		}
		packed = append(packed, one)
	}
	return packed, nil
}

// pause sleeps for the whole time, even if the deadline passes. Returning at the deadline would
// race with the caller giving up, and the suite's client would blame the server for a reply that
// the client itself cut short.
func pause(ctx context.Context, milliseconds uint32) error {
	time.Sleep(time.Duration(milliseconds) * time.Millisecond)
	return ctx.Err()
}
