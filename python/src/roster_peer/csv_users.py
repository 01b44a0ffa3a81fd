"""Reads users from CSV: RFC 4180, in UTF-8, with a header."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from typing import BinaryIO

from roster_peer.errors import UsersFileError
from roster_peer.rows import COLUMNS, to_user
from roster_peer.user import User, problem_in_file, strip


class _Lines:
    """The lines of a file as text, with a count of them.

    The csv module counts only the lines that it receives, and it never receives
    a line that is not UTF-8.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.number += 1
            # Excel and Notepad begin a UTF-8 file with a byte order mark.
            encoding = "utf-8-sig" if self.number == 1 else "utf-8"
            yield line.decode(encoding)


def read(path: str, file: BinaryIO) -> dict[int, User]:
    """Returns all users by id. Raises UsersFileError with path and line."""
    lines = _Lines(file)
    # The line on which a record begins: a quoted field may span several lines.
    begins = 1
    try:
        records = csv.reader(iter(lines), strict=True)
        columns = _columns(next(records, None))
        users: dict[int, User] = {}
        where = array("L")
        begins = lines.number + 1
        for record in records:
            # A blank line is not a record.
            if record:
                number, user = _user(record, columns)
                if number in users:
                    first = where[list(users).index(number)]
                    raise ValueError(f"id {number} is on line {first} already")
                users[number] = user
                where.append(begins)
            begins = lines.number + 1
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UsersFileError(
            f"{path}, line {lines.number}: byte 0x{byte:02x} is not UTF-8; "
            "save the file as CSV in UTF-8"
        ) from error
    except (csv.Error, ValueError) as error:
        raise UsersFileError(f"{path}, line {begins}: {error}") from error
    return users


def _columns(header: list[str] | None) -> list[int]:
    """Returns the position of each of COLUMNS in a header.

    It is as strict as `roster import`.
    """
    needed = f"the header is {','.join(COLUMNS)}"
    if not header:
        raise ValueError(f"no header; {needed}")
    header = [column.strip().lower() for column in header]
    for column in COLUMNS:
        if column not in header:
            raise ValueError(f"no column {column}; {needed}")
    for column in header:
        if column not in COLUMNS:
            raise ValueError(f"unknown column {column!r}; {needed}")
        if header.count(column) > 1:
            raise ValueError(f"more than one column {column}; {needed}")
    return [header.index(column) for column in COLUMNS]


def _user(record: list[str], columns: list[int]) -> tuple[int, User]:
    if len(record) != len(columns):
        raise ValueError(f"{len(record)} fields, the header has {len(columns)}")
    id_, name, age, email = (record[index] for index in columns)
    number, user = to_user(id_, strip(name), age, strip(email))
    if wrong := problem_in_file(user):
        raise ValueError(wrong)
    return number, user
