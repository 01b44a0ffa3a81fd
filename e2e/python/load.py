"""Calls a server at a steady rate until standard input ends; for e2e/restart_test.go.

    python load.py grpc|grpc.aio|health ADDRESS CALLS_PER_SECOND

Channels have grpcio's own settings; that of health follows the server's health.
A line of standard output, ten times a second, is the number of calls answered
so far; one that starts with "failed" is a call that was not.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from pathlib import Path

# grpcio reads these when it opens a channel.
for name in list(os.environ):
    if name.lower() in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        del os.environ[name]
sys.path.insert(0, str(Path(__file__).parents[2] / "gen" / "python"))

import api_pb2  # noqa: E402
import api_pb2_grpc  # noqa: E402
import grpc  # noqa: E402
import grpc.aio  # noqa: E402

#: A call that hangs is one that failed, in seconds.
TIMEOUT = 20.0
#: So many callers share a channel, each with one call at a time.
CALLERS = 4
IDS = [1, 2]
#: What a channel needs to follow the health of its servers.
HEALTH = """{
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""}
}"""


Options = list[tuple[str, str]]


class Tally:
    """What became of the calls."""

    def __init__(self) -> None:
        self.answered = 0
        self.lock = threading.Lock()

    def count(self, reply: api_pb2.UserReply) -> None:
        if len(reply.data) != len(IDS):
            self.fail(f"{len(reply.data)} users")
        with self.lock:
            self.answered += 1

    def fail(self, why: str) -> None:
        self.say("failed: " + " ".join(why.split()))

    def say(self, line: str) -> None:
        # print writes the line and its end one after the other.
        with self.lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def describe(error: grpc.RpcError) -> str:
    return f"{error.code().name} {error.details()}"


def call_sync(
    address: str, options: Options, rate: float, tally: Tally, end: threading.Event
) -> None:
    with grpc.insecure_channel(address, options) as channel:
        stub = api_pb2_grpc.MyServiceStub(channel)

        def calls() -> None:
            due = time.monotonic()
            while not end.is_set():
                try:
                    tally.count(stub.User(api_pb2.UserReq(userIDs=IDS), timeout=TIMEOUT))
                except grpc.RpcError as error:
                    tally.fail(describe(error))
                due = max(due + CALLERS / rate, time.monotonic() - 0.1)
                time.sleep(max(0.0, due - time.monotonic()))

        callers = [threading.Thread(target=calls) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()


async def call_aio(address: str, rate: float, tally: Tally, end: threading.Event) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = api_pb2_grpc.MyServiceStub(channel)

        async def calls() -> None:
            due = time.monotonic()
            while not end.is_set():
                try:
                    tally.count(await stub.User(api_pb2.UserReq(userIDs=IDS), timeout=TIMEOUT))
                except grpc.RpcError as error:
                    tally.fail(describe(error))
                due = max(due + CALLERS / rate, time.monotonic() - 0.1)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

        await asyncio.gather(*(calls() for _ in range(CALLERS)))


def main(kind: str, address: str, rate: float) -> None:
    tally, end = Tally(), threading.Event()

    def report() -> None:
        while not end.wait(0.1):
            tally.say(str(tally.answered))

    def wait_for_the_end() -> None:
        sys.stdin.read()
        end.set()

    for task in (report, wait_for_the_end):
        threading.Thread(target=task, daemon=True).start()
    if kind == "grpc.aio":
        asyncio.run(call_aio(address, rate, tally, end))
    else:
        options = [("grpc.service_config", HEALTH)] if kind == "health" else []
        call_sync(address, options, rate, tally, end)
    tally.say(str(tally.answered))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
