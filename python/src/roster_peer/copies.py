"""A copy of the directory in the process, which knows how old it may be."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType

from roster_peer.directory_client import DirectoryClient
from roster_peer.errors import CallError, NotFoundError
from roster_peer.records import Event, Position, Progress, Record
from roster_peer.replica import Replica, interval, now, stale
from roster_peer.watch import Watch
from roster_peer.watching import Watching, pause


class Copy:
    """The users of a directory in memory, kept fresh by two threads.

    A look-up takes about a microsecond and makes no call, as long as the copy is at
    most max_staleness old. Beyond that it raises StaleError, or asks the server.
    Whatever happens to the server, the network or a clock, it never takes itself for
    fresher than it is. In a forked process it becomes stale, since the threads are not
    there.

    Threads may share it. Close it, or use it in `with`; that does not close the client.
    """

    def __init__(
        self,
        client: DirectoryClient,
        max_staleness: float,
        *,
        ask_if_stale: bool = False,
        filter: str = "",
    ) -> None:
        """Begins to fetch all users, in the background: see wait.

        Args:
            max_staleness: seconds. Below about a second a healthy copy may miss it.
            ask_if_stale: a look-up beyond it asks the server instead of raising. Not
                with a filter, for which the server's answer would be another.
            filter: keep only the users that match.
        """
        if ask_if_stale and filter:
            raise ValueError("ask_if_stale does not go with a filter")
        self._max = max_staleness
        self._client = client
        self._ask = ask_if_stale
        self._filter = filter
        self._interval = interval(max_staleness)
        self._replica = Replica()
        self._closed = threading.Event()
        self._fresh = threading.Condition()
        self._last_error: CallError | None = None
        self._watch: Watch | None = None
        self._start()

    def _start(self) -> None:
        for run in (self._follow, self._question):
            threading.Thread(target=run, name="roster-copy", daemon=True).start()

    def get(self, id: int, timeout: float | None = 1.0) -> Record | None:
        """Returns a user, None if nobody has the id.

        Args:
            timeout: for asking the server, in seconds.

        Raises:
            StaleError: the copy may be older than max_staleness, and does not ask.
            CallError: it asked, and the server did not answer.
        """
        # In this order: the process may stand still at any point.
        replica = self._replica
        complete_at = replica.complete_at
        user = replica.users.get(id)
        if now() - complete_at <= self._max:
            return user
        if not self._ask:
            raise stale(self.age, self._max, self._last_error)
        try:
            return self._client.get(id, timeout=timeout)
        except NotFoundError:
            return None

    def get_many(
        self, ids: Iterable[int], timeout: float | None = 1.0
    ) -> dict[int, Record]:
        """Returns those users by their ids that there are; the rest as get."""
        ids = list(ids)
        replica = self._replica
        complete_at = replica.complete_at
        users = replica.users
        present = {each: users[each] for each in ids if each in users}
        if now() - complete_at <= self._max:
            return present
        if not self._ask:
            raise stale(self.age, self._max, self._last_error)
        if not ids:
            return {}
        found = self._client.batch_get(ids, timeout=timeout)
        return {user.id: user for user in found.users}

    @property
    def age(self) -> float:
        """How old the copy may be, in seconds; infinite before it has all users."""
        return now() - self._replica.complete_at

    @property
    def position(self) -> Position | None:
        """How far the copy has got; None before it has all users."""
        return self._replica.position

    @property
    def last_error(self) -> CallError | None:
        """Why the last call of the copy failed; None if it did not."""
        return self._last_error

    def __len__(self) -> int:
        return len(self._replica.users)

    def wait(self, timeout: float) -> None:
        """Waits until the copy is fresh enough.

        Raises:
            StaleError: it is not after timeout seconds.
        """
        with self._fresh:
            if not self._fresh.wait_for(lambda: self.age <= self._max, timeout):
                raise stale(self.age, self._max, self._last_error)

    def close(self) -> None:
        """Ends the copy's threads. Look-ups go on as its age allows."""
        self._closed.set()
        if self._watch is not None:
            self._watch.close()

    def __enter__(self) -> Copy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _follow(self) -> None:
        """Takes the events of a watch, in a thread of its own."""
        state = Watching(None, True, self._filter, self._interval)
        attempt = 0
        while not self._closed.is_set():
            try:
                with Watch(self._client, state) as self._watch:
                    if self._closed.is_set():
                        return
                    for event in self._watch:
                        attempt = 0
                        self._take(event)
            except (CallError, ValueError) as error:
                # Even one that lasts, such as a token that was revoked, may end: the
                # copy is as old as it says until then. A ValueError is a client that
                # was closed.
                if self._failed(error):
                    return
                if state.resets_on_failure:
                    self._take(state.reset(str(error)))
            attempt += 1
            self._closed.wait(pause(attempt))

    def _take(self, event: Event) -> None:
        self._replica.take(event)
        if isinstance(event, Progress):
            self._tell()

    def _question(self) -> None:
        """Asks for the server's position, in a thread of its own."""
        while not self._closed.is_set():
            if not self._replica.waits:
                asked_at = now()
                try:
                    position = self._client.position(timeout=max(1.0, self._max))
                except (CallError, ValueError) as error:
                    if self._failed(error):
                        return
                else:
                    self._last_error = None
                    self._replica.answered(asked_at, position)
                    self._tell()
            self._closed.wait(self._interval)

    def _failed(self, error: CallError | ValueError) -> bool:
        """Keeps an error; tells whether there is no going on after it."""
        if isinstance(error, CallError):
            self._last_error = error
            return False
        return True

    def _tell(self) -> None:
        with self._fresh:
            self._fresh.notify_all()
