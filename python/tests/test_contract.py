"""The contract, as seen by a program that has only grpcio and api.proto."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import api_pb2
import api_pb2_grpc
import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

GENERATED = Path(__file__).parents[2] / "gen" / "python"


@pytest.mark.parametrize("module", ["api_pb2", "api_pb2_grpc"])
def test_the_installed_generated_module_is_the_one_in_gen(module: str) -> None:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).read_text(encoding="utf-8")
    generated = (GENERATED / f"{module}.py").read_text(encoding="utf-8")
    assert installed == generated, f"{spec.origin} is old: install python/ again"


def ask(channel: grpc.Channel, ids: list[int]) -> api_pb2.UserReply:
    reply = api_pb2_grpc.MyServiceStub(channel).User(
        api_pb2.UserReq(userIDs=ids), timeout=30
    )
    assert isinstance(reply, api_pb2.UserReply)
    return reply


def test_user_answers_in_the_order_asked_with_every_field(
    channel: grpc.Channel,
) -> None:
    assert ask(channel, [-7, 1]) == api_pb2.UserReply(
        message="success",
        data=[
            api_pb2.User(name="Zoë Ødegård", age=150, email="zoe@example.com"),
            api_pb2.User(name="Ann Lee", age=31, email="ann@example.com"),
        ],
    )


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        pytest.param([], [], id="nothing for nothing"),
        pytest.param([1, 2, 1, 1], ["Ann Lee", "Bob Ng", "Ann Lee", "Ann Lee"]),
        pytest.param([99, 2, 98], ["Bob Ng"], id="unknown ids left out"),
        pytest.param([99], [], id="only unknown ids"),
        pytest.param([2**31 - 1, -(2**31), 2], ["Bob Ng"], id="the ends of int32"),
    ],
)
def test_user_answers(channel: grpc.Channel, ids: list[int], names: list[str]) -> None:
    reply = ask(channel, ids)
    assert reply.message == "success"
    assert [user.name for user in reply.data] == names


def test_ten_thousand_ids_are_answered_in_order(channel: grpc.Channel) -> None:
    reply = ask(channel, [1, 2] * 5000)
    assert [user.age for user in reply.data] == [31, 0] * 5000


def test_health_answers_empty(channel: grpc.Channel) -> None:
    answer = api_pb2_grpc.MyServiceStub(channel).Health(Empty(), timeout=30)
    assert answer == Empty()


def test_a_program_with_its_own_untyped_call_is_answered(
    channel: grpc.Channel,
) -> None:
    """The bytes on the wire, independent of the generated code."""
    user: grpc.UnaryUnaryMultiCallable[bytes, bytes]
    user = channel.unary_unary("/MyService/User")
    reply = user(b"\x0a\x01\x02", timeout=30)
    assert reply == b"\x0a\x07success\x12\x08\x0a\x06Bob Ng"
