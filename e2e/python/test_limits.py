"""What the server refuses: each time with a clear word, and it goes on serving."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import api_pb2
import grpc
import pytest

from caller import Caller, call_that_the_server_has
from sample import Sample, people
from serving import PATIENCE, Roster
from wire import Wire

MIB = 2**20

#: A client that sends what it is told to: grpcio's own bound off.
UNBOUNDED = [("grpc.max_send_message_length", -1)]


@pytest.fixture(autouse=True)
def _still_serving(caller: Caller, sample: Sample) -> Iterator[None]:
    """After every refusal, the next caller is served."""
    yield
    assert people(caller.user([1, 2])) == sample.people([1, 2])


def test_one_id_over_the_batch_limit(caller: Caller, sample: Sample) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.user(sample.cycle(10_001))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for clue in ("10001 ids", "at most 10000", "--max-batch"):
        assert clue in refused.value.details()


def test_the_batch_limit_is_what_the_flag_says(
    connect: type[Caller], sample: Sample, store: Path
) -> None:
    with Roster(store, "--max-batch", "3") as server, connect(server.address) as caller:
        assert people(caller.user([1, 2, 3])) == sample.people([1, 2, 3])
        with pytest.raises(grpc.RpcError) as refused:
            caller.user([1, 2, 3, 4])
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for clue in ("4 ids", "at most 3", "--max-batch"):
        assert clue in refused.value.details()


@pytest.mark.parametrize("size", [4 * MIB + 1, 5 * MIB, 32 * MIB], ids=lambda size: f"{size} bytes")
def test_a_message_over_what_the_batch_limit_allows(
    size: int, connect: type[Caller], server: Roster
) -> None:
    # Field 2, which the contract does not have, of any length: only size is wrong here.
    length = size - 1
    prefix = b"\x12" + varint(length - len(varint(length)))
    message = prefix + bytes(size - len(prefix))
    assert api_pb2.UserReq.FromString(message).ByteSize() == len(message) == size
    with connect(server.address, UNBOUNDED) as caller:
        with pytest.raises(grpc.RpcError) as refused:
            caller.send_bytes("/MyService/User", message)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "longer than 336384 bytes" in refused.value.details()
    assert "--max-batch" in refused.value.details()


def varint(value: int) -> bytes:
    """Protobuf's encoding of a length."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_a_message_just_within_the_bound_is_read(caller: Caller) -> None:
    # So many short ids are over the batch limit: that the answer names this limit
    # shows that the message was read.
    with pytest.raises(grpc.RpcError) as refused:
        caller.user([1] * 330_000)
    assert "330000 ids" in refused.value.details()


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_bomb(connect: type[Caller], server: Roster, compression: grpc.Compression) -> None:
    with connect(server.address, UNBOUNDED) as caller:
        with pytest.raises(grpc.RpcError) as refused:
            caller.send_bytes("/MyService/User", bytes(64 * MIB), compression=compression)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "longer than 336384 bytes" in refused.value.details()
    assert "--max-batch" in refused.value.details()


@pytest.mark.parametrize("path", ["/MyService/Nope", "//MyService/User", "/./MyService/User"])
def test_a_refusal_has_no_metadata_of_its_own(path: str, server: Roster) -> None:
    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(path)(b"", timeout=PATIENCE)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "no such procedure" in refused.value.details()
    metadata = [*refused.value.initial_metadata(), *refused.value.trailing_metadata()]
    assert {key for key, _ in metadata} <= {"date"}


@pytest.mark.parametrize(
    "message",
    [b"\xff\xff\xff", b"\x0a\x05\x01", b"\x0a\x01\x80", b"not protobuf"],
    ids=["no tag", "cut short", "half an id", "text"],
)
def test_malformed_protobuf(message: bytes, caller: Caller) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.send_bytes("/MyService/User", message)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "UserReq" in refused.value.details()


@pytest.mark.parametrize("path", ["/MyService/Nope", "/YourService/User", "/nothing"])
def test_an_unknown_method(path: str, caller: Caller) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.send_bytes(path, b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "/MyService/User" in refused.value.details(), "it does not say what there is instead"


def headers(count: int) -> list[tuple[str, str]]:
    """Metadata of count KiB."""
    return [(f"x-long-{i}", "v" * 1000) for i in range(count)]


def test_metadata_of_15_kib_is_taken(caller: Caller, sample: Sample) -> None:
    assert people(caller.user([1], metadata=headers(15))) == sample.people([1])


def test_metadata_over_16_kib(connect: type[Caller], wire: Wire, sample: Sample) -> None:
    with connect(wire.address) as caller:
        with pytest.raises(grpc.RpcError) as refused:
            caller.user([1], metadata=headers(20))
        # By grpcio, which knows the server's limit, or by the server, to which net/http
        # gives no choice but a bare HTTP status, UNKNOWN to a client.
        codes = [grpc.StatusCode.RESOURCE_EXHAUSTED]
        if os.environ.get("ROSTER_HTTP2") == "std":
            codes.append(grpc.StatusCode.UNKNOWN)
        assert refused.value.code() in codes
        assert people(caller.user([1])) == sample.people([1])
    assert wire.connections == 1, "the other calls on the connection had to pay for it"


def test_metadata_of_a_megabyte(caller: Caller, sample: Sample) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.user([1], metadata=[("x-long", "v" * MIB)])
    # A server need not read that much to say no: it may close the connection.
    codes = (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNAVAILABLE,
    )
    assert refused.value.code() in codes
    assert people(caller.user([1], wait_for_ready=True)) == sample.people([1])


def test_metadata_of_a_megabyte_from_a_client_that_takes_as_much(
    connect: type[Caller], server: Roster, sample: Sample
) -> None:
    with connect(server.address, [("grpc.max_metadata_size", 4 * MIB)]) as caller:
        with pytest.raises(grpc.RpcError) as refused:
            caller.user([1], metadata=[("x-long", "v" * MIB)])
        assert refused.value.code() in (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.UNAVAILABLE,
        )
        assert people(caller.user([1], wait_for_ready=True)) == sample.people([1])


def test_a_rate_limit_is_told_with_its_flag(
    connect: type[Caller], store: Path, sample: Sample
) -> None:
    flags = ("--rate-limit", "0.01", "--rate-burst", "5")
    with Roster(store, *flags) as server, connect(server.address) as caller:
        for _ in range(5):
            assert people(caller.user([1])) == sample.people([1])
        with pytest.raises(grpc.RpcError) as refused:
            caller.user([1])
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "--rate-limit" in refused.value.details()
        # Pairs: asyncio's old Metadata has odd keys.
        details = dict(iter(refused.value.trailing_metadata()))
        assert b"google.rpc.RetryInfo" in details["grpc-status-details-bin"]


def test_a_call_without_its_body_takes_no_slot(
    connect: type[Caller], store: Path, sample: Sample
) -> None:
    with Roster(store, "--max-concurrent-calls", "1") as server:
        with Wire(server.address) as wire, connect(wire.address) as caller:
            waiting = call_that_the_server_has(caller, wire)
            assert people(caller.user([2])) == sample.people([2])
            waiting.send([1])
            assert waiting.outcome().code is grpc.StatusCode.OK
