"""Reads users from the table users of a SQLite file, without writing to it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from urllib.parse import quote

from roster_peer.errors import UsersFileError
from roster_peer.rows import COLUMNS, to_user
from roster_peer.user import User


def read(path: str, busy_timeout: float) -> dict[int, User]:
    """Returns all users by id. Raises UsersFileError with path and id.

    busy_timeout is in seconds.
    """
    # mode=ro, since sqlite3 would otherwise create or upgrade files next to it.
    uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=busy_timeout)) as database:
            # So text that is not UTF-8 reaches to_user, which names its row.
            database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            _check_table(path, database)
            return _users(path, database)
    except sqlite3.Error as error:
        raise UsersFileError(
            f"{path}: SQLite cannot read it: {error} (waited up to "
            f"{busy_timeout:g} s for locks)"
        ) from error


def _check_table(path: str, database: sqlite3.Connection) -> None:
    columns = {row[1] for row in database.execute("PRAGMA table_info(users)")}
    if not columns:
        raise UsersFileError(
            f"{path}: has no table users(id INTEGER PRIMARY KEY, name, age, email)"
        )
    for column in COLUMNS:
        if column not in columns:
            raise UsersFileError(f"{path}: the table users has no column {column}")


def _users(path: str, database: sqlite3.Connection) -> dict[int, User]:
    users: dict[int, User] = {}
    for row in database.execute("SELECT id, name, age, email FROM users"):
        try:
            number, user = to_user(*row)
            if number in users:
                raise ValueError("the id is there more than once")
        except ValueError as error:
            raise UsersFileError(f"{path}, user with id {row[0]!r}: {error}") from error
        users[number] = user
    return users
