"""A server whose proto imports others. With "whole" its reflection is that of grpcio-reflection,
which before 1.54 left the imports out; with "named" the files that are imported are not found by
their names, and with "less" they are not there at all.
Its arguments are the folder of the generated code, and one of these words.
"""

import sys
from concurrent import futures

import grpc
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection

sys.path.insert(0, sys.argv[1])
import app_pb2_grpc


class App(app_pb2_grpc.AppServicer):
    def Echo(self, request, context):
        return request


class Pool:
    """The pool of all descriptors, without what a word leaves out."""

    def __init__(self, word):
        self.word = word
        self.pool = descriptor_pool.Default()

    def FindFileByName(self, name):
        if self.word != "whole" and name.startswith("parts/"):
            raise KeyError(name)
        return self.pool.FindFileByName(name)

    def FindFileContainingSymbol(self, symbol):
        if self.word == "less" and symbol.startswith("parts."):
            raise KeyError(symbol)
        return self.pool.FindFileContainingSymbol(symbol)

    def __getattr__(self, name):
        return getattr(self.pool, name)


server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
app_pb2_grpc.add_AppServicer_to_server(App(), server)
reflection.enable_server_reflection(
    ("app.App", reflection.SERVICE_NAME), server, pool=Pool(sys.argv[2])
)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"serving on 127.0.0.1:{port}", file=sys.stderr, flush=True)
server.wait_for_termination()
