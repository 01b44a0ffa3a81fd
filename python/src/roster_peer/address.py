"""Parses HOST:PORT, and checks whether a server can listen there."""

from __future__ import annotations

import errno
import re
import socket
from dataclasses import dataclass

from roster_peer.errors import ListenError

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """A host and a port. An IPv6 host is kept without its brackets."""

    host: str
    #: 0 to 65535; for a server 0 means any free one.
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads HOST:PORT, [IPV6]:PORT; anything else is a ValueError."""
        host, colon, port = text.rpartition(":")
        if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(
                f"{text!r} is not HOST:PORT, like localhost:50051 or [::1]:50051"
            )
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(
                f"{text!r} is not HOST:PORT: no URL, and an IPv6 host in brackets"
            )
        if not host:
            raise ValueError(
                f"{text!r} has no host: every interface is 0.0.0.0:{port}, "
                f"this machine alone is localhost:{port}"
            )
        return cls(host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def is_loopback(self) -> bool:
        """Whether the host is the loopback of this machine, by name or address."""
        return _LOOPBACK.fullmatch(self.host) is not None


def listenable(address: Address) -> list[Address]:
    """Returns the numeric addresses to listen on for address, all free now.

    localhost has two of them, 127.0.0.1 and ::1. grpcio starts if it gets either
    one. If another program has the other, callers would reach sometimes this
    server and sometimes that program. So each address is tried separately, and
    the first that is not available raises a ListenError.
    """
    try:
        found = socket.getaddrinfo(
            address.host,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except (OSError, UnicodeError) as error:
        raise ListenError(
            f"cannot listen on {address}: no such host {address.host!r} ({error})"
        ) from error
    usable: list[Address] = []
    absent: OSError | None = None
    for family, _, _, _, sockaddr in dict.fromkeys(found):
        candidate = Address(str(sockaddr[0]), address.port)
        try:
            _try_bind(family, sockaddr)
        except OSError as error:
            # /etc/hosts may have ::1 on a machine where IPv6 is disabled.
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                absent = error
                continue
            raise refusal(address, candidate, error) from error
        usable.append(candidate)
    if not usable:
        raise refusal(address, address, absent) from absent
    return usable


def refusal(
    address: Address, candidate: Address, error: OSError | None = None
) -> ListenError:
    """Returns the ListenError for candidate, one of the addresses of address."""
    if error is None or error.errno == errno.EADDRINUSE:
        why = (
            f"port {candidate.port} on {candidate.host} is taken by another "
            "program; stop it, or choose another port"
        )
    elif error.errno == errno.EADDRNOTAVAIL:
        why = f"{candidate.host} is not an address of this machine"
    elif error.errno == errno.EACCES:
        why = f"no permission for port {candidate.port}; choose one above 1023"
    else:
        why = f"{candidate}: {error.strerror or error}"
    return ListenError(f"cannot listen on {address}: {why}")


def _try_bind(
    family: int,
    sockaddr: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As grpcio does, so that a port with connections in TIME_WAIT counts as
        # free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(sockaddr)
