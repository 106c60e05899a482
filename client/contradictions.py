"""Validators that contradicted themselves: what the ledger has as evidence, and what the institutions made of it.

The node's word is not taken for it: the two signatures of each contradiction are verified again, by whoever asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consilium.client.governing import EVENTS_PER_CALL, ProposalLine, proposals
from consilium.client.rpc import BEFORE_ALL, RpcClient
from consilium.consensus.evidence import VoteKind, verify_evidence
from consilium.contracts import ballot
from consilium.contracts.ballot import FaultProved, ProvedFault, RemoveValidator
from consilium.ledger import codec
from consilium.ledger.execution import EVENT_BYTES_MAX, Event

KINDS: Final = {VoteKind.PREPARE: "prepare", VoteKind.COMMIT: "seal", VoteKind.VIEW_CHANGE: "view change"}


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One proved fault: `institution` runs the validator, `removed_height` is from where on it votes no more (None: it
    votes still), `removal` the newest proposal to remove it that was made since, and how that stands."""

    fault: ProvedFault
    institution: bytes
    removed_height: int | None
    removal: ProposalLine | None
    removal_standing: str

    @property
    def kind(self) -> str:
        """What was signed twice: `prepare`, `seal` or `view change`."""
        return KINDS[VoteKind(self.fault.evidence.kind)]

    @property
    def standing(self) -> str:
        """What was done about it: `removed`, `removal open` (or `rejected`, `lapsed`, `accepted`), `not acted upon`."""
        if self.removed_height is not None:
            return "removed"
        return "not acted upon" if self.removal is None else f"removal {self.removal_standing}"

    @property
    def words(self) -> str:
        """Who contradicted itself, where, and by what, as a sentence."""
        said = self.fault.evidence
        place = f"at height {said.height}, view {said.view}"
        who = f"validator {said.validator.hex()} of institution {self.institution.hex()}"
        first, second = said.first.hex()[:16], said.second.hex()[:16]
        match VoteKind(said.kind):
            case VoteKind.PREPARE:
                return f"{who} prepared two blocks {place}: {first}… and {second}…"
            case VoteKind.COMMIT:
                return f"{who} sealed two blocks {place}: {first}… and {second}…"
            case VoteKind.VIEW_CHANGE:
                went = f"when it went to view {said.view} at height {said.height}"
                return f"{who} claimed two things {went}: {first}… and {second}…"


async def contradictions(rpc: RpcClient, chain_id: bytes, time_ms: int) -> list[Contradiction]:
    """All that are on the ledger, in the order they were reported. `time_ms` is the block time to judge proposals by.

    Raises Refused `evidence.invalid` where the node shows one that proves nothing, `chain.*` where it lacks events.
    """
    removals = [one for one in await proposals(rpc) if isinstance(one.value.change, RemoveValidator)]
    found: list[Contradiction] = []
    after = BEFORE_ALL
    while True:
        page = await rpc.events(after, EVENTS_PER_CALL, [ballot.EVIDENCE.name])
        for item in page:
            one = await _read(rpc, chain_id, item.event, removals, time_ms)
            if one is not None:
                found.append(one)
        if len(page) < EVENTS_PER_CALL:
            return found
        after = page[-1].cursor


async def _read(
    rpc: RpcClient, chain_id: bytes, event: Event, removals: list[ProposalLine], time_ms: int
) -> Contradiction | None:
    """One, or None where no header has certified it yet."""
    told = codec.decode(event.data, FaultProved, EVENT_BYTES_MAX)
    place = (told.key, told.height.to_bytes(8, "big"), bytes((told.fault_kind,)))
    raw, _ = await rpc.state(ballot.PROVED_FAULTS.key(*place))
    if raw is None:
        return None
    fault = ballot.PROVED_FAULTS.decode(raw)
    verify_evidence(fault.evidence, chain_id)
    retired, _ = await rpc.state(ballot.RETIRED.key(told.key))
    of_key = [one for one in removals if getattr(one.value.change, "key", None) == told.key]
    removal = of_key[-1] if of_key else None
    return Contradiction(
        fault,
        event.subjects[0],
        None if retired is None else ballot.RETIRED.decode(retired).height,
        removal,
        "" if removal is None else removal.standing(time_ms),
    )
