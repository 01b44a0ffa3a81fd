"""Requests that break a rule: what a Python program gets to read, and to work with."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from roster.v1 import directory_pb2, directory_pb2_grpc

from sample import Sample
from serving import PATIENCE, Roster


@pytest.fixture
def directory(server: Roster) -> Iterator[directory_pb2_grpc.DirectoryServiceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield directory_pb2_grpc.DirectoryServiceStub(channel)


def violations(error: grpc.RpcError) -> list[tuple[str, str]]:
    """The fields that a refusal names, and what is wrong with each."""
    status = rpc_status.from_call(error)
    assert status is not None
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    found = []
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        assert detail.Unpack(bad)
        found += [(each.field, each.description) for each in bad.field_violations]
    return found


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ([], "must contain at least 1 item(s), has 0"),
        ([1] * 10_001, "must contain no more than 10000 item(s), has 10001"),
    ],
    ids=["no ids", "too many ids"],
)
def test_a_rule_that_is_broken(
    directory: directory_pb2_grpc.DirectoryServiceStub, ids: list[int], problem: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        directory.BatchGetUsers(directory_pb2.BatchGetUsersRequest(ids=ids), timeout=PATIENCE)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == f"ids: {problem}"
    assert violations(refused.value) == [("ids", problem)]


def test_a_request_within_the_rules(
    directory: directory_pb2_grpc.DirectoryServiceStub, sample: Sample
) -> None:
    request = directory_pb2.BatchGetUsersRequest(ids=[5, -1, 5, 4])
    reply = directory.BatchGetUsers(request, timeout=PATIENCE)
    assert [user.id for user in reply.users] == [5, 4]
    assert [(u.name, u.age, u.email) for u in reply.users] == sample.people([5, 4])
    assert list(reply.unknown_ids) == [-1]
