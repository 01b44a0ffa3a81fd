"""A grpcio server of connectrpc.conformance.v1.ConformanceService: what the bridge
has behind it in make conformance. Its only argument is a descriptor set of the
service, so it needs no generated code. It prints its port.
"""

import base64
import sys
import time
from concurrent import futures

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.rpc import status_pb2
from grpc_reflection.v1alpha import reflection

SERVICE = "connectrpc.conformance.v1.ConformanceService"

pool = descriptor_pool.Default()
with open(sys.argv[1], "rb") as file:
    for proto in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
        if not proto.name.startswith("google/protobuf/"):
            pool.Add(proto)


def message(name):
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("connectrpc.conformance.v1." + name)
    )


Payload = message("ConformancePayload")


def observe(context, requests):
    """What the server received of a call."""
    info = Payload.RequestInfo()
    headers = {}
    for key, value in context.invocation_metadata():
        headers.setdefault(key, []).append(text(key, value))
    for key, values in headers.items():
        info.request_headers.add(name=key, value=values)
    remaining = context.time_remaining()
    if remaining is not None and remaining < 1e6:
        info.timeout_ms = int(remaining * 1000)
    for request in requests:
        packed = any_pb2.Any()
        packed.Pack(request)
        info.requests.append(packed)
    return info


def text(key, value):
    """Values of -bin keys are told as base64, without padding."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode().rstrip("=")
    return value


def metadata(headers):
    pairs = []
    for header in headers:
        for value in header.value:
            if header.name.lower().endswith("-bin"):
                value = base64.b64decode(value + "=" * (-len(value) % 4))
            pairs.append((header.name.lower(), value))
    return tuple(pairs)


def fail(context, error, info=None):
    """Ends the call with an error, which echoes what was received if info is given."""
    status = status_pb2.Status(code=error.code, message=error.message)
    status.details.extend(error.details)
    if info is not None:
        status.details.add().Pack(info)
    trailers = context.trailing_metadata() or ()
    context.set_trailing_metadata(
        tuple(trailers) + (("grpc-status-details-bin", status.SerializeToString()),)
    )
    code = next(code for code in grpc.StatusCode if code.value[0] == error.code)
    context.abort(code, error.message)


def pause(milliseconds):
    time.sleep(milliseconds / 1000)


def answer_one(context, definition, requests, Response):
    info = observe(context, requests)
    context.send_initial_metadata(metadata(definition.response_headers))
    context.set_trailing_metadata(metadata(definition.response_trailers))
    pause(definition.response_delay_ms)
    if definition.HasField("error"):
        fail(context, definition.error, info)
    return Response(payload=Payload(data=definition.response_data, request_info=info))


def unary(Response):
    def call(request, context):
        return answer_one(context, request.response_definition, [request], Response)

    return call


def client_stream(Response):
    def call(requests, context):
        requests = list(requests)
        definition = (
            requests[0].response_definition
            if requests
            else message("UnaryResponseDefinition")()
        )
        return answer_one(context, definition, requests, Response)

    return call


class Replies:
    """The replies of a call with a stream of replies."""

    def __init__(self, context, Response):
        self.context, self.Response = context, Response
        self.definition = message("StreamResponseDefinition")()
        self.sent = 0

    def begin(self, definition):
        self.definition = definition
        self.context.send_initial_metadata(metadata(definition.response_headers))
        self.context.set_trailing_metadata(metadata(definition.response_trailers))

    def done(self):
        return self.sent == len(self.definition.response_data)

    def next(self, requests):
        payload = Payload(data=self.definition.response_data[self.sent])
        if self.sent == 0:
            payload.request_info.CopyFrom(observe(self.context, requests))
        else:
            for request in requests:
                payload.request_info.requests.add().Pack(request)
        pause(self.definition.response_delay_ms)
        self.sent += 1
        return self.Response(payload=payload)

    def rest(self, requests):
        while not self.done():
            yield self.next(requests)
            requests = []
        if self.definition.HasField("error"):
            fail(
                self.context,
                self.definition.error,
                observe(self.context, requests) if self.sent == 0 else None,
            )


def server_stream(Response):
    def call(request, context):
        replies = Replies(context, Response)
        replies.begin(request.response_definition)
        yield from replies.rest([request])

    return call


def bidi_stream(Response):
    def call(requests, context):
        replies = Replies(context, Response)
        waiting = []
        first = full_duplex = None
        for request in requests:
            if first is None:
                first = request
                full_duplex = request.full_duplex
                replies.begin(request.response_definition)
            waiting.append(request)
            if not full_duplex:
                continue
            if replies.done():
                break
            yield replies.next(waiting)
            waiting = []
        yield from replies.rest(waiting)

    return call


def handlers():
    kinds = {
        (False, False): (unary, grpc.unary_unary_rpc_method_handler),
        (False, True): (server_stream, grpc.unary_stream_rpc_method_handler),
        (True, False): (client_stream, grpc.stream_unary_rpc_method_handler),
        (True, True): (bidi_stream, grpc.stream_stream_rpc_method_handler),
    }
    found = {}
    for method in pool.FindServiceByName(SERVICE).methods:
        if method.name == "Unimplemented":
            continue
        kind, handler = kinds[method.client_streaming, method.server_streaming]
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        found[method.name] = handler(
            kind(response),
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE, found)


def main():
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_metadata_size", 64 << 10),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=options)
    server.add_generic_rpc_handlers((handlers(),))
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()  # until the bridge has ended
    server.stop(0)


if __name__ == "__main__":
    main()
