"""Emergency summaries: made and sealed while all is well, opened by two persons while no quorum answers.

A summary is an envelope whose compartment is an institution's *emergency key*: the same wrap, proofs and anchor as a
record's, opened by the holders' partials in place of custodians'. A holder's share is a parcel, sealed to the holder's
own wallet: neither it nor a partial ever leaves the two persons' computer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from consilium.client import sealing, sharing
from consilium.client.envelope import Context, HeaderFields, parse, verify_anchor
from consilium.client.release import Partial, make_partial
from consilium.client.rpc import Committed, RpcClient
from consilium.client.rpc_emergency import Signed, deposit_summary, open_summary
from consilium.client.session import COMMIT_TIMEOUT_S, Session, new_id
from consilium.client.sharing import CompartmentKey, make_compartment, seal_parcels
from consilium.client.wallet import Wallet
from consilium.contracts import summaries
from consilium.contracts.emergency import Reason
from consilium.contracts.operation import Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused

_W = TypeVar("_W", bound=codec.Wire)

PERSONS: Final = 2
ENTRY_BYTES_MAX: Final = 2_048
HEADER: Final = HeaderFields("Bundle", "", "application/fhir+json")
"""What a summary is, by default: FHIR's International Patient Summary is a Bundle."""


@dataclass(frozen=True, slots=True)
class Person:
    """One of the two who open: the wallet whose key the licence is bound to, the licence, the share of the key.

    `identity` is whom the wallet's key speaks for.
    """

    wallet: Wallet
    identity: bytes
    credential: bytes
    parcel: bytes


@dataclass(frozen=True, slots=True)
class Given:
    """What a node hands out for an opening: the envelope, and the entry of its log, signed by the institution."""

    envelope: bytes
    entry: summaries.SummaryOpening
    institution_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class OpenedSummary:
    """A summary as its author sealed it, and the entry that was written first: keep it, the chain must hear of it."""

    payload: bytes
    given: Given


async def make_key(
    session: Session,
    holders: Sequence[bytes],
    keep: Callable[[bytes, Mapping[bytes, bytes]], None] = lambda key, parcels: None,
) -> tuple[bytes, dict[bytes, bytes], Committed]:
    """Make this institution's emergency key for employed practitioners, two of whom open.

    Returns the key's id and each holder's parcel, sealed to the holder's wallet: hand them over; there is no other
    copy, so `keep` makes them durable before the key is registered. The secret is forgotten when this returns.
    """
    key = new_id()
    secret = make_compartment(PERSONS, len(holders))
    recipients = tuple([(await session.identity_of(one)).encryption_key for one in holders])
    public = CompartmentKey(session.chain_id, key, 0, secret.commitments)
    parcels = seal_parcels(secret, public, recipients)
    body = summaries.SetSummaryKey(key, list(secret.commitments), list(holders))
    by_holder = dict(zip(holders, parcels, strict=True))
    await asyncio.to_thread(keep, key, by_holder)
    done = await session.act("summary.set_key", body, certified=True)
    return key, by_holder, done


async def place(
    session: Session,
    institution: bytes,
    payload: bytes,
    vault: RpcClient,
    *,
    patient: bytes | None = None,
    header: HeaderFields = HEADER,
) -> tuple[bytes, Committed]:
    """Seal a summary for an institution, place it on the chain, and hand it to that institution's node (`vault`).

    `patient` is whose, where a guardian or manager speaks. Returns the summary's id. The author alone opens it again
    without the two: whoever seals it.
    """
    current = await session.state(summaries.CURRENT_KEYS, institution)
    key = None if current is None else await session.state(summaries.SUMMARY_KEYS, current.key)
    if current is None or key is None:
        raise Refused("summary.unknown_key", institution.hex())
    summary = new_id()
    context = Context(session.chain_id, summary, current.key, 0, session.identity)
    sealed = sealing.seal(payload, context, key.commitments[0], session.wallet.author_keys, (), header)
    whose = patient or session.identity
    body = summaries.PlaceSummary(summary, whose, current.key, sealed.anchor, sealed.digest)
    done = await session.act("summary.place", body, certified=True)
    await vault.wait(done.id, COMMIT_TIMEOUT_S, certified=True)
    await deposit_summary(vault, whose, sealed.envelope)
    return summary, done


async def withdraw(session: Session, patient: bytes, institution: bytes) -> Committed:
    """End a summary, as who may place one, or as the institution."""
    return await session.act("summary.withdraw", summaries.WithdrawSummary(patient, institution))


async def open_offline(
    node: RpcClient,
    chain_id: bytes,
    institution: bytes,
    patient: bytes,
    reason: Reason,
    persons: tuple[Person, Person],
    now_ms: int,
) -> OpenedSummary:
    """Open a patient's summary with the quorum cut off: the institution's node writes its log, then hands it out.

    Raises Refused: the node's `summary.*`; `sealing.*` where a share or the envelope is not what the chain says.
    """
    opener, second = persons
    placed = await _entry(node, summaries.SUMMARIES, patient, institution)
    if placed is None:
        raise Refused("summary.unknown", patient.hex())
    key = await _entry(node, summaries.SUMMARY_KEYS, placed.key)
    if key is None:
        raise Refused("summary.unknown_key", placed.key.hex())
    for one in persons:
        if one.identity not in key.holders:
            raise Refused("summary.not_a_holder", one.identity.hex())
    digest = summaries.request_digest(
        chain_id=chain_id,
        institution=institution,
        summary=placed.summary,
        reason=reason,
        opener=opener.identity,
        second=second.identity,
        opened_ms=now_ms,
    )
    signed = [
        Signed(one.identity, one.credential, one.wallet.signing.public, one.wallet.signing.sign(digest))
        for one in persons
    ]
    found = await open_summary(node, patient, reason, now_ms, signed)
    entry = entry_from(found.entry)
    given = Given(found.envelope, entry, bytes(found.institution_key), bytes(found.signature))
    return OpenedSummary(_open(chain_id, given.envelope, placed, key, persons), given)


def _open(
    chain_id: bytes,
    envelope: bytes,
    placed: summaries.Summary,
    known: summaries.SummaryKey,
    persons: tuple[Person, Person],
) -> bytes:
    key = CompartmentKey(chain_id, placed.key, 0, tuple(known.commitments))
    context = Context(chain_id, placed.summary, placed.key, 0, placed.author)
    verify_anchor(envelope, context, placed.anchor)
    head = parse(envelope).head
    partials: list[Partial] = []
    for one in persons:
        index = known.holders.index(one.identity) + 1
        share = sharing.open_parcel(one.parcel, one.wallet.encryption, key, index)
        partials.append(make_partial(share, head, context))
    return sealing.open_with_partials(envelope, context, key, partials).payload


async def _entry(node: RpcClient, slot: Slot[_W], *parts: bytes) -> _W | None:
    """An entry of state as the node knows it, cut off or not."""
    raw, _ = await node.state(slot.key(*parts))
    return None if raw is None else slot.decode(raw)


async def report(session: Session, given: Given, returned_ms: int) -> Committed:
    """Report an opening to the chain, from the copy that the two were given. The institution's node does it too."""
    body = summaries.ReportOpening(given.entry, given.institution_key, given.signature, returned_ms)
    return await session.act("summary.report", body)


def entry_from(raw: bytes) -> summaries.SummaryOpening:
    """An entry of a log from its bytes. Raises Refused `codec.*`."""
    return codec.decode(raw, summaries.SummaryOpening, ENTRY_BYTES_MAX)
