"""What a patient, or who speaks for a patient, does: grant and revoke consent, with conditions or without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consilium.client.obligations import seal_conditions
from consilium.client.rpc import Committed, RpcClient
from consilium.client.session import Session, new_id
from consilium.contracts import consent, delegation, records
from consilium.contracts.attestation import Attestation
from consilium.contracts.conditions import Condition
from consilium.contracts.registry import operation
from consilium.ledger.codec import UINT_MAX

FOREVER: Final = UINT_MAX
"""The end of a consent that has none: it holds until it is revoked."""


async def grant(
    session: Session,
    grantee: bytes,
    purposes: Sequence[str],
    *,
    not_before_ms: int,
    not_after_ms: int,
    compartments: Sequence[bytes] | None = None,
    effect: consent.Effect = "permit",
    transferable: bool = False,
) -> tuple[bytes, Committed]:
    """Permit (or deny) a grantee to read for these purposes while not_before <= block time < not_after.

    `compartments` None means all, the sensitive ones too. Returns the new consent's id and where it was committed.
    """
    provision = consent.Provision(
        depth=0,
        effect=effect,
        actors=[grantee],
        purposes=list(purposes),
        compartments=None if compartments is None else list(compartments),
        not_before=not_before_ms,
        not_after=not_after_ms,
        conditional=False,
    )
    return await grant_provisions(session, [provision], transferable=transferable)


async def grant_provisions(
    session: Session,
    provisions: Sequence[consent.Provision],
    *,
    patient: bytes | None = None,
    conditions: Sequence[Condition] = (),
    vaults: Sequence[RpcClient] = (),
    source: bytes | None = None,
    transferable: bool = False,
    countersignature: Attestation | None = None,
    identifier: bytes | None = None,
) -> tuple[bytes, Committed]:
    """Grant a consent of several provisions. `patient` is whose, where somebody else speaks.

    `conditions` are sealed to every custodian of the patient, and kept by the session's node and those of `vaults`.
    `source` is the record with the consent as the patient signed it. Returns as `grant`.
    """
    consent_id = identifier or new_id()
    whose = patient or session.identity
    digest = None
    if conditions:
        keys = await custodian_keys(session, whose)
        sealed, digest = seal_conditions(session.chain_id, consent_id, conditions, keys)
        for vault in (session.rpc, *vaults):
            await vault.put_envelopes([sealed])
    body = consent.GrantConsent(
        consent=consent_id,
        patient=whose,
        provisions=list(provisions),
        obligations=digest,
        source=source,
        transferable=transferable,
        countersignature=countersignature,
    )
    return consent_id, await session.submit([operation("consent.grant", body)])


async def custodian_keys(session: Session, patient: bytes) -> list[bytes]:
    """The X25519 keys of everybody who keeps a compartment of the patient now."""
    opened = await session.state(records.PATIENTS, patient)
    custodians: dict[bytes, None] = {}
    for identifier in opened.compartments if opened is not None else []:
        known = await session.state(records.COMPARTMENTS, identifier)
        number = records.epoch_bytes(known.epoch if known is not None else 0)
        epoch = await session.state(records.EPOCHS, identifier, number)
        custodians.update(dict.fromkeys(epoch.custodians if epoch is not None else []))
    return [(await session.identity_of(one)).encryption_key for one in custodians]


async def revoke(session: Session, identifier: bytes) -> Committed:
    """Revoke a consent: from that block on nothing is decided, and nothing released, on its ground."""
    return await session.submit([operation("consent.revoke", consent.RevokeConsent(identifier))])


async def pass_on(
    session: Session,
    parent: bytes,
    actor: bytes,
    purposes: Sequence[str],
    *,
    not_before_ms: int,
    not_after_ms: int,
    compartments: Sequence[bytes] | None = None,
) -> tuple[bytes, Committed]:
    """Let another read on the ground of a transferable consent to this session's identity: once, never more than it.

    Returns the new consent's id (16 bytes).
    """
    identifier = new_id()
    body = delegation.PassOn(
        consent=identifier,
        parent=parent,
        actor=actor,
        purposes=list(purposes),
        compartments=None if compartments is None else list(compartments),
        not_before=not_before_ms,
        not_after=not_after_ms,
    )
    return identifier, await session.act("delegation.pass_on", body)
