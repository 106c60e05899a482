"""Batches of a proposal: asked for once from each peer in turn, given up when they pass the limits of a block."""

from __future__ import annotations

import asyncio

import pytest

from consilium.consensus.io import BatchesHeld, HoldBatches
from consilium.ledger import codec
from consilium.node import holding
from consilium.node.peer_messages import BatchRequest, Kind
from tests.unit.node.harness import Harness, HostedNode, until
from tests.unit.node.hosting import running, scripted


def requests(node: HostedNode) -> list[tuple[bytes, list[bytes]]]:
    return [
        (entry[1], codec.decode(entry[3], BatchRequest, 1 << 16).digests)
        for entry in node.log
        if entry[0] == "send" and entry[2] == Kind.BATCH_REQUEST
    ]


async def test_missing_batches_are_asked_of_one_peer_after_the_other(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "BATCH_RETRY_S", 0.01)
    first, second, third = (four.keys[index].public for index in (1, 2, 3))
    batches = [four.batch([four.transaction(four.wallets[0])], author=1) for _ in range(3)]
    block = four.decide(four.executor().context, batches).block
    node, machine = scripted(four, Started=[HoldBatches(block, (third, b"gone" * 8))])
    node.outlet.peers = frozenset([first, second, third])
    node.mempool.add_batch(batches[1], 1)
    missing = [batches[0].digest, batches[2].digest]
    async with running(node):
        await until(lambda: len(requests(node)) >= 4)
        others = sorted([first, second])
        assert requests(node)[:4] == [(peer, missing) for peer in (third, *others, third)]
        for batch in batches:
            node.mempool.add_batch(batch, 1)
            node.driver.batch_arrived()
        await until(lambda: machine.of(BatchesHeld))
        asked = len(requests(node))
        await asyncio.sleep(0.05)
        assert len(requests(node)) == asked
    assert machine.of(BatchesHeld) == [BatchesHeld(block.hash)]


async def test_an_arriving_batch_asks_nobody_again(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty-four batches must not cost sixty-four requests for what is still on its way."""
    monkeypatch.setattr(holding, "BATCH_RETRY_S", 1_000.0)
    batches = [four.batch([four.transaction(four.wallets[0])], author=1) for _ in range(20)]
    block = four.decide(four.executor().context, batches).block
    node, machine = scripted(four, Started=[HoldBatches(block, (four.keys[1].public,))])
    async with running(node):
        await until(lambda: requests(node))
        for batch in batches:
            node.mempool.add_batch(batch, 1)
            node.driver.batch_arrived()
        await until(lambda: machine.of(BatchesHeld))
    assert len(requests(node)) == 1


async def test_a_proposal_beyond_the_limits_of_a_block_is_given_up_at_once(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consilium.node.decided.BLOCK_TRANSACTIONS_MAX", 2)
    batches = [four.batch([four.transaction(four.wallets[0])] * 1, author=1) for _ in range(5)]
    block = four.decide(four.executor().context, batches).block
    node, machine = scripted(four, Started=[HoldBatches(block, (four.keys[1].public,))])
    async with running(node):
        await until(lambda: requests(node))
        for batch in batches[:3]:
            assert node.mempool.is_wanted(batch.digest)
            node.mempool.add_batch(batch, 1)
            node.driver.batch_arrived()
        assert not any(node.mempool.is_wanted(batch.digest) for batch in batches[3:])
        for batch in batches[3:]:
            node.mempool.add_batch(batch, 1)
            node.driver.batch_arrived()
        await asyncio.sleep(0.02)
    assert machine.of(BatchesHeld) == []


async def test_a_proposal_that_weighs_too_much_is_given_up_at_once(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [four.batch([four.transaction(four.wallets[0])], author=1) for _ in range(3)]
    block = four.decide(four.executor().context, batches).block
    node, machine = scripted(four, Started=[HoldBatches(block, (four.keys[1].public,))])
    monkeypatch.setattr("consilium.node.decided.BLOCK_WEIGHT_MAX", 2 * node.mempool.weight(batches[0]))
    async with running(node):
        await until(lambda: requests(node))
        for batch in batches:
            assert node.mempool.is_wanted(batches[2].digest)
            node.mempool.add_batch(batch, 1)
            node.driver.batch_arrived()
        await asyncio.sleep(0.02)
    assert machine.of(BatchesHeld) == []


async def test_a_later_proposal_takes_the_place_of_an_earlier_one(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "BATCH_RETRY_S", 0.01)
    context = four.executor().context
    one, two = (four.batch([four.transaction(four.wallets[0])], author=1) for _ in range(2))
    early, late = four.decide(context, [one]).block, four.decide(context, [two]).block
    peer = four.keys[1].public
    node, machine = scripted(four, Started=[HoldBatches(early, (peer,)), HoldBatches(late, (peer,))])
    async with running(node):
        await until(lambda: len(requests(node)) >= 4)
        assert [digests for _, digests in requests(node)][1:4] == [[two.digest]] * 3
        node.mempool.add_batch(one, 1)
        node.driver.batch_arrived()
        node.mempool.add_batch(two, 1)
        node.driver.batch_arrived()
        await until(lambda: machine.of(BatchesHeld))
        await asyncio.sleep(0.01)
    assert machine.of(BatchesHeld) == [BatchesHeld(late.hash)]
