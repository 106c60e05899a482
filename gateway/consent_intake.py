"""Taking in a FHIR Consent: the original sealed as a record, and what it means granted on the ledger.

The original is sealed first, to the restricted class, so that what the patient signed is kept whatever the ledger
says of it; the consent on the chain names that record. A Consent that cannot be represented is refused before
anything is sealed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from consilium.client import consenting, recording
from consilium.client.envelope import RESOURCE_ID_CHARS_MAX, HeaderFields
from consilium.client.recording import Payload
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.contracts.attestation import Attestation
from consilium.contracts.classes import RESTRICTED
from consilium.gateway.consent_fhir import ConsentRefused, Draft, Known, read_consent
from consilium.gateway.importing import FHIR_JSON
from consilium.ledger.errors import Refused

CONSENT_BYTES_MAX: Final = 1024 * 1024


class TakenIn(NamedTuple):
    """The consent on the chain, the record that keeps its original, and what it was read as."""

    consent: bytes
    source: bytes
    draft: Draft


def read_original(raw: bytes, known: Known, now_ms: int) -> Draft:
    """What the bytes of a FHIR Consent mean. Raises Refused `bundle.oversized`, ConsentRefused."""
    if len(raw) > CONSENT_BYTES_MAX:
        raise Refused("bundle.oversized", f"{len(raw)} bytes; the limit is {CONSENT_BYTES_MAX}")
    try:
        resource = json.loads(raw)
    except (ValueError, RecursionError):
        raise ConsentRefused("Consent", "is no JSON") from None
    if not isinstance(resource, dict):
        raise ConsentRefused("Consent", "is no JSON object")
    return read_consent(resource, known, now_ms)


def original_payload(raw: bytes) -> Payload:
    """The original as a record of the restricted class."""
    identifier = json.loads(raw).get("id", "")
    header = HeaderFields("Consent", identifier[:RESOURCE_ID_CHARS_MAX], FHIR_JSON, labels=("R",))
    return Payload(raw, header, (RESTRICTED,))


async def take_consent(
    institution: Session,
    performer: Session,
    raw: bytes,
    known: Known,
    *,
    vaults: Sequence[RpcClient] = (),
    countersignature: Attestation | None = None,
) -> TakenIn:
    """Seal the original as `institution`, then grant as `performer`: the patient, or who signed for the patient.

    Raises as `read_original`, `recording.import_records` and `consenting.grant_provisions`; `consent.not_the_patient`
    where `performer` is not who the Consent names.
    """
    now_ms = int((await institution.rpc.status())["tip_time_ms"])
    draft = read_original(raw, known, now_ms)
    if performer.identity != draft.performer:
        raise Refused("consent.not_the_patient", f"the Consent was signed by {draft.performer.hex()}")
    imported = await recording.import_records(
        institution, draft.patient, [original_payload(raw)], class_map=known.class_map, vaults=vaults
    )
    (source,) = imported.records
    consent, _ = await consenting.grant_provisions(
        performer,
        draft.provisions,
        patient=draft.patient,
        conditions=draft.conditions,
        vaults=vaults,
        source=source,
        countersignature=countersignature,
    )
    return TakenIn(consent, source, draft)
