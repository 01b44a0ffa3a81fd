"""Where a server listens, and its error if it cannot."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
import pytest
from support import ANN, PATIENCE, USERS

from roster_peer import Client, ListenError, MemoryStore, Server
from roster_peer.address import Address

STORE = MemoryStore(USERS)


@contextmanager
def taken_port(family: int, host: str) -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((host, 0))
        listener.listen()
        yield listener.getsockname()[1]


def localhost() -> list[tuple[int, str]]:
    """The addresses of localhost: 127.0.0.1, and ::1 if the machine has it."""
    hosts: list[tuple[int, str]] = []
    for family, _, _, _, address in socket.getaddrinfo(
        "localhost", 0, type=socket.SOCK_STREAM
    ):
        with suppress(OSError), taken_port(family, str(address[0])):
            hosts.append((family, str(address[0])))
    return hosts


def test_port_0_takes_a_free_port_and_names_it(server: Server) -> None:
    address = Address.parse(server.address)
    assert address.host == "127.0.0.1"
    assert address.port > 0
    with Client(server.address) as client:
        assert client.get([1], PATIENCE) == [ANN]


def test_localhost_answers_on_every_address_that_it_means() -> None:
    with Server(STORE, "localhost:0") as server:
        assert server.address.startswith("localhost:")
        port = Address.parse(server.address).port
        for host in ["localhost", *(host for _, host in localhost())]:
            with Client(str(Address(host, port))) as client:
                assert client.get([1], PATIENCE) == [ANN]


def test_a_taken_port_is_refused_by_name() -> None:
    with taken_port(socket.AF_INET, "127.0.0.1") as port:
        with pytest.raises(ListenError) as caught:
            Server(STORE, f"127.0.0.1:{port}")
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port}: port {port} on 127.0.0.1 is taken by "
        "another program; stop it, or choose another port"
    )


@pytest.mark.parametrize(("family", "host"), localhost())
def test_a_port_taken_on_any_address_of_localhost_is_refused(
    family: int, host: str
) -> None:
    """grpcio by itself would listen on the other address, without an error."""
    with taken_port(family, host) as port:
        with pytest.raises(ListenError, match=f"port {port} on {host} is taken"):
            Server(STORE, f"localhost:{port}")


def test_a_second_server_on_the_same_port_is_refused(server: Server) -> None:
    with pytest.raises(ListenError, match="is taken by another program"):
        Server(STORE, server.address)
    with Client(server.address) as client:
        assert client.get([1], PATIENCE) == [ANN]


def test_the_port_of_a_server_that_shares_it_is_refused() -> None:
    """grpcio servers share their port by default; this one does not."""
    with ThreadPoolExecutor(1) as pool:
        other = grpc.server(pool)
        port = other.add_insecure_port("127.0.0.1:0")
        other.start()
        with pytest.raises(ListenError, match="is taken by another program"):
            Server(STORE, f"127.0.0.1:{port}")
        other.stop(None).wait()


def test_a_server_that_shares_ports_cannot_take_this_ones(server: Server) -> None:
    with ThreadPoolExecutor(1) as pool:
        other = grpc.server(pool)
        # If it fails, old grpcio returns 0 and newer versions raise RuntimeError.
        with suppress(RuntimeError):
            assert other.add_insecure_port(server.address) == 0


def test_a_port_is_free_again_after_the_drain() -> None:
    with Server(STORE, "127.0.0.1:0") as first:
        with Client(first.address) as client:
            assert client.get([1], PATIENCE) == [ANN]
    with Server(STORE, first.address) as second:
        with Client(second.address) as client:
            assert client.get([1], PATIENCE) == [ANN]


def test_a_host_that_is_not_this_machine_is_refused() -> None:
    # 192.0.2.0/24 is reserved for documentation (RFC 5737): no machine has it.
    with pytest.raises(ListenError) as caught:
        Server(STORE, "192.0.2.1:0")
    assert str(caught.value) == (
        "cannot listen on 192.0.2.1:0: 192.0.2.1 is not an address of this machine"
    )


def test_a_host_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ListenError, match=r"no such host 'nowhere\.invalid'"):
        Server(STORE, "nowhere.invalid:0")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost:50051", "localhost", 50051),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:65535", "::1", 65535),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost", "'localhost' is not HOST:PORT, like localhost:50051"),
        ("localhost:", "'localhost:' is not HOST:PORT"),
        ("localhost:http", "'localhost:http' is not HOST:PORT"),
        ("localhost:65536", "'localhost:65536' is not HOST:PORT"),
        ("http://localhost:50051", "no URL, and an IPv6 host in brackets"),
        ("::1:50051", "no URL, and an IPv6 host in brackets"),
        (":50051", "':50051' has no host: every interface is 0.0.0.0:50051"),
    ],
)
def test_what_is_no_address_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"is not HOST:PORT|has no host") as caught:
        Address.parse(text)
    assert message in str(caught.value)
