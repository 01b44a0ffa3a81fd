"""The client, synchronous and for asyncio, of any MyService server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from types import TracebackType

import api_pb2
import api_pb2_grpc
import grpc
from google.protobuf.empty_pb2 import Empty

from roster_peer.address import Address
from roster_peer.errors import CallError
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
        self._metadata = _metadata(token, clear_ok)
        options = _channel_options(parsed)
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
            raise _call_error(self.address, self._tls, "get", timeout, error) from error

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
            raise _call_error(
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
        self._metadata = _metadata(token, clear_ok)
        options = _channel_options(parsed)
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
            raise _call_error(self.address, self._tls, "get", timeout, error) from error

    async def health(self, timeout: float | None = 1.0) -> None:
        """As Client.health, but after close it raises grpcio's UsageError."""
        try:
            await self._health(Empty(), timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _call_error(
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


def _channel_options(address: Address) -> list[tuple[str, int]]:
    # If http_proxy is set in the environment, grpcio would send even calls to the
    # loopback to the proxy.
    return [("grpc.enable_http_proxy", 0)] if address.is_loopback() else []


def _metadata(token: str | None, clear_ok: bool) -> tuple[tuple[str, str], ...]:
    """Returns the metadata of every call. Errors do not contain the token."""
    if token is None:
        return ()
    # RFC 6750 §2.1; grpcio would only say "metadata was invalid".
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        raise ValueError(
            "the token is empty or has a character that no token has: a space, a "
            "line's end or a quotation mark, perhaps"
        )
    if not clear_ok:
        raise ValueError(
            "the token would cross the network in the clear: call with tls, or say "
            "that the network is encrypted by itself (token_in_clear)"
        )
    return (("authorization", f"Bearer {token}"),)


def _request(ids: Iterable[int]) -> api_pb2.UserReq:
    ids = list(ids)
    for id_ in ids:
        if not INT32_MIN <= id_ <= INT32_MAX:
            raise ValueError(f"id {id_} is not between {INT32_MIN} and {INT32_MAX}")
    return api_pb2.UserReq(userIDs=ids)


def _users(reply: api_pb2.UserReply) -> list[User]:
    return [User(user.name, user.age, user.email) for user in reply.data]


def _call_error(
    address: str,
    tls: TLS | None,
    method: str,
    timeout: float | None,
    error: grpc.RpcError,
) -> CallError:
    # Every RpcError that a unary call raises is a grpc.Call or an AioRpcError.
    code: grpc.StatusCode = error.code()
    details: str = error.details() or ""
    words = _words(code, details, timeout)
    if tls is not None and code is grpc.StatusCode.UNAVAILABLE:
        words = f"{_tls_words(tls, details)} ({details})"
    return CallError(address, method, code, details, words)


def _tls_words(tls: TLS, details: str) -> str:
    """Says what grpcio's text for a failed handshake means."""
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return (
            "the server's certificate is not trusted: trust its issuer (ca), use a "
            "name that is in it, or see that it has not expired and that this "
            "machine's clock is right"
        )
    if "WRONG_VERSION_NUMBER" in details:
        return "the server speaks plain gRPC and was called with TLS"
    # grpcio does not distinguish these: a server that refuses the certificate
    # closes the connection, and grpcio does not pass its alert on.
    certificate = "accept the certificate shown" if tls.cert else "go without one"
    return (
        "no answer: nothing listens there, it does not serve gRPC with TLS, it asks "
        f"for client certificates and may not {certificate}, or it is going away"
    )


def _words(code: grpc.StatusCode, details: str, timeout: float | None) -> str:
    """Says what the status means to the user, with the server's text."""
    advice = {
        grpc.StatusCode.UNAVAILABLE: (
            "no answer: nothing listens there, it is not a plain gRPC server, or "
            "it is going away"
        ),
        grpc.StatusCode.DEADLINE_EXCEEDED: f"no answer within {timeout} s",
        grpc.StatusCode.UNIMPLEMENTED: "the server does not host MyService",
        grpc.StatusCode.RESOURCE_EXHAUSTED: (
            "over a limit, such as 4 MiB for a reply; ask for fewer ids at a time"
        ),
    }.get(code, "")
    # A Python handler that returns None gets this from grpcio.
    if code is grpc.StatusCode.INTERNAL and "serialize response" in details:
        advice = "the server's handler returned no message"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and timeout is not None:
        return advice
    return f"{advice} ({details})" if advice and details else advice or details
