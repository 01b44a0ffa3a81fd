"""gzip and deflate in both directions, as grpcio asks for them."""

from __future__ import annotations

import grpc
import pytest

from caller import Caller
from sample import Sample, people
from wire import Kind, Wire

#: Only identity, of the algorithms that grpcio would take.
NO_COMPRESSION_TAKEN = [("grpc.compression_enabled_algorithms_bitset", 1)]


both = pytest.mark.parametrize(
    "compression", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"]
)


def first_message_is_compressed(wire: Wire, *, from_client: bool) -> bool:
    """The compressed-flag of the first message from one end (gRPC over HTTP2)."""
    frames = [f for f in wire.wait_for(Kind.DATA, from_client=from_client) if f.payload]
    assert frames, "no message passed"
    return frames[0].payload[0] == 1


@both
def test_a_compression_for_every_call_of_a_channel(
    connect: type[Caller], wire: Wire, sample: Sample, compression: grpc.Compression
) -> None:
    ids = sample.cycle(10_000)
    with connect(wire.address, compression=compression) as caller:
        assert people(caller.user(ids)) == sample.people(ids)
        # Too short to gain by it, whole all the same.
        assert people(caller.user([1])) == sample.people([1])
        assert caller.health().ByteSize() == 0
    assert first_message_is_compressed(wire, from_client=True)
    assert first_message_is_compressed(wire, from_client=False)


@both
def test_a_compression_for_one_call(
    connect: type[Caller], wire: Wire, sample: Sample, compression: grpc.Compression
) -> None:
    ids = sample.cycle(10_000)
    with connect(wire.address) as caller:
        reply = caller.user(ids, compression=compression)
        assert people(reply) == sample.people(ids)
        assert people(caller.user([1])) == sample.people([1])
    assert first_message_is_compressed(wire, from_client=True)


def test_a_long_reply_is_compressed_for_who_takes_it(
    connect: type[Caller], wire: Wire, sample: Sample
) -> None:
    with connect(wire.address) as caller:
        assert people(caller.user(sample.ids)) == sample.people(sample.ids)
    assert not first_message_is_compressed(wire, from_client=True)
    assert first_message_is_compressed(wire, from_client=False)


def test_a_short_reply_is_not_compressed(connect: type[Caller], wire: Wire, sample: Sample) -> None:
    with connect(wire.address) as caller:
        assert people(caller.user([1, 2])) == sample.people([1, 2])
    assert not first_message_is_compressed(wire, from_client=False)


def test_a_reply_is_not_compressed_for_who_takes_no_compression(
    connect: type[Caller], wire: Wire, sample: Sample
) -> None:
    with connect(wire.address, NO_COMPRESSION_TAKEN) as caller:
        assert people(caller.user(sample.ids)) == sample.people(sample.ids)
    assert not first_message_is_compressed(wire, from_client=False)
