"""Fixtures: every server here is a real one, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support import USERS, USERS_CSV

from roster_peer import MemoryStore, Server

# grpcio's plain clients, which the tests also use, would go to the proxy even
# for 127.0.0.1. test_client has the case where one is set.
for name in list(os.environ):
    if name.lower() in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        del os.environ[name]


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of USERS."""
    with Server(MemoryStore(USERS), "127.0.0.1:0") as server:
        yield server


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    """grpcio's own channel to it."""
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def users_csv(tmp_path: Path) -> Path:
    """USERS as a CSV file."""
    path = tmp_path / "users.csv"
    path.write_text(USERS_CSV, encoding="utf-8")
    return path
