"""What is told of validators that contradicted themselves: in words, checked again, and with what was done about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from consilium.client import contradictions as told_of
from consilium.client.contradictions import contradictions
from consilium.client.rpc import Cursor
from consilium.client.rpc_answers import EventAt
from consilium.consensus.evidence import Evidence, VoteKind, make_evidence
from consilium.consensus.messages import (
    PreparedAt,
    claim_hash,
    sign_commit,
    sign_prepare,
    view_change_digest,
)
from consilium.contracts import ballot
from consilium.contracts.ballot import (
    AddValidator,
    Change,
    FaultProved,
    Proposal,
    ProvedFault,
    RemoveValidator,
    Retired,
    VoteCounted,
)
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused
from consilium.ledger.execution import Event

CHAIN = bytes([7]) * 32
LIAR, OTHER = SigningKey(bytes([1]) * 32), SigningKey(bytes([2]) * 32)
ANNA, BERT = bytes([1]) * 16, bytes([2]) * 16
A, B = bytes([0xAA]) * 32, bytes([0xBB]) * 32
NOW_MS = 1_000


def sealed_twice(height: int, key: SigningKey = LIAR, chain_id: bytes = CHAIN) -> Evidence:
    return make_evidence(*(sign_commit(key, chain_id, height, 3, content) for content in (B, A)))


class Told:
    """A node's events and state."""

    def __init__(self) -> None:
        self.items: list[EventAt] = []
        self.entries: dict[bytes, bytes] = {}

    def _add(self, kind: str, data: codec.Wire, subjects: Sequence[bytes]) -> None:
        event = Event(kind, list(subjects), bytes(32), 0, 0, codec.encode(data))
        self.items.append(EventAt(Cursor(len(self.items), 0), event))

    def proved(self, evidence: Evidence, certified: bool = True) -> None:
        proved = FaultProved(evidence.validator, evidence.height, evidence.view, evidence.kind)
        self._add(ballot.EVIDENCE.name, proved, [ANNA, BERT])
        place = (evidence.validator, evidence.height.to_bytes(8, "big"), bytes((evidence.kind,)))
        if certified:
            fault = ProvedFault(evidence, BERT, evidence.height + 2)
            self.entries[ballot.PROVED_FAULTS.key(*place)] = codec.encode(fault)

    def proposed(self, number: int, change: Change, outcome: Any, expires_ms: int = NOW_MS + 1) -> None:
        proposal = bytes([number]) * 16
        self._add(ballot.PROPOSED.name, VoteCounted(proposal, 1, 3, "open"), [BERT])
        value = Proposal(change, BERT, expires_ms, [BERT], [], outcome)
        self.entries[ballot.PROPOSALS.key(proposal)] = codec.encode(value)

    async def events(self, after: Cursor, limit: int, kinds: Sequence[str]) -> list[EventAt]:
        return [one for one in self.items if one.cursor > after and one.event.kind in kinds][:limit]

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        return self.entries.get(key), 0

    async def read(self) -> list[told_of.Contradiction]:
        node: Any = self
        return await contradictions(node, CHAIN, NOW_MS)


async def test_who_signed_what_twice_and_where_is_said_in_words() -> None:
    node = Told()
    node.proved(sealed_twice(12))
    node.proved(make_evidence(*(sign_prepare(LIAR, CHAIN, 13, 0, content) for content in (A, B))))
    seal, prepare = await node.read()
    assert seal.kind == "seal"
    who = f"validator {LIAR.public.hex()} of institution {ANNA.hex()}"
    assert seal.words == f"{who} sealed two blocks at height 12, view 3: {'a' * 16}… and {'b' * 16}…"
    assert prepare.kind == "prepare"
    assert prepare.words.startswith(f"{who} prepared two blocks at height 13, view 0")
    assert (seal.fault.reporter, seal.fault.reported_height) == (BERT, 14)


async def test_two_claims_for_one_view_are_told_as_claims() -> None:
    node = Told()
    contents = sorted(claim_hash(one) for one in (None, PreparedAt(1, A)))
    signatures = [LIAR.sign(view_change_digest(CHAIN, 5, 2, content)) for content in contents]
    pairs = zip(contents, signatures, strict=True)
    node.proved(Evidence(VoteKind.VIEW_CHANGE, 5, 2, LIAR.public, *(one for pair in pairs for one in pair)))
    (line,) = await node.read()
    assert line.kind == "view change"
    assert "claimed two things when it went to view 2 at height 5" in line.words


@pytest.mark.parametrize("count", range(5))
async def test_all_pages_are_read(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_of, "EVENTS_PER_CALL", 2)
    node = Told()
    for height in range(count):
        node.proved(sealed_twice(height))
    assert [one.fault.evidence.height for one in await node.read()] == list(range(count))


async def test_what_no_header_has_certified_is_left_out() -> None:
    node = Told()
    node.proved(sealed_twice(1), certified=False)
    assert await node.read() == []


async def test_a_node_that_shows_what_proves_nothing_is_not_believed() -> None:
    node = Told()
    node.proved(sealed_twice(1, chain_id=bytes(32)))
    with pytest.raises(Refused, match=r"evidence\.invalid"):
        await node.read()


async def test_what_was_done_about_it() -> None:
    node = Told()
    node.proved(sealed_twice(1))

    async def standing() -> str:
        return (await node.read())[0].standing

    node.proposed(1, AddValidator(LIAR.public, ANNA), "accepted")
    node.proposed(2, RemoveValidator(OTHER.public), "open")
    assert await standing() == "not acted upon"
    node.proposed(3, RemoveValidator(LIAR.public), "rejected")
    assert await standing() == "removal rejected"
    node.proposed(4, RemoveValidator(LIAR.public), "open", expires_ms=NOW_MS)
    assert await standing() == "removal lapsed"
    node.proposed(5, RemoveValidator(LIAR.public), "open")
    assert await standing() == "removal open"
    node.entries[ballot.RETIRED.key(LIAR.public)] = codec.encode(Retired(ANNA, 9))
    (line,) = await node.read()
    assert (line.standing, line.removed_height) == ("removed", 9)
    assert line.removal is not None
    assert line.removal.proposal == bytes([5]) * 16
