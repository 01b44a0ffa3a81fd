"""Runs a Server as a program: ready line, signals, drain."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from types import FrameType

from roster_peer.server import Server

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(server: Server, what: str, grace: float) -> int:
    """Serves until SIGTERM or SIGINT, drains, and returns the exit code.

    When the server is ready it prints one line to standard error, which has what
    and ends in the actual address:

        roster-peer: serving 3 users from users.csv on localhost:50051

    A second signal ends the process at once. Call it from the main thread, which
    receives the signals.

    Args:
        server: not started yet.
        what: what is served, for the line.
        grace: seconds that running calls have to finish.

    Returns:
        0 if all calls finished, else 1.
    """
    logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        stop.set()

    for each in _SIGNALS:
        signal.signal(each, on_signal)
    server.start()
    _say(f"serving {what} on {server.address}")
    stop.wait()
    _say(f"draining: running calls have {grace:g} s to finish")
    if not server.drain(grace):
        _say(f"calls were still running after {grace:g} s and were cancelled")
        return 1
    return 0


def _say(text: str) -> None:
    # One write, so that other threads' lines do not mix with this one.
    sys.stderr.write(f"roster-peer: {text}\n")
    sys.stderr.flush()
