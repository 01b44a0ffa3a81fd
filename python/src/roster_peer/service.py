"""MyService: the two calls of the contract, answered from a Store."""

from __future__ import annotations

import logging

import api_pb2
import grpc
from google.protobuf.empty_pb2 import Empty

from roster_peer.store import Store

#: The service's full name: the contract has no package.
SERVICE_NAME: str = api_pb2.DESCRIPTOR.services_by_name["MyService"].full_name

_log = logging.getLogger(__name__)


class MyService:
    """The handlers, with the names that the calls have in the contract."""

    def __init__(self, store: Store, max_batch: int) -> None:
        self._store = store
        self._max_batch = max_batch

    def Health(self, request: Empty, context: grpc.ServicerContext) -> Empty:
        """Returns Empty: the users are in memory, so the store always answers."""
        return Empty()

    def User(
        self, request: api_pb2.UserReq, context: grpc.ServicerContext
    ) -> api_pb2.UserReply:
        """Returns the users asked for; RESOURCE_EXHAUSTED above max_batch ids."""
        ids = request.userIDs
        # One byte of a request can ask for a user of hundreds of bytes, so without
        # this limit the answer to a request of 4 MiB would take gigabytes.
        if len(ids) > self._max_batch:
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{len(ids)} ids in one call, this server takes at most "
                f"{self._max_batch}",
            )
        try:
            users = self._store.get(ids)
        except Exception:
            _log.exception("User: the store failed on %d ids", len(ids))
            # Without this, grpcio would send the exception's text to the caller.
            context.abort(grpc.StatusCode.INTERNAL, "internal error")
        return api_pb2.UserReply(
            message="success",
            data=[
                api_pb2.User(name=user.name, age=user.age, email=user.email)
                for user in users
            ],
        )
