"""A server of api.proto that knows nothing of Roster, with threads or on asyncio.

Its arguments are the folder of the generated code, and "threads" or "asyncio".
"""

import asyncio
import sys
from concurrent import futures

import grpc

sys.path.insert(0, sys.argv[1])
import api_pb2
import api_pb2_grpc

OPTIONS = [("grpc.so_reuseport", 0)]


def reply(request):
    return api_pb2.UserReply(
        message="success",
        data=[
            api_pb2.User(name=f"user {i}", age=i, email="a@example.com") for i in request.userIDs
        ],
    )


class Threads(api_pb2_grpc.MyServiceServicer):
    def User(self, request, context):
        return reply(request)


class Asyncio(api_pb2_grpc.MyServiceServicer):
    async def User(self, request, context):
        return reply(request)


def say(port):
    print(f"serving on 127.0.0.1:{port}", file=sys.stderr, flush=True)


async def serve_asyncio():
    server = grpc.aio.server(options=OPTIONS)
    api_pb2_grpc.add_MyServiceServicer_to_server(Asyncio(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say(port)
    await server.wait_for_termination()


if sys.argv[2] == "asyncio":
    asyncio.run(serve_asyncio())
else:
    server = grpc.server(futures.ThreadPoolExecutor(8), options=OPTIONS)
    api_pb2_grpc.add_MyServiceServicer_to_server(Threads(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say(port)
    server.wait_for_termination()
