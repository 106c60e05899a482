"""Who speaks for a patient: appointing and dismissing, and the take-over, by which an account becomes the patient's
own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consilium.client.attesting import attested
from consilium.client.classes import hidden_anew
from consilium.client.recording import class_map_from, current_epoch, deliver_shares
from consilium.client.rpc import Committed, RpcClient
from consilium.client.session import COMMIT_TIMEOUT_S, Session
from consilium.client.sharing import make_compartment
from consilium.client.wallet import KeptCompartment, Wallet
from consilium.contracts import records, representation, takeover
from consilium.ledger.errors import Refused

_NOBODY: Mapping[bytes, RpcClient] = {}


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A take-over that was committed: the new wallet with its compartment secrets, and a session of it."""

    wallet: Wallet
    session: Session
    committed: Committed


async def account_of(session: Session, patient: bytes) -> representation.Account:
    """Who may speak for a patient beside the patient, as certified state has it."""
    known = await session.state(representation.ACCOUNTS, patient)
    if known is not None:
        return known
    return representation.Account((await session.identity_of(patient)).sponsor, [], 0, 0)


async def appointment(
    session: Session,
    who: bytes,
    capacity: representation.Capacity,
    not_after_ms: int,
    *,
    patient: bytes | None = None,
) -> representation.Appoint:
    """The body of an appointment as of now, without a countersignature. `patient` is whose, where a manager speaks."""
    whose = patient or session.identity
    changes = (await account_of(session, whose)).changes
    return representation.Appoint(whose, who, capacity, not_after_ms, changes, None)


async def appoint(
    session: Session, body: representation.Appoint, countersigner: Wallet | None = None
) -> Committed:
    """Appoint a delegate or guardian; a manager appoints guardians alone, with another's countersignature."""
    if countersigner is not None:
        body = attested(session, "representation.appoint", body, countersigner)
    return await session.act("representation.appoint", body)


async def dismiss(session: Session, who: bytes, *, patient: bytes | None = None) -> Committed:
    """Dismiss a representative, as the patient, or give up oneself."""
    return await session.act(
        "representation.dismiss", representation.Dismiss(patient or session.identity, who)
    )


async def take_over(
    session: Session,
    fresh: Wallet,
    save: Callable[[Wallet], None],
    *,
    custodians: Mapping[bytes, RpcClient] = _NOBODY,
) -> TakenOver:
    """Make the account the patient's own: a fresh wallet's key in place of all, new epochs, nobody else speaks.

    `session` is the patient's, with a key that still speaks. `save` makes the fresh wallet durable, with the secrets of
    the new epochs, before anything is published; which compartment is of which class its words find again, with the
    chain, where the session's wallet knows it. Each compartment stays with its custodians, in the same threshold;
    those of `custodians` get their shares at once, the others by `deliver_shares`.
    """
    patient = session.identity
    fresh = fresh.speaking_for(patient)
    hidden = await _hidden_anew(session, fresh)
    opened = await session.state(records.PATIENTS, patient)
    epochs = []
    for compartment in opened.compartments if opened is not None else []:
        number, epoch = await current_epoch(session, compartment)
        secret = make_compartment(epoch.threshold, len(epoch.custodians))
        fresh = fresh.keeping(KeptCompartment(compartment, number + 1, secret))
        epochs.append(records.BeginEpoch(compartment, list(secret.commitments), list(epoch.custodians)))
    await asyncio.to_thread(save, fresh)
    body = takeover.TakeOver(
        patient,
        fresh.signing.public,
        fresh.encryption_public,
        await new_key_proof(session, patient, fresh),
        epochs,
        hidden,
    )
    done = await session.act("takeover.complete", body, certified=True)
    own = Session(session.rpc, session.genesis, fresh, sender=patient)
    for custodian in custodians.values():  # one takes shares of what its own node knows as certified
        await custodian.wait(done.id, COMMIT_TIMEOUT_S, certified=True)
    await deliver_shares(own, fresh, custodians)
    return TakenOver(fresh, own, done)


async def _hidden_anew(session: Session, fresh: Wallet) -> list[bytes]:
    """Commitments by the fresh wallet to the classes of the compartments, where the session's wallet knows them."""
    try:
        known = await class_map_from(session, session.wallet.speaking_for(session.identity))
    except Refused as refusal:
        if refusal.code not in ("records.class_map_wrong", "records.unknown_compartment"):
            raise
        return []
    return hidden_anew(session.chain_id, fresh, known)


async def new_key_proof(session: Session, patient: bytes, fresh: Wallet) -> bytes:
    """The fresh key's signature: it wants to be the patient's, in the account's present generation."""
    return fresh.signing.sign(
        takeover.takeover_digest(
            chain_id=session.chain_id,
            patient=patient,
            key=fresh.signing.public,
            encryption_key=fresh.encryption_public,
            generation=(await account_of(session, patient)).generation,
        )
    )
