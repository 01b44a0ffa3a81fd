"""A watch that comes back by itself, synchronous."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from roster_peer.errors import CallError
from roster_peer.records import Event, Position
from roster_peer.watching import AnotherHistory, Watching, lasts, pause

if TYPE_CHECKING:
    from roster_peer.directory_client import DirectoryClient

#: Seconds that asking for the present position may take.
_POSITION_TIMEOUT = 5.0


class Watch:
    """An iterator over the events of a directory: Change, Progress and Reset.

    It ends only with close, or with a CallError that another attempt would not change,
    such as INVALID_ARGUMENT or PERMISSION_DENIED. Iterate in one thread; close may be
    called from any. Close it, or use it in `with`.
    """

    def __init__(self, client: DirectoryClient, state: Watching) -> None:
        self._client = client
        self._state = state
        self._closed = threading.Event()
        self._call: Any = None
        # When the iteration began to wait for the stream; None while it does not.
        self._waits_since: float | None = None
        self._events = self._run()
        threading.Thread(
            target=_end_silent_streams,
            args=(weakref.ref(self), self._closed, state.silence),
            name="roster-watch-silence",
            daemon=True,
        ).start()

    @property
    def position(self) -> Position | None:
        """All up to here has been told: where another watch can go on."""
        return self._state.position

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """Ends the watch, and an iteration that waits."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _run(self) -> Iterator[Event]:
        state = self._state
        attempt = 0
        while not self._closed.is_set():
            asked = 0.0
            reset = ""
            try:
                if state.needs_position:
                    state.position = self._client.position(timeout=_POSITION_TIMEOUT)
                for message in self._stream():
                    attempt = 0
                    yield from state.take(message)
            except AnotherHistory as error:
                reset = str(error)
            except CallError as error:
                if self._closed.is_set():
                    return
                if error.code is grpc.StatusCode.OUT_OF_RANGE:
                    reset = error.details
                elif lasts(error.code):
                    raise
                asked = error.retry_after
            if self._closed.is_set():
                return
            if not reset and state.resets_on_failure:
                reset = "the stream broke before all users were told"
            attempt = state.attempts(attempt, bool(reset))
            if reset:
                yield state.reset(reset)
            self._closed.wait(pause(attempt, asked))

    def _stream(self) -> Iterator[Any]:
        """Yields the messages of one stream."""
        call = self._call = self._client._open_watch(self._state.request())
        try:
            while not self._closed.is_set():
                self._waits_since = time.monotonic()
                message = next(call, None)
                self._waits_since = None
                if message is None:
                    return
                yield message
        except grpc.RpcError as error:
            raise self._client._error("watch", None, error) from error
        finally:
            self._waits_since = None
            call.cancel()

    def _end_if_silent(self, silence: float) -> None:
        since = self._waits_since
        if since is not None and time.monotonic() - since > silence:
            self._call.cancel()


def _end_silent_streams(
    watch: weakref.ref[Watch], closed: threading.Event, silence: float
) -> None:
    """Cancels a stream that brings nothing: a connection may be cut without a word."""
    while not closed.wait(silence / 4):
        present = watch()
        if present is None:
            return
        present._end_if_silent(silence)
        del present
