"""Shared by the tests: users, stores with a gate, and the real program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from roster_peer import MemoryStore, User

ANN = User("Ann Lee", 31, "ann@example.com")
BOB = User("Bob Ng", 0, "")
ZOE = User("Zoë Ødegård", 150, "zoe@example.com")
USERS = {1: ANN, 2: BOB, -7: ZOE}

USERS_CSV = """\
id,name,age,email
1,Ann Lee,31,ann@example.com
2,Bob Ng,0,
-7,Zoë Ødegård,150,zoe@example.com
"""

#: How long a test waits for what must happen, in seconds: far longer than it
#: takes on a busy machine.
PATIENCE = 30.0


class GateStore:
    """Look-ups that wait at a gate, so that a test decides when they finish."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()

    def get(self, ids: Iterable[int]) -> list[User]:
        self.entered.release()
        assert self.gate.wait(PATIENCE), "nobody opened the gate"
        return MemoryStore(USERS).get(ids)

    def wait_for_calls(self, count: int) -> None:
        """Waits until count more calls are at the gate."""
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE), "no call came"


class BrokenStore:
    """A store whose look-ups fail."""

    def get(self, ids: Iterable[int]) -> list[User]:
        raise OSError("the password is hunter2")


@dataclass
class Finished:
    """How a run of the program ended."""

    code: int
    out: str
    err: str


def run_program(*arguments: str, **environment: str) -> Finished:
    """Runs roster-peer to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "roster_peer", *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        env={**os.environ, **environment},
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


class Running:
    """A server program that is ready; address is what its ready line names."""

    def __init__(self, process: subprocess.Popen[str], ready: str, address: str):
        self.process = process
        self.ready = ready
        self.address = address

    def next_line(self) -> str:
        """Returns its next line on standard error, without the line's end."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().rstrip("\n")

    def end(self) -> tuple[int, str]:
        """Waits for its end: the exit code, and the rest of standard error."""
        _, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, err


@contextmanager
def running(*command: str) -> Iterator[Running]:
    """Runs a server program, yields it when it is ready, and kills it at the end."""
    with subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            assert process.stderr is not None
            ready = process.stderr.readline()
            found = re.fullmatch(r"roster-peer: serving .* on (\S+)\n", ready)
            assert found, ready + process.stderr.read()
            yield Running(process, ready, found[1])
        finally:
            process.kill()


def serving(users: Path, *options: str) -> AbstractContextManager[Running]:
    """`roster-peer serve` on a free port of 127.0.0.1."""
    return running(
        *("-m", "roster_peer", "serve", "--users", str(users)),
        *("--address", "127.0.0.1:0", *options),
    )
