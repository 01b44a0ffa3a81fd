"""The requests of roster.v1, from Python values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from google.protobuf.field_mask_pb2 import FieldMask
from roster.v1 import directory_pb2 as pb

from roster_peer.records import Delete, Position, Record, Update, message
from roster_peer.user import INT32_MAX, INT32_MIN

#: Users in one message of an import.
_IMPORT_BATCH = 500


def checked(id: int) -> int:
    """Returns an id that is one."""
    if not INT32_MIN <= id <= INT32_MAX:
        raise ValueError(f"id {id} is not between {INT32_MIN} and {INT32_MAX}")
    return id


def _message(user: Record) -> pb.User:
    checked(user.id)
    if not INT32_MIN <= user.age <= INT32_MAX:
        raise ValueError(f"age {user.age} is no age")
    return message(user)


def get(id: int, min_revision: int) -> pb.GetUserRequest:
    return pb.GetUserRequest(id=checked(id), min_revision=min_revision)


def batch_get(ids: Iterable[int], min_revision: int) -> pb.BatchGetUsersRequest:
    return pb.BatchGetUsersRequest(
        ids=list(map(checked, ids)), min_revision=min_revision
    )


def list_page(
    page_size: int,
    page_token: str,
    filter: str,
    order_by: str,
    show_total: bool,
    min_revision: int,
) -> pb.ListUsersRequest:
    return pb.ListUsersRequest(
        page_size=page_size,
        page_token=page_token,
        filter=filter,
        order_by=order_by,
        show_total=show_total,
        min_revision=min_revision,
    )


def create(user: Record, validate_only: bool) -> pb.CreateUserRequest:
    return pb.CreateUserRequest(user=_message(user), validate_only=validate_only)


def update(
    user: Record, fields: Sequence[str], validate_only: bool
) -> pb.UpdateUserRequest:
    if isinstance(fields, str):
        raise ValueError(f'fields is a list of names, as in ["{fields}"]')
    return pb.UpdateUserRequest(
        user=_message(user),
        update_mask=FieldMask(paths=fields) if fields else None,
        validate_only=validate_only,
    )


def delete(
    id: int, etag: str, allow_missing: bool, validate_only: bool
) -> pb.DeleteUserRequest:
    return pb.DeleteUserRequest(
        id=checked(id),
        etag=etag,
        allow_missing=allow_missing,
        validate_only=validate_only,
    )


def batch_update(
    creates: Iterable[Record],
    updates: Iterable[Update],
    deletes: Iterable[Delete],
    validate_only: bool,
) -> pb.BatchUpdateUsersRequest:
    return pb.BatchUpdateUsersRequest(
        creates=[create(user, False) for user in creates],
        updates=[update(each.user, each.fields, False) for each in updates],
        deletes=[
            delete(each.id, each.etag, each.allow_missing, False) for each in deletes
        ],
        validate_only=validate_only,
    )


def imports(
    users: Iterable[Record],
    atomic: bool,
    mirror: bool,
    max_removals: int,
    validate_only: bool,
) -> Iterator[pb.ImportUsersRequest]:
    """Yields the messages of an import: the options, then the users in parts."""
    yield pb.ImportUsersRequest(
        options=pb.ImportOptions(
            atomic=atomic,
            mirror=mirror,
            max_removals=max_removals,
            validate_only=validate_only,
        )
    )
    left = iter(users)
    while part := [_message(user) for user in islice(left, _IMPORT_BATCH)]:
        yield pb.ImportUsersRequest(users=part)


def list_changes(
    position: Position | None, page_size: int, page_token: str
) -> pb.ListChangesRequest:
    position = position or Position(0)
    return pb.ListChangesRequest(
        from_revision=position.revision,
        epoch=position.epoch,
        page_size=page_size,
        page_token=page_token,
    )


def export(filter: str) -> pb.ExportUsersRequest:
    return pb.ExportUsersRequest(filter=filter)
