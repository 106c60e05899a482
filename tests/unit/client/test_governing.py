"""What a node tells of proposals: page after page, with where each stands in certified state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from consilium.client import governing
from consilium.client.rpc import Cursor
from consilium.client.rpc_answers import EventAt
from consilium.contracts import ballot
from consilium.contracts.ballot import Proposal, SuspendInstitution, VoteCounted
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import Event
from tests.unit.node.care import ward

ANNA, BERT = bytes([1]) * 16, bytes([2]) * 16


class Told:
    """A node's events and state."""

    def __init__(self, count: int) -> None:
        self.items: list[EventAt] = []
        self.entries: dict[bytes, bytes] = {}
        for number in range(count):
            proposal = bytes([number]) * 16
            counted = VoteCounted(proposal, 1, 3, "open")
            event = Event(ballot.PROPOSED.name, [ANNA], bytes(32), 0, number, codec.encode(counted))
            self.items.append(EventAt(Cursor(number, 0), event))
            value = Proposal(SuspendInstitution(BERT), ANNA, 10, [ANNA], [], "open")
            self.entries[ballot.PROPOSALS.key(proposal)] = codec.encode(value)

    async def events(self, after: Cursor, limit: int, kinds: Sequence[str]) -> list[EventAt]:
        assert kinds == [ballot.PROPOSED.name]
        return [one for one in self.items if one.cursor > after][:limit]

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        return self.entries.get(key), 0


async def test_all_pages_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(governing, "EVENTS_PER_CALL", 2)
    for count in range(6):
        told: Any = Told(count)
        found = await governing.proposals(told)
        assert [one.proposal for one in found] == [bytes([number]) * 16 for number in range(count)]


async def test_what_is_not_certified_yet_is_left_out() -> None:
    told: Any = Told(2)
    del told.entries[ballot.PROPOSALS.key(bytes(16))]
    assert [one.proposal for one in await governing.proposals(told)] == [bytes([1]) * 16]


async def test_an_open_proposal_lapses() -> None:
    told: Any = Told(1)
    (line,) = await governing.proposals(told)
    assert [line.standing(time_ms) for time_ms in (9, 10)] == ["open", "lapsed"]


async def test_a_member_is_not_proposed_for_admission() -> None:
    async with ward() as care:
        member = governing.admission(care.harness.chain_id, care.harness.wallets[1], ["author"])
        with pytest.raises(Refused, match=r"governance\.already_member"):
            await governing.propose(care.north, member)
        assert "submit" not in care.rpc.calls
