"""What a caller sees of a server that is asked to stop."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from caller import Caller, call_that_the_server_has
from sample import Sample, people
from serving import PATIENCE, Roster
from wire import Frame, Kind, Wire


def refuses_new_streams(goaway: Frame) -> bool:
    """Not so the one that may come first, and only asks to open no more (RFC 9113 §6.8)."""
    return goaway.payload[:4] != b"\x7f\xff\xff\xff"


def test_a_running_call_finishes_and_no_new_one_is_taken(
    connect: type[Caller], store: Path, sample: Sample
) -> None:
    with Roster(store) as server, Wire(server.address) as wire, connect(wire.address) as caller:
        running = call_that_the_server_has(caller, wire)
        server.ask_to_stop()
        server.wait_for_log("draining")
        wire.wait_for(Kind.GOAWAY, from_client=False, where=refuses_new_streams)
        late = caller.start_user([1]).outcome()
        assert late.code is grpc.StatusCode.UNAVAILABLE
        running.send([2, 3])
        finished = running.outcome()
        assert finished.code is grpc.StatusCode.OK, finished.details
        assert people(finished.reply) == sample.people([2, 3])
        assert server.exit_code() == 0


def test_a_call_that_outlasts_the_drain_timeout_is_unavailable(
    connect: type[Caller], store: Path, sample: Sample
) -> None:
    with Roster(store, "--drain-timeout", "100ms") as server:
        with Wire(server.address) as wire, connect(wire.address) as caller:
            running = call_that_the_server_has(caller, wire)
            server.ask_to_stop()
            cut = running.outcome()
            assert cut.code is grpc.StatusCode.UNAVAILABLE, cut
        assert server.exit_code() == 1
        assert "drain timeout of 100ms" in server.log


def test_a_second_sigterm_ends_it_at_once(
    connect: type[Caller], store: Path, sample: Sample
) -> None:
    with Roster(store) as server, Wire(server.address) as wire, connect(wire.address) as caller:
        running = call_that_the_server_has(caller, wire)
        server.ask_to_stop()
        server.wait_for_log("draining")
        server.ask_to_stop()
        cut = running.outcome()
        assert cut.code is grpc.StatusCode.UNAVAILABLE, cut
        # By the signal, which a shell calls 143 and systemd a clean end.
        assert server.exit_code() == -signal.SIGTERM
    with Roster(store) as server, connect(server.address) as caller:
        assert people(caller.user([1])) == sample.people([1])


def test_calls_under_way_finish_or_are_unavailable(
    connect: type[Caller], store: Path, sample: Sample
) -> None:
    ids = sample.cycle(500)
    with Roster(store) as server, connect(server.address) as caller:
        calls = [caller.start_user(ids) for _ in range(400)]
        # The first answer is in, and most are yet to come.
        assert calls[0].outcome().code is grpc.StatusCode.OK
        server.ask_to_stop()
        ends = [call.outcome() for call in calls]
        assert server.exit_code() == 0
    codes = {end.code for end in ends}
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}, codes
    for end in ends:
        if end.reply is not None:
            assert people(end.reply) == sample.people(ids)


def test_callers_who_go_on_calling_find_the_server_unavailable(
    connect: type[Caller], store: Path, sample: Sample
) -> None:
    started = threading.Barrier(9)

    def call_until_refused(start: int) -> grpc.StatusCode:
        ids = sample.cycle(50, start)
        assert people(caller.user(ids)) == sample.people(ids)
        started.wait(PATIENCE)
        for _ in range(100_000):
            try:
                reply = caller.user(ids)
            except grpc.RpcError as error:
                return error.code()
            assert people(reply) == sample.people(ids)
        raise AssertionError("the server never stopped")

    with Roster(store) as server, connect(server.address) as caller:
        with ThreadPoolExecutor(8) as threads:
            ends = [threads.submit(call_until_refused, start) for start in range(8)]
            started.wait(PATIENCE)
            server.stop()
            codes = {end.result() for end in ends}
    assert codes == {grpc.StatusCode.UNAVAILABLE}
