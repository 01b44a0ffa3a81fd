"""The job server of examples/bridge without reflection and health, as many servers are: with
threads or on asyncio, in cleartext or with TLS that asks for client certificates.
"""

import argparse
import asyncio
import pathlib
import sys
from concurrent import futures

import grpc

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folders", nargs="+", help="of the generated code, and of server.py")
parser.add_argument("--asyncio", action="store_true")
parser.add_argument("--cert")
parser.add_argument("--key")
parser.add_argument("--client-ca")
arguments = parser.parse_args()
sys.path[:0] = arguments.folders

import jobs_pb2_grpc  # noqa: E402
from server import JobService  # noqa: E402

OPTIONS = [("grpc.so_reuseport", 0)]


class Asyncio(JobService):
    """Has the method whose context is another one on asyncio."""

    async def Watch(self, request, context):
        yield self.finish(self.jobs[request.id])


def listen(server):
    service = Asyncio() if arguments.asyncio else JobService()
    jobs_pb2_grpc.add_JobServiceServicer_to_server(service, server)
    if not arguments.cert:
        return server.add_insecure_port("127.0.0.1:0")
    read = [
        pathlib.Path(name).read_bytes()
        for name in (arguments.key, arguments.cert, arguments.client_ca)
    ]
    credentials = grpc.ssl_server_credentials(
        [tuple(read[:2])], root_certificates=read[2], require_client_auth=True
    )
    return server.add_secure_port("127.0.0.1:0", credentials)


def say(port):
    print(f"serving on 127.0.0.1:{port}", file=sys.stderr, flush=True)


async def serve_asyncio():
    server = grpc.aio.server(futures.ThreadPoolExecutor(8), options=OPTIONS)
    port = listen(server)
    await server.start()
    say(port)
    await server.wait_for_termination()


if arguments.asyncio:
    asyncio.run(serve_asyncio())
else:
    threads = grpc.server(futures.ThreadPoolExecutor(8), options=OPTIONS)
    bound = listen(threads)
    threads.start()
    say(bound)
    threads.wait_for_termination()
