"""Turns a row of a CSV or SQLite file into a user."""

from __future__ import annotations

import re

from roster_peer.user import INT32_MAX, INT32_MIN, User, problem

#: The columns that a file must have.
COLUMNS = ("id", "name", "age", "email")

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


def to_user(id_: object, name: object, age: object, email: object) -> tuple[int, User]:
    """Returns an id and its user from one row; ValueError says what is wrong.

    Numbers may be text, as which the sqlite3 shell imports them into columns
    without a type. A missing email is an empty one.
    """
    number = _integer("id", id_)
    user = User(
        name=_text("name", name),
        age=_integer("age", age),
        email=_text("email", email),
    )
    wrong = problem(user)
    if wrong:
        raise ValueError(wrong)
    return number, user


def _integer(field: str, value: object) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value)
    if not isinstance(value, int):
        raise ValueError(f"{field} {value!r} is not a whole number")
    if not INT32_MIN <= value <= INT32_MAX:
        raise ValueError(f"{field} {value} is not between {INT32_MIN} and {INT32_MAX}")
    return value


def _text(field: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{field} {value!r} is not text")
    return value
