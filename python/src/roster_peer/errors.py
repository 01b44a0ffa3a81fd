"""The errors of this package, each written for the person who reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

    from roster_peer.details import Details, Violation
    from roster_peer.records import Record


class RosterPeerError(Exception):
    """The base of this package's errors."""


class UsersFileError(RosterPeerError):
    """A users file cannot be served; the text names the file and the line."""


class ListenError(RosterPeerError):
    """A server cannot listen on its address; the text says why."""


class TLSFileError(RosterPeerError):
    """A client's TLS files cannot be used; the text names the file and why."""


class StaleError(RosterPeerError):
    """A copy cannot say that it is as fresh as its caller asked for."""

    #: How old the copy may be, in seconds; infinite before it has all users.
    age: float

    def __init__(self, age: float, words: str) -> None:
        super().__init__(words)
        self.age = age


class CallError(RosterPeerError):
    """A call failed. The text names the address, the call and the status."""

    #: The server's address as the client was given it.
    address: str
    #: The gRPC status, for programs that decide by it.
    code: grpc.StatusCode
    #: The status message as it came over the wire, or grpcio's own.
    details: str
    #: The fields of the request that the server refused, if it named them.
    violations: tuple[Violation, ...] = ()
    #: How many seconds the server asked to wait; 0 if it did not say.
    retry_after: float = 0.0

    def __init__(
        self,
        address: str,
        method: str,
        code: grpc.StatusCode,
        details: str,
        words: str,
        more: Details | None = None,
    ) -> None:
        super().__init__(f"{method} at {address}: {code.name}: {words}")
        self.address = address
        self.code = code
        self.details = details
        if more is not None:
            self.violations = more.violations
            self.retry_after = more.retry_after


class NotFoundError(CallError):
    """NOT_FOUND: nobody has the id."""


class AlreadyExistsError(CallError):
    """ALREADY_EXISTS: another user has the id or the email."""


class InvalidArgumentError(CallError):
    """INVALID_ARGUMENT: see violations for the fields."""


class OutOfRangeError(CallError):
    """OUT_OF_RANGE: the revision is not in the history, or of another epoch."""


class ConflictError(CallError):
    """ABORTED: the user is no longer as the etag says. Nothing was written."""

    #: The user as it is now, None if the server did not say.
    present: Record | None = None

    def __init__(
        self,
        address: str,
        method: str,
        code: grpc.StatusCode,
        details: str,
        words: str,
        more: Details | None = None,
    ) -> None:
        super().__init__(address, method, code, details, words, more)
        if more is not None:
            self.present = more.present
