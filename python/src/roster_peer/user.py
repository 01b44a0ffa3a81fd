"""A user, and the limits of its fields, which are those of directory.User in Go."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: The longest name, in bytes of UTF-8.
MAX_NAME_BYTES = 256
#: The longest email, in bytes: RFC 5321 §4.5.3.1.
MAX_EMAIL_BYTES = 320
#: The greatest age, in years.
MAX_AGE = 150

INT32_MIN = -(2**31)
INT32_MAX = 2**31 - 1

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class User:
    """One entry of the directory, as the contract has it: without its id."""

    #: At most MAX_NAME_BYTES; from a Roster server never empty.
    name: str
    #: In years; from a Roster server 0 to MAX_AGE.
    age: int
    #: May be empty; at most MAX_EMAIL_BYTES.
    email: str


def problem(user: User) -> str | None:
    """Says which field of user breaks its limits first; None if all hold.

    Servers check what they load. A client does not check what it receives.
    """
    if not user.name:
        return "name is empty"
    return (
        _text_problem("name", user.name, MAX_NAME_BYTES)
        or _age_problem(user.age)
        or _text_problem("email", user.email, MAX_EMAIL_BYTES)
        or _email_problem(user.email)
    )


def _text_problem(field: str, value: str, max_bytes: int) -> str | None:
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        return f"{field} is not UTF-8"
    if size > max_bytes:
        return f"{field} has {size} bytes, the limit is {max_bytes}"
    if _CONTROL.search(value):
        return f"{field} {value!r} has a control character"
    return None


def _age_problem(age: int) -> str | None:
    if not 0 <= age <= MAX_AGE:
        return f"age {age} is not between 0 and {MAX_AGE}"
    return None


def _email_problem(email: str) -> str | None:
    if email and "@" not in email:
        return f"email {email!r} has no @"
    return None
