"""The program itself: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import api_pb2_grpc
import grpc
import pytest
from support import ANN, PATIENCE, GateStore, run_program, serving

from roster_peer import Client, MemoryStore, Server, User

ASYNC = pytest.mark.parametrize("flags", [[], ["--async"]], ids=["sync", "async"])


def test_serve_says_when_and_where_it_answers(users_csv: Path) -> None:
    with serving(users_csv) as program:
        assert program.ready == (
            f"roster-peer: serving 3 users from {users_csv} on {program.address}\n"
        )
        with Client(program.address) as client:
            assert client.get([1], PATIENCE) == [ANN]


def test_serve_hands_its_options_on(users_csv: Path) -> None:
    with serving(users_csv, "--max-batch", "1", "--grace", "2.5") as program:
        done = run_program("get", "1", "1", "--server", program.address)
        assert done.code == 1
        assert "2 ids in one call, this server takes at most 1" in done.err
        program.process.send_signal(signal.SIGTERM)
        code, err = program.end()
    assert code == 0
    assert "running calls have 2.5 s to finish" in err


def test_serve_refuses_a_taken_port(users_csv: Path) -> None:
    with serving(users_csv) as first:
        done = run_program(
            *("serve", "--users", str(users_csv), "--address", first.address)
        )
    assert done.code == 1
    assert done.out == ""
    port = first.address.rpartition(":")[2]
    assert done.err == (
        f"roster-peer: cannot listen on {first.address}: port {port} on 127.0.0.1 "
        "is taken by another program; stop it, or choose another port\n"
    )


def test_serve_refuses_a_bad_users_file(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text("id,name,age,email\n1,Ann,old,\n")
    done = run_program("serve", "--users", str(path), "--address", "127.0.0.1:0")
    assert done.code == 1
    assert done.err == (
        f"roster-peer: {path}, line 2: age 'old' is not a whole number\n"
    )


@ASYNC
def test_get_prints_a_table(server: Server, flags: list[str]) -> None:
    done = run_program("get", "-7", "1", "2", "--server", server.address, *flags)
    assert done.code == 0, done.err
    assert done.err == ""
    assert done.out == (
        "NAME         AGE  EMAIL\n"
        "Zoë Ødegård  150  zoe@example.com\n"
        "Ann Lee      31   ann@example.com\n"
        "Bob Ng       0\n"
    )


@ASYNC
def test_get_prints_json(server: Server, flags: list[str]) -> None:
    done = run_program(
        *("get", "2", "-7", "--output", "json", "--server", server.address), *flags
    )
    assert done.code == 0, done.err
    assert json.loads(done.out) == [
        {"name": "Bob Ng", "age": 0, "email": ""},
        {"name": "Zoë Ødegård", "age": 150, "email": "zoe@example.com"},
    ]


def test_get_says_how_many_of_the_ids_were_found(server: Server) -> None:
    done = run_program("get", "98", "1", "99", "--server", server.address)
    assert done.code == 0
    assert done.err == "roster-peer: 1 of 3 ids found\n"


def test_get_prints_nothing_that_a_terminal_obeys() -> None:
    store = MemoryStore({1: User("\x1b[2JAnn", 1, "a@b\r\n")})
    with Server(store, "127.0.0.1:0") as server:
        done = run_program("get", "1", "--server", server.address)
    assert done.out.splitlines()[1] == "\\x1b[2JAnn  1    a@b\\r\\n"


def test_get_prints_what_the_terminal_has_no_characters_for(server: Server) -> None:
    done = run_program(
        *("get", "-7", "--server", server.address), PYTHONIOENCODING="ascii"
    )
    assert done.code == 0, done.err
    assert "Zo\\xeb" in done.out


@ASYNC
def test_health_says_healthy(server: Server, flags: list[str]) -> None:
    done = run_program("health", "--server", server.address, *flags)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{server.address} is healthy\n"


def test_health_prints_json(server: Server) -> None:
    done = run_program("health", "--server", server.address, "--output", "json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {"server": server.address, "healthy": True}


@ASYNC
@pytest.mark.parametrize("command", [["get", "1"], ["health"]], ids=["get", "health"])
def test_nobody_there_is_exit_code_1_and_names_the_address(
    command: list[str], flags: list[str]
) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        done = run_program(*command, "--server", address, *flags)
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith(
        f"roster-peer: {command[0]} at {address}: UNAVAILABLE: no answer: nothing "
        "listens there"
    )
    assert "Traceback" not in done.err


@ASYNC
def test_the_deadline_is_exit_code_1(flags: list[str]) -> None:
    store = GateStore()
    with Server(store, "127.0.0.1:0") as server:
        done = run_program(
            *("get", "1", "--timeout", "0.2", "--server", server.address), *flags
        )
        store.gate.set()
    assert done.code == 1
    assert done.err == (
        f"roster-peer: get at {server.address}: DEADLINE_EXCEEDED: no answer within "
        "0.2 s\n"
    )


@ASYNC
def test_ctrl_c_in_a_call_is_exit_code_1(flags: list[str]) -> None:
    store = GateStore()
    with Server(store, "127.0.0.1:0") as server:
        command = ["get", "1", "--timeout", "30", "--server", server.address]
        with subprocess.Popen(
            [sys.executable, "-m", "roster_peer", *command, *flags],
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as program:
            store.wait_for_calls(1)
            program.send_signal(signal.SIGINT)
            _, err = program.communicate(timeout=PATIENCE)
        store.gate.set()
    assert program.returncode == 1
    assert err == "roster-peer: interrupted\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["list"], "invalid choice: 'list'"),
        (["get"], "the following arguments are required: ID"),
        (["get", "x"], "'x' is not a whole number from -2147483648 to 2147483647"),
        (["get", "2147483648"], "'2147483648' is not a whole number from"),
        (["get", "1", "--output", "xml"], "invalid choice: 'xml'"),
        (["get", "1", "--timeout", "0"], "'0' is not a number of seconds above 0"),
        (["get", "1", "--timeout", "nan"], "'nan' is not a number of seconds above 0"),
        (["health", "--server", "localhost"], "'localhost' is not HOST:PORT"),
        (["health", "--server", "http://localhost:1"], "is not HOST:PORT: no URL"),
        (["serve"], "the following arguments are required: --users"),
        (["serve", "--users", "f", "--workers", "0"], "'0' is not a whole number from"),
        (["serve", "--users", "f", "--address", "50051"], "'50051' is not HOST:PORT"),
        (["serve", "--users", "f", "--grace", "-1"], "'-1' is not a number of seconds"),
    ],
)
def test_wrong_usage_is_exit_code_2(command: list[str], message: str) -> None:
    done = run_program(*command)
    assert done.code == 2
    assert done.out == ""
    assert message in done.err


@pytest.mark.parametrize("command", ["serve", "get", "health"])
def test_help_has_an_example(command: str) -> None:
    done = run_program(command, "--help")
    assert done.code == 0
    assert f"Example: roster-peer {command}" in done.out


def test_the_version_is_the_packages() -> None:
    done = run_program("--version")
    assert (done.code, done.out) == (0, "roster-peer 0.1.0\n")


def test_the_command_is_installed(server: Server) -> None:
    command = Path(sys.executable).with_name("roster-peer")
    done = subprocess.run(
        [command, "health", "--server", server.address],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_plain_grpcio_channel_reaches_the_program(users_csv: Path) -> None:
    with serving(users_csv) as program:
        with grpc.insecure_channel(program.address) as channel:
            grpc.channel_ready_future(channel).result(timeout=PATIENCE)


def test_what_a_server_says_is_not_obeyed_by_the_terminal() -> None:
    class Rude(api_pb2_grpc.MyServiceServicer):  # type: ignore[misc]
        def Health(self, request: object, context: Any) -> None:
            context.abort(grpc.StatusCode.INTERNAL, "bad\x1b[2J\nroster-peer: all well")

    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    api_pb2_grpc.add_MyServiceServicer_to_server(Rude(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        done = run_program(
            *("health", "--server", f"127.0.0.1:{port}", "--timeout", str(PATIENCE))
        )
    finally:
        server.stop(None)
    assert done.code == 1
    assert "\x1b" not in done.err
    assert done.err.count("\n") == 1
    assert r"bad\x1b[2J\nroster-peer: all well" in done.err
