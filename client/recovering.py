"""Recovery: guardians give a patient who lost every key a new one, after a waiting time in which a live key vetoes."""

from __future__ import annotations

from consilium.client.representing import new_key_proof
from consilium.client.rpc import Committed
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import recovery


async def offer(session: Session, patient: bytes, fresh: Wallet) -> recovery.ProposeRecovery:
    """What the patient hands to a guardian: the fresh wallet's public keys, signed for by it. No secret is in it."""
    proof = await new_key_proof(session, patient, fresh)
    return recovery.ProposeRecovery(patient, fresh.signing.public, fresh.encryption_public, proof)


async def propose(session: Session, offered: recovery.ProposeRecovery) -> Committed:
    """Propose the offered key, as a guardian, who approves it by that."""
    return await session.act("recovery.propose", offered)


async def approve(session: Session, patient: bytes, key: bytes) -> Committed:
    """Approve a proposed key, as another guardian."""
    return await session.act("recovery.approve", recovery.ApproveRecovery(patient, key))


async def veto(session: Session, key: bytes) -> Committed:
    """Stop a recovery, as the patient, with any key that still speaks."""
    return await session.act("recovery.veto", recovery.VetoRecovery(key))


async def complete(session: Session, patient: bytes, key: bytes) -> Committed:
    """Carry a recovery out, as a guardian, once the waiting time is over."""
    return await session.act("recovery.complete", recovery.CompleteRecovery(patient, key))


async def proposals(session: Session, patient: bytes) -> list[recovery.Recovery]:
    """A patient's open proposals, oldest first."""
    known = await session.state(recovery.RECOVERIES, patient)
    tip_ms = await session.tip_ms()
    return [
        one
        for one in (known.proposals if known is not None else [])
        if tip_ms < one.proposed_ms + recovery.LIFETIME_MS
    ]
