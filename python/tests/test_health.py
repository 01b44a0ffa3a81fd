"""The health and reflection services, as real clients of them see it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from support import PATIENCE, USERS

from roster_peer import Client, MemoryStore, Server

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING


def health_client(channel: grpc.Channel) -> Any:
    """grpcio's own client of grpc.health.v1, which has no types."""
    return health_pb2_grpc.HealthStub(channel)


def reflection_client(channel: grpc.Channel) -> Any:
    """grpcio's own client of the reflection service, which has no types."""
    return ServerReflectionStub(channel)


@pytest.mark.parametrize("service", ["", "MyService"])
def test_check_says_serving(channel: grpc.Channel, service: str) -> None:
    health = health_client(channel)
    answer = health.Check(HealthCheckRequest(service=service), timeout=PATIENCE)
    assert answer.status == SERVING


def test_check_of_a_service_not_hosted_is_not_found(channel: grpc.Channel) -> None:
    health = health_client(channel)
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(HealthCheckRequest(service="Other"), timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no service 'Other' here"


@pytest.mark.parametrize("service", ["", "MyService"])
def test_watch_says_serving_then_not_serving_at_the_drain_and_ends(
    service: str,
) -> None:
    with Server(MemoryStore(USERS), "127.0.0.1:0") as server:
        with grpc.insecure_channel(server.address) as channel:
            health = health_client(channel)
            request = HealthCheckRequest(service=service)
            answers = health.Watch(request, timeout=PATIENCE)
            assert next(answers).status == SERVING
            # A drain does not wait for watchers, so it ends at once.
            assert server.drain(grace=PATIENCE)
            assert [answer.status for answer in answers] == [NOT_SERVING]
            assert answers.code() is grpc.StatusCode.OK


def test_watch_of_a_service_not_hosted_says_unknown(channel: grpc.Channel) -> None:
    health = health_client(channel)
    answers = health.Watch(HealthCheckRequest(service="Other"), timeout=PATIENCE)
    assert next(answers).status == HealthCheckResponse.SERVICE_UNKNOWN
    answers.cancel()


def test_watchers_take_no_worker() -> None:
    with (
        Server(MemoryStore(USERS), "127.0.0.1:0", workers=1) as server,
        grpc.insecure_channel(server.address) as channel,
        Client(server.address) as client,
    ):
        health = health_client(channel)
        watches = [
            health.Watch(HealthCheckRequest(), timeout=PATIENCE) for _ in range(20)
        ]
        assert [next(watch).status for watch in watches] == [SERVING] * 20
        client.health(PATIENCE)


def test_watchers_that_come_and_go_do_not_hang_the_server(server: Server) -> None:
    """grpcio-health-checking's own servicer hangs here within a few streams."""

    def come_and_go(_: int) -> None:
        with grpc.insecure_channel(server.address) as channel:
            health = health_client(channel)
            for _ in range(50):
                watch = health.Watch(HealthCheckRequest(), timeout=PATIENCE)
                assert next(watch).status == SERVING
                watch.cancel()

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(come_and_go, range(8)))


def test_watchers_that_leave_during_a_drain_do_not_hang_it() -> None:
    with Server(MemoryStore(USERS), "127.0.0.1:0") as server:
        with grpc.insecure_channel(server.address) as channel:
            health = health_client(channel)
            watches = [
                health.Watch(HealthCheckRequest(), timeout=PATIENCE) for _ in range(200)
            ]
            assert [next(watch).status for watch in watches] == [SERVING] * 200
            leaving = threading.Thread(
                target=lambda: [watch.cancel() for watch in watches]
            )
            leaving.start()
            assert server.drain(grace=PATIENCE)
            leaving.join(PATIENCE)


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    reflection = reflection_client(channel)
    request = ServerReflectionRequest(list_services="")
    [answer] = reflection.ServerReflectionInfo(iter([request]), timeout=PATIENCE)
    names = {service.name for service in answer.list_services_response.service}
    assert names == {
        "MyService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_reflection_gives_the_contract(channel: grpc.Channel) -> None:
    reflection = reflection_client(channel)
    request = ServerReflectionRequest(file_containing_symbol="MyService")
    [answer] = reflection.ServerReflectionInfo(iter([request]), timeout=PATIENCE)
    files = [
        FileDescriptorProto.FromString(file)
        for file in answer.file_descriptor_response.file_descriptor_proto
    ]
    [contract] = [file for file in files if file.name == "api.proto"]
    [service] = contract.service
    assert [method.name for method in service.method] == ["Health", "User"]
    assert contract.package == ""


def test_the_health_service_is_described_too(channel: grpc.Channel) -> None:
    reflection = reflection_client(channel)
    symbol = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    request = ServerReflectionRequest(file_containing_symbol=symbol)
    [answer] = reflection.ServerReflectionInfo(iter([request]), timeout=PATIENCE)
    assert answer.file_descriptor_response.file_descriptor_proto
