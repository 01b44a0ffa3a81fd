"""Client and AsyncClient over TLS, and the program with its flags."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import api_pb2_grpc
import grpc
import pytest
from support import ANN, PATIENCE, USERS, run_program

from roster_peer import (
    TLS,
    AsyncClient,
    CallError,
    Client,
    MemoryStore,
    Server,
    TLSFileError,
    User,
)
from roster_peer.service import MyService


class Get(Protocol):
    """Looks up user 1, through either client."""

    def __call__(self, address: str, tls: TLS | None) -> list[User]: ...


def get_sync(address: str, tls: TLS | None) -> list[User]:
    with Client(address, tls) as client:
        client.health(PATIENCE)
        return client.get([1], PATIENCE)


def get_async(address: str, tls: TLS | None) -> list[User]:
    async def call() -> list[User]:
        async with AsyncClient(address, tls) as client:
            await client.health(PATIENCE)
            return await client.get([1], PATIENCE)

    return asyncio.run(call())


@pytest.fixture(params=[get_sync, get_async], ids=["sync", "async"])
def get(request: pytest.FixtureRequest) -> Get:
    made: Get = request.param
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with self-signed certificates: here, bob, mallory."""
    folder = tmp_path_factory.mktemp("tls")
    for name, alternative in (
        ("here", "DNS:localhost,IP:127.0.0.1"),
        ("elsewhere", "DNS:roster.example.org"),
        ("bob", "DNS:bob"),
        ("mallory", "DNS:mallory"),
    ):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
                *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={name}"),
                *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
                *("-addext", f"subjectAltName={alternative}"),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    (folder / "empty.pem").touch()
    return folder


@contextmanager
def serving(files: Path, name: str = "here", client_ca: str = "") -> Iterator[str]:
    """grpcio's own server with TLS; yields its address."""
    pair = ((files / f"{name}.key").read_bytes(), (files / f"{name}.pem").read_bytes())
    roots = (files / client_ca).read_bytes() if client_ca else None
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        api_pb2_grpc.add_MyServiceServicer_to_server(
            MyService(MemoryStore(USERS), 100), server
        )
        port = server.add_secure_port(
            "127.0.0.1:0",
            grpc.ssl_server_credentials([pair], roots, roots is not None),
        )
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def test_a_server_that_is_trusted(files: Path, get: Get) -> None:
    with serving(files) as address:
        assert get(address, TLS(ca=files / "here.pem")) == [ANN]


def test_a_certificate_that_is_asked_for(files: Path, get: Get) -> None:
    with serving(files, client_ca="bob.pem") as address:
        shown = TLS(files / "here.pem", files / "bob.pem", str(files / "bob.key"))
        assert get(address, shown) == [ANN]
        for tls, words in (
            (TLS(files / "here.pem"), "go without one"),
            (
                TLS(files / "here.pem", files / "mallory.pem", files / "mallory.key"),
                "accept the certificate shown",
            ),
        ):
            with pytest.raises(CallError) as caught:
                get(address, tls)
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
            assert f"it asks for client certificates and may not {words}, or" in str(
                caught.value
            )


@pytest.mark.parametrize(
    ("server", "tls"),
    [("here", TLS()), ("here", TLS(ca="bob.pem")), ("elsewhere", TLS(ca="here.pem"))],
)
def test_a_server_that_is_not_trusted(
    files: Path, get: Get, server: str, tls: TLS
) -> None:
    with serving(files, server) as address, pytest.raises(CallError) as caught:
        get(address, TLS(ca=files / tls.ca) if tls.ca else tls)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert "the server's certificate is not trusted" in str(caught.value)
    assert "this machine's clock" in str(caught.value)


def test_a_server_without_tls(server: Server, get: Get) -> None:
    with pytest.raises(CallError) as caught:
        get(server.address, TLS())
    assert "the server speaks plain gRPC and was called with TLS" in str(caught.value)


@pytest.mark.parametrize(
    ("tls", "why"),
    [
        (TLS(ca="none.pem"), "CA {}/none.pem: No such file or directory"),
        (TLS(ca="."), "CA {}: Is a directory"),
        (TLS(ca="empty.pem"), "CA {}/empty.pem: is empty"),
        (TLS(ca="here.key"), "CA {}/here.key: has no certificate in it"),
        (
            TLS(cert="bob.pem", key="mallory.key"),
            "certificate {0}/bob.pem and key {0}/mallory.key: the key is not the "
            "certificate's",
        ),
        (
            TLS(cert="bob.key", key="bob.key"),
            "certificate {0}/bob.key and key {0}/bob.key: not a certificate and its "
            "key, as PEM and not encrypted",
        ),
        (
            TLS(cert="bob.pem", key="none.key"),
            "key {}/none.key: No such file or directory",
        ),
        (TLS(cert="bob.pem"), "a certificate and its key go together"),
    ],
)
def test_files_that_cannot_be_used(files: Path, get: Get, tls: TLS, why: str) -> None:
    full = TLS(*(part and files / part for part in (tls.ca, tls.cert, tls.key)))
    with pytest.raises(TLSFileError) as caught:
        get("localhost:1", full)
    assert str(caught.value) == why.format(files)


def test_an_encrypted_key_does_not_ask_for_a_password(files: Path, get: Get) -> None:
    subprocess.run(
        [
            *(
                "openssl",
                "pkey",
                "-in",
                "bob.key",
                "-aes256",
                "-passout",
                "pass:secret",
            ),
            *("-out", "encrypted.key"),
        ],
        cwd=files,
        check=True,
        capture_output=True,
    )
    with pytest.raises(TLSFileError, match="not encrypted"):
        get("localhost:1", TLS(None, files / "bob.pem", files / "encrypted.key"))


@pytest.mark.parametrize("flags", [[], ["--async"]], ids=["sync", "async"])
def test_the_program(files: Path, flags: list[str]) -> None:
    with serving(files, client_ca="bob.pem") as address:
        flags = [
            *("--server", address, "--timeout", str(PATIENCE), "--tls"),
            *("--ca", str(files / "here.pem"), *flags),
        ]
        bob = ["--cert", str(files / "bob.pem"), "--key", str(files / "bob.key")]
        done = run_program("get", "1", *flags, *bob)
        assert (done.code, done.err) == (0, "")
        assert "Ann Lee" in done.out
        assert run_program("health", *flags, *bob).code == 0
        done = run_program("health", *flags)
        assert done.code == 1
        assert "it asks for client certificates" in done.err


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--ca", "x"], "--ca, --cert and --key need --tls"),
        (["--tls", "--key", "x"], "--cert and --key go together"),
    ],
)
def test_the_program_used_wrongly(flags: list[str], why: str) -> None:
    done = run_program("health", *flags)
    assert done.code == 2
    assert why in done.err


def test_the_program_with_a_file_that_is_not_there() -> None:
    done = run_program("get", "1", "--tls", "--ca", "none.pem")
    assert done.code == 1
    assert done.err == "roster-peer: CA none.pem: No such file or directory\n"
