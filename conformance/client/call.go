package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"example.com/roster/conformance/compat"
	"example.com/roster/conformance/gen/conformancepb"
	"example.com/roster/conformance/gen/conformancepb/conformancepbconnect"
)

// attempt is the state of one call: what is still to be done, and the result so far.
type attempt struct {
	request *conformancepb.ClientCompatRequest
	cancel  context.CancelFunc
	result  *conformancepb.ClientResponseResult
}

// call makes the call that request describes. An error means that the request is not valid by
// client_compat.proto.
func call(ctx context.Context, service conformancepbconnect.ConformanceServiceClient, request *conformancepb.ClientCompatRequest) (*conformancepb.ClientResponseResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if request.TimeoutMs != nil {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, milliseconds(request.GetTimeoutMs()))
		defer stop()
	}
	ctx, info := connect.NewClientContext(ctx)
	compat.AddTo(info.RequestHeader(), request.GetRequestHeaders())
	c := &attempt{request: request, cancel: cancel, result: &conformancepb.ClientResponseResult{}}
	rpcErr, err := c.run(ctx, service)
	if err != nil {
		return nil, err
	}
	c.result.ResponseHeaders = compat.Headers(info.ResponseHeader())
	c.result.ResponseTrailers = compat.Headers(info.ResponseTrailer())
	if rpcErr != nil {
		c.result.Error = errorOf(rpcErr)
	}
	return c.result, nil
}

// run makes the call. rpcErr is the error of the call; err says why the call could not be made.
func (c *attempt) run(ctx context.Context, service conformancepbconnect.ConformanceServiceClient) (rpcErr, err error) {
	switch method := c.request.GetMethod(); method {
	case "Unary":
		return unary(ctx, c, service.Unary)
	case "IdempotentUnary":
		return unary(ctx, c, service.IdempotentUnary)
	case "Unimplemented":
		return unary(ctx, c, func(ctx context.Context, request *conformancepb.UnimplementedRequest) (*conformancepb.UnaryResponse, error) {
			_, err := service.Unimplemented(ctx, request)
			return &conformancepb.UnaryResponse{}, err
		})
	case "ServerStream":
		return c.serverStream(ctx, service)
	case "ClientStream":
		return c.clientStream(ctx, service)
	case "BidiStream":
		return c.bidiStream(ctx, service)
	default:
		return nil, fmt.Errorf("%s.%s: no such method", c.request.GetService(), method)
	}
}

// message is the constraint of a pointer to T that is a protobuf message.
type message[T any] interface {
	*T
	proto.Message
}

func unary[Req any, PReq message[Req], Res interface {
	GetPayload() *conformancepb.ConformancePayload
}](ctx context.Context, c *attempt, do func(context.Context, PReq) (Res, error)) (rpcErr, err error) {
	messages, err := unpack[Req, PReq](c.request)
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, fmt.Errorf("%d requests for a call that takes one", len(messages))
	}
	time.Sleep(milliseconds(c.request.GetRequestDelayMs()))
	c.cancelLater()
	response, rpcErr := do(ctx, messages[0])
	if rpcErr != nil {
		return rpcErr, nil
	}
	c.received(response.GetPayload())
	return nil, nil
}

func (c *attempt) serverStream(ctx context.Context, service conformancepbconnect.ConformanceServiceClient) (rpcErr, err error) {
	messages, err := unpack[conformancepb.ServerStreamRequest](c.request)
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, fmt.Errorf("%d requests for a call that takes one", len(messages))
	}
	time.Sleep(milliseconds(c.request.GetRequestDelayMs()))
	stream, rpcErr := service.ServerStream(ctx, messages[0])
	if rpcErr != nil {
		return rpcErr, nil
	}
	defer stream.Close()
	c.cancelLater()
	for stream.Receive() {
		c.received(stream.Msg().GetPayload())
	}
	return stream.Err(), nil
}

func (c *attempt) clientStream(ctx context.Context, service conformancepbconnect.ConformanceServiceClient) (rpcErr, err error) {
	messages, err := unpack[conformancepb.ClientStreamRequest](c.request)
	if err != nil {
		return nil, err
	}
	stream, rpcErr := service.ClientStream(ctx)
	if rpcErr != nil {
		return rpcErr, nil
	}
	for i, message := range messages {
		time.Sleep(milliseconds(c.request.GetRequestDelayMs()))
		if stream.Send(message) != nil {
			// CloseAndReceive returns why the stream ended.
			c.unsent(len(messages) - i)
			break
		}
	}
	c.cancelBeforeClose()
	c.cancelLater()
	response, rpcErr := stream.CloseAndReceive()
	if rpcErr != nil {
		return rpcErr, nil
	}
	c.received(response.GetPayload())
	return nil, nil
}

func (c *attempt) bidiStream(ctx context.Context, service conformancepbconnect.ConformanceServiceClient) (rpcErr, err error) {
	messages, err := unpack[conformancepb.BidiStreamRequest](c.request)
	if err != nil {
		return nil, err
	}
	stream, rpcErr := service.BidiStream(ctx)
	if rpcErr != nil {
		return rpcErr, nil
	}
	defer stream.CloseResponse()
	receive := func() error {
		response, err := stream.Receive()
		if err == nil {
			c.received(response.GetPayload())
		}
		return err
	}
	fullDuplex := c.request.GetStreamType() == conformancepb.StreamType_STREAM_TYPE_FULL_DUPLEX_BIDI_STREAM
	for i, message := range messages {
		time.Sleep(milliseconds(c.request.GetRequestDelayMs()))
		if stream.Send(message) != nil {
			// Receive returns why the stream ended.
			c.unsent(len(messages) - i)
			break
		}
		if !fullDuplex {
			continue
		}
		if err := receive(); err != nil {
			c.unsent(len(messages) - i - 1)
			return ended(err), nil
		}
	}
	c.cancelBeforeClose()
	// If the call has ended, closing it fails; Receive says why it ended.
	_ = stream.CloseRequest()
	c.cancelLater()
	for {
		if err := receive(); err != nil {
			return ended(err), nil
		}
	}
}

// ended returns nil for the error that marks the normal end of a stream.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// received records a reply, and cancels the call if this is the reply after which to cancel.
func (c *attempt) received(payload *conformancepb.ConformancePayload) {
	if payload == nil {
		payload = &conformancepb.ConformancePayload{}
	}
	c.result.Payloads = append(c.result.Payloads, payload)
	if after, ok := c.request.GetCancel().GetCancelTiming().(*conformancepb.ClientCompatRequest_Cancel_AfterNumResponses); ok &&
		len(c.result.Payloads) == int(after.AfterNumResponses) {
		c.cancel()
	}
}

func (c *attempt) unsent(requests int) { c.result.NumUnsentRequests = int32(requests) }

// cancelBeforeClose cancels the call if the request asks for that before the end of the requests.
func (c *attempt) cancelBeforeClose() {
	if _, ok := c.request.GetCancel().GetCancelTiming().(*conformancepb.ClientCompatRequest_Cancel_BeforeCloseSend); ok {
		c.cancel()
	}
}

// cancelLater starts a timer that cancels the call, if the request asks for that after the end of
// the requests. It does not wait, because in Connect's API one function often ends the requests and
// waits for the reply.
func (c *attempt) cancelLater() {
	cancel := c.request.GetCancel()
	if cancel == nil {
		return
	}
	switch timing := cancel.GetCancelTiming().(type) {
	case nil:
		c.cancel()
	case *conformancepb.ClientCompatRequest_Cancel_AfterCloseSendMs:
		time.AfterFunc(milliseconds(timing.AfterCloseSendMs), c.cancel)
	}
}

// unpack returns the messages to send.
func unpack[T any, P message[T]](request *conformancepb.ClientCompatRequest) ([]P, error) {
	var messages []P
	for _, packed := range request.GetRequestMessages() {
		one := P(new(T))
		if err := packed.UnmarshalTo(one); err != nil {
			return nil, err
		}
		messages = append(messages, one)
	}
	return messages, nil
}

func milliseconds(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }

// errorOf returns the error of a call in the suite's type.
func errorOf(err error) *conformancepb.Error {
	rpcErr := (*connect.Error)(nil)
	if !errors.As(err, &rpcErr) {
		return &conformancepb.Error{Code: conformancepb.Code_CODE_UNKNOWN, Message: proto.String(err.Error())}
	}
	converted := &conformancepb.Error{
		Code:    conformancepb.Code(rpcErr.Code()),
		Message: proto.String(rpcErr.Message()),
	}
	for _, detail := range rpcErr.Details() {
		converted.Details = append(converted.Details, &anypb.Any{
			TypeUrl: "type.googleapis.com/" + detail.Type(),
			Value:   detail.Bytes(),
		})
	}
	return converted
}
