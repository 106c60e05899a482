"""The two boxes of a lane against lists that count their bytes the slow way."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.p2p.box import Inbox, Outbox
from consilium.p2p.frame import Message
from consilium.p2p.metrics import LaneMetrics

MESSAGES_MAX = 4
BYTES_MAX = 10
steps = st.lists(st.one_of(st.integers(0, 12), st.just("take"), st.just("clear")), max_size=40)


def size(queue: list[Message]) -> int:
    return sum(len(message.body) for message in queue)


@given(steps, st.booleans())
def test_an_outbox_is_a_bounded_list(steps: list[int | str], drops_oldest: bool) -> None:
    metrics = LaneMetrics()
    outbox = Outbox(MESSAGES_MAX, BYTES_MAX, drops_oldest=drops_oldest, metrics=metrics)
    twin: list[Message] = []
    dropped = refused = 0
    for number, step in enumerate(steps):
        if step == "take":
            assert outbox.take() == (twin.pop(0) if twin else None)
        elif step == "clear":
            dropped += len(twin)
            twin.clear()
            outbox.clear()
        else:
            message = Message(number, bytes(int(step)))
            fits = len(message.body) <= BYTES_MAX
            while fits and (len(twin) == MESSAGES_MAX or size([*twin, message]) > BYTES_MAX):
                if not drops_oldest:
                    fits = False
                else:
                    twin.pop(0)
                    dropped += 1
            if fits:
                twin.append(message)
            refused += not fits
            assert outbox.put(message) is fits
        assert (len(outbox), outbox.held_bytes) == (len(twin), size(twin))
        assert (metrics.dropped, metrics.refused) == (dropped, refused)


async def test_an_outbox_says_when_it_is_ready() -> None:
    outbox = Outbox(MESSAGES_MAX, BYTES_MAX, drops_oldest=True, metrics=LaneMetrics())
    waiting = asyncio.create_task(outbox.ready())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.put(Message(1, b"x"))
    await waiting
    outbox.take()
    waiting = asyncio.create_task(outbox.ready())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.nudge()
    await waiting
    assert outbox.take() is None
    waiting = asyncio.create_task(outbox.ready())
    await asyncio.sleep(0)
    assert not waiting.done()  # a nudge wakes once
    waiting.cancel()


@given(st.lists(st.integers(0, 12), max_size=20), st.lists(st.integers(0, 3), max_size=20))
def test_an_inbox_makes_its_producer_wait_and_loses_nothing(sizes: list[int], pauses: list[int]) -> None:
    async def scenario() -> list[Message]:
        inbox = Inbox(MESSAGES_MAX, BYTES_MAX)
        sent = [Message(number, bytes(length)) for number, length in enumerate(sizes)]
        got: list[Message] = []

        async def produce() -> None:
            for message in sent:
                await inbox.put(message)
                assert len(inbox) <= MESSAGES_MAX
                assert inbox.held_bytes <= BYTES_MAX or len(inbox) == 1

        producer = asyncio.create_task(produce())
        for index in range(len(sent)):
            for _ in range(pauses[index % len(pauses)] if pauses else 0):
                await asyncio.sleep(0)
            got.append(await inbox.get())
        await producer
        assert (len(inbox), inbox.held_bytes) == (0, 0)
        assert got == sent
        return got

    asyncio.run(asyncio.wait_for(scenario(), 10.0))


@pytest.mark.parametrize("filling", [[Message(1, b"")] * MESSAGES_MAX, [Message(1, bytes(BYTES_MAX))]])
async def test_clearing_a_full_inbox_frees_the_producer(filling: list[Message]) -> None:
    inbox = Inbox(MESSAGES_MAX, BYTES_MAX)
    for message in filling:
        await inbox.put(message)
    late = asyncio.create_task(inbox.put(Message(2, b"late")))
    await asyncio.sleep(0)
    assert not late.done()
    inbox.clear()
    await asyncio.wait_for(late, 10.0)
    assert await inbox.get() == Message(2, b"late")
