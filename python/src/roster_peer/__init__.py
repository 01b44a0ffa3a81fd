"""Roster's Python peer: a server and a client of the frozen contract.

It works with any server and client of proto/api.proto over gRPC, Roster's own
included. The client supports TLS, the server does not. There are no retries.

    from roster_peer import Client

    with Client("localhost:50051") as roster:
        for user in roster.get([1, 2], timeout=1.0):
            print(user.name, user.age, user.email)

`Client("roster.example.com:443", tls=TLS())` calls over TLS. `AsyncClient` is
the same for asyncio. `Server` serves users from memory, and `load_users` reads
them from a CSV or SQLite file:

    with Server(load_users("users.csv"), "localhost:50051") as server:
        ...

`DirectoryClient` and `AsyncDirectoryClient` call the rest of a Roster server,
roster.v1: they read, write and watch users. `Copy` keeps them in memory:

    with DirectoryClient("localhost:50051") as client:
        with Copy(client, max_staleness=10.0) as users:
            users.wait(timeout=30.0)
            print(users.get(1))
"""

from roster_peer.async_copies import AsyncCopy
from roster_peer.async_directory_client import AsyncDirectoryClient
from roster_peer.async_watch import AsyncWatch
from roster_peer.client import AsyncClient, Client
from roster_peer.copies import Copy
from roster_peer.details import Violation
from roster_peer.directory_client import DirectoryClient
from roster_peer.errors import (
    AlreadyExistsError,
    CallError,
    ConflictError,
    InvalidArgumentError,
    ListenError,
    NotFoundError,
    OutOfRangeError,
    RosterPeerError,
    StaleError,
    TLSFileError,
    UsersFileError,
)
from roster_peer.records import (
    Change,
    Changes,
    Delete,
    Event,
    Found,
    Imported,
    Kind,
    Page,
    Position,
    Progress,
    Record,
    RefusedRow,
    Reset,
    Update,
    Updated,
)
from roster_peer.server import Server
from roster_peer.store import MemoryStore, Store
from roster_peer.tls import TLS
from roster_peer.user import User
from roster_peer.users_file import load_users
from roster_peer.watch import Watch

__all__ = [
    "TLS",
    "AlreadyExistsError",
    "AsyncClient",
    "AsyncCopy",
    "AsyncDirectoryClient",
    "AsyncWatch",
    "CallError",
    "Change",
    "Changes",
    "Client",
    "ConflictError",
    "Copy",
    "Delete",
    "DirectoryClient",
    "Event",
    "Found",
    "Imported",
    "InvalidArgumentError",
    "Kind",
    "ListenError",
    "MemoryStore",
    "NotFoundError",
    "OutOfRangeError",
    "Page",
    "Position",
    "Progress",
    "Record",
    "RefusedRow",
    "Reset",
    "RosterPeerError",
    "Server",
    "StaleError",
    "Store",
    "TLSFileError",
    "Update",
    "Updated",
    "User",
    "UsersFileError",
    "Violation",
    "Watch",
    "load_users",
]
