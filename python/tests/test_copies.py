"""Copy and AsyncCopy: what they say of their age is true, whatever happens.

The servers of the tests that stop one are processes of their own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_directory import FakeDirectory, serving
from relay import Relay
from roster.v1 import directory_pb2 as pb
from support import PATIENCE

from roster_peer import (
    AsyncCopy,
    AsyncDirectoryClient,
    CallError,
    Change,
    Copy,
    DirectoryClient,
    Kind,
    Position,
    Progress,
    Record,
    Reset,
    StaleError,
)
from roster_peer.replica import Replica, now


class Process:
    """fake_directory as a program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.address = process.stdout.readline().strip()

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(command, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def running() -> Iterator[Process]:
    program = Path(__file__).with_name("fake_directory.py")
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


def until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sees(copy: Copy, id_: int, name: str | None) -> bool:
    try:
        user = copy.get(id_)
    except StaleError:
        return False
    return (user.name if user else None) == name


def test_a_copy_follows_the_directory() -> None:
    with running() as server, DirectoryClient(server.address) as client:
        server.tell("add Ann")
        server.tell("add Bob")
        with Copy(client, 5.0) as copy:
            copy.wait(PATIENCE)
            ann = copy.get(1)
            assert ann is not None
            assert (ann.name, copy.get(99), len(copy)) == ("Ann", None, 2)
            assert copy.get_many([2, 99]).keys() == {2}
            server.tell("add Cat")
            until(lambda: sees(copy, 3, "Cat"))
            server.tell("remove 1")
            until(lambda: sees(copy, 1, None))
            until(lambda: copy.position == Position(4, "epoch1"))


def test_before_it_has_all_users_it_refuses() -> None:
    with DirectoryClient("127.0.0.1:1") as client, Copy(client, 5.0) as copy:
        until(lambda: copy.last_error is not None)
        with pytest.raises(StaleError, match="has not got all users yet") as caught:
            copy.get(1)
        assert caught.value.age == float("inf")
        with pytest.raises(StaleError):
            copy.wait(0.1)
        assert copy.position is None


def test_a_paused_server_is_noticed() -> None:
    with running() as server, DirectoryClient(server.address) as client:
        server.tell("add Ann")
        with Copy(client, 1.0) as copy:
            copy.wait(PATIENCE)
            server.pause()
            stopped = now()
            until(lambda: not sees(copy, 1, "Ann"))
            # The server answered nothing after it had stopped, so the copy knows of
            # nothing later.
            assert now() - copy.age <= stopped
            assert now() - stopped < 1.5  # and not long after its bound
            with pytest.raises(StaleError, match=r"may be .* s old, and 1.0 s are all"):
                copy.get_many([1])
            server.go_on()
            until(lambda: sees(copy, 1, "Ann"))


def test_a_stopped_reader_does_not_believe_old_messages() -> None:
    """Messages that wait in a socket, of a watch that is read late, prove nothing."""
    directory = FakeDirectory()
    directory.write([pb.User(id=1, name="Ann")])
    with serving(directory) as address:
        relay = Relay(address)
        with DirectoryClient(relay.address) as client, Copy(client, 1.0) as copy:
            copy.wait(PATIENCE)
            relay.silence()
            silent = now()
            until(lambda: not sees(copy, 1, "Ann"))
            claims: list[float] = []

            def claims_until_fresh() -> bool:
                claims.append(now() - copy.age)
                return sees(copy, 1, "Ann")

            relay.heal()
            until(claims_until_fresh)
            # From knowing nothing after the silence began to what was asked after it
            # had ended: never something between, which only old messages could claim.
            assert all(claim <= silent + 0.01 or claim > silent for claim in claims)
            assert claims[0] <= silent
        relay.close()


def test_a_cut_connection_is_noticed_and_mended() -> None:
    directory = FakeDirectory()
    directory.write([pb.User(id=1, name="Ann")])
    with serving(directory) as address:
        relay = Relay(address)
        with DirectoryClient(relay.address) as client, Copy(client, 1.0) as copy:
            copy.wait(PATIENCE)
            relay.cut()
            cut = now()
            directory.write(removes=[1])
            until(lambda: not sees(copy, 1, "Ann"))
            assert now() - copy.age <= cut + 0.2  # a call may have been under way
            with pytest.raises(StaleError):
                copy.get(1)
            assert isinstance(copy.last_error, CallError)
            relay.heal()
            until(lambda: sees(copy, 1, None))
        relay.close()


def test_beyond_its_bound_it_asks_if_it_may() -> None:
    directory = FakeDirectory()
    directory.write([pb.User(id=1, name="Ann")])
    directory.frozen.set()  # the watch says no progress: the copy never gets fresh
    with serving(directory) as address, DirectoryClient(address) as client:
        with Copy(client, 0.5, ask_if_stale=True) as copy:
            until(lambda: len(copy) == 1)
            directory.write([pb.User(id=2, name="Bob")])
            until(lambda: copy.age > 0.5)
            found = copy.get(2, PATIENCE)
            assert found is not None
            assert found.name == "Bob"
            assert copy.get(9, PATIENCE) is None
            assert copy.get_many([1, 9], PATIENCE).keys() == {1}
            assert copy.get_many([]) == {}
        with pytest.raises(ValueError, match="filter"):
            Copy(client, 1.0, ask_if_stale=True, filter='name = "A*"')


def test_a_watch_without_progress_makes_nothing_fresh() -> None:
    """Not even while the server answers every question."""
    directory = FakeDirectory()
    directory.write([pb.User(id=1, name="Ann")])
    with serving(directory) as address, DirectoryClient(address) as client:
        with Copy(client, 1.0) as copy:
            copy.wait(PATIENCE)
            directory.frozen.set()
            until(lambda: copy.position == Position(1, "epoch1"))
            directory.write(removes=[1])
            written = now()
            until(lambda: copy.age > 1.0)
            assert now() - copy.age <= written
            directory.frozen.clear()
            until(lambda: sees(copy, 1, None))


def test_a_restored_directory_replaces_the_copy() -> None:
    with running() as server, DirectoryClient(server.address) as client:
        for name in ("Ann", "Bob", "Cat"):
            server.tell(f"add {name}")
        with Copy(client, 2.0) as copy:
            copy.wait(PATIENCE)
            server.tell("restore")
            server.tell("add Dan")  # under the id 4, in the revision 1 of the new epoch
            restored = now()
            until(lambda: sees(copy, 4, "Dan"))
            assert copy.position == Position(1, "epoch2")
            assert len(copy) == 1
            # By then it may be served as what was complete before the restore.
            until(lambda: now() - copy.age >= restored)


def test_no_wall_clock_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as server, DirectoryClient(server.address) as client:
        server.tell("add Ann")
        with Copy(client, 2.0) as copy:
            copy.wait(PATIENCE)
            real = time.time
            for jump in (86_400.0, -86_400.0):
                monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
                assert copy.age < 2.0
                server.pause()
                stopped = now()
                until(lambda: not sees(copy, 1, "Ann"))
                assert now() - copy.age <= stopped
                # grpcio itself takes time.time for its deadlines, and its core the real
                # clock: only a test can set one of them alone.
                monkeypatch.undo()
                server.go_on()
                until(lambda: sees(copy, 1, "Ann"))


@pytest.mark.skipif(sys.platform != "linux", reason="CLOCK_BOOTTIME is Linux's")
def test_the_clock_goes_on_while_the_machine_sleeps() -> None:
    assert abs(now() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_of_the_process_grows_old() -> None:
    # In a program of its own: grpcio and pytest do not like to be forked.
    program = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
from roster_peer import Copy, DirectoryClient, StaleError
client = DirectoryClient(sys.argv[1])
copy = Copy(client, 0.7)
copy.wait(30)
if os.fork() == 0:
    time.sleep(1)
    try:
        copy.get(1)
    except StaleError:
        os._exit(7)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
os._exit(0)
"""
    with running() as server:
        done = subprocess.run(
            [sys.executable, "-c", program, server.address],
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )
    assert done.stdout == "7\n", done.stderr


def test_many_changes_leave_a_healthy_copy_within_its_bound() -> None:
    directory = FakeDirectory()
    directory.write([pb.User(id=1, name="0")])
    with serving(directory) as address, DirectoryClient(address) as client:
        with Copy(client, 5.0) as copy:
            copy.wait(PATIENCE)
            end = time.monotonic() + 3
            count = 0
            while time.monotonic() < end:
                count += 1
                directory.write([pb.User(id=1, name=str(count))])
                copy.get(1)  # raises if it is too old
                time.sleep(0.01)
            until(lambda: sees(copy, 1, str(count)))


def test_the_age_counts_from_before_the_question() -> None:
    replica = Replica()
    ann = Record(1, "Ann")
    replica.take(Change(Kind.EXISTING, 1, ann, 0))
    assert replica.users == {}  # not before all have come
    replica.answered(10.0, Position(5, "e"))
    replica.take(Progress(Position(4, "e")))
    assert replica.users == {1: ann}
    assert replica.complete_at == float("-inf")  # the revision 5 has not come
    replica.take(Change(Kind.DELETED, 1, None, 5))
    assert replica.complete_at == float("-inf")  # nor all of it
    replica.take(Progress(Position(5, "e")))
    assert replica.complete_at == 10.0
    replica.answered(20.0, Position(5, "e"))
    assert replica.complete_at == 20.0
    replica.answered(30.0, Position(1, "another"))
    assert replica.complete_at == 20.0
    replica.take(Reset("another epoch"))
    replica.answered(40.0, Position(1, "another"))
    assert replica.complete_at == 20.0
    replica.take(Progress(Position(1, "another")))
    assert replica.complete_at == 40.0


class Halting(dict[int, Record]):
    """Users during whose look-up the process stands still."""

    def get(self, key: int, default: Any = None) -> Any:
        time.sleep(1.2)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        time.sleep(1.2)
        return super().__contains__(key)


def test_a_look_up_that_stands_still_is_as_old_as_its_answer() -> None:
    directory = FakeDirectory()
    directory.write([pb.User(id=1, name="Ann")])
    with serving(directory) as address, DirectoryClient(address) as client:
        with Copy(client, 1.0) as copy:
            copy.wait(PATIENCE)
            copy._replica.users = Halting(copy._replica.users)
            with pytest.raises(StaleError):
                copy.get(1)
            copy.wait(PATIENCE)
            with pytest.raises(StaleError):
                copy.get_many([1])

        async def main() -> None:
            async with AsyncDirectoryClient(address) as asynchronous:
                async with AsyncCopy(asynchronous, 1.0) as copy:
                    await copy.wait(PATIENCE)
                    copy._replica.users = Halting(copy._replica.users)
                    with pytest.raises(StaleError):
                        copy.get(1)

        asyncio.run(main())


def test_a_look_up_takes_about_a_microsecond() -> None:
    directory = FakeDirectory()
    directory.write([pb.User(id=i, name="User") for i in range(1000)])
    with serving(directory) as address, DirectoryClient(address) as client:
        with Copy(client, 60.0) as copy:
            copy.wait(PATIENCE)
            rounds = []
            for _ in range(5):
                began = time.perf_counter()
                for i in range(1000):
                    copy.get(i)
                rounds.append((time.perf_counter() - began) / 1000)
    # Measured 0.4 µs; a call to a server would take some hundred.
    assert min(rounds) < 20e-6
    print(f"a look-up takes {min(rounds) * 1e6:.2f} µs")


def test_a_copy_for_asyncio() -> None:
    async def scenario() -> None:
        with running() as server:
            server.tell("add Ann")
            async with AsyncDirectoryClient(server.address) as client:
                async with AsyncCopy(client, 1.0, ask_if_stale=True) as copy:
                    await copy.wait(PATIENCE)
                    ann = copy.get(1)
                    assert ann is not None
                    assert (ann.name, len(copy)) == ("Ann", 1)
                    assert copy.last_error is None
                    server.pause()
                    stopped = now()
                    while copy.age <= 1.0:
                        await asyncio.sleep(0.02)
                    assert now() - copy.age <= stopped
                    with pytest.raises(StaleError):
                        copy.get(1)
                    with pytest.raises(CallError):
                        await copy.fetch(1, 0.1)
                    server.go_on()
                    assert await copy.fetch(1, PATIENCE) == ann
                    assert await copy.fetch(9, PATIENCE) is None
                    await copy.wait(PATIENCE)
                    server.tell("restore")
                    server.tell("add Dan")
                    async with asyncio_timeout():
                        while copy.position != Position(1, "epoch2"):
                            await asyncio.sleep(0.02)
                with pytest.raises(StaleError):
                    await AsyncCopy(client, 1.0).wait(0.1)

    class asyncio_timeout:
        async def __aenter__(self) -> None:
            self.end = asyncio.get_running_loop().call_later(
                PATIENCE, lambda: os.kill(os.getpid(), signal.SIGINT)
            )

        async def __aexit__(self, *_: object) -> None:
            self.end.cancel()

    asyncio.run(scenario())
