"""A roster.v1 server that keeps the promises of directory.proto, in memory.

As a program it serves on a free port, prints the port, and takes commands on standard
input: "add NAME", "remove ID" and "restore", which goes back to no users in another
epoch.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Optional

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from roster.v1 import directory_pb2 as pb
from roster.v1 import directory_pb2_grpc

Kind = pb.Change
Context = Any
#: A change, and the user before it.
Made = tuple[Optional[pb.User], pb.Change]


class FakeDirectory(directory_pb2_grpc.DirectoryServiceServicer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.users: dict[int, pb.User] = {}
        self.history: list[list[Made]] = []
        self.oldest = 0
        self.epochs = itertools.count(1)
        self.epoch = f"epoch{next(self.epochs)}"
        self.highest = 0
        #: Called with the context of each stream of a watch, and of each message.
        self.at_watch: Callable[[Context], None] = lambda context: None
        self.at_message: Callable[[Context, int], None] = lambda context, count: None
        self.at_export: Callable[[Context], None] = lambda context: None
        self.watches: list[pb.WatchUsersRequest] = []
        self.frozen = threading.Event()

    # What a test does to it.

    @property
    def revision(self) -> int:
        return len(self.history)

    def write(
        self,
        puts: Iterable[pb.User] = (),
        removes: Iterable[int] = (),
    ) -> list[pb.User]:
        """Makes one revision."""
        with self.changed:
            return self._write(list(puts), list(removes))

    def _write(self, puts: list[pb.User], removes: list[int]) -> list[pb.User]:
        revision = self.revision + 1
        changes: list[Made] = []
        made: list[pb.User] = []
        for id_ in removes:
            gone = pb.Change(kind=Kind.KIND_DELETED, id=id_)
            changes.append((self.users.pop(id_), gone))
        for put in puts:
            user = pb.User()
            user.CopyFrom(put)
            user.revision = revision
            user.etag = f"{self.epoch}-{revision}"
            user.update_time.FromSeconds(1_700_000_000 + revision)
            old = self.users.get(user.id)
            user.create_time.CopyFrom(old.create_time if old else user.update_time)
            self.users[user.id] = user
            self.highest = max(self.highest, user.id)
            kind = Kind.KIND_UPDATED if old else Kind.KIND_CREATED
            changes.append((old, pb.Change(kind=kind, id=user.id, user=user)))
            made.append(user)
        changes.sort(key=lambda each: each[1].id)
        for _, change in changes:
            change.revision = revision
        self.history.append(changes)
        self.changed.notify_all()
        return made

    def restore(self) -> None:
        """Goes back to an empty directory, as a restore from an old backup does."""
        with self.changed:
            self.users, self.history, self.oldest = {}, [], 0
            self.epoch = f"epoch{next(self.epochs)}"
            self.changed.notify_all()

    def compact(self) -> None:
        with self.changed:
            self.oldest = self.revision

    # The methods.

    def GetUser(self, request: pb.GetUserRequest, context: Context) -> pb.User:
        with self.changed:
            if request.min_revision > self.revision:
                context.abort(grpc.StatusCode.OUT_OF_RANGE, "in the future")
            return self._find(request.id, context)

    def _find(self, id_: int, context: Context) -> pb.User:
        if id_ not in self.users:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no user has the id {id_}")
        return self.users[id_]

    def BatchGetUsers(self, request: Any, context: Context) -> Any:
        with self.changed:
            ids = list(dict.fromkeys(request.ids))
            return pb.BatchGetUsersResponse(
                users=[self.users[i] for i in ids if i in self.users],
                unknown_ids=[i for i in ids if i not in self.users],
            )

    def _matching(self, filter: str) -> list[pb.User]:
        return [u for _, u in sorted(self.users.items()) if matches(filter, u)]

    def ListUsers(self, request: Any, context: Context) -> Any:
        if request.filter.startswith("nonsense"):
            bad = error_details_pb2.BadRequest()
            bad.field_violations.add(field="filter", description="at 1: no field")
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "filter: no", bad)
        with self.changed:
            users = self._matching(request.filter)
            begin = int(request.page_token or 0)
            end = begin + (request.page_size or 50)
            return pb.ListUsersResponse(
                users=users[begin:end],
                next_page_token=str(end) if end < len(users) else "",
                total_size=len(users) if request.show_total else 0,
                revision=self.revision,
                epoch=self.epoch,
            )

    def CreateUser(self, request: pb.CreateUserRequest, context: Context) -> pb.User:
        with self.changed:
            user = request.user
            if user.id in self.users:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, f"id {user.id} is taken")
            user.id = user.id or self.highest + 1
            return user if request.validate_only else self._write([user], [])[0]

    def UpdateUser(self, request: pb.UpdateUserRequest, context: Context) -> pb.User:
        with self.changed:
            merged = self._merged(request, context)
            return merged if request.validate_only else self._write([merged], [])[0]

    def _merged(self, request: pb.UpdateUserRequest, context: Context) -> pb.User:
        present = self._find(request.user.id, context)
        if request.user.etag and request.user.etag != present.etag:
            refuse(context, grpc.StatusCode.ABORTED, "it has changed", present)
        fields = list(request.update_mask.paths) or [
            f for f in ("name", "age", "email") if getattr(request.user, f)
        ]
        merged = pb.User()
        merged.CopyFrom(present)
        for field in ("name", "age", "email") if fields == ["*"] else fields:
            setattr(merged, field, getattr(request.user, field))
        return merged

    def DeleteUser(self, request: pb.DeleteUserRequest, context: Context) -> Any:
        with self.changed:
            if request.id in self.users or not request.allow_missing:
                present = self._find(request.id, context)
                if request.etag and request.etag != present.etag:
                    refuse(context, grpc.StatusCode.ABORTED, "it has changed", present)
                if not request.validate_only:
                    self._write([], [request.id])
            return pb.DeleteUserResponse(revision=self.revision, epoch=self.epoch)

    def BatchUpdateUsers(self, request: Any, context: Context) -> Any:
        with self.changed:
            updates = [self._merged(update, context) for update in request.updates]
            creates = [create.user for create in request.creates]
            removes = [delete.id for delete in request.deletes]
            made = self._write(updates + creates, removes)
            return pb.BatchUpdateUsersResponse(
                updated=made[: len(updates)],
                created=made[len(updates) :],
                revision=self.revision,
                epoch=self.epoch,
            )

    def ImportUsers(self, requests: Iterator[Any], context: Context) -> Any:
        options, users, refused, row = pb.ImportOptions(), {}, [], 0
        for request in requests:
            if request.HasField("options"):
                options = request.options
            for user in request.users:
                row += 1
                if not user.name:
                    refused.append(pb.RefusedRow(row=row, id=user.id, reason="name"))
                    continue
                users[user.id] = user
        if refused and options.atomic:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"row {refused[0].row}")
        with self.changed:
            old = set(self.users)
            removes = old - set(users) if options.mirror else set()
            if not options.validate_only:
                self._write(list(users.values()), sorted(removes))
            return pb.ImportUsersResponse(
                imported=len(users),
                refused=len(refused),
                refused_rows=refused,
                created=len(set(users) - old),
                updated=len(set(users) & old),
                removed=len(removes),
                revision=self.revision,
                epoch=self.epoch,
            )

    def ExportUsers(self, request: Any, context: Context) -> Iterator[Any]:
        with self.changed:
            users = self._matching(request.filter)
            revision, epoch = self.revision, self.epoch
        for begin in range(0, len(users), 300):
            self.at_export(context)
            yield pb.ExportUsersResponse(
                users=users[begin : begin + 300], revision=revision, epoch=epoch
            )

    def WatchUsers(self, request: Any, context: Context) -> Iterator[Any]:
        self.watches.append(request)
        self.at_watch(context)
        for count, message in enumerate(self._watch(request, context)):
            self.at_message(context, count)
            yield message

    def _watch(self, request: Any, context: Context) -> Iterator[Any]:
        interval = request.progress_interval.ToNanoseconds() / 1e9 or 10
        with self.changed:
            epoch = self.epoch
            if request.from_beginning:
                at, existing = self.revision, self._matching(request.filter)
            elif request.HasField("from_revision"):
                at, existing = request.from_revision, []
                if request.epoch not in ("", epoch) or not (
                    self.oldest <= at <= self.revision
                ):
                    context.abort(grpc.StatusCode.OUT_OF_RANGE, "not in the history")
            else:
                at, existing = self.revision, []
        for user in existing:
            change = pb.Change(kind=Kind.KIND_EXISTING, id=user.id, user=user)
            yield pb.WatchUsersResponse(change=change)
        if request.from_beginning:
            yield pb.WatchUsersResponse(progress=pb.Progress(revision=at, epoch=epoch))
        while context.is_active():
            with self.changed:
                self._wait_for_news(at, epoch, interval)
                if self.epoch != epoch:
                    context.abort(grpc.StatusCode.OUT_OF_RANGE, "another epoch")
                new = self.history[at:]
                at = self.revision
            for before, change in itertools.chain.from_iterable(new):
                told = filtered(request.filter, before, change)
                if told is not None:
                    yield pb.WatchUsersResponse(change=told)
            if not self.frozen.is_set():
                progress = pb.Progress(revision=at, epoch=epoch)
                yield pb.WatchUsersResponse(progress=progress)

    def _wait_for_news(self, at: int, epoch: str, interval: float) -> None:
        self.changed.wait_for(
            lambda: self.epoch != epoch or self.revision > at, interval
        )

    def ListChanges(self, request: Any, context: Context) -> Any:
        with self.changed:
            if request.epoch not in ("", self.epoch):
                context.abort(grpc.StatusCode.OUT_OF_RANGE, "another epoch")
            begin = int(request.page_token or request.from_revision)
            every = self.history[begin : begin + 1]
            changes = []
            for _, change in itertools.chain.from_iterable(every):
                told = pb.Change()
                told.CopyFrom(change)
                told.actor = "somebody"
                told.time.FromSeconds(1_700_000_000 + change.revision)
                changes.append(told)
            return pb.ListChangesResponse(
                changes=changes,
                next_page_token=str(begin + 1) if begin + 1 < self.revision else "",
                revision=self.revision,
                epoch=self.epoch,
            )


def matches(filter: str, user: pb.User | None) -> bool:
    """Knows the filter name = "Prefix*" alone."""
    prefix = filter.partition('"')[2].rstrip('*"').lower()
    return user is not None and user.name.lower().startswith(prefix)


def filtered(
    filter: str, before: pb.User | None, change: pb.Change
) -> pb.Change | None:
    now = matches(filter, change.user if change.HasField("user") else None)
    was = matches(filter, before)
    if now or (was and change.kind == Kind.KIND_DELETED):
        return change
    if was:
        left = pb.Change.KIND_LEFT
        return pb.Change(kind=left, id=change.id, revision=change.revision)
    return None


def refuse(context: Context, code: grpc.StatusCode, text: str, *details: Any) -> None:
    """Ends a call with an error that has details."""
    status = status_pb2.Status(code=code.value[0], message=text)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    context.abort_with_status(rpc_status.to_status(status))


@contextmanager
def serving(directory: FakeDirectory, port: int = 0) -> Iterator[str]:
    """Serves it; yields HOST:PORT."""
    with ThreadPoolExecutor(16) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        directory_pb2_grpc.add_DirectoryServiceServicer_to_server(directory, server)
        got = server.add_insecure_port(f"127.0.0.1:{port}")
        assert got, f"port {port} is taken"
        server.start()
        try:
            yield f"127.0.0.1:{got}"
        finally:
            server.stop(None).wait()
            with directory.changed:
                directory.changed.notify_all()


def main() -> None:
    directory = FakeDirectory()
    with serving(directory) as address:
        print(address, flush=True)
        for line in sys.stdin:
            command, _, argument = line.strip().partition(" ")
            if command == "add":
                user = pb.User(id=directory.highest + 1, name=argument)
                directory.write([user])
            elif command == "remove":
                directory.write(removes=[int(argument)])
            elif command == "restore":
                directory.restore()
            print("done", flush=True)


if __name__ == "__main__":
    main()
