"""A copy of the directory in the process, which knows how old it may be.

How its age is known: the copy follows a watch, and besides asks the server again and
again for its position. The answer is a revision that the directory had at some time
after the question was sent. Once the watch has said that everything up to that
revision has been told, the copy has all that was written before the question was
sent; so its age counts from then. That a message of the watch arrives proves nothing by
itself: it may have been on its way for long.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import partial

from roster_peer.errors import CallError, StaleError
from roster_peer.records import Change, Event, Kind, Position, Record, Reset

# A clock that nobody sets, and on Linux one that goes on while the machine sleeps,
# which time.monotonic does not there: a copy would wake up believing itself fresh.
now: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)

_SHORTEST_INTERVAL, _LONGEST_INTERVAL = 0.1, 10.0


class Replica:
    """The users, and since when they are known to be complete. It makes no calls.

    Changes are taken by one thread and users looked up by others. A change of several
    users at once may be seen in part until all of it has come.
    """

    def __init__(self) -> None:
        self.users: dict[int, Record] = {}
        #: When the users had everything that was written until then, by now().
        self.complete_at = -math.inf
        self.position: Position | None = None
        self._loading: dict[int, Record] | None = {}
        self._lock = threading.Lock()
        # The question that the copy has not reached: when it was asked, and the answer.
        self._asked: tuple[float, Position] | None = None

    def take(self, event: Event) -> None:
        """Takes an event of the watch."""
        if isinstance(event, Change):
            self._change(event)
        elif isinstance(event, Reset):
            self._loading = {}
        else:
            with self._lock:
                if self._loading is not None:
                    self.users, self._loading = self._loading, None
                self.position = event.position
                self._settle()

    def _change(self, change: Change) -> None:
        users = self.users if self._loading is None else self._loading
        if change.kind in (Kind.DELETED, Kind.LEFT) or change.user is None:
            users.pop(change.id, None)
        else:
            users[change.id] = change.user

    def answered(self, asked_at: float, position: Position) -> None:
        """Takes the server's position, which was asked for at asked_at."""
        with self._lock:
            self._asked = (asked_at, position)
            self._settle()

    @property
    def waits(self) -> bool:
        """Whether the copy has yet to reach the position that the server gave."""
        return self._asked is not None

    def _settle(self) -> None:
        if self._asked is None or self.position is None or self._loading is not None:
            return
        asked_at, there = self._asked
        if there.epoch != self.position.epoch:
            # Of another history: the copy cannot be compared with it.
            self._asked = None
        elif self.position.revision >= there.revision:
            self.complete_at = max(self.complete_at, asked_at)
            self._asked = None


def interval(max_staleness: float) -> float:
    """Returns the seconds between two questions, and two messages of progress.

    A question is settled by the progress after its answer, and the next one comes an
    interval later: so a healthy copy is at most three intervals old, and calls that
    take an interval are no harm.
    """
    if not max_staleness > 0:
        raise ValueError(f"max_staleness {max_staleness} is not more than 0")
    return min(max(max_staleness / 5, _SHORTEST_INTERVAL), _LONGEST_INTERVAL)


def stale(age: float, max_staleness: float, last: CallError | None) -> StaleError:
    old = "has not got all users yet" if age == math.inf else f"may be {age:.1f} s old"
    why = f": {last}" if last else ""
    return StaleError(age, f"the copy {old}, and {max_staleness} s are allowed{why}")
