"""A candidate says that it is ready once it follows the chain, again until it is in, and then no more."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from consilium.contracts import ballot
from consilium.contracts.ballot import AddValidator
from consilium.ledger.crypto import SigningKey
from consilium.ledger.transaction import Operation
from consilium.node import joining as joinings
from consilium.node.executor import Executor
from consilium.node.joining import Joining
from tests.unit.node.harness import Harness, some, until
from tests.unit.node.test_membership import decide

CANDIDATE = SigningKey(some("candidate", 32))


class ActingClerk:
    """Commits what it is to say, in a block of its own."""

    def __init__(self, harness: Harness, executor: Executor) -> None:
        self.harness, self.executor = harness, executor
        self.codes: list[str] = []

    @property
    def institution(self) -> bytes:
        return self.harness.wallets[0].identity

    async def say(self, said: Operation) -> str:
        code = self.harness.act(self.executor, self.harness.wallets[0], said, certify=False).code
        self.codes.append(code)
        return code


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joinings, "PAUSE_S", 0.001)


async def test_it_joins_once_it_follows() -> None:
    harness = Harness(1)
    executor = harness.executor()
    clerk = ActingClerk(harness, executor)
    follows = False
    joining = Joining(CANDIDATE, clerk, executor, lambda: follows)  # type: ignore[arg-type]
    task = asyncio.create_task(joining.run())
    await asyncio.sleep(0.02)
    assert clerk.codes == []
    decide(harness, executor, "p", AddValidator(CANDIDATE.public, clerk.institution))
    joining.look()
    await asyncio.sleep(0.02)
    assert clerk.codes == []
    follows = True
    await until(lambda: clerk.codes == ["ok"])
    await until(lambda: not joining._wake.is_set())
    decided = ballot.VALIDATORS.get(executor.store.state)
    assert decided is not None
    assert CANDIDATE.public in [one.key for one in decided.validators]
    joining.look()
    await asyncio.sleep(0.02)
    assert clerk.codes == ["ok"]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_another_institutions_candidate_is_not_its_affair() -> None:
    harness = Harness(1, more=1)
    executor = harness.executor()
    clerk = ActingClerk(harness, executor)
    decide(harness, executor, "p", AddValidator(CANDIDATE.public, harness.wallets[1].identity))
    joining = Joining(CANDIDATE, clerk, executor, lambda: True)  # type: ignore[arg-type]
    assert not joining._is_candidate()
