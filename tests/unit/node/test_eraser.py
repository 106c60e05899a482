"""What the ledger erased is destroyed, stays away whoever brings it, and is attested to once it has left the disk."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from consilium.client.envelope import envelope_digest
from consilium.contracts import forgetting, records
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import Operation
from consilium.node import curator
from consilium.node import eraser as erasing
from consilium.node.curator import CLOCKS_APART_MS_MAX
from consilium.node.eraser import recall_erasures
from consilium.node.guarding import Guard, GuardedShares, GuardedVault
from consilium.storage.anchors import AnchoredInState
from consilium.storage.kv import MemoryKV
from consilium.storage.scrubbing import unscrubbed
from tests.unit.node.test_curator import COMPARTMENT, KEYS, NOW_MS, PATIENT, Chain, Node, rounds, sealed

ERASURE = b"e" * 16


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def nodes(chain: Chain) -> list[Node]:
    net: dict[bytes, Node] = {}
    return [Node(net, place, chain) for place in range(4)]


class FakeClerk:
    """Says what it is told to the chain, or refuses."""

    def __init__(self, chain: Chain, institution: bytes, code: str = "ok") -> None:
        self.said: list[Operation] = []
        self.code = code
        self._chain, self._institution = chain, institution

    async def say(self, operation: Operation) -> str:
        self.said.append(operation)
        if self.code == "ok":
            self._chain.attest(ERASURE, self._institution)
        return self.code


def of_record(number: int, envelope: bytes) -> forgetting.Erased:
    identifier = number.to_bytes(16, "big")
    return forgetting.Erased(ERASURE, PATIENT, [identifier], [envelope_digest(envelope)], None, None)


def of_compartment(epoch: int = 0) -> forgetting.Erased:
    return forgetting.Erased(ERASURE, PATIENT, None, [], COMPARTMENT, epoch)


def of_patient() -> forgetting.Erased:
    return forgetting.Erased(ERASURE, PATIENT, None, [], None, None)


def guarded(node: Node, chain: Chain) -> GuardedVault:
    return GuardedVault(node.vault, Guard(node.index, lambda: chain.state, lambda: node.curator.current))


def code_of(vault: GuardedVault, digest: bytes) -> str:
    with pytest.raises(Refused) as refused:
        vault.get(digest)
    return refused.value.code


async def test_an_erased_record_goes_and_no_other(chain: Chain, nodes: list[Node]) -> None:
    custodian, author = nodes[:2]
    for number in (1, 2):
        author.put(sealed(number))
        chain.anchor(number, sealed(number))
    await rounds(author, custodian)
    chain.erase(of_record(1, sealed(1)))
    await rounds(author, custodian)
    for node in (author, custodian):
        assert not node.vault.has(envelope_digest(sealed(1)))
        assert node.vault.erased(envelope_digest(sealed(1)))
        assert node.vault.get(envelope_digest(sealed(2))) == sealed(2)
        assert code_of(guarded(node, chain), envelope_digest(sealed(1))) == "vault.deleted"


@pytest.mark.parametrize("told", [of_compartment(), of_patient()])
async def test_a_compartment_or_patient_goes_with_the_shares(
    chain: Chain, nodes: list[Node], told: forgetting.Erased
) -> None:
    custodian, author = nodes[:2]
    for number in (1, 2):
        author.put(sealed(number))
        chain.anchor(number, sealed(number))
    await rounds(author, custodian)
    custodian.shares.put_share(COMPARTMENT, 0, b"parcel")
    custodian.shares.put_share(b"another" + bytes(9), 0, b"parcel")
    forgotten: list[tuple[bytes, int]] = []
    custodian.eraser.forget_share = lambda compartment, epoch: forgotten.append((compartment, epoch))
    chain.erase(told)
    await rounds(author, custodian)
    assert author.vault.totals().envelopes == custodian.vault.totals().envelopes == 0
    assert custodian.shares.share(COMPARTMENT, 0) is None
    assert custodian.shares.share_count() == 1
    assert forgotten == [(COMPARTMENT, 0)]


async def test_a_store_of_shares_from_before_is_swept(chain: Chain, nodes: list[Node]) -> None:
    custodian = nodes[0]
    chain.anchor(1, sealed(1))
    chain.erase(of_compartment())
    await rounds(custodian)
    custodian.shares.put_share(COMPARTMENT, 0, b"parcel")  # as an operator put the old folder back
    custodian.shares.put_share(b"unknown" + bytes(9), 0, b"parcel")
    custodian.eraser.settle()
    assert list(custodian.shares.kept()) == [(b"unknown" + bytes(9), 0)]


async def test_nobody_brings_it_back(chain: Chain, nodes: list[Node]) -> None:
    """Not an upload, a share delivered again, a peer that still has it, or a vault from before."""
    custodian, author = nodes[:2]
    digest = author.put(sealed(1))
    chain.anchor(1, sealed(1))
    await rounds(author)
    chain.erase(of_compartment())
    await rounds(custodian)  # the author has not followed yet, and still has it
    assert author.vault.has(digest)
    assert custodian.asked == 0
    vault = guarded(custodian, chain)
    for bring in (
        lambda: vault.put_many([(digest, sealed(1))]),
        lambda: vault.receive(digest),
        lambda: custodian.vault.put_many([(digest, sealed(1))]),
    ):
        with pytest.raises(Refused) as refused:
            bring()
        assert refused.value.code == "vault.deleted"
    guard = Guard(custodian.index, lambda: chain.state, lambda: True)
    shares = GuardedShares(custodian.shares, guard)
    for use in (lambda: shares.put_share(COMPARTMENT, 0, b"parcel"), lambda: shares.share(COMPARTMENT, 0)):
        with pytest.raises(Refused) as refused:
            use()
        assert refused.value.code == "erasure.erased"
    # The author's own guard refuses it though the bytes are there.
    assert code_of(guarded(author, chain), digest) == "vault.deleted"
    await rounds(author)
    assert not author.vault.has(digest)


async def test_a_vault_from_before_gives_nothing_until_its_node_is_current(
    chain: Chain, nodes: list[Node]
) -> None:
    net: dict[bytes, Node] = {}
    author = nodes[1]
    digest = author.put(sealed(1))
    chain.anchor(1, sealed(1))
    await rounds(author)
    assert guarded(author, chain).get(digest) == sealed(1)
    restored = Node(net, 1, chain)
    restored.store, restored.vault = author.store, author.vault
    restored.index = author.index
    for key in KEYS:
        restored.curator.heard(key, 5)  # the others are further
    await rounds(restored)
    assert not restored.curator.current
    guard = Guard(author.index, lambda: chain.state, lambda: restored.curator.current)
    vault = GuardedVault(author.vault, guard)
    assert code_of(vault, digest) == "vault.behind"
    with pytest.raises(Refused):
        vault.read(digest)
    with pytest.raises(Refused):
        vault.piece(digest, 0)
    with pytest.raises(Refused):
        GuardedShares(author.shares, guard).share(COMPARTMENT, 0)
    assert vault.has(digest)
    for key in KEYS:
        restored.curator.heard(key, 1)
    await rounds(restored)
    assert restored.curator.current
    assert vault.get(digest) == sealed(1)


async def test_what_a_quorum_says_counts_and_a_liar_alone_does_not(chain: Chain, nodes: list[Node]) -> None:
    author = nodes[1]
    author.put(sealed(1))
    chain.anchor(1, sealed(1))
    author.curator.heard(KEYS[0], 10**9)
    author.curator.heard(b"n" * 32, 10**9)
    await rounds(author)
    assert author.curator.current
    lonely = Node({}, 1, chain)
    lonely.curator._tips.clear()
    lonely.curator.heard(KEYS[0], 1)
    await rounds(lonely)
    assert not lonely.curator.current


async def test_a_chain_that_grows_all_the_time_keeps_nobody_from_being_current(chain: Chain) -> None:
    """The others are a block ahead whenever they are asked; what they had when this node began is enough."""
    busy = Node({}, 1, chain)
    chain.anchor(1, sealed(1))
    for key in KEYS:
        busy.curator.heard(key, chain.tip.height + 1)
    await rounds(busy)
    assert not busy.curator.current
    chain.anchor(2, sealed(2))
    for key in KEYS:
        busy.curator.heard(key, chain.tip.height + 1)
    await rounds(busy)
    assert busy.curator.current


async def test_a_node_that_starts_is_current_as_soon_as_it_hears_how_far_the_others_are(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curator, "PAUSE_S", 3_600.0)
    starting = Node({}, 1, chain)
    starting.curator._tips.clear()
    chain.anchor(1, sealed(1))
    running = asyncio.create_task(starting.curator.run())
    try:
        await asyncio.sleep(0.05)
        assert not starting.curator.current
        for key in KEYS:
            starting.curator.heard(key, chain.tip.height)
        async with asyncio.timeout(10):
            while not starting.curator.current:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_an_observer_among_observers_is_current_with_a_block_made_since(
    chain: Chain, nodes: list[Node]
) -> None:
    alone = Node({}, 1, chain)
    alone.curator._tips.clear()
    chain.time_ms = NOW_MS + CLOCKS_APART_MS_MAX
    await rounds(alone)
    assert not alone.curator.current
    chain.time_ms += 1
    await rounds(alone)
    assert alone.curator.current


async def test_it_is_attested_once_the_bytes_have_left_the_disk(
    chain: Chain, nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    author, stranger = nodes[1], nodes[2]
    author.put(sealed(1))
    chain.anchor(1, sealed(1))
    chain.erase(of_record(1, sealed(1)))
    await rounds(author, stranger)
    assert (author.owed.some(), stranger.owed.some()) == ([ERASURE], [])
    assert (author.eraser.unattested, stranger.eraser.unattested) == (1, 0)
    clerk = FakeClerk(chain, author.curator._institution or b"")
    parts: Any = SimpleNamespace(clerk=clerk)
    with monkeypatch.context() as patched:
        patched.setattr(MemoryKV, "purge", lambda self, prefixes: False)  # somebody reads
        await author.eraser.round(parts.clerk)
    assert clerk.said == []
    cleared: list[bool] = []
    author.eraser.clear_beside = lambda: cleared.append(True)
    await author.eraser.round(parts.clerk)
    assert [one.name for one in clerk.said] == ["erasure.attest"]
    assert cleared == [True]
    assert author.owed.some() == []
    assert author.eraser.unattested == 0
    await author.eraser.round(parts.clerk)
    assert len(clerk.said) == 1


async def test_a_refusal_is_tried_again_and_what_stands_is_struck(chain: Chain, nodes: list[Node]) -> None:
    author = nodes[1]
    author.put(sealed(1))
    chain.anchor(1, sealed(1))
    chain.erase(of_record(1, sealed(1)))
    await rounds(author)
    clerk = FakeClerk(chain, author.curator._institution or b"", "rpc.timeout")
    parts: Any = SimpleNamespace(clerk=clerk)
    await author.eraser.round(parts.clerk)
    assert author.owed.some() == [ERASURE]
    chain.attest(ERASURE, author.curator._institution or b"")  # it was decided after all
    await author.eraser.round(parts.clerk)
    assert (len(clerk.said), author.owed.some()) == (1, [])
    await author.eraser.round(None)


async def test_applying_twice_is_harmless_and_a_crash_forgets_nothing(
    chain: Chain, nodes: list[Node]
) -> None:
    author = nodes[1]
    author.put(sealed(1))
    chain.anchor(1, sealed(1))
    chain.erase(of_record(1, sealed(1)))
    await rounds(author)
    author.eraser.apply(of_record(1, sealed(1)))
    assert author.vault.totals().envelopes == 0
    assert author.owed.some() == [ERASURE]
    again = type(author.owed)(author.store.crash())
    assert again.some() == [ERASURE]


async def test_a_chain_that_began_with_a_snapshot_recalls_from_its_state(
    chain: Chain, nodes: list[Node]
) -> None:
    author = nodes[1]
    digests = [author.put(sealed(number)) for number in (1, 2, 3)]
    for number in (1, 2, 3):
        chain.anchor(number, sealed(number))
    await rounds(author)
    chain.erase(of_record(1, sealed(1)))
    events, chain._events = chain._events, []
    chain.base = len(events)
    recall_erasures(chain, author.eraser)  # type: ignore[arg-type]
    assert [author.vault.has(digest) for digest in digests] == [False, True, True]
    assert author.owed.some() == [ERASURE]
    # What is erased later covers what was anchored before the snapshot.
    for number in (2, 3):
        record = records.RECORDS.get(chain.state, number.to_bytes(16, "big"))
        assert record is not None
        author.index.follow_state(
            [AnchoredInState(record.envelope, number.to_bytes(16, "big"), COMPARTMENT, 5)]
        )
    chain.erase(of_patient())
    author.eraser.apply(of_patient())
    assert author.vault.totals().envelopes == 0


async def test_the_sweep_finds_what_no_event_told(chain: Chain, nodes: list[Node]) -> None:
    author = nodes[1]
    digest = author.put(sealed(1))
    chain.anchor(1, sealed(1))
    await rounds(author)
    chain.erase(of_record(1, sealed(1)))
    chain._events.pop()
    await rounds(author)
    assert not author.vault.has(digest)
    assert author.vault.erased(digest)


async def test_only_what_was_erased_is_scrubbed_at_once(chain: Chain, nodes: list[Node]) -> None:
    """What was collected or replaced leaves the disk by and by: a busy vault is not written anew all the time."""
    author = nodes[1]
    author.put(sealed(1))
    author.put(sealed(2))
    chain.anchor(1, sealed(1))
    await rounds(author)
    author.eraser.settle()  # at the start, for what a crash may have left
    author.vault.forget([envelope_digest(sealed(2))])
    for _ in range(2, erasing.IDLE_ROUNDS):
        author.eraser.settle()
    assert unscrubbed(author.store)
    author.eraser.settle()
    assert not unscrubbed(author.store)
    author.put(sealed(2))
    author.vault.forget([envelope_digest(sealed(2))])
    chain.erase(of_record(1, sealed(1)))
    await rounds(author)
    assert unscrubbed(author.store)
    author.eraser.settle()
    assert not unscrubbed(author.store)


async def test_a_store_that_is_away_is_asked_again(
    chain: Chain, nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    author = nodes[1]
    author.put(sealed(1))
    chain.anchor(1, sealed(1))
    chain.erase(of_record(1, sealed(1)))
    await rounds(author)

    def away() -> bool:
        raise Refused("vault.unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(author.vault, "scrub", away)
        await author.eraser.round(None)
    assert unscrubbed(author.store)
    await author.eraser.round(None)
    assert not unscrubbed(author.store)


async def test_what_nobody_had_leaves_nothing_to_scrub(chain: Chain, nodes: list[Node]) -> None:
    custodian, author = nodes[:2]
    chain.anchor(1, sealed(1))
    await rounds(author, custodian, custodian)
    assert custodian.asked > 0
    assert not unscrubbed(custodian.store)
