"""The server: MyService, health and reflection on one port."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import api_pb2_grpc
import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from roster_peer import health, service
from roster_peer.address import Address, listenable, refusal
from roster_peer.store import Store

# How long drain waits until NOT_SERVING is sent to watchers, in seconds: one that
# does not read must not keep the port open.
_TELL_SECONDS = 1.0


class Server:
    """Serves a Store on one address: MyService, grpc.health.v1 and reflection.

    It listens as soon as it is created and answers after start; calls that arrive
    between the two wait. A `with` block starts it, and drains it at the end.
    """

    def __init__(
        self,
        store: Store,
        address: str = "localhost:50051",
        *,
        workers: int = 10,
        max_batch: int = 10_000,
    ) -> None:
        """Listens on the port.

        Args:
            store: answers the look-ups, from up to `workers` threads at once.
            address: HOST:PORT. Port 0 takes a free one; see `address`.
            workers: maximum concurrent calls; more wait in a queue.
            max_batch: ids in one call; more are RESOURCE_EXHAUSTED.

        Raises:
            ListenError: the port is in use, or the host is not this machine.
            ValueError: address is not HOST:PORT; workers or max_batch below 1.
        """
        if workers < 1:
            raise ValueError(f"workers is {workers}, at least 1 is needed")
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}, at least 1 is needed")
        self._health = health.Health([service.SERVICE_NAME])
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="roster-peer")
        self._server = grpc.server(
            self._pool,
            # Otherwise a second server can listen on the same port without an
            # error, and each gets some of the calls.
            options=[("grpc.so_reuseport", 0)],
        )
        api_pb2_grpc.add_MyServiceServicer_to_server(
            service.MyService(store, max_batch), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            [service.SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME],
            self._server,
        )
        self._address = _listen(self._server, Address.parse(address))

    @property
    def address(self) -> str:
        """HOST:PORT with the host as given and the actual port."""
        return str(self._address)

    def start(self) -> None:
        """Starts answering calls."""
        self._server.start()

    def drain(self, grace: float) -> bool:
        """Stops: answers NOT_SERVING, accepts no more calls, lets calls finish.

        Args:
            grace: seconds that running and waiting calls have. After that they
                are cancelled; their callers get CANCELLED or UNAVAILABLE.

        Returns:
            Whether every call finished within grace.
        """
        ends = time.monotonic() + grace
        telling = threading.Thread(target=self._health.drain, daemon=True)
        telling.start()
        telling.join(min(_TELL_SECONDS, grace))
        # Not stop(grace), whose event does not tell whether the calls finished or
        # were cancelled.
        stopped = self._server.stop(threading.TIMEOUT_MAX)
        in_time = stopped.wait(max(ends - time.monotonic(), 0))
        if not in_time:
            self._server.stop(None)
            stopped.wait()
        self._pool.shutdown(wait=False)
        return in_time

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drain(grace=10.0)


def _listen(server: grpc.Server, address: Address) -> Address:
    """Adds every numeric address of address; they share one port."""
    port = address.port
    for candidate in listenable(address):
        candidate = Address(candidate.host, port)
        # Another program may have taken the port since it was checked. Old grpcio
        # returns 0 then, newer versions raise RuntimeError.
        try:
            port = server.add_insecure_port(str(candidate))
        except RuntimeError as error:
            raise refusal(address, candidate) from error
        if port == 0:
            raise refusal(address, candidate)
    return Address(address.host, port)
