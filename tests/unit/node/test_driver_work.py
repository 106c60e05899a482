"""The host loop between two blocks: what was admitted is sealed, again and again, and others are told."""

from __future__ import annotations

from consilium.node.peer_messages import Kind
from tests.unit.node.harness import START_MS, VALID_MS, Harness, until
from tests.unit.node.hosting import running, scripted


async def test_what_comes_after_a_proposal_was_built_is_sealed_too(four: Harness) -> None:
    """Building seals ahead of the delay; the delay must begin anew for whatever comes next."""
    node, _ = scripted(four)
    node.mempool.admit(four.transaction(four.wallets[0]), START_MS)
    async with running(node):
        node.driver.work_arrived()
        node.driver._build(1, 0)
        assert len(node.outlet.sent(Kind.BATCH)) == 1
        later = four.transaction(four.wallets[0], valid_until=START_MS + VALID_MS)
        node.mempool.admit(later, START_MS)
        node.driver.work_arrived()
        await until(lambda: len(node.outlet.sent(Kind.BATCH)) == 2)
