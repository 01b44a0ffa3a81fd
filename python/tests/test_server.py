"""What a server does with calls that are wrong, too many or too large."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import api_pb2
import api_pb2_grpc
import grpc
import pytest
from support import ANN, PATIENCE, USERS, BrokenStore, GateStore

from roster_peer import CallError, Client, MemoryStore, Server


def failure(
    channel: grpc.Channel, path: str, request: bytes
) -> tuple[grpc.StatusCode, str]:
    """The status and details of a call that must fail."""
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=PATIENCE)
    return caught.value.code(), caught.value.details() or ""


def test_a_batch_over_the_limit_is_refused_with_both_numbers() -> None:
    store = MemoryStore(USERS)
    with Server(store, "127.0.0.1:0", max_batch=3) as server:
        with Client(server.address) as client:
            assert client.get([1, 1, 1], PATIENCE) == [ANN] * 3
            with pytest.raises(CallError) as caught:
                client.get([1, 1, 1, 1], PATIENCE)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details == "4 ids in one call, this server takes at most 3"


def test_malformed_protobuf_is_refused(channel: grpc.Channel) -> None:
    code, details = failure(channel, "/MyService/User", b"\x0a\xff\xff")
    assert code is grpc.StatusCode.INTERNAL
    assert "deserializing request" in details


def test_a_message_over_4_mib_is_refused(channel: grpc.Channel) -> None:
    request = api_pb2.UserReq(userIDs=[1] * (4 << 20)).SerializeToString()
    code, details = failure(channel, "/MyService/User", request)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4194304" in details


def test_metadata_over_the_limit_is_refused(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        api_pb2_grpc.MyServiceStub(channel).User(
            api_pb2.UserReq(), timeout=PATIENCE, metadata=[("x-long", "a" * 64_000)]
        )
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    code, _ = failure(channel, "/MyService/Users", b"")
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_an_error_of_the_store_is_logged_and_not_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Server(BrokenStore(), "127.0.0.1:0") as server:
        with Client(server.address) as client, pytest.raises(CallError) as caught:
            client.get([1, 2], PATIENCE)
    assert caught.value.code is grpc.StatusCode.INTERNAL
    assert caught.value.details == "internal error"
    [record] = [r for r in caplog.records if r.name == "roster_peer.service"]
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "User: the store failed on 2 ids"
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])


def test_as_many_calls_run_at_a_time_as_there_are_workers() -> None:
    store = GateStore()
    with (
        Server(store, "127.0.0.1:0", workers=2) as server,
        Client(server.address) as client,
        ThreadPoolExecutor(3) as callers,
    ):
        calls = [callers.submit(client.get, [1], PATIENCE) for _ in range(3)]
        store.wait_for_calls(2)
        assert not store.entered.acquire(timeout=0.3), "a third call runs"
        store.gate.set()
        assert [call.result(PATIENCE) for call in calls] == [[ANN]] * 3


def test_ten_workers_unless_told_otherwise() -> None:
    store = GateStore()
    with (
        Server(store, "127.0.0.1:0") as server,
        Client(server.address) as client,
        ThreadPoolExecutor(11) as callers,
    ):
        for _ in range(11):
            callers.submit(client.get, [1], PATIENCE)
        store.wait_for_calls(10)
        assert not store.entered.acquire(timeout=0.3), "an eleventh call runs"
        store.gate.set()


def test_a_hundred_callers_at_once_all_get_their_own_answer(server: Server) -> None:
    together = threading.Barrier(100)

    def call(number: int) -> int:
        with Client(server.address) as client:
            together.wait(PATIENCE)
            return len(client.get([1] * number, PATIENCE))

    with ThreadPoolExecutor(100) as callers:
        assert list(callers.map(call, range(100))) == list(range(100))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is 0, at least 1 is needed"),
        ({"max_batch": 0}, "max_batch is 0, at least 1 is needed"),
    ],
)
def test_a_server_of_nothing_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Server(MemoryStore(USERS), "127.0.0.1:0", **options)
