"""The client, synchronous and for asyncio, of any MyService server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType

import api_pb2
import api_pb2_grpc
import grpc
from google.protobuf.empty_pb2 import Empty

from roster_peer.address import Address
from roster_peer.connection import authorization, call_error, channel_options
from roster_peer.tls import TLS
from roster_peer.user import INT32_MAX, INT32_MIN, User


class Client:
    """Calls one server. Threads may share it. Close it, or use it in `with`.

    Create it after a fork: a channel does not work in a forked process.
    """

    def __init__(
        self,
        address: str = "localhost:50051",
        tls: TLS | None = None,
        *,
        token: str | None = None,
        token_in_clear: bool = False,
    ) -> None:
        """Connects at the first call.

        Args:
            address: HOST:PORT; with tls the certificate must be for HOST.
            tls: CA certificates and client certificate; None calls without TLS.
            token: sent with every call, as "authorization: Bearer TOKEN".
            token_in_clear: send it without TLS to another machine, too: for a
                network that is encrypted by other means.

        Raises:
            TLSFileError: a file of tls cannot be used.
            ValueError: address is not HOST:PORT, or the token is malformed or
                would cross the network in the clear.
        """
        parsed = Address.parse(address)
        self.address = address
        self._tls = tls
        clear_ok = token_in_clear or tls is not None or parsed.is_loopback()
        self._metadata = authorization(token, clear_ok)
        options = channel_options(parsed)
        self._channel = (
            grpc.insecure_channel(str(parsed), options)
            if tls is None
            else grpc.secure_channel(str(parsed), tls.credentials(), options)
        )
        myservice = api_pb2_grpc.MyServiceStub(self._channel)
        self._user: grpc.UnaryUnaryMultiCallable[api_pb2.UserReq, api_pb2.UserReply]
        self._user = myservice.User
        self._health: grpc.UnaryUnaryMultiCallable[Empty, Empty]
        self._health = myservice.Health

    def get(self, ids: Iterable[int], timeout: float | None = 1.0) -> list[User]:
        """Returns the users with these ids, in the order of the ids.

        A repeated id is answered each time, an unknown one is left out.

        Args:
            ids: each an int32. Roster allows 10,000 by default (--max-batch).
            timeout: seconds for the whole call, connecting included; None waits
                for as long as it takes.

        Raises:
            CallError: the server is unreachable, refused or did not answer.
            ValueError: an id is not an int32, or the client is closed.
        """
        request = _request(ids)
        try:
            return _users(self._user(request, timeout=timeout, metadata=self._metadata))
        except grpc.RpcError as error:
            raise call_error(self.address, self._tls, "get", timeout, error) from error

    def health(self, timeout: float | None = 1.0) -> None:
        """Returns if the server answers and its store does.

        Args:
            timeout: as for get.

        Raises:
            CallError: as for get; UNAVAILABLE also if the store does not answer.
            ValueError: the client is closed.
        """
        try:
            self._health(Empty(), timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise call_error(
                self.address, self._tls, "health", timeout, error
            ) from error

    def close(self) -> None:
        """Closes the channel. Running calls end in CallError, CANCELLED."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient:
    """Client for asyncio. It belongs to the event loop in which it is created.

    Close it, or use it in `async with`. Cancelling a task cancels its call.
    """

    def __init__(
        self,
        address: str = "localhost:50051",
        tls: TLS | None = None,
        *,
        token: str | None = None,
        token_in_clear: bool = False,
    ) -> None:
        """Connects at the first call.

        Args:
            address: HOST:PORT; with tls the certificate must be for HOST.
            tls: CA certificates and client certificate; None calls without TLS.
            token: sent with every call, as "authorization: Bearer TOKEN".
            token_in_clear: send it without TLS to another machine, too: for a
                network that is encrypted by other means.

        Raises:
            RuntimeError: no event loop is running.
            TLSFileError: a file of tls cannot be used.
            ValueError: address is not HOST:PORT, or the token is malformed or
                would cross the network in the clear.
        """
        # Some versions of grpcio would create a loop that nothing runs.
        asyncio.get_running_loop()
        parsed = Address.parse(address)
        self.address = address
        self._tls = tls
        clear_ok = token_in_clear or tls is not None or parsed.is_loopback()
        self._metadata = authorization(token, clear_ok)
        options = channel_options(parsed)
        self._channel = (
            grpc.aio.insecure_channel(str(parsed), options)
            if tls is None
            else grpc.aio.secure_channel(str(parsed), tls.credentials(), options)
        )
        myservice = api_pb2_grpc.MyServiceStub(self._channel)
        self._user: grpc.aio.UnaryUnaryMultiCallable[api_pb2.UserReq, api_pb2.UserReply]
        self._user = myservice.User
        self._health: grpc.aio.UnaryUnaryMultiCallable[Empty, Empty]
        self._health = myservice.Health

    async def get(self, ids: Iterable[int], timeout: float | None = 1.0) -> list[User]:
        """As Client.get, but after close it raises grpcio's UsageError."""
        request = _request(ids)
        try:
            return _users(
                await self._user(request, timeout=timeout, metadata=self._metadata)
            )
        except grpc.RpcError as error:
            raise call_error(self.address, self._tls, "get", timeout, error) from error

    async def health(self, timeout: float | None = 1.0) -> None:
        """As Client.health, but after close it raises grpcio's UsageError."""
        try:
            await self._health(Empty(), timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise call_error(
                self.address, self._tls, "health", timeout, error
            ) from error

    async def close(self) -> None:
        """Closes the channel. Running calls are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _request(ids: Iterable[int]) -> api_pb2.UserReq:
    ids = list(ids)
    for id_ in ids:
        if not INT32_MIN <= id_ <= INT32_MAX:
            raise ValueError(f"id {id_} is not between {INT32_MIN} and {INT32_MAX}")
    return api_pb2.UserReq(userIDs=ids)


def _users(reply: api_pb2.UserReply) -> list[User]:
    return [User(user.name, user.age, user.email) for user in reply.data]
