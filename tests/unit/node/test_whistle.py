"""Evidence is queued within bounds, told once, and tried again while that may help."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from consilium.consensus.evidence import Evidence, make_evidence
from consilium.consensus.messages import sign_commit
from consilium.contracts import ballot
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.transaction import Operation
from consilium.node.clerk import Clerk
from consilium.node.whistle import KNOWN_MAX, QUEUED_MAX, TRIES_MAX, Whistle
from tests.unit.node.harness import Harness, HostedNode, until
from tests.unit.node.hosting import running, service_of


def contradiction(harness: Harness, of: int, height: int, view: int = 0) -> Evidence:
    one, other = (
        sign_commit(harness.keys[of], harness.chain_id, height, view, bytes([label]) * 32) for label in (1, 2)
    )
    return make_evidence(one, other)


class ScriptedClerk:
    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.said: list[Operation] = []

    async def say(self, said: Operation) -> str:
        self.said.append(said)
        return self.answers.pop(0) if self.answers else "ok"


def whistle_of(harness: Harness, clerk: object, index: int = 0) -> tuple[Whistle, HostedNode]:
    node = HostedNode(harness, index)
    made = Whistle(
        harness.keys[index].public,
        clerk,  # type: ignore[arg-type]
        state=lambda: node.executor.store.state,
        validators=lambda: harness.validators,
        turn_s=0.0,
        pause_s=0.0,
    )
    return made, node


async def blown(whistle: Whistle, *evidence: Evidence, until_said: int, clerk: ScriptedClerk) -> None:
    task = asyncio.create_task(whistle.run())
    for one in evidence:
        whistle.blow(one)
    await until(lambda: len(clerk.said) >= until_said and whistle._queue.empty())
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_it_is_told_once() -> None:
    harness = Harness(4)
    clerk = ScriptedClerk()
    whistle, _ = whistle_of(harness, clerk)
    one, other = contradiction(harness, 3, 5), contradiction(harness, 3, 6)
    again = contradiction(harness, 3, 5, view=2)
    await blown(whistle, one, one, again, other, until_said=2, clerk=clerk)
    bodies = [codec.decode(said.body, ballot.ReportEvidence, 1024).evidence for said in clerk.said]
    assert bodies == [one, other]


@pytest.mark.parametrize("final", ["ok", "governance.evidence_known", "governance.not_validator"])
async def test_it_is_tried_again_until_the_answer_is_final(final: str) -> None:
    harness = Harness(4)
    clerk = ScriptedClerk("mempool.full", "rpc.timeout", "governance.evidence_expired", final)
    whistle, _ = whistle_of(harness, clerk)
    await blown(whistle, contradiction(harness, 3, 5), until_said=4, clerk=clerk)
    assert len(clerk.said) == 4


async def test_it_gives_up_in_the_end() -> None:
    harness = Harness(4)
    clerk = ScriptedClerk(*["mempool.full"] * 50)
    whistle, _ = whistle_of(harness, clerk)
    await blown(whistle, contradiction(harness, 3, 5), until_said=TRIES_MAX, clerk=clerk)
    assert len(clerk.said) == TRIES_MAX


async def test_what_the_ledger_has_is_not_told() -> None:
    harness = Harness(4)
    clerk = ScriptedClerk()
    whistle, node = whistle_of(harness, clerk)
    evidence = contradiction(harness, 3, 1)
    said = operation("governance.report_evidence", ballot.ReportEvidence(evidence))
    assert harness.act(node.executor, harness.wallets[0], said).code == "ok"
    other = contradiction(harness, 3, 2)
    await blown(whistle, evidence, other, until_said=1, clerk=clerk)
    assert [codec.decode(one.body, ballot.ReportEvidence, 1024).evidence for one in clerk.said] == [other]


async def test_beyond_what_the_ledger_keeps_of_a_validator_nothing_is_told() -> None:
    """Each report would be refused, and be in a block all the same: from every node, for every height of a liar."""
    harness = Harness(4)
    clerk = ScriptedClerk()
    whistle, node = whistle_of(harness, clerk)
    for height in range(1, ballot.FAULTS_MAX + 1):
        said = operation(
            "governance.report_evidence", ballot.ReportEvidence(contradiction(harness, 3, height))
        )
        assert harness.act(node.executor, harness.wallets[0], said).code == "ok"
    other = contradiction(harness, 2, 1)
    await blown(whistle, contradiction(harness, 3, 17), other, until_said=1, clerk=clerk)
    assert [codec.decode(one.body, ballot.ReportEvidence, 1024).evidence for one in clerk.said] == [other]


async def test_nobody_reports_himself() -> None:
    """Others quote a node's own words to it: a validator that came back from an old copy may meet what it forgot."""
    harness = Harness(4)
    clerk = ScriptedClerk()
    whistle, _ = whistle_of(harness, clerk, index=3)
    assert not whistle.blow(contradiction(harness, 3, 5))
    other = contradiction(harness, 2, 5)
    await blown(whistle, other, until_said=1, clerk=clerk)
    assert codec.decode(clerk.said[0].body, ballot.ReportEvidence, 1024).evidence == other


async def test_what_waits_is_bounded() -> None:
    harness = Harness(4)
    whistle, _ = whistle_of(harness, ScriptedClerk())
    taken = [whistle.blow(contradiction(harness, 3, height)) for height in range(QUEUED_MAX + 5)]
    assert taken == [True] * QUEUED_MAX + [False] * 5
    for height in range(KNOWN_MAX + 5):
        while not whistle._queue.empty():
            whistle._queue.get_nowait()
        whistle.blow(contradiction(harness, 2, height))
    assert len(whistle._known) == KNOWN_MAX


def test_everybody_has_a_turn_of_his_own() -> None:
    harness = Harness(4)
    accused = harness.keys[1].public
    turns = [whistle_of(harness, ScriptedClerk(), index)[0]._turn(accused) for index in (0, 2, 3)]
    assert turns == [2, 0, 1]


async def test_a_node_reports_what_its_replica_saw() -> None:
    """From the driver's report to the state, by way of the clerk and the pool."""
    harness = Harness(1)
    node = HostedNode(harness)
    service = service_of(node)
    clerk = Clerk(
        harness.wallets[0],
        harness.chain_id,
        service,
        lambda: node.executor.store.tip.time_ms,
        node.clock.now_ms,
    )
    whistle = Whistle(
        bytes(32),
        clerk,
        state=lambda: node.executor.store.state,
        validators=lambda: harness.validators,
        turn_s=0.0,
        pause_s=0.01,
    )
    node.driver.on_evidence = whistle.blow
    async with running(node):
        telling = asyncio.create_task(whistle.run())
        evidence = contradiction(harness, 0, 1)
        assert node.driver.on_evidence is not None
        node.driver.on_evidence(evidence)
        place = (evidence.validator, (1).to_bytes(8, "big"), b"\x01")
        await until(lambda: ballot.PROVED_FAULTS.get(node.executor.store.state, *place) is not None)
        assert await clerk.say(operation("governance.report_evidence", ballot.ReportEvidence(evidence))) == (
            "governance.evidence_known"
        )
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling
