"""grpc.health.v1: asked with grpcio's own stubs, and followed by channels that choose by it."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from caller import Caller
from sample import Sample, people
from serving import PATIENCE, Roster

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

#: A channel that calls a server only while MyService is SERVING there (gRFC A17).
FOLLOWING = [
    (
        "grpc.service_config",
        json.dumps(
            {
                "healthCheckConfig": {"serviceName": "MyService"},
                "loadBalancingConfig": [{"round_robin": {}}],
            }
        ),
    )
]


@pytest.fixture
def channel(server: Roster) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def status(channel: grpc.Channel, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE).status


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def outcome(caller: Caller, ids: list[int]) -> grpc.StatusCode:
    try:
        caller.user(ids)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("service", ["", "MyService", "roster.v1.DirectoryService"])
def test_check(channel: grpc.Channel, service: str) -> None:
    assert status(channel, service) == SERVING


def test_check_of_an_unknown_service(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        status(channel, "YourService")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert 'no service "YourService"' in refused.value.details()


def test_list(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    if not hasattr(stub, "List"):
        pytest.skip("this grpcio-health-checking has no List")
    reply = stub.List(health_pb2.HealthListRequest(), timeout=PATIENCE)
    assert {"", "MyService", "roster.v1.DirectoryService", "grpc.health.v1.Health"} <= set(
        reply.statuses
    )
    assert {each.status for each in reply.statuses.values()} == {SERVING}


def test_watch_of_an_unknown_service_stays_open(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="YourService"), timeout=PATIENCE)
    assert next(watch).status == SERVICE_UNKNOWN
    assert status(channel) == SERVING
    assert watch.is_active()
    watch.cancel()


COMPRESSIONS = [None, grpc.Compression.Gzip, grpc.Compression.Deflate]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_health_is_never_said_to_be_compressed(
    channel: grpc.Channel, compression: grpc.Compression | None
) -> None:
    """grpcio 1.49 breaks on a Watch whose header names an encoding."""
    stub = health_pb2_grpc.HealthStub(channel)
    # Long enough for grpcio to compress it.
    request = health_pb2.HealthCheckRequest(service="x" * 500)
    watch = stub.Watch(request, timeout=PATIENCE, compression=compression)
    assert next(watch).status == SERVICE_UNKNOWN
    assert "grpc-encoding" not in dict(watch.initial_metadata())
    watch.cancel()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_channel_that_compresses_follows_health(
    connect: type[Caller], server: Roster, sample: Sample, compression: grpc.Compression | None
) -> None:
    with connect(server.address, FOLLOWING, compression=compression) as caller:
        for _ in range(3):
            assert people(caller.user(sample.ids, wait_for_ready=True)) == sample.people(sample.ids)


def test_watch_follows_the_store_and_the_end(tmp_path: Path, sample: Sample) -> None:
    store = tmp_path / "roster.db"
    with Roster(store) as server, grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="MyService"), timeout=PATIENCE)
        assert next(watch).status == SERVING
        for _ in range(2):
            store.rename(tmp_path / "away")
            assert next(watch).status == NOT_SERVING
            assert status(channel) == NOT_SERVING
            (tmp_path / "away").rename(store)
            assert next(watch).status == SERVING
        server.ask_to_stop()
        assert next(watch).status == NOT_SERVING
        with pytest.raises(grpc.RpcError) as ended:
            next(watch)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.exit_code() == 0


def test_a_channel_that_follows_health_leaves_and_comes_back(
    connect: type[Caller], tmp_path: Path, sample: Sample
) -> None:
    store = tmp_path / "roster.db"
    with Roster(store) as server:
        with connect(server.address, FOLLOWING) as caller, connect(server.address) as plain:
            assert people(caller.user([1, 2], wait_for_ready=True)) == sample.people([1, 2])
            for _ in range(2):
                store.rename(tmp_path / "away")
                until(
                    lambda: outcome(caller, [1, 2]) is grpc.StatusCode.UNAVAILABLE,
                    "the channel still calls a server that is NOT_SERVING",
                )
                # What is in memory is answered to whoever asks all the same.
                assert people(plain.user([1, 2])) == sample.people([1, 2])
                (tmp_path / "away").rename(store)
                assert people(caller.user([3], wait_for_ready=True)) == sample.people([3])


class Calling:
    """Two threads that call all the time, and note what fails."""

    def __init__(self, caller: Caller, sample: Sample) -> None:
        self.failures: list[str] = []
        self._caller = caller
        self._sample = sample
        self._calls = [0, 0]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(2)]

    def __enter__(self) -> Calling:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def get_on(self) -> None:
        """Waits until each has called fifty times more."""
        before = min(self._calls)
        until(lambda: min(self._calls) > before + 50, "the calls do not get on")

    def _call(self, n: int) -> None:
        while not self._over.is_set():
            try:
                assert people(self._caller.user([1, 2])) == self._sample.people([1, 2])
            except grpc.RpcError as error:
                self.failures.append(f"{error.code()}: {error.details()}")
            self._calls[n] += 1


def test_no_call_is_lost_when_one_of_two_servers_stops(
    connect: type[Caller], tmp_path: Path, sample: Sample
) -> None:
    with Roster(tmp_path / "a.db") as first, Roster(tmp_path / "b.db") as second:
        addresses = [server.address.replace("localhost", "127.0.0.1") for server in (first, second)]
        with connect("ipv4:" + ",".join(addresses), FOLLOWING) as caller:
            caller.user([1], wait_for_ready=True)
            with Calling(caller, sample) as calling:
                calling.get_on()
                first.stop()
                calling.get_on()
    assert not calling.failures, calling.failures[:3]


@pytest.mark.skipif(sys.platform != "linux", reason="--reuse-port is for Linux")
def test_no_call_is_lost_when_the_only_server_hands_its_address_over(
    connect: type[Caller], tmp_path: Path, sample: Sample
) -> None:
    with Roster(tmp_path / "roster.db", "--reuse-port") as first:
        with connect(first.address, FOLLOWING) as caller:
            caller.user([1], wait_for_ready=True)
            with Calling(caller, sample) as calling:
                calling.get_on()
                with Roster(tmp_path / "roster.db", "--reuse-port", port=first.port):
                    first.stop()
                    calling.get_on()
                    calling.__exit__()
    assert not calling.failures, calling.failures[:3]


def test_the_frozen_health_says_the_same(
    connect: type[Caller], tmp_path: Path, sample: Sample
) -> None:
    store = tmp_path / "roster.db"
    with Roster(store) as server, connect(server.address) as caller:
        assert caller.health() == empty_pb2.Empty()
        store.rename(tmp_path / "away")
        with pytest.raises(grpc.RpcError) as refused:
            caller.health()
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        (tmp_path / "away").rename(store)
        assert caller.health() == empty_pb2.Empty()
