"""What the load consists of: real operations, signed beforehand, each transaction once.

It is what a network does most: an institution anchors records of its patients. A transaction with k operations
is one bundle of k records. Its state reads and writes, its events and its receipts are those of an import. Envelopes
are no part of the load: all records of an institution name one and the same, which its vault holds, so that nodes find
complete what they look for.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consilium.client import recording
from consilium.client.envelope import HeaderFields
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import records
from consilium.contracts.registry import operation
from consilium.ledger.transaction import VALIDITY_MAX_MS, Operation, sign_transaction
from consilium.node.testing import LocalCluster

VALIDITY_MARGIN_MS: Final = 20_000
PATIENTS_PER_INSTITUTION: Final = 8
ID_BYTES: Final = 16
DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Institution:
    """One node's institution, the general compartments of its patients, and the digest of an envelope that it keeps."""

    wallet: Wallet
    envelope: bytes
    compartments: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A call that hands in `count` transactions; `frame` lacks nothing but its time and its id."""

    frame: str
    count: int
    operations: int


def bundle_of(
    identifiers: Sequence[bytes],
    compartment: bytes,
    *,
    anchor: bytes | None = None,
    envelope: bytes | None = None,
) -> list[Operation]:
    """The operations that anchor records with these ids (16 bytes each) as one bundle. Anchor and envelope (digests of
    32 bytes) are the same for all, or drawn for each."""
    bundle = os.urandom(ID_BYTES)
    return [
        operation(
            "records.anchor",
            records.AnchorRecord(
                record=record,
                compartment=compartment,
                also=[],
                epoch=0,
                bundle=bundle,
                position=position,
                count=len(identifiers),
                anchor=anchor or os.urandom(DIGEST_BYTES),
                envelope=envelope or os.urandom(DIGEST_BYTES),
            ),
        )
        for position, record in enumerate(identifiers)
    ]


async def settle_in(cluster: LocalCluster, patients: int = PATIENTS_PER_INSTITUTION) -> list[Institution]:
    """Enrol patients of every institution and open their compartments."""
    found = []
    for index in range(cluster.size):
        session = cluster.session(index)
        own = []
        for _ in range(patients):
            patient = Wallet.create("patient")
            await recording.enrol(session, "patient", patient)
            patients_own = cluster.session(index, patient)
            await recording.open_compartments(patients_own, patient, session.identity, lambda wallet: None)
            compartment, _, _ = await recording.general_compartment(session, patient.identity)
            own.append(compartment)
        header = HeaderFields("Observation", "bench", "application/fhir+json")
        imported = await recording.import_records(
            session, patient.identity, [recording.Payload(b"{}", header)]
        )
        await session.rpc.wait(imported.transactions[-1], certified=True)
        record = await session.state(records.RECORDS, imported.records[0])
        if record is None:
            raise RuntimeError("a record that was just anchored is not there")
        found.append(Institution(session.wallet, record.envelope, tuple(own)))
    return found


class Signer:
    """Makes transactions for one chain, valid until shortly before the latest time that is allowed."""

    def __init__(self, session: Session, institutions: Sequence[Institution], operations: int) -> None:
        self._chain_id = session.chain_id
        self._institutions = institutions
        self._operations = operations
        self.valid_until = 0
        self.transaction_bytes = 0

    def begin(self, tip_time_ms: int) -> None:
        """A round begins at this block time."""
        self.valid_until = tip_time_ms + VALIDITY_MAX_MS - VALIDITY_MARGIN_MS

    def requests(self, institution: int, count: int, per_request: int) -> list[Request]:
        """So many transactions of one institution, signed and put into calls of `per_request` each."""
        made = []
        for first in range(0, count, per_request):
            raws = [
                self._signed(institution, place) for place in range(first, min(count, first + per_request))
            ]
            texts = b'","'.join(base64.b64encode(raw) for raw in raws).decode("ascii")
            frame = f'{{"jsonrpc":"2.0","method":"transaction.commit","params":{{"transactions":["{texts}"]'
            made.append(Request(frame, len(raws), len(raws) * self._operations))
        return made

    def _signed(self, institution: int, place: int) -> bytes:
        own = self._institutions[institution]
        signed = sign_transaction(
            own.wallet.signing,
            chain_id=self._chain_id,
            sender=own.wallet.identity,
            nonce=os.urandom(ID_BYTES),
            valid_until=self.valid_until,
            operations=bundle_of(
                [os.urandom(ID_BYTES) for _ in range(self._operations)],
                own.compartments[place % len(own.compartments)],
                envelope=own.envelope,
            ),
        )
        self.transaction_bytes = len(signed.raw)
        return signed.raw
