"""grpc.health.v1: the standard health service of a draining server.

grpcio-health-checking has a servicer of its own, but it sends to watchers while
it holds a lock that grpcio's only event thread needs to remove a watcher. If a
watcher disconnects while another is being sent to, the whole server hangs. Its
Watch streams also outlive a drain. This servicer sends outside its lock, and
ends the streams.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Callable, Optional

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE_NAME: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

#: Sends one message of a stream and waits until it is sent; None ends the stream.
Send = Callable[[Optional[health_pb2.HealthCheckResponse]], None]


class Health(health_pb2_grpc.HealthServicer):
    """Answers SERVING for the whole server ("") and for services, until drain."""

    def __init__(self, services: Iterable[str]) -> None:
        self._known = frozenset(["", *services])
        self._draining = threading.Event()
        # Guards only _watchers, and is never held while sending.
        self._lock = threading.Lock()
        self._watchers: set[_Watcher] = set()

    def Check(
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
    ) -> health_pb2.HealthCheckResponse:
        """Returns the current status; NOT_FOUND for an unknown service."""
        if request.service not in self._known:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here"
            )
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    def Watch(  # type: ignore[override]
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send: Send,
    ) -> None:
        """Sends the current status, and ends with NOT_SERVING at a drain."""
        watcher = _Watcher(lambda: self._status(request.service), send)
        with self._lock:
            self._watchers.add(watcher)
        # False means that the caller has left already; no callback will run.
        if not context.add_callback(lambda: self._forget(watcher)):
            self._forget(watcher)
        watcher.tell(last=False)
        # A drain may have copied _watchers before this one was added.
        if self._draining.is_set():
            watcher.tell(last=True)

    # grpcio then passes `send`, and a stream occupies no worker thread while it
    # has nothing to send.
    setattr(Watch, "experimental_non_blocking", True)

    def drain(self) -> None:
        """Answers NOT_SERVING from now on, and ends the Watch streams with it.

        Waits until it is sent, so a watcher that does not read can delay it.
        """
        self._draining.set()
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher.tell(last=True)

    def _status(self, service: str) -> int:
        if service not in self._known:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        if self._draining.is_set():
            return health_pb2.HealthCheckResponse.NOT_SERVING
        return health_pb2.HealthCheckResponse.SERVING

    def _forget(self, watcher: _Watcher) -> None:
        with self._lock:
            self._watchers.discard(watcher)


class _Watcher:
    """One Watch stream: sends a status when it differs from the last one sent."""

    def __init__(
        self,
        status: Callable[[], int],
        send: Send,
    ) -> None:
        self._status = status
        self._send = send
        self._lock = threading.Lock()
        self._sent: int | None = None
        self._ended = False

    def tell(self, last: bool) -> None:
        """Sends the status if it has changed, and ends the stream if last."""
        # Read under the lock, so that an older status is never sent after a newer.
        with self._lock:
            if self._ended:
                return
            status = self._status()
            if status != self._sent:
                self._sent = status
                self._send(health_pb2.HealthCheckResponse(status=status))
            if last:
                self._ended = True
                self._send(None)
