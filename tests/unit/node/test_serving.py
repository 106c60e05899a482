"""Reading for those who do not vote: one after the other, with a rest; validators never wait for it."""

from __future__ import annotations

import asyncio
import threading

from consilium.node.serving import VALIDATORS_AT_ONCE, Serving


async def test_others_are_read_for_one_after_the_other() -> None:
    serving = Serving(rest_share=0.0)
    at_once, most = 0, 0
    lock = threading.Lock()

    def read(number: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.002)
        with lock:
            at_once -= 1
        return number

    answered: list[int] = []
    await asyncio.gather(*(serving.for_other(answered.append, read, number) for number in range(20)))
    assert answered == list(range(20))
    assert most == 1


async def test_a_validator_is_read_for_while_others_rest() -> None:
    """A flood from those who do not vote holds back nobody else."""
    serving = Serving(rest_share=10_000.0)
    answered = asyncio.Event()
    flood = [
        asyncio.create_task(serving.for_other(lambda _: answered.set(), threading.Event().wait, 0.01))
        for _ in range(50)
    ]
    await answered.wait()
    async with asyncio.timeout(10):
        many = [serving.for_validator(pow, number, 2) for number in range(5 * VALIDATORS_AT_ONCE)]
        assert await asyncio.gather(*many) == [number * number for number in range(5 * VALIDATORS_AT_ONCE)]
    assert sum(task.done() for task in flood) == 0
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
