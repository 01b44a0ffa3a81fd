"""The errors of this package, each written for the person who reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc


class RosterPeerError(Exception):
    """The base of this package's errors."""


class UsersFileError(RosterPeerError):
    """A users file cannot be served; the text names the file and the line."""


class ListenError(RosterPeerError):
    """A server cannot listen on its address; the text says why."""


class TLSFileError(RosterPeerError):
    """A client's TLS files cannot be used; the text names the file and why."""


class CallError(RosterPeerError):
    """A call failed. The text names the address, the call and the status."""

    #: The server's address as the client was given it.
    address: str
    #: The gRPC status, for programs that decide by it.
    code: grpc.StatusCode
    #: The status message as it came over the wire, or grpcio's own.
    details: str

    def __init__(
        self, address: str, method: str, code: grpc.StatusCode, details: str, words: str
    ) -> None:
        super().__init__(f"{method} at {address}: {code.name}: {words}")
        self.address = address
        self.code = code
        self.details = details
