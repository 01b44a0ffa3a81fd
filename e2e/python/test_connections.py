"""The life of a channel: pings, servers that restart, servers that come late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from caller import Caller
from sample import Sample, people
from serving import PortTaken, Roster, quiet_port
from wire import ACK, Kind, Wire

#: What operators set where a load balancer drops quiet connections, except that
#: the pings are a second apart: more often grpcio does not send them.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # No pings but these.
    ("grpc.http2.bdp_probe", 0),
]


def test_keepalive_pings_are_answered_and_never_too_many(
    connect: type[Caller], wire: Wire, sample: Sample
) -> None:
    with connect(wire.address, KEEPALIVE) as caller:
        running = caller.open_user()
        wire.wait_for(Kind.PING, from_client=False, flags=ACK, count=3)
        running.send([1])
        finished = running.outcome()
        assert finished.code is grpc.StatusCode.OK, finished.details
        assert people(finished.reply) == sample.people([1])
        # And without a call. The oldest grpcio looks for answers only every 5 s then.
        wire.wait_for(Kind.PING, from_client=False, flags=ACK, count=5)
        assert people(caller.user([2])) == sample.people([2])
    assert wire.frames(Kind.GOAWAY, from_client=False) == []
    assert wire.connections == 1


@contextmanager
def on_a_quiet_port(store: Path) -> Iterator[Roster]:
    """A server on a port that it, or another, can have again later."""
    for _ in range(20):
        try:
            server = Roster(store, port=quiet_port())
        except PortTaken:
            continue
        with server:
            yield server
        return
    raise AssertionError("20 quiet ports were each taken as soon as they were found")


@pytest.mark.parametrize("end", [Roster.stop, Roster.kill], ids=["stopped", "killed"])
def test_a_channel_reconnects_when_the_server_is_back(
    end: Callable[[Roster], None], connect: type[Caller], store: Path, sample: Sample
) -> None:
    with on_a_quiet_port(store) as server, connect(server.address) as caller:
        assert people(caller.user([1])) == sample.people([1])
        end(server)
        gone = caller.start_user([1]).outcome()
        assert gone.code is grpc.StatusCode.UNAVAILABLE
        with Roster(store, port=server.port):
            assert people(caller.user([2], wait_for_ready=True)) == sample.people([2])
            caller.wait_until_ready()
            assert people(caller.user([3])) == sample.people([3])


def test_a_call_that_waits_for_ready_is_answered_once_there_is_a_server(
    connect: type[Caller], store: Path, sample: Sample
) -> None:
    with on_a_quiet_port(store) as first:
        first.stop()
        with connect(first.address) as caller:
            waiting = caller.start_user([1, 2], wait_for_ready=True)
            # By this answer the channel has looked, and found nobody.
            assert caller.start_user([1]).outcome().code is grpc.StatusCode.UNAVAILABLE
            with Roster(store, port=first.port):
                served = waiting.outcome()
                assert served.code is grpc.StatusCode.OK, served.details
                assert people(served.reply) == sample.people([1, 2])


def test_idle_channels_give_way_to_new_ones_and_call_again(
    connect: type[Caller], store: Path, sample: Sample
) -> None:
    """Of a server that takes 20 connections, 40 channels are answered, one after the other."""
    # Otherwise grpcio would use one connection for all of them.
    apart = [("grpc.use_local_subchannel_pool", 1)]
    with Roster(store, "--max-connections", "20") as server, ExitStack() as channels:
        callers = [channels.enter_context(connect(server.address, apart)) for _ in range(40)]
        for caller in callers:
            assert people(caller.user([1])) == sample.people([1])
        for caller in callers:
            assert people(caller.user([2])) == sample.people([2])
        assert "a connection was refused" not in server.log
