"""DirectoryClient and AsyncDirectoryClient: the same scenarios through both."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from fake_directory import FakeDirectory, serving
from roster.v1 import directory_pb2 as pb
from support import PATIENCE

from roster_peer import (
    AlreadyExistsError,
    AsyncDirectoryClient,
    CallError,
    ConflictError,
    Delete,
    DirectoryClient,
    InvalidArgumentError,
    Kind,
    NotFoundError,
    OutOfRangeError,
    Position,
    Record,
    RefusedRow,
    Update,
    Violation,
)
from roster_peer.details import details


class Blocking:
    """Calls AsyncDirectoryClient as if it were synchronous, each on a connection."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            async def run() -> Any:
                async with AsyncDirectoryClient(self.address) as client:
                    result = getattr(client, name)(*args, **kwargs)
                    if inspect.isasyncgen(result):
                        return [each async for each in result]
                    return await result

            return asyncio.run(run())

        return call


@pytest.fixture
def directory() -> FakeDirectory:
    return FakeDirectory()


@pytest.fixture
def address(directory: FakeDirectory) -> Iterator[str]:
    with serving(directory) as address:
        yield address


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, address: str) -> Iterator[Any]:
    if request.param == "async":
        yield Blocking(address)
        return
    with DirectoryClient(address) as client:
        yield client


LONG = {"timeout": PATIENCE}


def test_users_are_written_and_read(client: Any, directory: FakeDirectory) -> None:
    ann = client.create(Record(0, "Ann Lee", 31, "ann@example.com"), **LONG)
    assert (ann.id, ann.name, ann.age, ann.email) == (
        1,
        "Ann Lee",
        31,
        "ann@example.com",
    )
    assert ann.revision == 1
    assert ann.etag
    assert ann.create_time is not None
    assert ann.create_time.tzinfo is not None
    assert client.get(1, **LONG) == ann

    older = client.update(Record(1, age=32, etag=ann.etag), ["age"], **LONG)
    assert (older.age, older.name, older.revision) == (32, "Ann Lee", 2)
    bob = client.create(Record(7, "Bob"), validate_only=True, **LONG)
    assert (bob.id, directory.revision) == (7, 2)
    found = client.batch_get([9, 1, 9], min_revision=2, **LONG)
    assert (found.users, found.unknown_ids) == ([older], [9])
    assert client.position(**LONG) == Position(2, "epoch1")
    assert client.delete(1, **LONG) == Position(3, "epoch1")
    assert client.delete(1, allow_missing=True, **LONG).revision == 3


def test_errors_have_the_details_of_the_server(client: Any) -> None:
    ann = client.create(Record(1, "Ann"), **LONG)
    new = client.update(Record(1, "Anna"), **LONG)
    with pytest.raises(NotFoundError, match="no user has the id 5"):
        client.get(5, **LONG)
    with pytest.raises(AlreadyExistsError):
        client.create(Record(1, "Eve"), **LONG)
    with pytest.raises(ConflictError) as conflict:
        client.update(Record(1, age=3, etag=ann.etag), **LONG)
    assert conflict.value.present == new
    assert conflict.value.code is grpc.StatusCode.ABORTED
    with pytest.raises(ConflictError) as conflict:
        client.delete(1, etag=ann.etag, **LONG)
    assert conflict.value.present == new
    with pytest.raises(InvalidArgumentError) as invalid:
        client.list_page(filter="nonsense", **LONG)
    assert invalid.value.violations == (Violation("filter", "at 1: no field"),)
    with pytest.raises(OutOfRangeError):
        client.get(1, min_revision=99, **LONG)
    with pytest.raises(OutOfRangeError):
        client.changes_page(Position(0, "another"), **LONG)


def test_what_cannot_be_sent_is_refused(client: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: client.get(2**31),
        lambda: client.batch_get([1, -(2**31) - 1]),
        lambda: client.create(Record(1, "Ann", 2**31)),
        lambda: client.update(Record(1, "Ann"), "name"),
        lambda: client.delete(2**40),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"is not between|is no age|list of names"):
            call()


def test_all_pages_are_listed(client: Any, directory: FakeDirectory) -> None:
    directory.write([pb.User(id=i, name=f"User {i}") for i in range(25)])
    assert [u.id for u in client.list(page_size=10, **LONG)] == list(range(25))
    assert [u.id for u in client.list(filter='name = "User 1*"', **LONG)] == [
        1,
        *range(10, 20),
    ]
    page = client.list_page(page_size=5, show_total=True, **LONG)
    assert (len(page.users), page.total_size) == (5, 25)
    assert page.position == Position(1, "epoch1")


def test_a_batch_is_one_revision(client: Any, directory: FakeDirectory) -> None:
    directory.write([pb.User(id=1, name="Ann"), pb.User(id=2, name="Bob")])
    done = client.batch_update(
        creates=[Record(0, "Cat")],
        updates=[Update(Record(1, age=9), ["age"])],
        deletes=[Delete(2)],
        **LONG,
    )
    assert done.position == Position(2, "epoch1")
    assert [(u.id, u.age) for u in done.updated] == [(1, 9)]
    assert [u.name for u in done.created] == ["Cat"]
    history = [(c.revision, c.kind, c.id, c.actor) for c in client.list_changes(**LONG)]
    assert history[:2] == [
        (1, Kind.CREATED, 1, "somebody"),
        (1, Kind.CREATED, 2, "somebody"),
    ]
    assert len(history) == 5
    assert all(c.time is not None for c in client.list_changes(Position(1), **LONG))


def test_an_import_and_an_export(client: Any, directory: FakeDirectory) -> None:
    directory.write([pb.User(id=5000, name="Old"), pb.User(id=1, name="One")])
    users = (Record(i, f"User {i}" if i != 77 else "") for i in range(2000))
    done = client.import_users(users, **LONG)
    assert (done.imported, done.created, done.updated, done.refused) == (
        1999,
        1998,
        1,
        1,
    )
    assert done.refused_rows == [RefusedRow(78, 77, "name")]
    assert done.position == Position(2, "epoch1")
    assert len(list(client.export(**LONG))) == 2000
    with pytest.raises(InvalidArgumentError):
        client.import_users([Record(1)], atomic=True, **LONG)
    done = client.import_users([Record(1, "I")], atomic=True, mirror=True, **LONG)
    assert done.removed == 1999
    assert directory.users.keys() == {1}


def test_an_import_whose_users_fail_imports_nothing(
    client: Any, directory: FakeDirectory
) -> None:
    def users() -> Iterator[Record]:
        yield from (Record(i, "x") for i in range(5000))
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        client.import_users(users(), **LONG)
    assert directory.revision == 0


def test_an_export_that_is_left_ends_on_the_server(directory: FakeDirectory) -> None:
    directory.write([pb.User(id=i, name=f"User {i}") for i in range(3000)])
    ended, at_least_one = threading.Event(), threading.Event()

    def at_export(context: Any) -> None:
        at_least_one.set()
        context.add_callback(ended.set)

    directory.at_export = at_export
    with serving(directory) as address, DirectoryClient(address) as client:
        for _ in client.export():
            break
        assert at_least_one.wait(PATIENCE)
        assert ended.wait(PATIENCE)


def test_nobody_there_is_unavailable() -> None:
    with DirectoryClient("127.0.0.1:1") as client, pytest.raises(CallError) as caught:
        client.get(1, timeout=PATIENCE)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_server_without_roster_v1_is_named(server: Any) -> None:
    with DirectoryClient(server.address) as client, pytest.raises(CallError) as caught:
        client.get(1, timeout=PATIENCE)
    assert "does not host roster.v1.DirectoryService" in str(caught.value)


@pytest.mark.parametrize(
    "status",
    [
        b"",
        b"\xff",
        b"\x1a",
        b"\x1a\x7f",
        b"\x1a\x02\x0a\x50",
        b"\x1b",
        b"\xff" * 11,
        b"\x1a\x1c\n\x1atype/google.rpc.BadRequest\xff",
        b"\x1a\x20\n\x18type/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\xff",
    ],
)
def test_details_that_cannot_be_read_are_left_out(status: bytes) -> None:
    found = details([("other", "x"), ("grpc-status-details-bin", status)])
    assert found.violations == ()
    assert found.present is None


def test_the_time_to_wait_is_read() -> None:
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.rpc import error_details_pb2, status_pb2

    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(2500)
    packed = AnyMessage()
    packed.Pack(info)
    status = status_pb2.Status(code=14, message="busy", details=[packed])
    found = details([("grpc-status-details-bin", status.SerializeToString())])
    assert found.retry_after == 2.5
