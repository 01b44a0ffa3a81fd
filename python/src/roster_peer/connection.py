"""What the clients share: the address, the token, and errors in words."""

from __future__ import annotations

import re

import grpc

from roster_peer.address import Address
from roster_peer.details import details
from roster_peer.errors import (
    AlreadyExistsError,
    CallError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
)
from roster_peer.tls import TLS

Metadata = tuple[tuple[str, str], ...]


def channel_options(address: Address) -> list[tuple[str, int]]:
    """Returns the options of a channel to address."""
    # If http_proxy is set in the environment, grpcio would send even calls to the
    # loopback to the proxy.
    return [("grpc.enable_http_proxy", 0)] if address.is_loopback() else []


def authorization(token: str | None, clear_ok: bool) -> Metadata:
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


_CLASSES: dict[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRangeError,
    grpc.StatusCode.ABORTED: ConflictError,
}


def call_error(
    address: str,
    tls: TLS | None,
    method: str,
    timeout: float | None,
    error: grpc.RpcError,
    service: str = "MyService",
) -> CallError:
    """Returns the error of this package for one of grpcio."""
    # Every RpcError that a call raises is a grpc.Call or an AioRpcError.
    code: grpc.StatusCode = error.code()
    text: str = error.details() or ""
    words = _words(code, text, timeout, service)
    if tls is not None and code is grpc.StatusCode.UNAVAILABLE:
        words = f"{_tls_words(tls, text)} ({text})"
    more = details(error.trailing_metadata())
    return _CLASSES.get(code, CallError)(address, method, code, text, words, more)


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


def _words(
    code: grpc.StatusCode, details: str, timeout: float | None, service: str
) -> str:
    """Says what the status means to the user, with the server's text."""
    advice = {
        grpc.StatusCode.UNAVAILABLE: (
            "no answer: nothing listens there, it is not a plain gRPC server, or "
            "it is going away"
        ),
        grpc.StatusCode.DEADLINE_EXCEEDED: f"no answer within {timeout} s",
        grpc.StatusCode.UNIMPLEMENTED: f"the server does not host {service}",
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
