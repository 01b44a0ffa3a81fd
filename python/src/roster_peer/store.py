"""Where a server gets its users from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from roster_peer.user import User


class Store(Protocol):
    """Answers look-ups. A server calls it from its worker threads concurrently.

    If it raises an exception, the caller gets INTERNAL without its text, and the
    server's log has it in full.
    """

    def get(self, ids: Iterable[int]) -> list[User]:
        """Returns the users with these ids, in the order of the ids.

        A repeated id is answered each time, an unknown one is left out.
        """
        ...


class MemoryStore:
    """Users in memory, by id. It is immutable, so it needs no lock."""

    def __init__(self, users: Mapping[int, User]) -> None:
        self._users = dict(users)

    def __len__(self) -> int:
        """The number of users."""
        return len(self._users)

    def get(self, ids: Iterable[int]) -> list[User]:
        """See Store.get."""
        found = map(self._users.get, ids)
        return [user for user in found if user is not None]
