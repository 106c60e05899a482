"""A custodian without a node obeys what receipts prove, as a custodian with one obeys its chain, and nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from consilium.client import consenting, erasing, reading
from consilium.client.reading import Asked, release_digest
from consilium.client.rpc_answers import Released
from consilium.client.session import Session
from consilium.contracts import access, consent, disclosures
from consilium.contracts.registry import operation
from consilium.ledger.errors import Refused
from consilium.ledger.receipt_format import decode_receipt, encode_receipt
from consilium.node import receipt_custodian
from consilium.node.attesting import Attesting
from consilium.node.custodian import Custodian
from consilium.node.receipt_custodian import TIPS_MIN, ReceiptCustodian, SessionSpeaker, Trusted
from consilium.node.receipts import ReceiptBuilder
from tests.unit.client.acting import network
from tests.unit.node.care import STALENESS_MS, Ward

KEPT_BY = 0
"""The institution that keeps petra's records, and has no node here."""


class Node:
    """A node that is asked for receipts: honest, or bent as a test wants."""

    def __init__(self, care: Ward) -> None:
        self.care = care
        self.frozen_at: int | None = None
        """Shows nothing above this height, as a node that fell behind, or withholds."""
        self.silent = False
        self.hangs_on_values = False
        """Shows its newest header, and answers nothing else."""
        self.spoils = False
        self.instead: bytes | None = None
        """Proves another key than it is asked for."""
        self.asked: list[bytes] = []

    async def state_receipt(self, key: bytes, height: int | None = None, since: int | None = None) -> bytes:
        self.asked.append(key)
        if self.silent:
            raise Refused("rpc.unreachable", "it is down")
        if self.hangs_on_values and height is not None:
            await asyncio.Event().wait()
        store = self.care.node.executor.store
        newest = store.tip.height - 1 if self.frozen_at is None else self.frozen_at
        if height is not None and height > newest:
            raise Refused("receipt.not_certified", str(height))
        builder = ReceiptBuilder(store, self.care.harness.genesis)
        raw = builder.state(self.instead or key, newest if height is None else height, since)
        if self.spoils:
            receipt = decode_receipt(raw)
            header = msgspec.structs.replace(receipt.header, time_ms=receipt.header.time_ms + 1)
            return encode_receipt(msgspec.structs.replace(receipt, header=header))
        return raw


class Remote:
    """The institution's own service, which its custodian answers by: what a reader asks."""

    def __init__(self, care: Ward, nodes: Sequence[Any], trusted: Trusted | None = None) -> None:
        self.care = care
        who = care.harness.wallets[KEPT_BY].identity
        self.custodian = ReceiptCustodian(care.harness.genesis, nodes, who, self._build, trusted)

    def _build(self, ledger: Any) -> Custodian:
        return Custodian(
            wallet=self.care.harness.wallets[KEPT_BY],
            chain_id=self.care.harness.chain_id,
            ledger=ledger,
            shares=self.care.custodian._shares,
            envelopes=self.care.custodian._envelopes,
            journal=self.care.journal,
            staleness_max_ms=STALENESS_MS,
            clock_ms=self.care.node.clock.now_ms,
        )

    async def release(self, transaction: bytes, operation: int, signature: bytes, start: int = 0) -> Released:
        return await self.custodian.release(transaction, operation, signature, start)


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with network() as made:
        yield made


@pytest.fixture
def nodes(care: Ward) -> list[Node]:
    return [Node(care), Node(care)]


@pytest.fixture
def remote(care: Ward, nodes: list[Node]) -> Remote:
    return Remote(care, nodes)


async def permitted(care: Ward, count: int = 2) -> tuple[Asked, bytes]:
    """South may read, and has asked; with the consent."""
    imported = await care.import_notes(count)
    now_ms = care.node.clock.wall_ms
    found, _ = await consenting.grant(
        care.patient,
        care.south.identity,
        ["TREAT"],
        not_before_ms=now_ms - 1,
        not_after_ms=now_ms + 86_400_000,
    )
    asked = await reading.request(care.south, "TREAT", record_ids=imported.records)
    await care.tick()
    return asked, found


async def code_of(remote: Remote, asked: Asked, who: Session | None = None, operation: int = 0) -> str:
    session = who or remote.care.south
    signature = session.wallet.signing.sign(release_digest(session.chain_id, asked.transaction, operation))
    try:
        await remote.release(asked.transaction, operation, signature)
    except Refused as refusal:
        return refusal.code
    return "ok"


async def test_a_reader_gets_what_the_decision_names(care: Ward, remote: Remote) -> None:
    asked, _ = await permitted(care)
    found = await reading.fetch(care.south, asked, remote)  # type: ignore[arg-type]
    by_node = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert sorted(one.payload for one in found) == sorted(one.payload for one in by_node)
    assert len(list(found)) == 2
    assert care.journal.waiting == 1, "it is attested like any release"


async def test_what_was_revoked_in_an_earlier_block_is_not_released(care: Ward, remote: Remote) -> None:
    asked, found = await permitted(care)
    assert await code_of(remote, asked) == "ok"
    await consenting.revoke(care.patient, found)
    await care.tick()
    assert await code_of(remote, asked) == "access.consent_ended"


async def test_a_node_that_withholds_the_revocation_is_outdone_by_another(
    care: Ward, nodes: list[Node], remote: Remote
) -> None:
    asked, found = await permitted(care)
    frozen = care.node.executor.store.tip.height - 1
    nodes[0].frozen_at = frozen
    assert await code_of(remote, asked) == "ok"
    await consenting.revoke(care.patient, found)
    await care.tick()
    assert await code_of(remote, asked) == "access.consent_ended"
    # Once seen, it is not unseen: not even by both.
    nodes[1].frozen_at = frozen
    assert await code_of(remote, asked) != "ok"


async def test_both_together_can_withhold_it_for_as_long_as_a_tip_is_fresh(
    care: Ward, nodes: list[Node], remote: Remote
) -> None:
    """The bound, which is that of a node that is cut off from all honest peers."""
    asked, found = await permitted(care)
    for node in nodes:
        node.frozen_at = care.node.executor.store.tip.height - 1
    await consenting.revoke(care.patient, found)
    await care.tick()
    assert await code_of(remote, asked) == "ok"
    care.node.clock.wall_ms += STALENESS_MS + 1_000
    assert await code_of(remote, asked) == "custodian.stale"


async def test_one_node_alone_is_not_enough(care: Ward, nodes: list[Node], remote: Remote) -> None:
    asked, _ = await permitted(care)
    nodes[1].silent = True
    assert await code_of(remote, asked) == "custodian.too_few_nodes"
    with pytest.raises(ValueError, match=str(TIPS_MIN)):
        Remote(care, nodes[:1])


async def test_a_node_that_hangs_is_passed_over_once(
    care: Ward, nodes: list[Node], remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, _ = await permitted(care)
    monkeypatch.setattr(receipt_custodian, "NODE_TIMEOUT_S", 0.5)
    nodes[0].hangs_on_values = True
    assert await code_of(remote, asked) == "ok"
    assert len(nodes[0].asked) == 2, "its tip, and one value: the others are asked of who answers"


async def test_a_release_ends_however_slow_the_nodes_are(
    care: Ward, nodes: list[Node], remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, _ = await permitted(care)
    monkeypatch.setattr(receipt_custodian, "RELEASE_TIMEOUT_S", 0.1)
    for node in nodes:
        node.hangs_on_values = True
    assert await code_of(remote, asked) == "rpc.timeout"
    for node in nodes:
        node.hangs_on_values = False
    monkeypatch.setattr(receipt_custodian, "RELEASE_TIMEOUT_S", 60.0)
    assert await code_of(remote, asked) == "ok"


async def test_what_is_not_sealed_or_of_another_key_proves_nothing(
    care: Ward, nodes: list[Node], remote: Remote
) -> None:
    asked, _ = await permitted(care)
    nodes[1].spoils = True
    assert await code_of(remote, asked) == "custodian.too_few_nodes"
    nodes[1].spoils = False
    nodes[1].instead = consent.CONSENTS.key(bytes(16))
    assert await code_of(remote, asked) == "custodian.too_few_nodes"


async def test_a_header_that_it_trusts_is_what_all_must_rest_on(care: Ward, nodes: list[Node]) -> None:
    asked, _ = await permitted(care)
    header = care.node.executor.store.header(care.node.executor.store.tip.height - 2)
    assert await code_of(Remote(care, nodes, Trusted(header.height, header.hash)), asked) == "ok"
    other = Trusted(header.height, bytes(32))
    assert await code_of(Remote(care, nodes, other), asked) == "custodian.too_few_nodes"


async def test_what_was_released_is_attested_by_way_of_somebodys_node(care: Ward, remote: Remote) -> None:
    asked, _ = await permitted(care)
    assert await code_of(remote, asked) == "ok"
    assert care.journal.waiting == 1
    assert await Attesting(care.journal, SessionSpeaker(care.north), care.node.clock.now_ms).tell()
    assert care.journal.waiting == 0
    place = disclosures.release_place(asked.transaction, 0, 0, care.north.identity)
    entry = disclosures.RELEASES.get(care.node.executor.store.state, *place)
    assert entry is not None
    assert (
        await SessionSpeaker(care.north).say(operation("consent.revoke", consent.RevokeConsent(bytes(16))))
        == "consent.unknown"
    )


async def test_on_a_fork_nothing_is_released(care: Ward, nodes: list[Node]) -> None:
    """The same validators sealed another history, and a node shows that one."""
    async with network() as other:
        assert other.harness.genesis == care.harness.genesis
        asked, _ = await permitted(care)
        heights = [one.node.executor.store.tip.height for one in (care, other)]
        for _ in range(heights[0] - heights[1]):
            await other.tick()
        elsewhere = Node(other)
        elsewhere.frozen_at = nodes[0].frozen_at = min(
            one.node.executor.store.tip.height - 1 for one in (care, other)
        )
        assert await code_of(Remote(care, [nodes[0], elsewhere]), asked) == "custodian.fork"


async def test_anothers_decision_a_denial_and_none_at_all_release_nothing(care: Ward, remote: Remote) -> None:
    asked, _ = await permitted(care)
    assert await code_of(remote, asked, care.west) == "custodian.bad_signature"
    unknown = dataclasses.replace(asked, transaction=bytes(32))
    assert await code_of(remote, unknown) == "custodian.no_decision"
    assert await code_of(remote, asked, operation=1) == "custodian.no_decision"
    (verdict,) = asked.decision.verdicts
    assert verdict.records is not None
    denied = await reading.request(care.west, "TREAT", record_ids=verdict.records)
    await care.tick()
    assert await code_of(remote, denied, care.west) == "custodian.nothing_allowed"


async def test_an_erasure_and_the_end_of_the_window_end_it(care: Ward, remote: Remote) -> None:
    asked, _ = await permitted(care, 1)
    later, _ = await permitted(care, 1)
    (verdict,) = asked.decision.verdicts
    await erasing.request(care.patient, "objected", record_ids=verdict.records)
    await care.tick()
    assert await code_of(remote, asked) == "erasure.erased"
    assert await code_of(remote, later) == "ok"
    await care.pass_time(access.RELEASE_WINDOW_MS + 60_000)
    assert await code_of(remote, later) == "access.window_closed"


async def test_whole_compartments_take_a_list_that_nothing_proves(care: Ward, remote: Remote) -> None:
    asked, _ = await permitted(care)
    place = asked.decision.verdicts[0].compartment
    assert place is not None
    whole = await reading.request(care.south, "TREAT", compartments=[place])
    await care.tick()
    assert whole.allowed
    assert await code_of(remote, whole) == "custodian.unlisted"
