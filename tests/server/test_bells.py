"""Whoever waits hears of what is for him, of what came just before, and of nothing else."""

import asyncio
import threading
import time

from server.bells import Bells

LONG, SHORT = 60.0, 0.05


async def _heard(bells, *nodes, seconds=LONG):
    """The nodes whose wait ended before its time."""
    began = time.monotonic()

    async def one(node):
        await bells.wait(node, seconds)
        return node if time.monotonic() - began < seconds else None

    return [node for node in await asyncio.gather(*map(one, nodes)) if node is not None]


def test_a_thread_wakes_all_who_wait_for_that_node_and_nobody_else():
    bells = Bells()

    async def main():
        other = asyncio.create_task(bells.wait(2, LONG))
        threading.Timer(SHORT, bells.ring, (1,)).start()
        assert await _heard(bells, 1, 1) == [1, 1]
        assert not other.done()
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)

    asyncio.run(main())
    assert not bells._waiting


def test_what_rang_before_is_heard_once():
    bells = Bells()
    for _ in range(3):
        bells.ring(1)

    async def main():
        assert await _heard(bells, 1) == [1]
        assert await _heard(bells, 1, seconds=SHORT) == []

    asyncio.run(main())
    assert not bells._waiting


def test_one_who_went_away_is_forgotten_and_the_next_hears():
    bells = Bells()

    async def main():
        gone = asyncio.create_task(bells.wait(1, LONG))
        await asyncio.sleep(SHORT)
        bells.ring(1)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert await _heard(bells, 1) == [1]

    asyncio.run(main())
