"""Many calls at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from caller import Caller
from sample import Sample, people


def test_a_thousand_calls_at_once(caller: Caller, sample: Sample) -> None:
    requests = [sample.cycle(20, start) for start in range(1000)]
    replies = caller.all_at_once(requests)
    assert [people(reply) for reply in replies] == [sample.people(ids) for ids in requests]


def test_one_channel_serves_many_threads_for_long(caller: Caller, sample: Sample) -> None:
    def work(thread: int) -> int:
        for turn in range(50):
            ids = sample.cycle(1 + turn % 40, start=thread * 50 + turn)
            assert people(caller.user(ids)) == sample.people(ids), f"thread {thread}, turn {turn}"
        return thread

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(work, range(16))) == list(range(16))
