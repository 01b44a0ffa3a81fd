"""Client and AsyncClient: the same scenarios through both."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import api_pb2
import api_pb2_grpc
import grpc
import pytest
from support import ANN, BOB, PATIENCE, ZOE, GateStore, run_program

from roster_peer import AsyncClient, CallError, Client, Server, User


class Caller(Protocol):
    """Either client, each call on a connection of its own."""

    def get(self, address: str, ids: list[int], timeout: float) -> list[User]: ...
    def health(self, address: str, timeout: float) -> None: ...


class Sync:
    def get(self, address: str, ids: list[int], timeout: float) -> list[User]:
        with Client(address) as client:
            return client.get(ids, timeout)

    def health(self, address: str, timeout: float) -> None:
        with Client(address) as client:
            client.health(timeout)


class Async:
    def get(self, address: str, ids: list[int], timeout: float) -> list[User]:
        async def call() -> list[User]:
            async with AsyncClient(address) as client:
                return await client.get(ids, timeout)

        return asyncio.run(call())

    def health(self, address: str, timeout: float) -> None:
        async def call() -> None:
            async with AsyncClient(address) as client:
                await client.health(timeout)

        asyncio.run(call())


@pytest.fixture(params=[Sync(), Async()], ids=["sync", "async"])
def caller(request: pytest.FixtureRequest) -> Caller:
    made: Caller = request.param
    return made


@contextmanager
def other_server(register: Callable[[grpc.Server], object]) -> Iterator[str]:
    """Runs a grpcio server that is not ours, without TLS; yields its address."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


class ReturnsNone(api_pb2_grpc.MyServiceServicer):  # type: ignore[misc]
    """The mistake of a handler without a return."""

    def Health(self, request: object, context: object) -> None:
        return None

    def User(self, request: object, context: object) -> None:
        return None


class Huge(api_pb2_grpc.MyServiceServicer):  # type: ignore[misc]
    """Answers more than grpcio's clients accept."""

    def User(self, request: object, context: object) -> api_pb2.UserReply:
        return api_pb2.UserReply(data=[api_pb2.User(name="n" * (5 << 20))])


class Picky(api_pb2_grpc.MyServiceServicer):  # type: ignore[misc]
    """Refuses calls with a text of its own."""

    def User(self, request: object, context: Any) -> None:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not on Sundays")


def hosting(servicer: object) -> Callable[[grpc.Server], object]:
    return lambda server: api_pb2_grpc.add_MyServiceServicer_to_server(servicer, server)


def test_get_answers_users_in_the_order_asked(server: Server, caller: Caller) -> None:
    users = caller.get(server.address, [-7, 1, 99, 2, 1], PATIENCE)
    assert users == [ZOE, ANN, BOB, ANN]


def test_get_of_nothing_is_nothing(server: Server, caller: Caller) -> None:
    assert caller.get(server.address, [], PATIENCE) == []


def test_health_of_a_server_that_answers(server: Server, caller: Caller) -> None:
    caller.health(server.address, PATIENCE)


def test_nobody_there_is_unavailable_and_names_the_address(caller: Caller) -> None:
    with socket.socket() as unheard:
        # It is bound but does not listen, so no other program can take the port.
        unheard.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(CallError) as caught:
            caller.get(address, [1], PATIENCE)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.address == address
    assert str(caught.value).startswith(
        f"get at {address}: UNAVAILABLE: no answer: nothing listens there, it is "
        "not a plain gRPC server, or it is going away ("
    )


def test_a_server_that_says_nothing_is_deadline_exceeded(caller: Caller) -> None:
    store = GateStore()
    with Server(store, "127.0.0.1:0") as server:
        with pytest.raises(CallError) as caught:
            caller.get(server.address, [1], 0.2)
        store.gate.set()
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert str(caught.value) == (
        f"get at {server.address}: DEADLINE_EXCEEDED: no answer within 0.2 s"
    )


def test_a_server_without_myservice_says_so(caller: Caller) -> None:
    with other_server(lambda server: None) as address:
        with pytest.raises(CallError) as caught:
            caller.health(address, PATIENCE)
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
    assert str(caught.value) == (
        f"health at {address}: UNIMPLEMENTED: the server does not host MyService "
        "(Method not found!)"
    )


def test_a_handler_that_returns_none_is_named_as_the_cause(caller: Caller) -> None:
    with other_server(hosting(ReturnsNone())) as address:
        for call in (
            lambda: caller.health(address, PATIENCE),
            lambda: caller.get(address, [1], PATIENCE),
        ):
            with pytest.raises(
                CallError, match="handler returned no message"
            ) as caught:
                call()
            assert caught.value.code is grpc.StatusCode.INTERNAL


def test_a_reply_over_4_mib_says_what_to_do(caller: Caller) -> None:
    with other_server(hosting(Huge())) as address:
        with pytest.raises(CallError, match="ask for fewer ids at a time") as caught:
            caller.get(address, [1], PATIENCE)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_servers_own_words_are_kept(caller: Caller) -> None:
    with other_server(hosting(Picky())) as address:
        with pytest.raises(CallError) as caught:
            caller.get(address, [1], PATIENCE)
    assert caught.value.details == "not on Sundays"
    assert str(caught.value) == f"get at {address}: PERMISSION_DENIED: not on Sundays"


@pytest.mark.parametrize("id_", [2**31, -(2**31) - 1])
def test_an_id_that_is_no_int32_is_refused(
    server: Server, caller: Caller, id_: int
) -> None:
    with pytest.raises(ValueError, match=f"id {id_} is not between -2147483648 and"):
        caller.get(server.address, [1, id_], PATIENCE)


def test_an_address_that_is_none_is_refused(caller: Caller) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        caller.health("localhost", PATIENCE)


@pytest.mark.parametrize("flags", [[], ["--async"]], ids=["sync", "async"])
def test_a_proxy_in_the_environment_does_not_take_localhost_away(
    server: Server, flags: list[str]
) -> None:
    # A program of its own: grpcio reads the environment in C.
    done = run_program(
        *("get", "1", "--server", server.address, "--timeout", "10", *flags),
        http_proxy="http://127.0.0.1:1",
    )
    assert done.code == 0, done.err


def test_a_user_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ANN.age = 32  # type: ignore[misc]


def test_a_client_is_shared_by_threads(server: Server) -> None:
    with Client(server.address) as client, ThreadPoolExecutor(20) as threads:
        answers = threads.map(lambda n: client.get([1] * n, PATIENCE), range(100))
        assert [len(answer) for answer in answers] == list(range(100))


def test_a_closed_client_refuses(server: Server) -> None:
    client = Client(server.address)
    client.close()
    with pytest.raises(ValueError, match="closed channel"):
        client.get([1])


def test_closing_ends_a_running_call() -> None:
    store = GateStore()
    with Server(store, "127.0.0.1:0") as server, ThreadPoolExecutor(1) as threads:
        client = Client(server.address)
        call = threads.submit(client.get, [1], None)
        store.wait_for_calls(1)
        client.close()
        with pytest.raises(CallError) as caught:
            call.result(PATIENCE)
        store.gate.set()
    assert caught.value.code is grpc.StatusCode.CANCELLED


def test_calls_of_one_async_client_run_together() -> None:
    store = GateStore()

    async def call_ten(address: str) -> list[list[User]]:
        async with AsyncClient(address) as client:
            calls = [asyncio.create_task(client.get([1], PATIENCE)) for _ in range(10)]
            await asyncio.to_thread(store.wait_for_calls, 10)
            store.gate.set()
            return await asyncio.gather(*calls)

    with Server(store, "127.0.0.1:0") as server:
        assert asyncio.run(call_ten(server.address)) == [[ANN]] * 10


def test_cancelling_a_task_cancels_its_call() -> None:
    store = GateStore()
    gone = threading.Event()

    class Watched(api_pb2_grpc.MyServiceServicer):  # type: ignore[misc]
        def User(self, request: object, context: Any) -> api_pb2.UserReply:
            context.add_callback(gone.set)
            store.get([])
            return api_pb2.UserReply()

    async def cancel(address: str) -> None:
        async with AsyncClient(address) as client:
            task = asyncio.create_task(client.get([1], PATIENCE))
            await asyncio.to_thread(store.wait_for_calls, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(gone.wait, PATIENCE)

    with other_server(hosting(Watched())) as address:
        asyncio.run(cancel(address))
        store.gate.set()


def test_an_async_client_needs_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncClient("127.0.0.1:1")
