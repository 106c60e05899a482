"""Answers a committed consultation with the lines of a patient's accounting, out of this node's events.

As a custodian, it decides nothing: the ledger has decided who may see the accounting, and that somebody asked is a
line of it. The answer goes to the key that asked, while the consultation's basis still holds. A representative gets
the lines of the general class; of the others the digest, so that the chain of lines can be checked all the same: whom
a sensitive record was shown to may say what it is about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from consilium.client.disclosures import accounting_digest
from consilium.client.rpc_answers import AccountingRow
from consilium.client.rpc_values import Cursor
from consilium.contracts import access, accounting, disclosures, records
from consilium.contracts.accounting import Line
from consilium.contracts.disclosures import Consultation
from consilium.ledger import codec
from consilium.ledger.crypto import verify
from consilium.ledger.errors import Refused
from consilium.ledger.state import StateReader
from consilium.node.api import AccountingPage
from consilium.storage.chain import ChainStore, Place

EVENTS_PER_PAGE: Final = 1_000
"""Events of the patient that are looked at for one page: it may be empty and not the last."""


@dataclass(frozen=True, slots=True)
class Accountant:
    """See the module. Methods block for the disk: call them from a thread."""

    chain_id: bytes
    store: ChainStore
    clock_ms: Callable[[], int]

    def page(
        self, transaction: bytes, operation: int, signature: bytes, after: Cursor, limit: int
    ) -> AccountingPage:
        """Lines after a cursor, oldest first: those of `limit` events at most. `signature` is over
        `accounting_digest`, by the key that asked.

        Raises Refused `accounting.unknown`, `accounting.bad_signature`, `accounting.denied`, `access.window_closed`,
        `identity.*`, `chain.before_snapshot`.
        """
        tip = self.store.tip
        certified = self.store.state_at(max(0, tip.height - 1))
        asked = disclosures.CONSULTATIONS.get(certified, transaction, access.operation_bytes(operation))
        if asked is None:
            raise Refused("accounting.unknown", f"{transaction.hex()} operation {operation}")
        if not verify(asked.key, accounting_digest(self.chain_id, transaction, operation), signature):
            raise Refused("accounting.bad_signature")
        state = self.store.state
        problem = disclosures.consultation_problem(state, asked, max(self.clock_ms(), tip.time_ms))
        if problem is not None:
            raise Refused(problem)
        found = self.store.events_of(
            asked.patient, Place(after.height, after.index), min(limit, EVENTS_PER_PAGE)
        )
        rows = [
            AccountingRow(line.number, place.height, *_shown(line, asked, state))
            for place, event in found
            if event.kind in accounting.KINDS
            for line in accounting.lines_of(event)
            # who is told of another's accounting (a custodian, a reader) is a subject of its events too
            if line.patient == asked.patient
        ]
        last = Cursor(found[-1][0].height, found[-1][0].index) if found else after
        return AccountingPage(tuple(rows), last, len(found) < min(limit, EVENTS_PER_PAGE))


def _shown(line: Line, asked: Consultation, state: StateReader) -> tuple[bytes, bytes | None]:
    """A line's digest, and its bytes where the basis of the consultation lets them be seen."""
    digest = accounting.line_digest(line)
    if asked.basis == accounting.REPRESENTATIVE:
        places = [records.COMPARTMENTS.get(state, one) for one in accounting.compartments_of(line)]
        if not all(place is not None and place.general for place in places):
            return digest, None
    return digest, codec.encode(line)
