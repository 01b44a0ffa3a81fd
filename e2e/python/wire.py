"""A wire between a client and the server: it shows their HTTP/2 frames, and can hold replies."""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
from typing import IO, NamedTuple

from serving import PATIENCE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Kind(enum.IntEnum):
    """The types of frame that the tests ask for (RFC 9113 §6)."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7


ACK = 0x1
END_STREAM = 0x1


class Frame(NamedTuple):
    """One HTTP/2 frame that passed."""

    from_client: bool
    kind: int
    flags: int
    stream: int
    payload: bytes

    def __str__(self) -> str:
        name = Kind(self.kind).name if self.kind in Kind.__members__.values() else str(self.kind)
        end = "client" if self.from_client else "server"
        return f"{end} {name} flags={self.flags:#x} stream={self.stream} {len(self.payload)} bytes"


class Wire:
    """Listens on an address of its own, and passes each connection on to the server's."""

    def __init__(self, server_address: str) -> None:
        host, _, port = server_address.rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._frames: list[Frame] = []
        self._sockets: list[socket.socket] = []
        self._news = threading.Condition()
        self._replies_pass = threading.Event()
        self._replies_pass.set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._closed = True
        self._replies_pass.set()
        # A close alone would not wake the thread that waits in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            hang_up(end)

    def hold_replies(self) -> None:
        """Nothing from the server reaches the client until release_replies."""
        self._replies_pass.clear()

    def release_replies(self) -> None:
        """The client gets what was held, and what comes after."""
        self._replies_pass.set()

    def frames(
        self, kind: Kind, *, from_client: bool, flags: int = 0, stream: int | None = None
    ) -> list[Frame]:
        """The frames of a kind that passed so far, with at least these flags."""
        with self._news:
            return [
                frame
                for frame in self._frames
                if frame.kind == kind
                and frame.from_client == from_client
                and frame.flags & flags == flags
                and stream in (None, frame.stream)
            ]

    def wait_for(
        self, kind: Kind, *, from_client: bool, flags: int = 0, count: int = 1
    ) -> list[Frame]:
        """Those frames, once there are count of them."""

        def find() -> list[Frame]:
            return self.frames(kind, from_client=from_client, flags=flags)

        with self._news:
            enough = self._news.wait_for(lambda: len(find()) >= count, PATIENCE)
            seen = "\n".join(map(str, self._frames[-30:]))
        assert enough, f"{len(find())} of {count} {kind.name} came; the last frames:\n{seen}"
        return find()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                # As the client would find it without the wire.
                hang_up(client)
                continue
            with self._news:
                if self._closed:
                    hang_up(client)
                    hang_up(server)
                    return
                self.connections += 1
                self._sockets += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pass_on, args=(*ends, ends[0] is client), daemon=True
                ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        try:
            self._copy(source, sink, from_client)
        except EOFError:
            # What the other end still has to say may pass.
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            hang_up(source)
            hang_up(sink)

    def _copy(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        with source.makefile("rb") as stream:
            if from_client:
                sink.sendall(exactly(stream, len(PREFACE)))
            while True:
                head = exactly(stream, 9)
                payload = exactly(stream, int.from_bytes(head[:3], "big"))
                number = int.from_bytes(head[5:], "big") & 0x7FFF_FFFF
                if not from_client:
                    self._replies_pass.wait()
                with self._news:
                    self._frames.append(Frame(from_client, head[3], head[4], number, payload))
                    self._news.notify_all()
                sink.sendall(head + payload)


def exactly(stream: IO[bytes], count: int) -> bytes:
    """The next count bytes."""
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


def hang_up(end: socket.socket) -> None:
    """Closes a connection under whoever still reads from it."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
