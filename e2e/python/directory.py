"""What roster_peer's clients of roster.v1 do with a real server, on any grpcio.

    python directory.py ADDRESS

It prints "done" at the end.
"""

import asyncio
import sys
import time

from roster_peer import (
    AsyncCopy,
    AsyncDirectoryClient,
    Change,
    ConflictError,
    Copy,
    Delete,
    DirectoryClient,
    InvalidArgumentError,
    Kind,
    NotFoundError,
    OutOfRangeError,
    Position,
    Progress,
    Record,
    Update,
)

LONG = 30.0


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f"not so: {what}")


def until(condition, what: str) -> None:
    end = time.monotonic() + LONG
    while not condition():
        expect(time.monotonic() < end, what)
        time.sleep(0.01)


def sync(address: str) -> None:
    with DirectoryClient(address) as roster:
        ann = roster.create(Record(0, "Ann", 31, "ann@example.com"), timeout=LONG)
        expect(roster.get(ann.id, min_revision=ann.revision, timeout=LONG) == ann, "get")
        new = roster.update(Record(ann.id, age=32, etag=ann.etag), ["age"], timeout=LONG)
        try:
            roster.update(Record(ann.id, age=33, etag=ann.etag), ["age"], timeout=LONG)
            expect(False, "a lost update")
        except ConflictError as error:
            expect(error.present == new, f"the present state: {error.present}")
        try:
            roster.create(Record(0, "\n"), timeout=LONG)
            expect(False, "a name of a line break")
        except InvalidArgumentError as error:
            expect(error.violations[0].field == "user.name", f"{error.violations}")
        try:
            roster.list_page(filter="nonsense", timeout=LONG)
            expect(False, "nonsense as a filter")
        except InvalidArgumentError as error:
            expect(len(error.violations) == 1, f"{error.violations}")
        try:
            list(roster.list_changes(Position(0, "another"), timeout=LONG))
            expect(False, "another epoch")
        except OutOfRangeError:
            pass

        done = roster.import_users(Record(i, f"User {i}", 1) for i in range(100, 3100))
        expect((done.imported, done.created) == (3000, 3000), f"{done}")
        expect(len(list(roster.export())) == 3001, "export")
        listed = list(roster.list(filter='name = "user*"', order_by="name"))
        expect(len(listed) == 3000, "list")
        with roster.watch(from_beginning=True, progress_interval=0.1) as watch:
            kinds = []
            for event in watch:
                if isinstance(event, Progress):
                    break
                kinds.append(event.kind)
            expect(kinds == [Kind.EXISTING] * 3001, "all users")
        with Copy(roster, 5.0) as users:
            users.wait(LONG)
            expect(users.get(ann.id) == new, "a copy")
            batch = roster.batch_update(
                creates=[Record(0, "Cat")],
                updates=[Update(Record(ann.id, "Anna"))],
                deletes=[Delete(100)],
                timeout=LONG,
            )
            until(lambda: users.position == batch.position, "the batch in the copy")
            expect(users.get(100) is None, "a removed user")
            expect(users.get(ann.id).name == "Anna", "a changed user")
        changes = list(roster.list_changes(Position(batch.position.revision - 1)))
        expect([c.actor for c in changes] == ["loopback"] * 3, f"{changes}")
        try:
            roster.get(100, timeout=LONG)
            expect(False, "a removed user")
        except NotFoundError:
            pass


async def with_asyncio(address: str) -> None:
    async with AsyncDirectoryClient(address) as roster:
        at = await roster.position(timeout=LONG)
        dan = await roster.create(Record(0, "Dan"), timeout=LONG)
        async with roster.watch(at, progress_interval=0.1) as watch:
            async for event in watch:
                if isinstance(event, Change):
                    expect((event.kind, event.user) == (Kind.CREATED, dan), f"{event}")
                    break
        async with AsyncCopy(roster, 5.0) as users:
            await users.wait(LONG)
            expect(users.get(dan.id) == dan, "a copy")
        done = await roster.import_users([Record(dan.id, "Daniel")], timeout=LONG)
        expect(done.updated == 1, f"{done}")
        expect(len([u async for u in roster.export('name = "Daniel"')]) == 1, "export")
        await roster.delete(dan.id, timeout=LONG)


sync(sys.argv[1])
asyncio.run(with_asyncio(sys.argv[1]))
print("done")
