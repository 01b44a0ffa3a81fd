"""The sample users, from the file that people read, not from the binary under test."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import api_pb2

ROOT = Path(__file__).resolve().parents[2]


class Person(NamedTuple):
    """One user, as a test compares it."""

    name: str
    age: int
    email: str


class Sample:
    """examples/users.csv, by id."""

    def __init__(self) -> None:
        with (ROOT / "examples" / "users.csv").open(encoding="utf-8", newline="") as file:
            self._people = {
                int(row["id"]): Person(row["name"], int(row["age"]), row["email"])
                for row in csv.DictReader(file)
            }
        self.ids = list(self._people)
        assert len(self.ids) > 100, f"examples/users.csv has only {len(self.ids)} users"

    def people(self, ids: Iterable[int]) -> list[Person]:
        """What the server must answer for ids: in order, repeats kept, unknown ids left out."""
        return [self._people[i] for i in ids if i in self._people]

    def cycle(self, count: int, start: int = 0) -> list[int]:
        """Count ids, all of the sample again and again from its start-th on."""
        return [self.ids[(start + i) % len(self.ids)] for i in range(count)]


def people(reply: api_pb2.UserReply) -> list[Person]:
    """What a reply says, comparable with Sample.people."""
    assert reply.message == "success", f"the reply's message is {reply.message!r}"
    return [Person(user.name, user.age, user.email) for user in reply.data]
