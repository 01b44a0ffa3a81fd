"""Watch and AsyncWatch, through servers and networks that fail."""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from fake_directory import FakeDirectory, serving
from relay import Relay
from roster.v1 import directory_pb2 as pb
from support import PATIENCE

from roster_peer import (
    AsyncDirectoryClient,
    CallError,
    Change,
    DirectoryClient,
    Event,
    Position,
    Progress,
    Reset,
)
from roster_peer.watching import Watching

Told = tuple[str, int]


class Follower:
    """Follows a watch in a thread of its own, by either client."""

    def __init__(self, kind: str, address: str, **arguments: Any) -> None:
        arguments.setdefault("progress_interval", 0.1)
        self.events: queue.Queue[Event | CallError] = queue.Queue()
        self._end: Callable[[], object] = lambda: None
        ready = threading.Event()

        def follow() -> None:
            with DirectoryClient(address) as client:
                with client.watch(**arguments) as watch:
                    self._end = watch.close
                    ready.set()
                    try:
                        for event in watch:
                            self.events.put(event)
                    except CallError as error:
                        self.events.put(error)

        async def follow_async() -> None:
            async with AsyncDirectoryClient(address) as client:
                async with client.watch(**arguments) as watch:
                    loop = asyncio.get_running_loop()

                    def end() -> None:
                        with suppress(RuntimeError):  # the loop has ended
                            loop.call_soon_threadsafe(
                                lambda: asyncio.ensure_future(watch.close())
                            )

                    self._end = end
                    ready.set()
                    try:
                        async for event in watch:
                            self.events.put(event)
                    except CallError as error:
                        self.events.put(error)

        target = follow if kind == "sync" else lambda: asyncio.run(follow_async())
        self.thread = threading.Thread(target=target)
        self.thread.start()
        assert ready.wait(PATIENCE)

    def next(self) -> Event:
        event = self.events.get(timeout=PATIENCE)
        assert not isinstance(event, CallError), event
        return event

    def until_progress(self, revision: int) -> list[Told]:
        """Returns what is told up to a revision, as pairs of a word and an id."""
        told: list[Told] = []
        while True:
            event = self.next()
            if isinstance(event, Change):
                told.append((event.kind.name, event.id))
            elif isinstance(event, Reset):
                told.append(("RESET", 0))
            elif event.position.revision >= revision:
                return told

    def error(self) -> CallError:
        while True:
            event = self.events.get(timeout=PATIENCE)
            if isinstance(event, CallError):
                return event

    def close(self) -> None:
        self._end()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def directory() -> FakeDirectory:
    directory = FakeDirectory()
    directory.write([pb.User(id=1, name="Ann"), pb.User(id=2, name="Bob")])
    return directory


@pytest.fixture
def relay(directory: FakeDirectory) -> Iterator[Relay]:
    with serving(directory) as address:
        relay = Relay(address)
        yield relay
        relay.close()


@pytest.fixture(params=["sync", "async"])
def follow(
    request: pytest.FixtureRequest, relay: Relay
) -> Iterator[Callable[..., Follower]]:
    followers = []

    def follow(**arguments: Any) -> Follower:
        followers.append(Follower(request.param, relay.address, **arguments))
        return followers[-1]

    yield follow
    for follower in followers:
        follower.close()


Follow = Callable[..., Follower]


def test_a_watch_from_the_beginning(directory: FakeDirectory, follow: Follow) -> None:
    follower = follow(from_beginning=True)
    assert follower.until_progress(1) == [("EXISTING", 1), ("EXISTING", 2)]
    directory.write([pb.User(id=3, name="Cat"), pb.User(id=1, name="Anna")], [2])
    assert follower.until_progress(2) == [
        ("UPDATED", 1),
        ("DELETED", 2),
        ("CREATED", 3),
    ]


def test_a_watch_begins_now_or_at_a_position(
    directory: FakeDirectory, follow: Follow
) -> None:
    now = follow()
    assert now.until_progress(1) == []
    directory.write([pb.User(id=3, name="Cat")])
    assert now.until_progress(2) == [("CREATED", 3)]
    past = follow(start=Position(0, "epoch1"))
    assert past.until_progress(2) == [("CREATED", 1), ("CREATED", 2), ("CREATED", 3)]


def test_a_filter_tells_of_users_who_leave(
    directory: FakeDirectory, follow: Follow
) -> None:
    follower = follow(from_beginning=True, filter='name = "A*"')
    assert follower.until_progress(1) == [("EXISTING", 1)]
    directory.write([pb.User(id=1, name="Xenia"), pb.User(id=2, name="Al")])
    assert follower.until_progress(2) == [("LEFT", 1), ("UPDATED", 2)]


def test_each_change_is_told_once_over_broken_connections(
    directory: FakeDirectory, relay: Relay, follow: Follow
) -> None:
    follower = follow(from_beginning=True)
    follower.until_progress(1)
    want: list[Told] = []
    for round_ in range(5):
        relay.cut()
        for id_ in range(10):
            user = round_ * 10 + id_ + 10
            directory.write([pb.User(id=user, name="New")])
            want.append(("CREATED", user))
        relay.heal()
    assert follower.until_progress(51) == want


def test_a_stream_that_breaks_within_a_revision(
    directory: FakeDirectory, follow: Follow
) -> None:
    """The next stream repeats the revision, and the watch does not."""
    broken: list[int] = []

    def break_once(context: Any, count: int) -> None:
        if count == 3 and len(broken) < 3:  # of the revision 2
            broken.append(count)
            context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    follower = follow(start=Position(1, "epoch1"))
    follower.until_progress(1)
    directory.at_message = break_once
    directory.write([pb.User(id=i, name="New") for i in range(10, 20)])
    directory.write([pb.User(id=20, name="New")])
    want = [("CREATED", i) for i in range(10, 21)]
    assert follower.until_progress(3) == want
    assert broken
    assert follower.events.qsize() == 0 or isinstance(follower.next(), Progress)


def test_a_stream_that_breaks_before_all_users_were_told(
    directory: FakeDirectory, follow: Follow
) -> None:
    broken: list[int] = []

    def break_once(context: Any, count: int) -> None:
        if count == 1 and not broken:
            broken.append(count)
            directory.write(removes=[1])
            context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    directory.at_message = break_once
    follower = follow(from_beginning=True)
    assert follower.until_progress(2) == [
        ("EXISTING", 1),
        ("RESET", 0),
        ("EXISTING", 2),
    ]


def test_another_epoch_begins_again(directory: FakeDirectory, follow: Follow) -> None:
    follower = follow(start=Position(1, "epoch1"))
    follower.until_progress(1)
    directory.restore()
    directory.write([pb.User(id=8, name="Restored")])
    told = follower.until_progress(1)
    assert told[0] == ("RESET", 0)
    assert told[1] in (("EXISTING", 8), ("CREATED", 8))
    assert len(told) == 2


def test_a_compacted_revision_begins_again(
    directory: FakeDirectory, relay: Relay, follow: Follow
) -> None:
    follower = follow(from_beginning=True)
    follower.until_progress(1)
    relay.cut()
    directory.write([pb.User(id=3, name="Cat")])
    directory.write(removes=[1])
    directory.compact()
    relay.heal()
    assert follower.until_progress(3) == [
        ("RESET", 0),
        ("EXISTING", 2),
        ("EXISTING", 3),
    ]


def test_a_server_that_forgets_its_epoch_is_not_followed(
    directory: FakeDirectory, follow: Follow
) -> None:
    """A progress of another epoch, without the error that should come before it."""
    follower = follow(start=Position(1, "epoch1"))
    follower.until_progress(1)
    with directory.changed:
        directory.epoch = "changed in silence"
    told: list[Told] = []
    while not told or told[-1] != ("EXISTING", 2):
        event = follower.next()
        if isinstance(event, Change):
            told.append((event.kind.name, event.id))
        elif isinstance(event, Reset):
            told.append(("RESET", 0))
    assert told == [("RESET", 0), ("EXISTING", 1), ("EXISTING", 2)]


def test_a_silent_connection_counts_as_broken(
    directory: FakeDirectory, relay: Relay, follow: Follow
) -> None:
    follower = follow(from_beginning=True)
    follower.until_progress(1)
    relay.silence()
    directory.write([pb.User(id=3, name="Cat")])
    streams = len(directory.watches)
    time.sleep(4)  # more than the silence that this interval allows
    relay.heal()
    assert follower.until_progress(2) == [("CREATED", 3)]
    assert len(directory.watches) > streams


def test_an_error_that_lasts_ends_the_watch(
    directory: FakeDirectory, follow: Follow
) -> None:
    directory.at_watch = lambda context: context.abort(
        grpc.StatusCode.PERMISSION_DENIED, "not you"
    )
    error = follow(from_beginning=True).error()
    assert error.code is grpc.StatusCode.PERMISSION_DENIED


def test_a_slow_watcher_goes_on_where_it_was(
    directory: FakeDirectory, follow: Follow
) -> None:
    dropped: list[int] = []

    def drop(context: Any, count: int) -> None:
        if count == 2 and len(dropped) < 2:
            dropped.append(count)
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too slow")

    directory.at_message = drop
    follower = follow(start=Position(0, "epoch1"))
    assert follower.until_progress(1) == [("CREATED", 1), ("CREATED", 2)]


def test_what_a_watch_cannot_be_asked_for(relay: Relay) -> None:
    with DirectoryClient(relay.address) as client:
        with pytest.raises(ValueError, match="or from the beginning"):
            client.watch(Position(1), from_beginning=True)
        with pytest.raises(ValueError, match="progress_interval"):
            client.watch(progress_interval=0.01)


def test_a_watch_that_is_dropped_leaves_no_thread(relay: Relay) -> None:
    def watching() -> bool:
        return any(t.name == "roster-watch-silence" for t in threading.enumerate())

    with DirectoryClient(relay.address) as client:
        watch = client.watch(from_beginning=True, progress_interval=0.1)
        next(watch)
        assert watching()
        del watch
        deadline = time.monotonic() + PATIENCE
        while watching():
            assert time.monotonic() < deadline
            gc.collect()
            time.sleep(0.05)


def test_how_soon_a_watch_comes_back() -> None:
    state = Watching(Position(4, "e"), False, "", 1.0)
    assert state.attempts(0, False) == 1
    assert state.attempts(7, False) == 8  # the server is away
    assert state.attempts(8, True) == 1  # the place is gone: all users, soon
    state.reset("gone")
    assert state.attempts(1, True) == 2  # and so is the beginning
