"""Waiting with a limit."""

import asyncio

import pytest

from roster_peer.waiting import within


def test_what_ends_in_time_is_returned() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(within(30, work())) == 7


def test_what_takes_too_long_is_cancelled() -> None:
    async def test() -> None:
        forever: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with pytest.raises(asyncio.TimeoutError):
            await within(0.01, forever)
        assert forever.cancelled()

    asyncio.run(test())


@pytest.mark.parametrize("steps", range(6))
def test_a_cancellation_is_not_lost_when_the_work_ends_at_that_moment(
    steps: int,
) -> None:
    async def test() -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            await ended

        async def run() -> None:
            while True:
                await within(30, work())
                await asyncio.sleep(30)

        task = asyncio.ensure_future(run())
        for _ in range(5):
            await asyncio.sleep(0)
        ended.set_result(None)
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done
        assert task.cancelled()

    asyncio.run(test())
