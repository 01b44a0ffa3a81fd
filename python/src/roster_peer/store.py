"""What a server answers from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from roster_peer.user import User


class Store(Protocol):
    """Answers look-ups. The worker threads of a server call it all at once.

    An exception reaches the caller as INTERNAL without its text, and the
    server's log in full.
    """

    def get(self, ids: Iterable[int]) -> list[User]:
        """The users with these ids, in the order asked.

        A repeated id is answered each time, an unknown one is left out.
        """
        ...


class MemoryStore:
    """Users in memory, by id. They do not change, so it needs no lock."""

    def __init__(self, users: Mapping[int, User]) -> None:
        self._users = dict(users)

    def __len__(self) -> int:
        """The number of users."""
        return len(self._users)

    def get(self, ids: Iterable[int]) -> list[User]:
        """See Store.get."""
        found = map(self._users.get, ids)
        return [user for user in found if user is not None]
