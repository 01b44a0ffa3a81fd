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

// A course is how one call goes: what is still to be done to it, and what came
// of it so far.
type course struct {
	request *conformancepb.ClientCompatRequest
	cancel  context.CancelFunc
	result  *conformancepb.ClientResponseResult
}

// call makes the call that request describes. An error means that the request
// makes no sense; client_compat.proto says what does.
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
	c := &course{request: request, cancel: cancel, result: &conformancepb.ClientResponseResult{}}
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

// run returns how the call failed, and why it could not be made at all.
func (c *course) run(ctx context.Context, service conformancepbconnect.ConformanceServiceClient) (rpcErr, err error) {
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

// message is a pointer to T that is a message.
type message[T any] interface {
	*T
	proto.Message
}

func unary[Req any, PReq message[Req], Res interface {
	GetPayload() *conformancepb.ConformancePayload
}](ctx context.Context, c *course, do func(context.Context, PReq) (Res, error)) (rpcErr, err error) {
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

func (c *course) serverStream(ctx context.Context, service conformancepbconnect.ConformanceServiceClient) (rpcErr, err error) {
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

func (c *course) clientStream(ctx context.Context, service conformancepbconnect.ConformanceServiceClient) (rpcErr, err error) {
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
			// Why it ended is what CloseAndReceive returns.
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

func (c *course) bidiStream(ctx context.Context, service conformancepbconnect.ConformanceServiceClient) (rpcErr, err error) {
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
			// Why it ended is what Receive returns.
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
	// A call that is over cannot be closed; Receive says what ended it.
	_ = stream.CloseRequest()
	c.cancelLater()
	for {
		if err := receive(); err != nil {
			return ended(err), nil
		}
	}
}

// ended is nil for the end of a stream that went well.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// received notes a reply, and cancels if it is the one to cancel after.
func (c *course) received(payload *conformancepb.ConformancePayload) {
	if payload == nil {
		payload = &conformancepb.ConformancePayload{}
	}
	c.result.Payloads = append(c.result.Payloads, payload)
	if after, ok := c.request.GetCancel().GetCancelTiming().(*conformancepb.ClientCompatRequest_Cancel_AfterNumResponses); ok &&
		len(c.result.Payloads) == int(after.AfterNumResponses) {
		c.cancel()
	}
}

func (c *course) unsent(requests int) { c.result.NumUnsentRequests = int32(requests) }

// cancelBeforeClose cancels if that is to happen before the requests end.
func (c *course) cancelBeforeClose() {
	if _, ok := c.request.GetCancel().GetCancelTiming().(*conformancepb.ClientCompatRequest_Cancel_BeforeCloseSend); ok {
		c.cancel()
	}
}

// cancelLater cancels some time from now if that is to happen after the
// requests end. It does not wait: in the API of Connect the end of requests is
// often one call with the wait for the reply.
func (c *course) cancelLater() {
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

// unpack is the messages to send.
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

// errorOf is the failure of a call in the suite's terms.
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
