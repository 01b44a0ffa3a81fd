"""Fixtures: the real binary on a real port, and grpcio's two ways to call it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# A proxy in the environment would take grpcio's calls of localhost. It reads
# these when it opens a channel, so they must be gone before the first.
for name in list(os.environ):
    if name.lower() in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        del os.environ[name]

import pytest  # noqa: E402

from caller import AsyncioCaller, Caller, SyncCaller  # noqa: E402
from sample import Sample  # noqa: E402
from serving import Roster, binary  # noqa: E402
from wire import Wire  # noqa: E402


def pytest_sessionstart() -> None:
    """Says once, rather than in each test, that there is nothing to test."""
    binary()


@pytest.fixture(scope="session")
def sample() -> Sample:
    """The users that every server here has."""
    return Sample()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roster]:
    """One server for all tests that leave it running."""
    with Roster(tmp_path_factory.mktemp("server") / "roster.db") as server:
        yield server
        server.stop()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store for a server of the test's own."""
    return tmp_path / "roster.db"


@pytest.fixture(params=[SyncCaller, AsyncioCaller], ids=["grpc", "grpc.aio"])
def connect(request: pytest.FixtureRequest) -> type[Caller]:
    """Opens a channel: grpcio's, or grpcio's for asyncio."""
    return request.param


@pytest.fixture
def caller(connect: type[Caller], server: Roster) -> Iterator[Caller]:
    """A channel to the server."""
    with connect(server.address) as caller:
        yield caller


@pytest.fixture
def wire(server: Roster) -> Iterator[Wire]:
    """A wire to the server, for a test that must see or hold what passes."""
    with Wire(server.address) as wire:
        yield wire
