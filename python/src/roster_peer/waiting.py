"""Waiting with a limit, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(limit: float, work: Awaitable[T]) -> T:
    """Returns what work returns, or cancels it after limit seconds.

    asyncio.wait_for, before Python 3.12, returns normally if its task is cancelled at
    the moment at which work ends: the cancellation is lost, and a loop around it goes
    on for ever.

    Raises:
        asyncio.TimeoutError: work took longer.
    """
    task = asyncio.ensure_future(work)
    # Else asyncio would log the exception of work that nobody waits for any more.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait({task}, timeout=limit)
    finally:
        ended = task.done()
        task.cancel()
    if not ended:
        raise asyncio.TimeoutError
    return task.result()
