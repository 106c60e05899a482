"""Receipts and pruning: what was issued verifies and can be extended; what cannot be issued any more says why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consilium.ledger.errors import Refused
from consilium.ledger.receipt import verify_receipt
from consilium.storage import chain as chains
from tests.unit.ledger.receipts_world import KEY, builder, header_hash, restless

KEPT = 3


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        act()
    return refused.value.code


def test_receipts_outlive_the_blocks_they_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "VALIDITY_MAX_MS", 0)
    world = restless.__wrapped__()
    build, store = builder(world), world.store
    tip = store.tip.height
    old, young = store.transactions(1).ids[0], store.transactions(tip - 1).ids
    issued = [build.transaction(old), build.verdict(old), build.state(KEY, 1)]
    before = [verify_receipt(raw, world.genesis) for raw in issued]
    assert store.prune(KEPT) == tip - KEPT

    assert [verify_receipt(raw, world.genesis) for raw in issued] == before
    for raw, proved in zip(issued, before, strict=True):
        extended = build.extend(raw)  # across every change of the validator set, whose certificates stayed
        found = verify_receipt(extended, world.genesis)
        assert (found.height, found.top_height, found.set_changes > 0) == (proved.height, tip, True)
        trusted = build.extend(raw, since=tip)
        assert verify_receipt(trusted, world.genesis, header_hash(world, tip)).height == proved.height

    assert refusal(lambda: build.transaction(old)) == "chain.height_pruned"
    assert refusal(lambda: build.verdict(old)) == "chain.height_pruned"
    assert refusal(lambda: build.extend(issued[2], store.header(2).height)) == "chain.height_pruned"
    assert refusal(lambda: build.verdict(bytes(32))) == "transaction.unknown"
    for transaction in young:
        assert verify_receipt(build.verdict(transaction), world.genesis).height == tip - 1
