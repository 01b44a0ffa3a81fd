"""The client of roster.v1, synchronous."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import grpc
from roster.v1 import directory_pb2_grpc

from roster_peer import records, requests
from roster_peer.address import Address
from roster_peer.connection import authorization, call_error, channel_options
from roster_peer.errors import CallError
from roster_peer.records import (
    Change,
    Changes,
    Delete,
    Found,
    Imported,
    Page,
    Position,
    Record,
    Update,
    Updated,
)
from roster_peer.tls import TLS
from roster_peer.watch import Watch
from roster_peer.watching import PROGRESS_INTERVAL, Watching

_SERVICE = "roster.v1.DirectoryService"


class DirectoryClient:
    """Calls roster.v1.DirectoryService of one server.

    Threads may share it. Close it, or use it in `with`. Create it after a fork.

    Every call raises CallError, or the class of it that its method names. A timeout
    is in seconds, for the whole call; None waits for as long as it takes. A write
    that fails has changed nothing, unless its code is CANCELLED, DEADLINE_EXCEEDED or
    UNAVAILABLE with a connection that broke: then look. Nothing is tried again but
    the stream of a watch.
    """

    def __init__(
        self,
        address: str = "localhost:50051",
        tls: TLS | None = None,
        *,
        token: str | None = None,
        token_in_clear: bool = False,
    ) -> None:
        """Connects at the first call. The arguments are those of Client."""
        parsed = Address.parse(address)
        self.address = address
        self._tls = tls
        clear_ok = token_in_clear or tls is not None or parsed.is_loopback()
        self._metadata = authorization(token, clear_ok)
        options = channel_options(parsed)
        self._channel = (
            grpc.insecure_channel(str(parsed), options)
            if tls is None
            else grpc.secure_channel(str(parsed), tls.credentials(), options)
        )
        self._stub: Any = directory_pb2_grpc.DirectoryServiceStub(self._channel)

    def get(
        self, id: int, *, min_revision: int = 0, timeout: float | None = 1.0
    ) -> Record:
        """Returns the user with an id.

        Args:
            min_revision: the answer has all changes up to it.

        Raises:
            NotFoundError: nobody has the id.
            OutOfRangeError: min_revision is in the future.
        """
        request = requests.get(id, min_revision)
        return records.record(self._call("get", "GetUser", request, timeout))

    def batch_get(
        self,
        ids: Iterable[int],
        *,
        min_revision: int = 0,
        timeout: float | None = 1.0,
    ) -> Found:
        """Returns the users that have one of ids, each once, and the unknown ids."""
        request = requests.batch_get(ids, min_revision)
        reply = self._call("batch_get", "BatchGetUsers", request, timeout)
        return Found([records.record(u) for u in reply.users], list(reply.unknown_ids))

    def list_page(
        self,
        *,
        page_size: int = 0,
        page_token: str = "",
        filter: str = "",
        order_by: str = "",
        show_total: bool = False,
        min_revision: int = 0,
        timeout: float | None = 5.0,
    ) -> Page:
        """Returns one page of users.

        Args:
            page_size: the most users, up to 1,000; 0 means 50.
            page_token: next_page_token of the page before, for the same filter and
                order.
            filter: such as 'name = "Ann*" AND email = "ann@*"'.
            order_by: "id" or "name", with " desc" after it for the other direction.
            show_total: asks for the number of all users that match.
        """
        request = requests.list_page(
            page_size, page_token, filter, order_by, show_total, min_revision
        )
        return records.page(self._call("list", "ListUsers", request, timeout))

    def list(
        self,
        *,
        filter: str = "",
        order_by: str = "",
        page_size: int = 1000,
        timeout: float | None = 5.0,
    ) -> Iterator[Record]:
        """Yields all users that match, page by page; timeout is that of a page."""
        token = ""
        while True:
            page = self.list_page(
                page_size=page_size,
                page_token=token,
                filter=filter,
                order_by=order_by,
                timeout=timeout,
            )
            yield from page.users
            token = page.next_page_token
            if not token:
                return

    def position(self, *, timeout: float | None = 1.0) -> Position:
        """Returns where the history of the directory is now."""
        return self.list_page(page_size=1, timeout=timeout).position

    def create(
        self,
        user: Record,
        *,
        validate_only: bool = False,
        timeout: float | None = 5.0,
    ) -> Record:
        """Adds a user; with the id 0 it gets a new one. Returns it as it is then.

        Raises:
            AlreadyExistsError: another user has the id or the email.
        """
        request = requests.create(user, validate_only)
        return records.record(self._call("create", "CreateUser", request, timeout))

    def update(
        self,
        user: Record,
        fields: Sequence[str] = (),
        *,
        validate_only: bool = False,
        timeout: float | None = 5.0,
    ) -> Record:
        """Changes fields of the user with user.id. Returns it as it is then.

        Args:
            user: with an etag, it must be the present one.
            fields: "name", "age", "email" or "*"; without any, those of user that
                are not zero.

        Raises:
            NotFoundError: nobody has the id.
            ConflictError: it has another etag now; error.present is the user.
            AlreadyExistsError: another user has the email.
        """
        request = requests.update(user, fields, validate_only)
        return records.record(self._call("update", "UpdateUser", request, timeout))

    def delete(
        self,
        id: int,
        *,
        etag: str = "",
        allow_missing: bool = False,
        validate_only: bool = False,
        timeout: float | None = 5.0,
    ) -> Position:
        """Removes a user.

        Raises:
            NotFoundError: nobody has the id, and allow_missing is not set.
            ConflictError: as update has it.
        """
        request = requests.delete(id, etag, allow_missing, validate_only)
        reply = self._call("delete", "DeleteUser", request, timeout)
        return Position(reply.revision, reply.epoch)

    def batch_update(
        self,
        *,
        creates: Iterable[Record] = (),
        updates: Iterable[Update] = (),
        deletes: Iterable[Delete] = (),
        validate_only: bool = False,
        timeout: float | None = 5.0,
    ) -> Updated:
        """Makes all changes at once or none: deletes, then updates, then creates."""
        request = requests.batch_update(creates, updates, deletes, validate_only)
        reply = self._call("batch_update", "BatchUpdateUsers", request, timeout)
        return records.updated(reply)

    def import_users(
        self,
        users: Iterable[Record],
        *,
        atomic: bool = False,
        mirror: bool = False,
        max_removals: int = 0,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> Imported:
        """Adds users, and replaces those whose id exists, in one change of any size.

        What users raises ends the import, and nothing is imported.

        Args:
            users: iterated over in another thread, as the server takes them.
            atomic: one row refused refuses all, by InvalidArgumentError.
            mirror: remove the users that are not in users. Needs atomic.
            max_removals: with mirror, refuse to remove more; 0 means no limit.
        """
        failed: list[BaseException] = []

        def messages() -> Iterator[Any]:
            try:
                yield from requests.imports(
                    users, atomic, mirror, max_removals, validate_only
                )
            except BaseException as error:
                # grpcio would cancel the call and say only that iterating failed.
                failed.append(error)
                raise

        try:
            reply = self._call("import", "ImportUsers", messages(), timeout)
        except CallError:
            if failed:
                raise failed[0] from None
            raise
        return records.imported(reply)

    def export(
        self, filter: str = "", *, timeout: float | None = None
    ) -> Iterator[Record]:
        """Yields all users that match in the order of their ids, of one revision.

        Raises:
            CallError: ABORTED if the users are taken so slowly that the server can
                no longer keep that revision.
        """
        request = requests.export(filter)
        call = self._stub.ExportUsers(request, timeout=timeout, metadata=self._metadata)
        try:
            for reply in call:
                yield from map(records.record, reply.users)
        except grpc.RpcError as error:
            raise self._error("export", timeout, error) from error
        finally:
            call.cancel()

    def watch(
        self,
        start: Position | None = None,
        *,
        from_beginning: bool = False,
        filter: str = "",
        progress_interval: float = PROGRESS_INTERVAL,
    ) -> Watch:
        """Returns an iterator over what happens, each change once and in order.

        It comes back by itself when its connection breaks, from where it was. If that
        place is not in the history any more it tells a Reset, and then all users.

        Args:
            start: the changes after it; without it, the changes from now on.
            from_beginning: all users first, then a Progress, then changes.
            progress_interval: seconds between two Progress, 0.1 to 600. A stream that
                is silent for about three times as long counts as broken.
        """
        return Watch(self, Watching(start, from_beginning, filter, progress_interval))

    def changes_page(
        self,
        position: Position | None = None,
        *,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = 5.0,
    ) -> Changes:
        """Returns one page of the history, with who made each change and when."""
        request = requests.list_changes(position, page_size, page_token)
        return records.changes(
            self._call("list_changes", "ListChanges", request, timeout)
        )

    def list_changes(
        self,
        position: Position | None = None,
        *,
        page_size: int = 1000,
        timeout: float | None = 5.0,
    ) -> Iterator[Change]:
        """Yields the changes after position, up to now.

        Raises:
            OutOfRangeError: position is not in the history.
        """
        token = ""
        while True:
            page = self.changes_page(
                position, page_size=page_size, page_token=token, timeout=timeout
            )
            yield from page.changes
            token = page.next_page_token
            if not token:
                return

    def close(self) -> None:
        """Closes the channel. Running calls end in CallError, CANCELLED."""
        self._channel.close()

    def __enter__(self) -> DirectoryClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, name: str, method: str, request: Any, timeout: float | None) -> Any:
        try:
            return getattr(self._stub, method)(
                request, timeout=timeout, metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise self._error(name, timeout, error) from error

    def _error(
        self, name: str, timeout: float | None, error: grpc.RpcError
    ) -> CallError:
        return call_error(self.address, self._tls, name, timeout, error, _SERVICE)

    def _open_watch(self, request: Any) -> Any:
        """Opens one stream of a watch."""
        return self._stub.WatchUsers(request, metadata=self._metadata)
