"""Who may connect follows from the configuration and the ledger: candidates may, whom a decision retired may not."""

from __future__ import annotations

from consilium.client.rpc_values import Hex32
from consilium.contracts import ballot
from consilium.contracts.ballot import AddValidator, Propose, RemoveValidator
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey
from consilium.ledger.transaction import Operation
from consilium.node.config_sections import Peer
from consilium.node.executor import Executor
from consilium.node.membership import may_change_members, members
from consilium.p2p.mesh import Address
from tests.unit.node.harness import Harness, some

CANDIDATE = SigningKey(some("candidate", 32))
SEED = SigningKey(some("a configured seed", 32))


def peer(key: bytes, port: int = 7) -> Peer:
    return Peer(key=Hex32(key), address=f"127.0.0.1:{port}", name="peer")


def propose(label: str, change: ballot.Change) -> Operation:
    return operation("governance.propose", Propose(some(label), change))


def decide(harness: Harness, executor: Executor, label: str, change: ballot.Change) -> None:
    """Institution 0 proposes, and as many more as are needed approve."""
    first, *rest = harness.wallets
    leaf = harness.act(executor, first, propose(label, change), certify=False)
    vote = operation("governance.vote", ballot.Vote(some(label), True))
    while codec.decode(leaf.results[0], ballot.VoteCounted, 256).outcome == "open":
        leaf = harness.act(executor, rest.pop(0), vote, certify=False)


def test_validators_and_configured_peers() -> None:
    harness = Harness(4)
    executor = harness.executor()
    configured = [peer(harness.keys[1].public, 11), peer(SEED.public, 12)]
    found = members(executor, configured)
    assert set(found) == {*harness.validators.keys, SEED.public}
    assert found[harness.keys[1].public] == Address("127.0.0.1", 11)
    assert found[harness.keys[2].public] is None


def test_a_candidate_may_connect_until_it_lapses() -> None:
    harness = Harness(1)
    executor = harness.executor()
    change = AddValidator(CANDIDATE.public, harness.wallets[0].identity)
    decide(harness, executor, "p", change)
    assert CANDIDATE.public in members(executor, [])
    late = executor.store.tip.time_ms + ballot.CANDIDATE_LIFETIME_MS
    harness.commit(executor, time_ms=late)
    assert CANDIDATE.public not in members(executor, [])


def test_who_is_removed_stays_until_the_set_takes_effect() -> None:
    harness = Harness(4)
    executor = harness.executor()
    gone = harness.keys[2].public
    configured = [peer(key.public) for key in harness.keys]
    decide(harness, executor, "p", RemoveValidator(gone))
    decided = executor.store.tip.height
    # It votes on at the next height, whose set was named before.
    assert gone in executor.context.validators
    assert gone in members(executor, configured)
    done = harness.commit(executor)
    assert may_change_members(done)
    assert executor.context.height == decided + 2
    assert gone not in executor.context.validators
    assert gone not in members(executor, configured)
    assert set(members(executor, configured)) == {*harness.validators.keys} - {gone}


def test_ordinary_blocks_change_nobody() -> None:
    harness = Harness(1)
    executor = harness.executor()
    assert not may_change_members(harness.commit(executor))
    change = AddValidator(CANDIDATE.public, harness.wallets[0].identity)
    transaction = harness.transaction(harness.wallets[0], propose("p", change))
    assert may_change_members(harness.commit(executor, [harness.batch([transaction])]))
