"""A user, and the limits of its fields, which are those of directory.User in Go."""

from __future__ import annotations

import re
import unicodedata
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

# What follows are the rules of directory.Normalize in Go, for users that are
# loaded from a file of rows. A store may have users from before them.
_SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
#: Control characters, line breaks, what is invisible or changes the direction of
#: the text around it, and U+FFFD, which stands for a character that was lost.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u115f\u1160\u180e\u200b\u2028-\u202e\u2060-\u206f\u2800"
    "\u3164\ufeff\uffa0\ufff0-\uffff\U000e0000-\U000e0fff]"
)
_LOCAL = re.compile(rf"(?:[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]|[^\x00-\x7f{_SPACES}])+")
_MAX_LABEL = 63


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


def strip(text: str) -> str:
    """Returns text without the spaces around it, which are no part of a value."""
    return text.strip(_SPACES)


def problem_in_file(user: User) -> str | None:
    """Says which rule a user of a file of rows breaks, besides those of problem."""
    return _name_problem(user.name) or _address_problem(user.email)


def _name_problem(name: str) -> str | None:
    if not name:
        return "name is empty"
    if unsafe := _UNSAFE.search(name):
        return f"name {name!r} has U+{ord(unsafe.group()):04X}, which no name may have"
    if not any(unicodedata.category(character)[0] in "LNPS" for character in name):
        return f"name {name!r} has no visible character"
    return None


def _address_problem(email: str) -> str | None:
    if not email:
        return None
    local, _, domain = email.partition("@")
    if (
        _UNSAFE.search(email)
        or not _LOCAL.fullmatch(local)
        or not all(map(_is_label, domain.split(".")))
    ):
        return f"email {email!r} is not one address, such as ann@example.com"
    return None


def _is_label(label: str) -> bool:
    """Tells whether label is one of a domain: letters, digits and hyphens inside."""
    return (
        0 < len(label) <= _MAX_LABEL
        and "-" not in (label[0], label[-1])
        and all(
            character == "-" or unicodedata.category(character)[0] in "LMN"
            for character in label
        )
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
