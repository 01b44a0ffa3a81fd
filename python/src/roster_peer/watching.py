"""Where a watch is in the history, and what it does when its stream ends.

There is no input or output here: the two clients do that, each in its own way.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import grpc
from google.protobuf.duration_pb2 import Duration
from roster.v1 import directory_pb2 as pb

from roster_peer import records
from roster_peer.records import Event, Kind, Position, Progress, Reset

#: Seconds between two progress messages if the caller does not say.
PROGRESS_INTERVAL = 10.0
_SHORTEST_INTERVAL, _LONGEST_INTERVAL = 0.1, 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0

#: What another attempt does not change.
_LASTING = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}


def lasts(code: grpc.StatusCode) -> bool:
    """Tells whether a watch that failed so would fail again."""
    return code in _LASTING


def pause(attempt: int, asked: float = 0.0) -> float:
    """Returns the seconds to wait before the next attempt, asked at least.

    Half of it is random, so that the callers of a server that restarts do not come
    back all at once.
    """
    longest = min(_FIRST_PAUSE * float(2 ** min(attempt, 10)), _LONGEST_PAUSE)
    return asked + longest * random.uniform(0.5, 1.0)


class Watching:
    """The state of one watch over all its streams.

    After a stream breaks, the next one begins so that each change is told once: after
    the last revision of which all has been told, without the changes of the revision
    after it that have been told already. A server tells the changes of a revision in
    the same order each time.
    """

    def __init__(
        self,
        start: Position | None,
        from_beginning: bool,
        filter: str,
        progress_interval: float,
    ) -> None:
        if start is not None and from_beginning:
            raise ValueError("a watch begins at a position or from the beginning")
        if not _SHORTEST_INTERVAL <= progress_interval <= _LONGEST_INTERVAL:
            raise ValueError(
                f"progress_interval {progress_interval} is not between "
                f"{_SHORTEST_INTERVAL} and {_LONGEST_INTERVAL} s"
            )
        #: All up to here has been told; None if it has not begun.
        self.position = start
        self.loading = from_beginning
        self.resets_on_failure = False
        self._filter = filter
        self._interval = progress_interval
        # Of the revision that is being told: its number, how many of its changes
        # have been told, and how many of those the present stream will repeat.
        self._revision = 0
        self._told = 0
        self._repeated = 0

    @property
    def silence(self) -> float:
        """How long a stream may bring nothing before it counts as broken."""
        return 3 * self._interval + 2

    @property
    def needs_position(self) -> bool:
        """Whether it is to begin now, wherever that is."""
        return self.position is None and not self.loading

    def request(self) -> pb.WatchUsersRequest:
        """Returns the request of the next stream."""
        interval = Duration()
        interval.FromNanoseconds(int(self._interval * 1e9))
        request = pb.WatchUsersRequest(filter=self._filter, progress_interval=interval)
        self._repeated = self._told
        if self.loading:
            request.from_beginning = True
            return request
        assert self.position is not None
        request.epoch = self.position.epoch
        # With some changes of a revision told, all before it have been.
        request.from_revision = max(
            self.position.revision, self._revision - 1 if self._told else 0
        )
        return request

    def attempts(self, before: int, resets: bool) -> int:
        """Returns how many attempts in a row have failed, with this one.

        A server that answers that the place is not in the history is there: all users
        are asked for soon, but not again and again.
        """
        return 1 if resets and not self.loading else before + 1

    def reset(self, reason: str) -> Reset:
        """Begins again from the beginning."""
        self.loading = True
        self.position = None
        self._revision = self._told = self._repeated = 0
        self.resets_on_failure = False
        return Reset(reason)

    def take(self, message: pb.WatchUsersResponse) -> Iterator[Event]:
        """Yields what a message of the stream tells.

        Raises:
            AnotherHistory: the server goes on with another history.
        """
        if message.HasField("progress"):
            yield self._progress(message.progress)
        elif message.HasField("change"):
            change = message.change
            if change.kind == Kind.EXISTING.value:
                self.resets_on_failure = True
                yield records.change(change)
            elif self._is_new(change.revision):
                yield records.change(change)

    def _is_new(self, revision: int) -> bool:
        behind = self.position.revision if self.position else 0
        if revision <= behind or revision < self._revision:
            return False
        if revision > self._revision:
            self._revision, self._told, self._repeated = revision, 0, 0
        if self._repeated:
            self._repeated -= 1
            return False
        self._told += 1
        return True

    def _progress(self, progress: pb.Progress) -> Progress:
        position = Position(progress.revision, progress.epoch)
        known = self.position
        if known is not None and not self.loading:
            if known.epoch and position.epoch != known.epoch:
                raise AnotherHistory("the directory has another epoch")
            if position.revision < known.revision:
                raise AnotherHistory("the directory has gone back")
        self.loading = self.resets_on_failure = False
        self.position = position
        if position.revision >= self._revision:
            self._told = self._repeated = 0
        return Progress(position)


class AnotherHistory(Exception):
    """What a stream tells does not go on from what was told before."""
