"""The real binary, as a process that a test starts, asks to stop, or kills."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

#: How long a test waits for what must happen, in seconds: far longer than it
#: takes on a busy machine.
PATIENCE = 30.0


def binary() -> str:
    """The program under test."""
    path = os.environ.get("ROSTER_BIN", "")
    if not path:
        raise pytest.UsageError(
            "ROSTER_BIN is not set: these tests call the real binary. "
            "Build it with `go build -o roster ./cmd/roster` and give its path in ROSTER_BIN"
        )
    if not os.access(path, os.X_OK):
        raise pytest.UsageError(f"ROSTER_BIN={path} is not a program that can be run")
    return os.path.abspath(path)


class PortTaken(Exception):
    """Somebody else listens on the port."""


class Roster:
    """One `roster serve` with the sample users, from its line "serving" on.

    Port 0 is a free one. The process is the test's to end: use it in a with
    statement, which stops it and fails if it does not stop.
    """

    def __init__(self, store: Path, *flags: str, port: int = 0) -> None:
        command = [binary(), "serve", "--addr", f"localhost:{port}", "--store", str(store)]
        self._process = subprocess.Popen(
            [*command, "--sample", "--log-format", "json", *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            # ROSTER_… variables are flags to the binary.
            env={k: v for k, v in os.environ.items() if not k.startswith("ROSTER_")},
        )
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.address = str(self.wait_for_log("serving")["address"])
        except BaseException:
            self.kill()
            if "is in use" in self.log:
                raise PortTaken(self.log) from None
            raise
        self.port = int(self.address.rpartition(":")[2])

    def __enter__(self) -> Roster:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.ask_to_stop()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"the server did not stop on SIGTERM:\n{self.log}") from None

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        self._process.stderr.close()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def log(self) -> str:
        """All that it wrote so far."""
        with self._news:
            return "".join(self._lines)

    def wait_for_log(self, message: str) -> dict[str, object]:
        """The first log entry with this message, as soon as it is there."""

        def find() -> dict[str, object] | None:
            for line in self._lines:
                if line.startswith("{") and json.loads(line).get("msg") == message:
                    return json.loads(line)
            return None

        with self._news:
            self._news.wait_for(lambda: find() or self._ended, PATIENCE)
            entry = find()
        assert entry, f"the server did not log {message!r}, but:\n{self.log}"
        return entry

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        """Its exit code, once it has ended."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server still runs:\n{self.log}") from None
        self._reader.join(PATIENCE)
        return code

    def stop(self) -> None:
        """Asks it to stop, and expects that it does so with success."""
        self.ask_to_stop()
        assert self.exit_code() == 0, f"the server did not stop with success:\n{self.log}"

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE)


def quiet_port() -> int:
    """A port that nobody listens on, now and for the length of a test.

    It is below the ports that a system gives to those who do not choose one
    (from 32768 on Linux, 49152 elsewhere). Among those, somebody else could get
    it between two servers of a test, and even a client that calls it may be
    given it as its own end, and then talk to itself.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as attempt:
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("none of 100 ports between 20000 and 32000 is free")
