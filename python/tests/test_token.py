"""Tokens are sent with every call, and refused where that is not safe."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import api_pb2
import api_pb2_grpc
import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from support import PATIENCE, run_program

from roster_peer import TLS, AsyncClient, CallError, Client


class Guarded(api_pb2_grpc.MyServiceServicer):  # type: ignore[misc]
    """Accepts the token "good"; the returned user is named after the sent header."""

    def Health(self, request: object, context: Any) -> Empty:
        self._check(context)
        return Empty()

    def User(self, request: object, context: Any) -> api_pb2.UserReply:
        return api_pb2.UserReply(data=[api_pb2.User(name=self._check(context))])

    def _check(self, context: Any) -> str:
        sent = dict(context.invocation_metadata()).get("authorization", "")
        if sent != "Bearer good":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this call needs a token")
        return str(sent)


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        api_pb2_grpc.add_MyServiceServicer_to_server(Guarded(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


class Call(Protocol):
    """Health and User, through either client; the name of the user."""

    def __call__(self, address: str, **how: Any) -> str: ...


def call_sync(address: str, **how: Any) -> str:
    with Client(address, **how) as client:
        client.health(PATIENCE)
        return client.get([1], PATIENCE)[0].name


def call_async(address: str, **how: Any) -> str:
    async def call() -> str:
        async with AsyncClient(address, **how) as client:
            await client.health(PATIENCE)
            return (await client.get([1], PATIENCE))[0].name

    return asyncio.run(call())


@pytest.fixture(params=[call_sync, call_async], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    made: Call = request.param
    return made


def test_the_token_goes_with_every_call(guarded: str, call: Call) -> None:
    assert call(guarded, token="good") == "Bearer good"


@pytest.mark.parametrize("token", ["bad", None])
def test_a_refusal_is_in_the_servers_words(
    guarded: str, call: Call, token: str | None
) -> None:
    with pytest.raises(CallError) as caught:
        call(guarded, token=token)
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert str(caught.value) == (
        f"health at {guarded}: UNAUTHENTICATED: this call needs a token"
    )


@pytest.mark.parametrize("token", ["", "two words", "line\n", '"quoted"', "tökén"])
def test_what_is_no_token_is_refused_and_not_told(call: Call, token: str) -> None:
    with pytest.raises(ValueError, match="a character that no token has") as caught:
        call("127.0.0.1:1", token=token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("address", ["roster.example.com:1", "10.0.0.5:1"])
def test_a_token_is_not_sent_in_the_clear(call: Call, address: str) -> None:
    with pytest.raises(ValueError, match="would cross the network in the clear"):
        call(address, token="good")


@pytest.mark.parametrize("how", [{"tls": TLS()}, {"token_in_clear": True}])
def test_a_token_is_sent_to_another_machine(how: dict[str, Any]) -> None:
    # It is not called.
    Client("roster.example.com:1", token="good", **how).close()


@pytest.mark.parametrize("flags", [[], ["--async"]], ids=["sync", "async"])
def test_the_program_sends_it(guarded: str, flags: list[str], tmp_path: Path) -> None:
    file = tmp_path / "my.token"
    file.write_text("good\n")
    for given, environment in (
        (["--token", "good"], {}),
        (["--token", f"@{file}"], {"ROSTER_TOKEN": "bad"}),
        ([], {"ROSTER_TOKEN": "good"}),
    ):
        for command in (["get", "1"], ["health"]):
            done = run_program(
                *command,
                *("--server", guarded, "--timeout", "20", *given, *flags),
                **environment,
            )
            assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--token", "@/no/such/file"], "--token @/no/such/file: No such file"),
        (["--token", "good", "--server", "10.0.0.5:1"], "network in the clear"),
        (["--token", "secret!"], "a character that no token has"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--async"]], ids=["sync", "async"])
def test_the_program_refuses(given: list[str], words: str, flags: list[str]) -> None:
    done = run_program("get", "1", *given, *flags)
    assert done.code == 2
    assert words in done.err
    assert "secret" not in done.err
