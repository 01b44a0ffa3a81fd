"""What a caller gets for the ids that it asks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from caller import Caller
from sample import ROOT, Sample, people
from serving import PATIENCE, Roster

NOBODY = [-1, 0, 999_999, 2**31 - 1, -(2**31)]


def test_users_come_in_the_order_asked(caller: Caller, sample: Sample) -> None:
    ids = sample.ids[::-7] + sample.ids[::5]
    assert people(caller.user(ids)) == sample.people(ids)


def test_a_repeated_id_is_answered_each_time(caller: Caller, sample: Sample) -> None:
    first, second = sample.ids[:2]
    ids = [second, first, second, second]
    assert people(caller.user(ids)) == sample.people(ids)
    assert len(sample.people(ids)) == 4


def test_an_unknown_id_is_left_out(caller: Caller, sample: Sample) -> None:
    ids = [NOBODY[0], sample.ids[3], *NOBODY, sample.ids[1], NOBODY[1]]
    assert people(caller.user(ids)) == sample.people([sample.ids[3], sample.ids[1]])


def test_ids_that_are_all_unknown_find_nobody(caller: Caller) -> None:
    assert people(caller.user(NOBODY)) == []


def test_an_empty_list_finds_nobody(caller: Caller) -> None:
    assert people(caller.user([])) == []


def test_every_user_of_the_sample_is_there(caller: Caller, sample: Sample) -> None:
    assert people(caller.user(sample.ids)) == sample.people(sample.ids)


def test_ten_thousand_ids_fit_one_call(caller: Caller, sample: Sample) -> None:
    ids = sample.cycle(10_000)
    assert people(caller.user(ids)) == sample.people(ids)


def test_health_answers(caller: Caller) -> None:
    assert caller.health().ByteSize() == 0


@pytest.mark.parametrize("target", ["localhost:{}", "127.0.0.1:{}", "dns:///localhost:{}"])
def test_a_plain_channel_finds_the_server_by(
    target: str, connect: type[Caller], server: Roster, sample: Sample
) -> None:
    with connect(target.format(server.port)) as caller:
        assert people(caller.user([1, 2])) == sample.people([1, 2])


SCRIPT = """\
import sys

import grpc

import api_pb2
import api_pb2_grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    reply = api_pb2_grpc.MyServiceStub(channel).User(api_pb2.UserReq(userIDs=[1, 2]))
for user in reply.data:
    print(user.name, user.age, user.email, sep=", ")
"""


def test_a_script_with_nothing_but_grpcio_and_the_contract(
    server: Roster, sample: Sample, tmp_path: Path
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, f"localhost:{server.port}"],
        env={"PYTHONPATH": str(ROOT / "gen" / "python"), "PYTHONIOENCODING": "utf-8"},
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=2 * PATIENCE,
        check=False,
    )
    expected = [", ".join(map(str, person)) for person in sample.people([1, 2])]
    assert (ran.returncode, ran.stdout.splitlines()) == (0, expected), ran.stderr
    # The contract is all that the modules on its path know.
    modules = "\n".join(path.read_text() for path in (ROOT / "gen" / "python").glob("*.py"))
    assert set(re.findall(r"^# source: (\S+)$", modules, re.MULTILINE)) == {"api.proto"}
