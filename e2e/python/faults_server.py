"""A grpcio server of faults.proto, on threads or asyncio, for e2e/bridge_faults_test.go.

    python faults_server.py CODE ADDRESS [--aio] [--health] [--max-age MS]

CODE is the folder of the generated code. SIGUSR1 makes every call slow, SIGUSR2 ends that. On
SIGTERM it stops as a Python server should: its health becomes NOT_SERVING, and a moment later
server.stop(grace) lets running calls finish.
"""

import argparse
import asyncio
import os
import signal
import sys
import threading
import time
from concurrent import futures

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

parser = argparse.ArgumentParser()
parser.add_argument("code")
parser.add_argument("address")
parser.add_argument("--aio", action="store_true")
parser.add_argument("--health", action="store_true")
parser.add_argument("--max-age", type=int, default=0)
flags = parser.parse_args()
flags.slow = 0  # what each call takes more, in milliseconds

sys.path.insert(0, flags.code)
import faults_pb2 as pb  # noqa: E402
import faults_pb2_grpc as rpc  # noqa: E402

#: Between NOT_SERVING and server.stop, and what that lets running calls have, in seconds.
MOMENT, GRACE = 0.5, 10


def log(text):
    # print would write the line and its end one after the other.
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def reply_to(request, context):
    remaining = context.time_remaining()
    reply = pb.CallReply(process=os.getpid(), body=request.body)
    reply.remaining_ms = -1 if remaining is None else int(remaining * 1000)
    for key, value in context.invocation_metadata() or ():
        value = value if isinstance(value, bytes) else value.encode()
        reply.metadata.append(pb.Pair(key=key, value=value))
    return reply


def failure(code):
    detail = any_pb2.Any()
    detail.Pack(duration_pb2.Duration(seconds=7))
    wanted = status_pb2.Status(code=code, message="wanted: ünïcode\n", details=[detail])
    return rpc_status.to_status(wanted)


METADATA = (("leading", "yes"), ("leading-bin", b"\x00\x01\xff,"))
TRAILERS = (("trailing", "yes"), ("trailing-bin", b"\xff\x00,"))


class OnThreads(rpc.FaultServiceServicer):
    def Call(self, request, context):
        if request.note:
            note, ended = request.note, threading.Event()
            log(f"began {note}")
            context.add_callback(ended.set)
            if request.sleep_ms:
                left = ended.wait(request.sleep_ms / 1000)
                log(f"{'left' if left else 'finished'} {note}")
        elif flags.slow or request.sleep_ms:
            time.sleep((flags.slow + request.sleep_ms) / 1000)
        if request.fail:
            status = failure(request.fail)
            context.set_trailing_metadata(TRAILERS + tuple(status.trailing_metadata))
            context.abort(status.code, status.details)
        if request.note:
            context.send_initial_metadata(METADATA)
            context.set_trailing_metadata(TRAILERS)
        return reply_to(request, context)

    def Down(self, request, context):
        body, number = bytes(request.size), 0
        if request.note:  # grpcio does not resume the generator of a call that has ended
            context.add_callback(lambda: log(f"left {request.note}"))
        while context.is_active() and (not request.count or number < request.count):
            yield pb.Chunk(process=os.getpid(), number=number, body=body)
            number += 1
            if request.pause_ms:
                time.sleep(request.pause_ms / 1000)

    def Up(self, requests, context):
        return pb.Chunk(process=os.getpid(), number=sum(len(chunk.body) for chunk in requests))

    def Both(self, requests, context):
        for chunk in requests:
            chunk.process = os.getpid()
            yield chunk
            if chunk.note == "enough":
                context.abort(grpc.StatusCode.DATA_LOSS, "enough")


class OnAsyncio(rpc.FaultServiceServicer):
    async def Call(self, request, context):
        try:
            if request.note:
                log(f"began {request.note}")
            if flags.slow or request.sleep_ms:
                await asyncio.sleep((flags.slow + request.sleep_ms) / 1000)
        except asyncio.CancelledError:
            log(f"left {request.note}")
            raise
        if request.fail:
            status = failure(request.fail)
            await context.abort(
                status.code, status.details, TRAILERS + tuple(status.trailing_metadata)
            )
        if request.note:
            await context.send_initial_metadata(METADATA)
            context.set_trailing_metadata(TRAILERS)
        return reply_to(request, context)

    async def Down(self, request, context):
        body, number = bytes(request.size), 0
        try:
            while not request.count or number < request.count:
                yield pb.Chunk(process=os.getpid(), number=number, body=body)
                number += 1
                if request.pause_ms:
                    await asyncio.sleep(request.pause_ms / 1000)
        except (asyncio.CancelledError, GeneratorExit):
            if request.note:
                log(f"left {request.note}")
            raise

    async def Up(self, requests, context):
        size = 0
        async for chunk in requests:
            size += len(chunk.body)
        return pb.Chunk(process=os.getpid(), number=size)

    async def Both(self, requests, context):
        async for chunk in requests:
            chunk.process = os.getpid()
            yield chunk
            if chunk.note == "enough":
                await context.abort(grpc.StatusCode.DATA_LOSS, "enough")


class SameOnThreads(rpc.SameServiceServicer):
    def Same(self, request, context):
        return request


class SameOnAsyncio(rpc.SameServiceServicer):
    async def Same(self, request, context):
        return request


def set_slow(signal_number, frame):
    flags.slow = 200 if signal_number == signal.SIGUSR1 else 0


signal.signal(signal.SIGUSR1, set_slow)
signal.signal(signal.SIGUSR2, set_slow)
OPTIONS = [("grpc.so_reuseport", 0)]
if flags.max_age:
    OPTIONS.append(("grpc.max_connection_age_ms", flags.max_age))
NAMES = tuple(s.full_name for s in pb.DESCRIPTOR.services_by_name.values())


def add(server, faults, same):
    """Adds the services to a server, and returns the line to print once it serves."""
    rpc.add_FaultServiceServicer_to_server(faults, server)
    rpc.add_SameServiceServicer_to_server(same, server)
    reflection.enable_server_reflection((*NAMES, reflection.SERVICE_NAME), server)
    port = server.add_insecure_port(flags.address)
    return f"serving on {flags.address.rsplit(':', 1)[0]}:{port}"


def serve_on_threads():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=100), options=OPTIONS)
    line, healthy = add(server, OnThreads(), SameOnThreads()), health.HealthServicer()
    if flags.health:
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    server.start()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    log(line)
    stopped.wait()
    if flags.health:
        healthy.enter_graceful_shutdown()
        time.sleep(MOMENT)
    server.stop(GRACE).wait()


async def serve_on_asyncio():
    server = grpc.aio.server(options=OPTIONS)
    line, healthy = add(server, OnAsyncio(), SameOnAsyncio()), health.aio.HealthServicer()
    if flags.health:
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    log(line)
    await stopped.wait()
    if flags.health:
        await healthy.enter_graceful_shutdown()
        await asyncio.sleep(MOMENT)
    await server.stop(GRACE)


if flags.aio:
    asyncio.run(serve_on_asyncio())
else:
    serve_on_threads()
