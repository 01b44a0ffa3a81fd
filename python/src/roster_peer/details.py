"""The details of an error: the google.rpc.Status in a call's trailers.

It is read here by the wire format of protobuf, since the package that has its
classes, googleapis-common-protos, is one more dependency for four small messages.
A detail that cannot be read is left out: the code and the text say enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from roster.v1 import directory_pb2 as pb

from roster_peer import records

_TRAILER = "grpc-status-details-bin"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Violation:
    """A field of a request that the server refused (google.rpc.BadRequest)."""

    #: Its path, such as "user.name".
    field: str
    description: str
    #: The rule, such as "STRING_MIN_BYTES"; empty if the server does not name it.
    reason: str = ""


@dataclass(frozen=True)
class Details:
    """What a server said of an error besides its code and its text."""

    violations: tuple[Violation, ...] = ()
    #: Seconds to wait before another attempt; 0 if the server did not say.
    retry_after: float = 0.0
    #: The user as it is, of a write that was refused because it has changed.
    present: records.Record | None = None


def details(trailers: Iterable[Any] | None) -> Details:
    """Returns the details in a call's trailing metadata."""
    violations: list[Violation] = []
    retry_after = 0.0
    present = None
    for key, status in trailers or ():
        if key != _TRAILER or not isinstance(status, bytes):
            continue
        try:
            for name, value in _any_messages(status):
                if name == "google.rpc.BadRequest":
                    violations += _violations(value)
                elif name == "google.rpc.RetryInfo":
                    retry_after = _retry_after(value)
                elif name == "roster.v1.User":
                    present = records.record(pb.User.FromString(value))
        except (DecodeError, ValueError):
            continue
    return Details(tuple(violations), retry_after, present)


def _any_messages(status: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields the messages in google.rpc.Status.details, with their full names."""
    for number, detail in _fields(status):
        if number == 3 and isinstance(detail, bytes):
            parts = dict(_fields(detail))
            url, value = parts.get(1, b""), parts.get(2, b"")
            if isinstance(url, bytes) and isinstance(value, bytes):
                yield url.decode().rpartition("/")[2], value


def _violations(bad_request: bytes) -> Iterator[Violation]:
    for number, violation in _fields(bad_request):
        if number == 1 and isinstance(violation, bytes):
            parts = dict(_fields(violation))
            field, description, reason = (
                part.decode() if isinstance(part := parts.get(n, b""), bytes) else ""
                for n in (1, 2, 3)
            )
            yield Violation(field, description, reason)


def _retry_after(retry_info: bytes) -> float:
    delay = dict(_fields(retry_info)).get(1, b"")
    if not isinstance(delay, bytes):
        return 0.0
    parts = dict(_fields(delay))
    seconds, nanos = parts.get(1, 0), parts.get(2, 0)
    if not isinstance(seconds, int) or not isinstance(nanos, int):
        return 0.0
    # A negative number is a varint of 64 bits; nobody can wait for it.
    return seconds + nanos / 1e9 if seconds < 1 << 62 and nanos < 1 << 31 else 0.0


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields the fields of a message with their numbers."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(message):
            raise ValueError("cut off")
        if kind == _BYTES:
            yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no varint")
