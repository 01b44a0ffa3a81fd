"""The client of roster.v1 for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any

import grpc
from roster.v1 import directory_pb2_grpc

from roster_peer import records, requests
from roster_peer.address import Address
from roster_peer.async_watch import AsyncWatch
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
from roster_peer.watching import PROGRESS_INTERVAL, Watching

_SERVICE = "roster.v1.DirectoryService"


class AsyncDirectoryClient:
    """DirectoryClient for asyncio.

    It belongs to the event loop in which it is created. Close it, or use it in `async
    with`. Cancelling a task cancels its call. After close a call raises grpcio's
    UsageError.
    """

    def __init__(
        self,
        address: str = "localhost:50051",
        tls: TLS | None = None,
        *,
        token: str | None = None,
        token_in_clear: bool = False,
    ) -> None:
        """Connects at the first call. The arguments are those of Client.

        Raises:
            RuntimeError: no event loop is running.
        """
        # Some versions of grpcio would create a loop that nothing runs.
        asyncio.get_running_loop()
        parsed = Address.parse(address)
        self.address = address
        self._tls = tls
        clear_ok = token_in_clear or tls is not None or parsed.is_loopback()
        self._metadata = authorization(token, clear_ok)
        options = channel_options(parsed)
        self._channel = (
            grpc.aio.insecure_channel(str(parsed), options)
            if tls is None
            else grpc.aio.secure_channel(str(parsed), tls.credentials(), options)
        )
        self._stub: Any = directory_pb2_grpc.DirectoryServiceStub(self._channel)

    async def get(
        self, id: int, *, min_revision: int = 0, timeout: float | None = 1.0
    ) -> Record:
        """As DirectoryClient.get."""
        request = requests.get(id, min_revision)
        return records.record(await self._call("get", "GetUser", request, timeout))

    async def batch_get(
        self,
        ids: Iterable[int],
        *,
        min_revision: int = 0,
        timeout: float | None = 1.0,
    ) -> Found:
        """As DirectoryClient.batch_get."""
        request = requests.batch_get(ids, min_revision)
        reply = await self._call("batch_get", "BatchGetUsers", request, timeout)
        return Found([records.record(u) for u in reply.users], list(reply.unknown_ids))

    async def list_page(
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
        """As DirectoryClient.list_page."""
        request = requests.list_page(
            page_size, page_token, filter, order_by, show_total, min_revision
        )
        return records.page(await self._call("list", "ListUsers", request, timeout))

    async def list(
        self,
        *,
        filter: str = "",
        order_by: str = "",
        page_size: int = 1000,
        timeout: float | None = 5.0,
    ) -> AsyncIterator[Record]:
        """As DirectoryClient.list."""
        token = ""
        while True:
            page = await self.list_page(
                page_size=page_size,
                page_token=token,
                filter=filter,
                order_by=order_by,
                timeout=timeout,
            )
            for user in page.users:
                yield user
            token = page.next_page_token
            if not token:
                return

    async def position(self, *, timeout: float | None = 1.0) -> Position:
        """As DirectoryClient.position."""
        return (await self.list_page(page_size=1, timeout=timeout)).position

    async def create(
        self,
        user: Record,
        *,
        validate_only: bool = False,
        timeout: float | None = 5.0,
    ) -> Record:
        """As DirectoryClient.create."""
        request = requests.create(user, validate_only)
        return records.record(
            await self._call("create", "CreateUser", request, timeout)
        )

    async def update(
        self,
        user: Record,
        fields: Sequence[str] = (),
        *,
        validate_only: bool = False,
        timeout: float | None = 5.0,
    ) -> Record:
        """As DirectoryClient.update."""
        request = requests.update(user, fields, validate_only)
        return records.record(
            await self._call("update", "UpdateUser", request, timeout)
        )

    async def delete(
        self,
        id: int,
        *,
        etag: str = "",
        allow_missing: bool = False,
        validate_only: bool = False,
        timeout: float | None = 5.0,
    ) -> Position:
        """As DirectoryClient.delete."""
        request = requests.delete(id, etag, allow_missing, validate_only)
        reply = await self._call("delete", "DeleteUser", request, timeout)
        return Position(reply.revision, reply.epoch)

    async def batch_update(
        self,
        *,
        creates: Iterable[Record] = (),
        updates: Iterable[Update] = (),
        deletes: Iterable[Delete] = (),
        validate_only: bool = False,
        timeout: float | None = 5.0,
    ) -> Updated:
        """As DirectoryClient.batch_update."""
        request = requests.batch_update(creates, updates, deletes, validate_only)
        reply = await self._call("batch_update", "BatchUpdateUsers", request, timeout)
        return records.updated(reply)

    async def import_users(
        self,
        users: Iterable[Record],
        *,
        atomic: bool = False,
        mirror: bool = False,
        max_removals: int = 0,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> Imported:
        """As DirectoryClient.import_users."""
        failed: list[BaseException] = []

        async def messages() -> AsyncIterator[Any]:
            try:
                for message in requests.imports(
                    users, atomic, mirror, max_removals, validate_only
                ):
                    yield message
            except Exception as error:
                # grpcio would cancel the call and say only that iterating failed.
                failed.append(error)
                raise

        try:
            reply = await self._call("import", "ImportUsers", messages(), timeout)
        except (CallError, asyncio.CancelledError):
            if failed:
                raise failed[0] from None
            raise
        return records.imported(reply)

    async def export(
        self, filter: str = "", *, timeout: float | None = None
    ) -> AsyncIterator[Record]:
        """As DirectoryClient.export."""
        request = requests.export(filter)
        call = self._stub.ExportUsers(request, timeout=timeout, metadata=self._metadata)
        try:
            async for reply in call:
                for user in reply.users:
                    yield records.record(user)
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
    ) -> AsyncWatch:
        """As DirectoryClient.watch."""
        return AsyncWatch(
            self, Watching(start, from_beginning, filter, progress_interval)
        )

    async def changes_page(
        self,
        position: Position | None = None,
        *,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = 5.0,
    ) -> Changes:
        """As DirectoryClient.changes_page."""
        request = requests.list_changes(position, page_size, page_token)
        return records.changes(
            await self._call("list_changes", "ListChanges", request, timeout)
        )

    async def list_changes(
        self,
        position: Position | None = None,
        *,
        page_size: int = 1000,
        timeout: float | None = 5.0,
    ) -> AsyncIterator[Change]:
        """As DirectoryClient.list_changes."""
        token = ""
        while True:
            page = await self.changes_page(
                position, page_size=page_size, page_token=token, timeout=timeout
            )
            for change in page.changes:
                yield change
            token = page.next_page_token
            if not token:
                return

    async def close(self) -> None:
        """Closes the channel. Running calls are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncDirectoryClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(
        self, name: str, method: str, request: Any, timeout: float | None
    ) -> Any:
        try:
            return await getattr(self._stub, method)(
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
