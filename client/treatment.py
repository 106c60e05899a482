"""Treatment relationships: attested by the institution with a witness from outside, ended by either side."""

from __future__ import annotations

from collections.abc import Sequence

from consilium.client.attesting import attested
from consilium.client.rpc import Committed
from consilium.client.session import Session, new_id
from consilium.client.wallet import Wallet
from consilium.contracts import treatment


def relationship(
    patient: bytes, not_after_ms: int, practitioners: Sequence[bytes] | None = None
) -> treatment.AttestTreatment:
    """The body of an attestation, without its witness. `practitioners` None means all of the institution's staff."""
    named = None if practitioners is None else list(practitioners)
    return treatment.AttestTreatment(new_id(), patient, named, not_after_ms, None)


async def attest(
    session: Session,
    patient: bytes,
    not_after_ms: int,
    *,
    practitioners: Sequence[bytes] | None = None,
    witness: Wallet | None = None,
    witness_as: bytes | None = None,
) -> tuple[bytes, Committed]:
    """Attest that this institution treats a patient until then (at most thirty days). Returns the relationship's id.

    `witness` is the patient's wallet, or that of somebody who works for another institution.
    """
    body = relationship(patient, not_after_ms, practitioners)
    if witness is not None:
        body = attested(session, "treatment.attest", body, witness, witness_as)
    return body.relationship, await session.act("treatment.attest", body)


async def end(session: Session, relationship: bytes) -> Committed:
    """End a relationship, as the institution or the patient."""
    return await session.act("treatment.end", treatment.EndTreatment(relationship))
