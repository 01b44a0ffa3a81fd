"""Reads users from a CSV or SQLite file; its content tells which it is."""

from __future__ import annotations

import io
import os

from roster_peer import csv_users, sqlite_users
from roster_peer.errors import UsersFileError
from roster_peer.store import MemoryStore

# SQLite file format §1.3.1.
_SQLITE_MAGIC = b"SQLite format 3\x00"
_SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")


def load_users(path: str | os.PathLike[str], busy_timeout: float = 5.0) -> MemoryStore:
    """Reads all users of a file into memory, about 400 bytes each.

    A CSV file is UTF-8 and has a header with the columns id, name, age and
    email, in any order and no others. A SQLite file has a table users with
    columns of those names; others are ignored. The fields keep the limits in
    `user`, and ids are unique. A CSV file may be a pipe.

    Args:
        path: the file.
        busy_timeout: seconds to wait for a program that has locked a SQLite file.

    Raises:
        UsersFileError: the file breaks one of these rules. The text names the
            line of a CSV file, or the id of a SQLite row, and what to do.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            if _is_sqlite(name, file):
                return MemoryStore(sqlite_users.read(name, busy_timeout))
            return MemoryStore(csv_users.read(name, file))
    except IsADirectoryError as error:
        raise UsersFileError(
            f"{name}: is a directory; name a CSV or SQLite file"
        ) from error
    except OSError as error:
        raise UsersFileError(
            f"{name}: cannot be read: {error.strerror or error}"
        ) from error


def _is_sqlite(name: str, file: io.BufferedReader) -> bool:
    # peek, because what is read from a pipe cannot be read again.
    if file.peek(len(_SQLITE_MAGIC)).startswith(_SQLITE_MAGIC):
        return True
    if name.lower().endswith(_SQLITE_SUFFIXES):
        raise UsersFileError(
            f"{name}: is not a SQLite database, though its name says so; "
            "a CSV file needs another suffix, such as .csv"
        )
    return False
