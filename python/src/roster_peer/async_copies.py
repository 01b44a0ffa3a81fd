"""A copy of the directory in the process, for asyncio."""

from __future__ import annotations

import asyncio
from types import TracebackType

from roster_peer.async_directory_client import AsyncDirectoryClient
from roster_peer.async_watch import AsyncWatch
from roster_peer.errors import CallError, NotFoundError, StaleError
from roster_peer.records import Position, Progress, Record
from roster_peer.replica import Replica, interval, now, stale
from roster_peer.waiting import within
from roster_peer.watching import Watching, pause


class AsyncCopy:
    """Copy for asyncio, kept fresh by two tasks. Use it in `async with`.

    While something blocks the event loop the copy grows old, and says so.
    """

    def __init__(
        self,
        client: AsyncDirectoryClient,
        max_staleness: float,
        *,
        ask_if_stale: bool = False,
        filter: str = "",
    ) -> None:
        """As Copy. It begins with `async with`."""
        if ask_if_stale and filter:
            raise ValueError("ask_if_stale does not go with a filter")
        self._max = max_staleness
        self._client = client
        self._ask = ask_if_stale
        self._filter = filter
        self._interval = interval(max_staleness)
        self._replica = Replica()
        self._fresh = asyncio.Condition()
        self._last_error: CallError | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def get(self, id: int) -> Record | None:
        """Returns a user, None if nobody has the id. It never asks the server.

        Raises:
            StaleError: the copy may be older than max_staleness.
        """
        # In this order: the process may stand still at any point.
        replica = self._replica
        complete_at = replica.complete_at
        user = replica.users.get(id)
        if now() - complete_at <= self._max:
            return user
        raise stale(self.age, self._max, self._last_error)

    async def fetch(self, id: int, timeout: float | None = 1.0) -> Record | None:
        """As get, but with ask_if_stale it asks the server instead of raising."""
        try:
            return self.get(id)
        except StaleError:
            if not self._ask:
                raise
        try:
            return await self._client.get(id, timeout=timeout)
        except NotFoundError:
            return None

    @property
    def age(self) -> float:
        """As Copy.age."""
        return now() - self._replica.complete_at

    @property
    def position(self) -> Position | None:
        """As Copy.position."""
        return self._replica.position

    @property
    def last_error(self) -> CallError | None:
        """As Copy.last_error."""
        return self._last_error

    def __len__(self) -> int:
        return len(self._replica.users)

    async def wait(self, timeout: float) -> None:
        """As Copy.wait."""

        async def fresh() -> None:
            async with self._fresh:
                await self._fresh.wait_for(lambda: self.age <= self._max)

        try:
            await within(timeout, fresh())
        except asyncio.TimeoutError:
            raise stale(self.age, self._max, self._last_error) from None

    async def __aenter__(self) -> AsyncCopy:
        self._tasks = [
            asyncio.ensure_future(run()) for run in (self._follow, self._question)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self) -> None:
        state = Watching(None, True, self._filter, self._interval)
        attempt = 0
        while True:
            try:
                async with AsyncWatch(self._client, state) as watch:
                    async for event in watch:
                        attempt = 0
                        self._replica.take(event)
                        if isinstance(event, Progress):
                            await self._tell()
            except CallError as error:  # see Copy._follow
                self._last_error = error
                if state.resets_on_failure:
                    self._replica.take(state.reset(str(error)))
            attempt += 1
            await asyncio.sleep(pause(attempt))

    async def _question(self) -> None:
        while True:
            if not self._replica.waits:
                asked_at = now()
                try:
                    position = await self._client.position(timeout=max(1.0, self._max))
                except CallError as error:
                    self._last_error = error
                else:
                    self._last_error = None
                    self._replica.answered(asked_at, position)
                    await self._tell()
            await asyncio.sleep(self._interval)

    async def _tell(self) -> None:
        async with self._fresh:
            self._fresh.notify_all()
