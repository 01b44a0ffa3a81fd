"""The contract in Python, for tests of what reaches an upstream, or leaves a client.

serve: a grpcio server that prints each call's traceparent and the users' ids.
call: a grpcio client that calls a method of the contract's form at an address,
with a traceparent in its metadata as any tracing library for Python sends it.
"""

from __future__ import annotations

import sys
from concurrent import futures

import api_pb2
import api_pb2_grpc
import grpc


class Service(api_pb2_grpc.MyServiceServicer):
    def User(self, request: api_pb2.UserReq, context: grpc.ServicerContext) -> api_pb2.UserReply:
        metadata = dict(context.invocation_metadata())
        print("traceparent", metadata.get("traceparent", "none"), file=sys.stderr, flush=True)
        reply = api_pb2.UserReply(message="success")
        for number in request.userIDs:
            reply.data.add(name=f"user {number}", age=1, email="")
        return reply


def serve() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    api_pb2_grpc.add_MyServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on 127.0.0.1:{port}", file=sys.stderr, flush=True)
    server.wait_for_termination()


def call(address: str, path: str, traceparent: str) -> None:
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            path,
            request_serializer=api_pb2.UserReq.SerializeToString,
            response_deserializer=api_pb2.UserReply.FromString,
        )
        reply = method(
            api_pb2.UserReq(userIDs=[1]), timeout=20, metadata=(("traceparent", traceparent),)
        )
        print(reply.data[0].name)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        call(*sys.argv[2:])
