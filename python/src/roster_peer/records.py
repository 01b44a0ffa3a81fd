"""What roster.v1 answers: users with their ids and histories, pages and changes."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Union

from google.protobuf.timestamp_pb2 import Timestamp
from roster.v1 import directory_pb2 as pb


@dataclass(frozen=True)
class Position:
    """A place in the history of the directory.

    A revision means something only within its epoch: keep both.
    """

    revision: int
    epoch: str = ""


@dataclass(frozen=True)
class Record:
    """A user of the directory, with its id and what the server knows besides.

    To create or to change one only id, name, age, email and etag count.
    """

    id: int
    name: str = ""
    age: int = 0
    email: str = ""
    #: When it was created and last changed, by the server's clock; UTC.
    create_time: datetime | None = None
    update_time: datetime | None = None
    #: Changes with every change of the user. A write that has it succeeds only if
    #: nobody changed the user meanwhile.
    etag: str = ""
    #: The revision of the user's last change.
    revision: int = 0


@dataclass(frozen=True)
class Found:
    """The answer of batch_get."""

    users: list[Record]
    unknown_ids: list[int]


@dataclass(frozen=True)
class Page:
    """One page of users."""

    users: list[Record]
    #: Empty on the last page.
    next_page_token: str
    #: The number of all users that match, if it was asked for.
    total_size: int
    #: That of the first page: a watch from it tells of all that the pages lack.
    position: Position


class Kind(enum.Enum):
    """What happened to a user."""

    #: It is there, at the beginning of a watch from the beginning.
    EXISTING = pb.Change.KIND_EXISTING
    CREATED = pb.Change.KIND_CREATED
    UPDATED = pb.Change.KIND_UPDATED
    DELETED = pb.Change.KIND_DELETED
    #: It matched the filter and no longer does.
    LEFT = pb.Change.KIND_LEFT


@dataclass(frozen=True)
class Change:
    """What one revision did to one user."""

    kind: Kind
    id: int
    #: The user after the change; None if it was deleted or left.
    user: Record | None
    revision: int
    #: In list_changes only: who made the change, and when.
    actor: str = ""
    time: datetime | None = None


@dataclass(frozen=True)
class Progress:
    """All changes up to this position have been told."""

    position: Position


@dataclass(frozen=True)
class Reset:
    """Where the watch was is not in the history any more, or cannot be gone on from.

    Forget all users: those that there are follow, as changes of the kind EXISTING.
    """

    reason: str


#: What a watch tells.
Event = Union[Change, Progress, Reset]


@dataclass(frozen=True)
class Changes:
    """One page of the history."""

    changes: list[Change]
    next_page_token: str
    #: Where the directory was when the page was read.
    position: Position


@dataclass(frozen=True)
class Updated:
    """The answer of batch_update: the users in the order of the request."""

    created: list[Record]
    updated: list[Record]
    position: Position


@dataclass(frozen=True)
class RefusedRow:
    """A row that an import did not take; row counts from 1."""

    row: int
    id: int
    reason: str


@dataclass(frozen=True)
class Imported:
    """What an import has done. imported = created + updated + unchanged."""

    imported: int
    refused: int
    #: The first hundred of them.
    refused_rows: list[RefusedRow]
    created: int
    updated: int
    unchanged: int
    removed: int
    position: Position


@dataclass(frozen=True)
class Update:
    """A change of some fields of a user, for batch_update."""

    user: Record
    #: "name", "age", "email" or "*"; without any, those that are not zero.
    fields: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Delete:
    """A removal of a user, for batch_update."""

    id: int
    etag: str = ""
    allow_missing: bool = False


def _time(message: Timestamp) -> datetime:
    # ToDatetime(tzinfo) is not in the oldest protobuf.
    return message.ToDatetime().replace(tzinfo=timezone.utc)


def record(user: pb.User) -> Record:
    """Returns the user of a message."""
    return Record(
        id=user.id,
        name=user.name,
        age=user.age,
        email=user.email,
        create_time=_time(user.create_time) if user.HasField("create_time") else None,
        update_time=_time(user.update_time) if user.HasField("update_time") else None,
        etag=user.etag,
        revision=user.revision,
    )


def message(user: Record) -> pb.User:
    """Returns the message of a user, without what only servers set."""
    return pb.User(
        id=user.id, name=user.name, age=user.age, email=user.email, etag=user.etag
    )


def change(told: pb.Change) -> Change:
    """Returns the change of a message."""
    return Change(
        kind=Kind(told.kind),
        id=told.id,
        user=record(told.user) if told.HasField("user") else None,
        revision=told.revision,
        actor=told.actor,
        time=_time(told.time) if told.HasField("time") else None,
    )


def page(reply: pb.ListUsersResponse) -> Page:
    """Returns the page of a message."""
    return Page(
        [record(user) for user in reply.users],
        reply.next_page_token,
        reply.total_size,
        Position(reply.revision, reply.epoch),
    )


def changes(reply: pb.ListChangesResponse) -> Changes:
    """Returns the page of the history of a message."""
    return Changes(
        [change(told) for told in reply.changes],
        reply.next_page_token,
        Position(reply.revision, reply.epoch),
    )


def updated(reply: pb.BatchUpdateUsersResponse) -> Updated:
    """Returns what a batch of changes has done."""
    return Updated(
        [record(user) for user in reply.created],
        [record(user) for user in reply.updated],
        Position(reply.revision, reply.epoch),
    )


def imported(reply: pb.ImportUsersResponse) -> Imported:
    """Returns what an import has done."""
    return Imported(
        imported=reply.imported,
        refused=reply.refused,
        refused_rows=[
            RefusedRow(row.row, row.id, row.reason) for row in reply.refused_rows
        ],
        created=reply.created,
        updated=reply.updated,
        unchanged=reply.unchanged,
        removed=reply.removed,
        position=Position(reply.revision, reply.epoch),
    )
