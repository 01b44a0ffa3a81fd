"""One way to call for both of grpcio's: every test of it runs with grpc and with grpc.aio.

Both are real clients on the stubs that protoc made of the frozen contract. Their
calls take grpcio's own keywords: timeout, metadata, compression, wait_for_ready.
"""

from __future__ import annotations

import abc
import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import api_pb2
import api_pb2_grpc
import grpc
import grpc.aio
from google.protobuf import empty_pb2

from serving import PATIENCE
from wire import Kind, Wire

#: Options of a channel, as grpcio takes them.
Options = Sequence[tuple[str, Any]]


class Outcome(NamedTuple):
    """How a call ended."""

    code: grpc.StatusCode
    details: str
    reply: api_pb2.UserReply | None


class Call(abc.ABC):
    """A call that was started."""

    @abc.abstractmethod
    def cancel(self) -> None:
        """Asks for it to end as CANCELLED."""

    @abc.abstractmethod
    def outcome(self) -> Outcome:
        """How it ended, once it has."""


class OpenCall(Call):
    """A call of User whose message the client has yet to send: the server is waiting for it."""

    @abc.abstractmethod
    def send(self, ids: Iterable[int]) -> None:
        """The message, and the end of the request."""


class Caller(abc.ABC):
    """A channel to one address."""

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the channel."""

    @abc.abstractmethod
    def user(self, ids: Iterable[int], **options: Any) -> api_pb2.UserReply:
        """MyService.User; raises grpc.RpcError."""

    @abc.abstractmethod
    def health(self, **options: Any) -> empty_pb2.Empty:
        """MyService.Health; raises grpc.RpcError."""

    @abc.abstractmethod
    def send_bytes(self, path: str, message: bytes, **options: Any) -> bytes:
        """Any method, with any bytes as its message; raises grpc.RpcError."""

    @abc.abstractmethod
    def start_user(self, ids: Iterable[int], **options: Any) -> Call:
        """MyService.User, under way."""

    @abc.abstractmethod
    def open_user(self, **options: Any) -> OpenCall:
        """MyService.User, its headers on the way, its message not yet."""

    @abc.abstractmethod
    def all_at_once(self, requests: Iterable[Sequence[int]]) -> list[api_pb2.UserReply]:
        """One call of User for each of requests, none of which waits for another."""

    @abc.abstractmethod
    def wait_until_ready(self) -> None:
        """Until the channel is READY."""


def call_that_the_server_has(caller: Caller, wire: Wire, **options: Any) -> OpenCall:
    """A call that runs: the server waits for its message."""
    running = caller.open_user(**options)
    wire.wait_for(Kind.HEADERS, from_client=True)
    # The server takes headers in the order in which they come. So once it has
    # answered this call, it has the one before.
    caller.health()
    return running


def user_request(ids: Iterable[int]) -> api_pb2.UserReq:
    return api_pb2.UserReq(userIDs=ids)


def bounded(options: dict[str, Any]) -> dict[str, Any]:
    """Options with a deadline, so that a call that hangs says so."""
    return {"timeout": PATIENCE, **options}


class SyncCaller(Caller):
    """grpc."""

    def __init__(
        self,
        address: str,
        options: Options = (),
        compression: grpc.Compression | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options, compression)
        else:
            self._channel = grpc.secure_channel(address, credentials, options, compression)
        self._stub = api_pb2_grpc.MyServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def user(self, ids: Iterable[int], **options: Any) -> api_pb2.UserReply:
        return self._stub.User(user_request(ids), **bounded(options))

    def health(self, **options: Any) -> empty_pb2.Empty:
        return self._stub.Health(empty_pb2.Empty(), **bounded(options))

    def send_bytes(self, path: str, message: bytes, **options: Any) -> bytes:
        return self._channel.unary_unary(path)(message, **bounded(options))

    def start_user(self, ids: Iterable[int], **options: Any) -> Call:
        return SyncCall(self._stub.User.future(user_request(ids), **bounded(options)))

    def open_user(self, **options: Any) -> OpenCall:
        return SyncOpenCall(self._channel, bounded(options))

    def all_at_once(self, requests: Iterable[Sequence[int]]) -> list[api_pb2.UserReply]:
        futures = [self._stub.User.future(user_request(ids), timeout=PATIENCE) for ids in requests]
        return [future.result() for future in futures]

    def wait_until_ready(self) -> None:
        grpc.channel_ready_future(self._channel).result(PATIENCE)


class SyncCall(Call):
    def __init__(self, future: Any) -> None:
        self._future = future

    def cancel(self) -> None:
        self._future.cancel()

    def outcome(self) -> Outcome:
        # code and details wait for the end of the call, which has a deadline.
        code, details = self._future.code(), self._future.details()
        reply = self._future.result() if code is grpc.StatusCode.OK else None
        return Outcome(code, details, reply)


class SyncOpenCall(SyncCall, OpenCall):
    def __init__(self, channel: grpc.Channel, options: dict[str, Any]) -> None:
        self._message: queue.SimpleQueue[api_pb2.UserReq] = queue.SimpleQueue()
        call = channel.stream_unary(
            "/MyService/User",
            request_serializer=api_pb2.UserReq.SerializeToString,
            response_deserializer=api_pb2.UserReply.FromString,
        )
        super().__init__(call.future(self._messages(), **options))

    def _messages(self) -> Iterator[api_pb2.UserReq]:
        yield self._message.get()

    def send(self, ids: Iterable[int]) -> None:
        self._message.put(user_request(ids))

    def outcome(self) -> Outcome:
        outcome = super().outcome()
        # For a call that ended without: grpcio's thread still waits for the message.
        self.send([])
        return outcome


class AsyncioCaller(Caller):
    """grpc.aio, in an event loop that lives as long as its channel."""

    _channel: grpc.aio.Channel
    _loop: asyncio.AbstractEventLoop
    _end: asyncio.Event

    def __init__(
        self,
        address: str,
        options: Options = (),
        compression: grpc.Compression | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        started: concurrent.futures.Future[None] = concurrent.futures.Future()

        def channel() -> grpc.aio.Channel:
            if credentials is None:
                return grpc.aio.insecure_channel(address, options, compression)
            return grpc.aio.secure_channel(address, credentials, options, compression)

        async def live() -> None:
            self._loop = asyncio.get_running_loop()
            self._end = asyncio.Event()
            async with channel() as self._channel:
                self._stub = api_pb2_grpc.MyServiceStub(self._channel)
                started.set_result(None)
                await self._end.wait()

        def run() -> None:
            try:
                asyncio.run(live())
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        self._thread = threading.Thread(target=run)
        self._thread.start()
        started.result(PATIENCE)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the event loop of grpc.aio did not end"

    def run(self, coroutine: Any) -> Any:
        """The result of a coroutine in the channel's loop."""
        # The bound is beyond the deadline that each call has.
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(2 * PATIENCE)

    def user(self, ids: Iterable[int], **options: Any) -> api_pb2.UserReply:
        async def call() -> api_pb2.UserReply:
            return await self._stub.User(user_request(ids), **bounded(options))

        return self.run(call())

    def health(self, **options: Any) -> empty_pb2.Empty:
        async def call() -> empty_pb2.Empty:
            return await self._stub.Health(empty_pb2.Empty(), **bounded(options))

        return self.run(call())

    def send_bytes(self, path: str, message: bytes, **options: Any) -> bytes:
        async def call() -> bytes:
            return await self._channel.unary_unary(path)(message, **bounded(options))

        return self.run(call())

    def start_user(self, ids: Iterable[int], **options: Any) -> Call:
        async def start() -> Any:
            return self._stub.User(user_request(ids), **bounded(options))

        return AsyncioCall(self, self.run(start()))

    def open_user(self, **options: Any) -> OpenCall:
        return AsyncioOpenCall(self, self._channel, bounded(options))

    def all_at_once(self, requests: Iterable[Sequence[int]]) -> list[api_pb2.UserReply]:
        async def gather() -> list[api_pb2.UserReply]:
            return await asyncio.gather(
                *(self._stub.User(user_request(ids), timeout=PATIENCE) for ids in requests)
            )

        return self.run(gather())

    def wait_until_ready(self) -> None:
        self.run(asyncio.wait_for(self._channel.channel_ready(), PATIENCE))


class AsyncioCall(Call):
    def __init__(self, caller: AsyncioCaller, call: Any) -> None:
        self._caller = caller
        self._call = call

    def cancel(self) -> None:
        async def cancel() -> None:
            self._call.cancel()

        self._caller.run(cancel())

    def outcome(self) -> Outcome:
        async def end() -> Outcome:
            code, details = await self._call.code(), await self._call.details()
            reply = await self._call if code is grpc.StatusCode.OK else None
            return Outcome(code, details, reply)

        return self._caller.run(end())


class AsyncioOpenCall(AsyncioCall, OpenCall):
    def __init__(
        self, caller: AsyncioCaller, channel: grpc.aio.Channel, options: dict[str, Any]
    ) -> None:
        async def start() -> Any:
            self._message: asyncio.Queue[api_pb2.UserReq] = asyncio.Queue()
            call = channel.stream_unary(
                "/MyService/User",
                request_serializer=api_pb2.UserReq.SerializeToString,
                response_deserializer=api_pb2.UserReply.FromString,
            )
            return call(self._messages(), **options)

        super().__init__(caller, caller.run(start()))

    async def _messages(self) -> AsyncIterator[api_pb2.UserReq]:
        yield await self._message.get()

    def send(self, ids: Iterable[int]) -> None:
        async def send() -> None:
            self._message.put_nowait(user_request(ids))

        self._caller.run(send())
