"""A watch that comes back by itself, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from roster_peer.errors import CallError
from roster_peer.records import Event, Position
from roster_peer.waiting import within
from roster_peer.watching import AnotherHistory, Watching, lasts, pause

if TYPE_CHECKING:
    from roster_peer.async_directory_client import AsyncDirectoryClient

#: Seconds that asking for the present position may take.
_POSITION_TIMEOUT = 5.0


class AsyncWatch:
    """Watch for asyncio: `async for event in watch`. Use it in `async with`."""

    def __init__(self, client: AsyncDirectoryClient, state: Watching) -> None:
        self._client = client
        self._state = state
        self._closed = asyncio.Event()
        self._call: Any = None
        self._events = self._run()

    @property
    def position(self) -> Position | None:
        """All up to here has been told: where another watch can go on."""
        return self._state.position

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await self._events.__anext__()

    async def close(self) -> None:
        """Ends the watch, and an iteration that waits."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    async def __aenter__(self) -> AsyncWatch:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self) -> AsyncIterator[Event]:
        state = self._state
        attempt = 0
        while not self._closed.is_set():
            asked = 0.0
            reset = ""
            try:
                if state.needs_position:
                    state.position = await self._client.position(
                        timeout=_POSITION_TIMEOUT
                    )
                self._call = self._client._open_watch(state.request())
                while (message := await self._read()) is not None:
                    attempt = 0
                    for event in state.take(message):
                        yield event
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
            finally:
                if self._call is not None:
                    self._call.cancel()
            if self._closed.is_set():
                return
            if not reset and state.resets_on_failure:
                reset = "the stream broke before all users were told"
            attempt = state.attempts(attempt, bool(reset))
            if reset:
                yield state.reset(reset)
            try:
                await within(pause(attempt, asked), self._closed.wait())
            except asyncio.TimeoutError:
                continue

    async def _read(self) -> Any:
        """Returns the next message; None if the stream has ended or is silent."""
        try:
            message = await within(self._state.silence, self._call.read())
        except asyncio.TimeoutError:
            return None
        except asyncio.CancelledError:
            if self._closed.is_set():  # it is close that cancelled the stream
                return None
            raise
        except grpc.RpcError as error:
            raise self._client._error("watch", None, error) from error
        return None if message is grpc.aio.EOF else message
