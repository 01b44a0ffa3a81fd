"""A drain: in this process, and of the real program by signal."""

from __future__ import annotations

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import api_pb2
import api_pb2_grpc
import grpc
import pytest
from support import ANN, BOB, PATIENCE, USERS, GateStore, Running, running, serving

from roster_peer import CallError, Client, MemoryStore, Server

GATED_SERVER = str(Path(__file__).with_name("gated_server.py"))


def wait_until_refused(address: str) -> None:
    """Waits until nothing listens on address any more."""
    host, _, port = address.rpartition(":")
    for _ in range(int(PATIENCE / 0.05)):
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except ConnectionRefusedError:
            return
        except (ConnectionResetError, TimeoutError):
            # The listener closed in the middle of this: it dropped a connection
            # that it had accepted, or a SYN, which is sent again only after 1 s.
            pass
        time.sleep(0.05)
    raise AssertionError(f"{address} still accepts connections")


def wait_for_call(program: Running) -> None:
    """Waits until a call is at the gate of gated_server.py."""
    assert program.process.stdout is not None
    assert program.process.stdout.readline() == "call\n"


def open_gate(program: Running) -> None:
    assert program.process.stdin is not None
    program.process.stdin.write("open\n")
    program.process.stdin.flush()


def test_a_drain_lets_running_and_waiting_calls_finish() -> None:
    store = GateStore()
    server = Server(store, "127.0.0.1:0", workers=1)
    server.start()
    with (
        grpc.insecure_channel(server.address) as channel,
        ThreadPoolExecutor(1) as threads,
    ):
        unknown: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        unknown = channel.unary_unary("/MyService/Unknown")
        user = api_pb2_grpc.MyServiceStub(channel).User
        runs = user.future(api_pb2.UserReq(userIDs=[1]), timeout=PATIENCE)
        store.wait_for_calls(1)
        waits = user.future(api_pb2.UserReq(userIDs=[2]), timeout=PATIENCE)
        # The server handles calls in the order of their arrival. So once it has
        # refused this one, which needs no worker, the previous one is waiting for
        # a worker.
        with pytest.raises(grpc.RpcError):
            unknown(b"", timeout=PATIENCE)
        drain = threads.submit(server.drain, PATIENCE)
        wait_until_refused(server.address)
        assert not drain.done()
        store.gate.set()
        assert [user.name for user in runs.result().data] == [ANN.name]
        assert [user.name for user in waits.result().data] == [BOB.name]
        assert drain.result(PATIENCE) is True


def test_a_drain_without_calls_is_over_at_once() -> None:
    with Server(MemoryStore(USERS), "127.0.0.1:0") as server:
        assert server.drain(grace=PATIENCE) is True
        wait_until_refused(server.address)


def test_a_drain_cancels_what_runs_beyond_the_grace() -> None:
    store = GateStore()
    with Server(store, "127.0.0.1:0") as server:
        with Client(server.address) as client, ThreadPoolExecutor(1) as threads:
            call = threads.submit(client.get, [1], PATIENCE)
            store.wait_for_calls(1)
            assert server.drain(grace=0.2) is False
            with pytest.raises(CallError) as caught:
                call.result(PATIENCE)
            store.gate.set()
    assert caught.value.code in (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAVAILABLE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_drains_on_a_signal_and_exits_0(
    users_csv: Path, number: signal.Signals
) -> None:
    with serving(users_csv) as program:
        program.process.send_signal(number)
        code, err = program.end()
    assert code == 0
    assert err == "roster-peer: draining: running calls have 10 s to finish\n"


def test_the_program_finishes_the_call_under_way() -> None:
    with running(GATED_SERVER, "30") as program, ThreadPoolExecutor(1) as threads:
        with Client(program.address) as client:
            call = threads.submit(client.get, [1, 2], PATIENCE)
            wait_for_call(program)
            program.process.send_signal(signal.SIGTERM)
            wait_until_refused(program.address)
            assert not call.done()
            open_gate(program)
            assert call.result(PATIENCE) == [ANN, BOB]
            assert program.end()[0] == 0


def test_the_program_cancels_after_the_grace_says_so_and_exits_1() -> None:
    with running(GATED_SERVER, "0.2") as program, ThreadPoolExecutor(1) as threads:
        with Client(program.address) as client:
            call = threads.submit(client.get, [1], PATIENCE)
            wait_for_call(program)
            program.process.send_signal(signal.SIGTERM)
            with pytest.raises(CallError):
                call.result(PATIENCE)
            # Python waits for its threads at exit, and so for the look-up.
            open_gate(program)
            code, err = program.end()
    assert code == 1
    assert "calls were still running after 0.2 s and were cancelled" in err


def test_a_second_signal_ends_the_program_at_once() -> None:
    with running(GATED_SERVER, "30") as program, ThreadPoolExecutor(1) as threads:
        with Client(program.address) as client:
            call = threads.submit(client.get, [1], PATIENCE)
            wait_for_call(program)
            program.process.send_signal(signal.SIGTERM)
            assert "draining" in program.next_line()
            program.process.send_signal(signal.SIGTERM)
            with pytest.raises(CallError) as caught:
                call.result(PATIENCE)
            code, _ = program.end()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert code == -signal.SIGTERM
