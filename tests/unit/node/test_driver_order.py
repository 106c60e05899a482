"""The order in which the driver performs effects: one step's effects are all done before the next step is made."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from consilium.consensus.io import (
    Advanced,
    CancelTimer,
    Decide,
    Now,
    PeerHeight,
    SetTimer,
    TimerFired,
    TimerKind,
)
from consilium.ledger.genesis import Genesis, genesis_block
from consilium.ledger.validators import Validator
from consilium.node.driver import Driver

BLOCK = genesis_block(Genesis(1, "test", 1, [Validator(bytes(32), bytes(16))], []))


class ScriptedReplica:
    """Decides at the first word of a peer, and wants the next height's view timer to run."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.fired = asyncio.Event()

    def step(self, event: Any, now: Now) -> list[Any]:
        self.seen.append(type(event))
        match event:
            case PeerHeight():
                return [Decide(BLOCK, None), CancelTimer(TimerKind.VIEW)]  # type: ignore[arg-type]
            case Advanced():
                return [SetTimer(TimerKind.VIEW, now.monotonic_ms + 5)]
            case TimerFired(TimerKind.VIEW):
                self.fired.set()
        return []


class IdleMempool:
    """Has nothing, wants nothing."""

    has_work = False
    pending_count = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


async def test_a_timer_of_the_next_height_outlives_the_decision_that_led_there() -> None:
    replica = ScriptedReplica()
    loop = asyncio.get_running_loop()
    driver = Driver(
        replica=replica,  # type: ignore[arg-type]
        executor=SimpleNamespace(
            commit_all=lambda decisions: [SimpleNamespace(outcome=SimpleNamespace(postponed=[]))],
            context=SimpleNamespace(height=1),
            seen=frozenset(),
        ),  # type: ignore[arg-type]
        mempool=IdleMempool(),  # type: ignore[arg-type]
        keeper=SimpleNamespace(),
        outlet=SimpleNamespace(),
        clock=lambda: Now(int(loop.time() * 1000), 0),
        on_commit=lambda done: None,
    )
    running = asyncio.create_task(driver.run())
    driver.peer_at(bytes(32), 1)
    try:
        async with asyncio.timeout(5):
            await replica.fired.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert replica.seen[1:4] == [PeerHeight, Advanced, TimerFired]
