"""Roster's Python peer: a server and a client of the frozen contract.

It works with any server and client of proto/api.proto over gRPC, Roster's own
included. The client supports TLS, the server does not. There are no retries and
nothing of roster.v1: for those use the Go client or Connect.

    from roster_peer import Client

    with Client("localhost:50051") as roster:
        for user in roster.get([1, 2], timeout=1.0):
            print(user.name, user.age, user.email)

`Client("roster.example.com:443", tls=TLS())` calls over TLS. `AsyncClient` is
the same for asyncio. `Server` serves users from memory, and `load_users` reads
them from a CSV or SQLite file:

    with Server(load_users("users.csv"), "localhost:50051") as server:
        ...
"""

from roster_peer.client import AsyncClient, Client
from roster_peer.errors import (
    CallError,
    ListenError,
    RosterPeerError,
    TLSFileError,
    UsersFileError,
)
from roster_peer.server import Server
from roster_peer.store import MemoryStore, Store
from roster_peer.tls import TLS
from roster_peer.user import User
from roster_peer.users_file import load_users

__all__ = [
    "TLS",
    "AsyncClient",
    "CallError",
    "Client",
    "ListenError",
    "MemoryStore",
    "RosterPeerError",
    "Server",
    "Store",
    "TLSFileError",
    "User",
    "UsersFileError",
    "load_users",
]
