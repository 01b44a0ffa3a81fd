"""Calls that end before their answer: by deadline, or because the caller gave up."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import pytest

from caller import Caller, call_that_the_server_has
from sample import Sample, people
from serving import Roster
from wire import END_STREAM, Kind, Wire

#: The error code of RST_STREAM by which a client gives a call up (RFC 9113 §7).
CANCEL = (8).to_bytes(4, "big")


def test_a_deadline_that_has_passed(caller: Caller, sample: Sample) -> None:
    with pytest.raises(grpc.RpcError) as ended:
        # Not 0, which grpcio rounds up: a quick answer may still be in time.
        caller.user([1], timeout=-1)
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert people(caller.user([1])) == sample.people([1])


def test_a_deadline_travels_to_the_server(connect: type[Caller], wire: Wire) -> None:
    with connect(wire.address) as caller:
        # In metadata, grpcio sends a deadline and does not keep it itself.
        call = call_that_the_server_has(
            caller, wire, timeout=None, metadata=[("grpc-timeout", "100m")]
        )
        time.sleep(0.5)
        call.send([1])
        ended = call.outcome()
    assert ended.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert ended.details == "the deadline passed before the answer was ready"


def test_a_deadline_of_a_lifetime(caller: Caller, sample: Sample) -> None:
    assert people(caller.user([1], timeout=1e9)) == sample.people([1])


@pytest.mark.parametrize("deadline", [None, 3600.0, 1e9], ids=["none", "an hour", "a lifetime"])
def test_the_servers_own_deadline(
    deadline: float | None, connect: type[Caller], store: Path, sample: Sample
) -> None:
    with Roster(store, "--max-deadline", "300ms") as server, connect(server.address) as caller:
        ended = caller.open_user(timeout=deadline).outcome()
        assert ended.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert ended.details == (
            "the answer was not ready in 300ms, the longest that this server lets a call take "
            "(--max-deadline)"
        )
        assert people(caller.user([1])) == sample.people([1])


def test_a_deadline_of_nothing_at_all(caller: Caller, sample: Sample) -> None:
    with pytest.raises(grpc.RpcError) as ended:
        # In metadata, since grpcio would not even send the call.
        caller.user([1], timeout=None, metadata=[("grpc-timeout", "0n")])
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert people(caller.user([1])) == sample.people([1])


def test_a_deadline_passes_while_the_answer_is_on_its_way(
    connect: type[Caller], wire: Wire, sample: Sample
) -> None:
    with connect(wire.address) as caller:
        caller.user([1])
        wire.hold_replies()
        ended = caller.start_user([2], timeout=0.5).outcome()
        assert ended.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert [f.payload for f in wire.wait_for(Kind.RST_STREAM, from_client=True)] == [CANCEL]
        wire.release_replies()
        assert people(caller.user([3])) == sample.people([3])
    assert wire.connections == 1, "the other calls on the connection had to pay for it"


def test_a_deadline_passes_before_the_request_is_whole(caller: Caller, sample: Sample) -> None:
    ended = caller.open_user(timeout=0.2).outcome()
    assert ended.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert people(caller.user([1])) == sample.people([1])


def test_a_call_is_cancelled_while_its_answer_is_on_its_way(
    connect: type[Caller], wire: Wire, sample: Sample
) -> None:
    with connect(wire.address) as caller:
        caller.user([1])
        wire.hold_replies()
        call = caller.start_user([2])
        wire.wait_for(Kind.DATA, from_client=True, flags=END_STREAM, count=2)
        call.cancel()
        assert call.outcome().code is grpc.StatusCode.CANCELLED
        assert [f.payload for f in wire.wait_for(Kind.RST_STREAM, from_client=True)] == [CANCEL]
        wire.release_replies()
        assert people(caller.user([3])) == sample.people([3])
    assert wire.connections == 1, "the other calls on the connection had to pay for it"


def test_a_call_is_cancelled_before_its_request_is_whole(caller: Caller, sample: Sample) -> None:
    caller.wait_until_ready()
    call = caller.open_user()
    call.cancel()
    assert call.outcome().code is grpc.StatusCode.CANCELLED
    assert people(caller.user([1])) == sample.people([1])


def test_a_thousand_cancelled_calls_leave_room_for_others(
    connect: type[Caller], server: Roster, sample: Sample
) -> None:
    # More than the 250 streams of a connection: none may stay taken.
    with connect(server.address) as caller:
        calls = [caller.start_user(sample.ids) for _ in range(1000)]
        for call in calls:
            call.cancel()
        ends = {call.outcome().code for call in calls}
        # A call may have been answered before it was cancelled.
        assert ends <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.OK}
        assert people(caller.user([1])) == sample.people([1])
