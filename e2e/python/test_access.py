"""Tokens as grpcio sends them: in metadata, and as the credentials of calls."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from caller import Caller
from sample import Sample, people
from serving import Roster, binary
from test_tls import FOLDER, needs_certificates, serve, trust


class Tokens:
    """A file of tokens."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.reader = self.create("reader", "read")

    def create(self, name: str, role: str) -> str:
        command = [binary(), "token", "create", "--tokens", str(self.file)]
        done = subprocess.run(
            [*command, "--name", name, "--role", role],
            check=True,
            capture_output=True,
            encoding="ascii",
        )
        return done.stdout.strip()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(tmp_path_factory.mktemp("tokens") / "tokens.json")


@pytest.fixture(scope="module")
def guarded(tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roster]:
    """A plain server that asks for tokens."""
    store = tmp_path_factory.mktemp("guarded") / "roster.db"
    with Roster(store, "--tokens", str(tokens.file)) as server:
        yield server


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def test_a_token_in_metadata(
    connect: type[Caller], guarded: Roster, tokens: Tokens, sample: Sample
) -> None:
    with connect(guarded.address) as caller:
        for _ in range(3):
            reply = caller.user([2, 1], metadata=bearer(tokens.reader))
            assert people(reply) == sample.people([2, 1])


def test_health_needs_no_token(connect: type[Caller], guarded: Roster) -> None:
    with connect(guarded.address) as caller:
        caller.health()


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (
            [],
            'this call needs a token of the role read in the header "authorization: Bearer TOKEN"',
        ),
        (bearer("roster_" + "0" * 49), "was mistyped or cut"),
        (bearer(""), "the authorization header is not of the form"),
        ([("authorization", "Basic cm9vdDpyb290")], "the authorization header is not of the form"),
        (bearer("x" * 8000), "was mistyped or cut"),
    ],
    ids=["none", "mistyped", "empty", "another scheme", "long"],
)
def test_who_is_not_known(
    connect: type[Caller], guarded: Roster, metadata: list[tuple[str, str]], words: str
) -> None:
    with connect(guarded.address) as caller:
        with pytest.raises(grpc.RpcError) as refused:
            caller.user([1], metadata=metadata)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert words in refused.value.details()
        # The connection goes on.
        caller.health()


def test_two_tokens(connect: type[Caller], guarded: Roster, tokens: Tokens) -> None:
    with connect(guarded.address) as caller:
        with pytest.raises(grpc.RpcError) as refused:
            caller.user([1], metadata=bearer(tokens.reader) * 2)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_old_programs_read_on_where_reads_are_open(
    connect: type[Caller], tokens: Tokens, store: Path, sample: Sample
) -> None:
    with Roster(store, "--tokens", str(tokens.file), "--open-reads") as server:
        with connect(server.address) as caller:
            assert people(caller.user([1])) == sample.people([1])
            with pytest.raises(grpc.RpcError) as refused:
                caller.user([1], metadata=bearer("x"))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@needs_certificates
def test_call_credentials(
    connect: type[Caller], tokens: Tokens, store: Path, sample: Sample
) -> None:
    of_calls = grpc.access_token_call_credentials(tokens.reader)
    with serve(store, "--tokens", str(tokens.file)) as server:
        of_channel = grpc.composite_channel_credentials(trust(), of_calls)
        with connect(server.address, credentials=of_channel) as caller:
            assert people(caller.user([1])) == sample.people([1])
        with connect(server.address, credentials=trust()) as caller:
            assert people(caller.user([1], credentials=of_calls)) == sample.people([1])
            with pytest.raises(grpc.RpcError) as refused:
                caller.user([1])
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@needs_certificates
def test_a_certificate_instead_of_a_token(
    connect: type[Caller], tokens: Tokens, store: Path, sample: Sample
) -> None:
    with serve(
        store, "--tokens", str(tokens.file), "--tls-client-ca", f"{FOLDER}/ca.pem"
    ) as server:
        with connect(server.address, credentials=trust("bob")) as caller:
            assert people(caller.user([1])) == sample.people([1])
