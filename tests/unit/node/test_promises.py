"""What was promised comes back as it was, with the batches of its proposals, or the node does not start."""

from __future__ import annotations

import msgspec
import pytest

from consilium.consensus.messages import PreparedCertificate, prepare_digest
from consilium.consensus.promise import (
    Promise,
    no_promise,
    promise_commit,
    promise_prepare,
    promise_view_change,
)
from consilium.ledger import codec
from consilium.ledger.batch import VerifiedBatch
from consilium.ledger.block import Block, Seal
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.node import promises
from consilium.node.promises import PromiseKeeper, promise_owner, recall
from consilium.storage.promise import MemoryPromises
from tests.unit.node.harness import Harness


def proposal(four: Harness, *sizes: int) -> tuple[Block, dict[bytes, VerifiedBatch]]:
    batches = [four.batch([four.transaction(four.wallets[0]) for _ in range(size)]) for size in sizes]
    block = four.decide(four.executor().context, batches).block
    return block, {batch.digest: batch for batch in batches}


def prepared(four: Harness, block: Block, view: int) -> PreparedCertificate:
    digest = prepare_digest(four.chain_id, block.height, view, block.hash)
    seals = [Seal(index, four.keys[index].sign(digest)) for index in range(four.validators.quorum)]
    return PreparedCertificate(view, block.hash, seals)


def kept_and_recalled(four: Harness, promise: Promise, held: dict[bytes, VerifiedBatch]) -> None:
    store = MemoryPromises()
    PromiseKeeper(store).keep(promise, held.get)
    again, batches = recall(store, four.chain_id)
    assert again == promise
    named = [digest for block in promise.proposals for digest in block.batches]
    assert [batch.digest for batch in batches] == list(dict.fromkeys(named))
    assert all(batch.raw == held[batch.digest].raw for batch in batches)


def test_nothing_promised_is_nothing_recalled(four: Harness) -> None:
    assert recall(MemoryPromises(), four.chain_id) == (None, [])


def test_what_is_kept_comes_back(four: Harness) -> None:
    block, held = proposal(four, 2, 1)
    promise = promise_prepare(no_promise(1), 0, block)
    kept_and_recalled(four, promise, held)
    promise = promise_commit(promise, prepared(four, block, 0))
    kept_and_recalled(four, promise, held)
    promise = promise_view_change(promise, 1)
    kept_and_recalled(four, promise, held)
    other, more = proposal(four, 1)
    kept_and_recalled(four, promise_prepare(promise, 2, other), {**held, **more})


def test_two_proposals_may_share_a_batch(four: Harness) -> None:
    block, held = proposal(four, 1)
    promise = promise_commit(promise_prepare(no_promise(1), 0, block), prepared(four, block, 0))
    promise = promise_view_change(promise, 1)
    context = four.executor().context
    other = four.decide(context, list(held.values()), time_ms=context.parent.time_ms + 7).block
    kept_and_recalled(four, promise_prepare(promise, 2, other), held)


def test_a_proposal_is_written_once_and_goes_with_its_height(four: Harness) -> None:
    block, held = proposal(four, 1)
    store = MemoryPromises()
    keeper = PromiseKeeper(store)
    promise = promise_prepare(no_promise(1), 0, block)
    keeper.keep(promise, held.get)
    # Its batches are not asked for again.
    keeper.keep(promise_commit(promise, prepared(four, block, 0)), lambda _: None)
    assert list(store.kept) == [block.hash]
    keeper.keep(no_promise(2), lambda _: None)
    assert store.kept == {}


def test_a_proposal_without_its_batches_is_never_promised(four: Harness) -> None:
    block, held = proposal(four, 1, 1)
    store = MemoryPromises()
    held.pop(block.batches[1])
    with pytest.raises(InvariantBroken):
        PromiseKeeper(store).keep(promise_prepare(no_promise(1), 0, block), held.get)
    assert store.votes is None


@pytest.mark.parametrize("harm", ["votes", "proposal", "fewer", "others", "forged", "name"])
def test_what_is_not_what_was_kept_refuses_the_start(four: Harness, harm: str) -> None:
    block, held = proposal(four, 1, 1)
    store = MemoryPromises()
    PromiseKeeper(store).keep(promise_prepare(no_promise(1), 0, block), held.get)
    name, raw = next(iter(store.kept.items()))
    kept = codec.decode(raw, promises._KeptProposal, 1 << 20)
    forged = bytes([kept.batches[0][-1] ^ 1])
    match harm:
        case "votes":
            store.votes = b"\x90"
        case "proposal":
            store.kept[name] = raw[:-1]
        case "fewer":
            store.kept[name] = codec.encode(msgspec.structs.replace(kept, batches=kept.batches[:1]))
        case "others":
            store.kept[name] = codec.encode(msgspec.structs.replace(kept, batches=kept.batches[::-1]))
        case "forged":
            broken = [kept.batches[0][:-1] + forged, kept.batches[1]]
            store.kept[name] = codec.encode(msgspec.structs.replace(kept, batches=broken))
        case "name":
            store.kept = {b"\x01" * 32: raw}
    with pytest.raises(Refused) as refused:
        recall(store, four.chain_id)
    assert refused.value.code == "promise.corrupt"


def test_an_owner_is_one_validator_on_one_network(four: Harness) -> None:
    owners = {
        promise_owner(chain, key.public) for chain in (four.chain_id, b"\x00" * 32) for key in four.keys[:2]
    }
    assert len(owners) == 4
