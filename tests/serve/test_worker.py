"""The one thread that computes: what waits together is worked for together."""

import asyncio
import threading

import pytest

from influcoder.serve.worker import TOGETHER, Worker


@pytest.fixture
def worker():
    running = Worker()
    running.start()
    yield running
    running.stop()


def together(worker, work, kinds):
    """What comes of items of some kinds that all wait when the worker gets to them; a failure as it is."""

    async def ask():
        began, go = threading.Event(), threading.Event()
        first = asyncio.create_task(worker.run(lambda: (began.set(), go.wait(10))))
        await asyncio.to_thread(began.wait, 10)
        tasks = [asyncio.create_task(worker.run_together(kind, number, work)) for number, kind in enumerate(kinds)]
        await asyncio.sleep(0.05)
        go.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(ask())


def test_those_of_a_kind_are_answered_at_once(worker):
    asked = []
    found = together(worker, lambda items: asked.append(items) or [10 * item for item in items], "abaab")
    assert found == [0, 10, 20, 30, 40]
    assert asked == [[0, 2, 3], [1, 4]]


def test_not_more_than_a_batch(worker):
    asked = []
    together(worker, lambda items: asked.append(len(items)) or items, "a" * (TOGETHER + 5))
    assert asked == [TOGETHER, 5]


def test_a_failure_is_told_to_the_one_who_caused_it(worker):
    def work(items):
        if 1 in items:
            raise ValueError("not this one")
        return items

    found = together(worker, work, "aaa")
    assert found[0] == 0
    assert found[2] == 2
    assert isinstance(found[1], ValueError)
