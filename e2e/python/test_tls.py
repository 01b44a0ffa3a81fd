"""grpcio over TLS, and what it says when TLS does not come about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from caller import Caller
from sample import Sample, people
from serving import Roster

#: Where the Go test that runs these has put certificates: ca.pem, the server's
#: cert.pem and key.pem, and a folder with both for each client.
FOLDER = os.environ.get("ROSTER_E2E_TLS", "")

needs_certificates = pytest.mark.skipif(
    not FOLDER, reason="ROSTER_E2E_TLS is not set: certificates are made by go test ./e2e"
)
pytestmark = needs_certificates


def read(name: str) -> bytes:
    return (Path(FOLDER) / name).read_bytes()


def trust(client: str = "") -> grpc.ChannelCredentials:
    """Credentials of someone who trusts the server, and shows a certificate."""
    if not client:
        return grpc.ssl_channel_credentials(read("ca.pem"))
    return grpc.ssl_channel_credentials(
        read("ca.pem"), read(f"{client}/key.pem"), read(f"{client}/cert.pem")
    )


def serve(store: Path, *flags: str) -> Roster:
    cert, key = os.path.join(FOLDER, "cert.pem"), os.path.join(FOLDER, "key.pem")
    return Roster(store, "--tls-cert", cert, "--tls-key", key, *flags)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roster]:
    """A server with TLS."""
    with serve(tmp_path_factory.mktemp("secure") / "roster.db") as server:
        yield server


@pytest.fixture
def mutual(store: Path) -> Iterator[Roster]:
    """A server that asks for a certificate."""
    with serve(store, "--tls-client-ca", os.path.join(FOLDER, "ca.pem")) as server:
        yield server


def failure(connect: type[Caller], address: str, **options: object) -> grpc.RpcError:
    with connect(address, **options) as caller, pytest.raises(grpc.RpcError) as raised:
        caller.user([1])
    return raised.value


def test_a_secure_channel(connect: type[Caller], secure: Roster, sample: Sample) -> None:
    ids = sample.cycle(2000)
    with connect(secure.address, credentials=trust()) as caller:
        caller.wait_until_ready()
        caller.health()
        for reply in caller.all_at_once([ids] * 20):
            assert people(reply) == sample.people(ids)


def test_a_client_with_a_certificate(connect: type[Caller], mutual: Roster, sample: Sample) -> None:
    with connect(mutual.address, credentials=trust("bob")) as caller:
        assert people(caller.user([2, 1])) == sample.people([2, 1])


@pytest.mark.parametrize(
    ("client", "error"),
    [
        ("", "client didn't provide a certificate"),
        ("mallory", "certificate signed by unknown authority"),
        ("expired", "certificate has expired or is not yet valid"),
        ("early", "certificate has expired or is not yet valid"),
    ],
)
def test_a_client_that_is_not_let_in(
    connect: type[Caller], mutual: Roster, client: str, error: str
) -> None:
    refused = failure(connect, mutual.address, credentials=trust(client))
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert error in str(mutual.wait_for_log("TLS handshake failed")["error"])


def test_a_server_that_is_not_trusted(connect: type[Caller], secure: Roster) -> None:
    refused = failure(connect, secure.address, credentials=grpc.ssl_channel_credentials())
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert "CERTIFICATE_VERIFY_FAILED" in refused.details()


def test_a_server_of_another_name(connect: type[Caller], secure: Roster) -> None:
    options = [("grpc.ssl_target_name_override", "roster.example.org")]
    refused = failure(connect, secure.address, options=options, credentials=trust())
    assert refused.code() is grpc.StatusCode.UNAVAILABLE


def test_an_insecure_channel_is_told_to_use_tls(connect: type[Caller], store: Path) -> None:
    with serve(store) as server:
        refused = failure(connect, server.address)
        assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "this port speaks TLS and was called without" in refused.details()
        logged = server.wait_for_log("TLS handshake failed")
        assert logged["error"] == "the client speaks HTTP without TLS"


def test_a_secure_channel_to_a_plain_port(connect: type[Caller], server: Roster) -> None:
    refused = failure(connect, server.address, credentials=trust())
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert "WRONG_VERSION_NUMBER" in refused.details()
    server.wait_for_log("a client speaks TLS to this port, which does not")
