"""What a reader does: ask, have it decided, fetch what custodians release, open it.

A decision is of the ledger; a release is of a custodian, and needs the decision. The reader checks the custodian as
much as the custodian checks the reader: every envelope is held against its anchor on the chain, every partial against
its proof, so that what comes out is what the author sealed, or nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from consilium.client import boxes, sealing
from consilium.client.envelope import Context, SignedHeader, envelope_digest, verify_anchor
from consilium.client.release import Partial, Release, open_release
from consilium.client.rpc import Released, RpcClient
from consilium.client.session import Session
from consilium.client.sharing import CompartmentKey
from consilium.contracts import access, records
from consilium.contracts import identity as identities
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag
from consilium.ledger.errors import Refused
from consilium.ledger.execution import RESULT_BYTES_MAX

_RELEASE_TAG: Final = Tag("consilium/release-request/1")


def release_digest(chain_id: bytes, transaction: bytes, operation_index: int) -> Digest:
    """What a reader signs to ask a custodian for the release of a decision, with the key that asked the ledger."""
    return _RELEASE_TAG.digest(chain_id, transaction, operation_index.to_bytes(2, "big"))


@dataclass(frozen=True, slots=True)
class Asked:
    """A decided request. `ephemeral` opens what custodians release for it; it is never stored."""

    transaction: bytes
    height: int
    decision: access.Decision
    ephemeral: boxes.BoxKey

    @property
    def allowed(self) -> bool:
        """Whether every verdict is an allow."""
        return all(verdict.allow for verdict in self.decision.verdicts)


@dataclass(frozen=True, slots=True)
class Opened:
    """A record that was read: the bytes that its author sealed."""

    record: bytes
    payload: bytes
    header: SignedHeader


class _Wanted(NamedTuple):
    """What it takes to open one record."""

    identifier: bytes
    record: records.Record
    key: CompartmentKey
    envelope: bytes
    partials: list[Partial]


async def request(
    session: Session,
    purpose: str,
    *,
    record_ids: Sequence[bytes] | None = None,
    compartments: Sequence[bytes] | None = None,
    certified: bool = True,
) -> Asked:
    """Ask the ledger for records or whole compartments, for one purpose. A denial is an answer, not an error."""
    ephemeral = boxes.new_box_key()
    body = access.AccessRequest(
        records=None if record_ids is None else list(record_ids),
        compartments=None if compartments is None else list(compartments),
        purpose=purpose,
        ephemeral=ephemeral.public,
    )
    committed = await session.submit([operation("access.request", body)], certified=certified)
    decision = codec.decode(committed.leaf.results[0], access.Decision, RESULT_BYTES_MAX)
    return Asked(committed.id, committed.height, decision, ephemeral)


async def fetch(session: Session, asked: Asked, *custodians: RpcClient) -> list[Opened]:
    """Fetch and open everything that the decision allows, from as many custodians as its records take to open.

    The general class is opened by one; give the nodes of several for sensitive ones. A custodian that refuses or lies
    does no harm while enough others answer. Raises Refused with a custodian's reason, or `sealing.*` where what they
    sent does not check.
    """
    answers = await asyncio.gather(*(_released(session, asked, one) for one in custodians))
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    envelopes: dict[bytes, bytes] = {}
    partials: dict[bytes, list[Partial]] = {}
    for answer in answers:
        if isinstance(answer, Refused):
            continue
        released, opened = answer
        envelopes.update((envelope_digest(envelope), envelope) for envelope in released.envelopes)
        if len({item.record for item in opened.partials}) != len(opened.partials):
            raise Refused("sealing.wrong_request", "a custodian names one record twice")
        for item in opened.partials:
            partials.setdefault(item.record, []).append(item.partial)
    if len(refusals) == len(answers):
        raise refusals[0] if refusals else Refused("sealing.too_few_partials", "no custodian was asked")
    # what the patient's conditions withhold is left out rightly, and nobody here knows what that is
    whole = [verdict for verdict in asked.decision.verdicts if verdict.allow and not verdict.obligations]
    named = [record for verdict in whole for record in verdict.records or []]
    missing = [record for record in named if record not in partials]
    if missing:
        if refusals:
            raise refusals[0]
        raise Refused(
            "custodian.incomplete", f"{len(missing)} of {len(named)} records, {missing[0].hex()} first"
        )
    keys: dict[tuple[bytes, int], CompartmentKey] = {}
    wanted: list[_Wanted] = []
    for identifier, given in partials.items():
        record = await session.state(records.RECORDS, identifier)
        if record is None or not any(access.opens(v, record, identifier) for v in asked.decision.verdicts):
            raise Refused("sealing.wrong_request", f"record {identifier.hex()} was not decided on")
        envelope = envelopes.get(record.envelope)
        if envelope is None:
            raise Refused("sealing.wrong_anchor", f"the envelope of record {identifier.hex()} is missing")
        place = (record.compartment, record.epoch)
        if place not in keys:
            keys[place] = await _compartment_key(session, *place)
        if len(given) < keys[place].threshold and refusals:
            raise refusals[0]
        wanted.append(_Wanted(identifier, record, keys[place], envelope, given))
    read = await asyncio.to_thread(_open_all, session.chain_id, wanted)
    authors = {one.identifier: one.record.author for one in wanted}
    for signer in dict.fromkeys((one.header.key, authors[one.record]) for one in read):
        await _check_author(session, *signer)
    return read


async def _released(
    session: Session, asked: Asked, custodian: RpcClient
) -> tuple[Released, Release] | Refused:
    """What one custodian releases, or why it does not."""
    signature = session.wallet.signing.sign(release_digest(session.chain_id, asked.transaction, 0))
    try:
        released = await custodian.release(asked.transaction, 0, signature)
        return released, open_release(released.sealed_partials, asked.ephemeral, asked.transaction)
    except Refused as refusal:
        return refusal


async def _check_author(session: Session, key: bytes, author: bytes) -> None:
    """The header's signature is good by now; here, that its key is or was the author's."""
    entry = await session.state(identities.KEYS, key)
    if entry is None or entry.identity != author:
        raise Refused("sealing.bad_signature", f"key {key.hex()[:16]}… does not speak for the author")


async def _compartment_key(session: Session, compartment: bytes, number: int) -> CompartmentKey:
    epoch = await session.state(records.EPOCHS, compartment, records.epoch_bytes(number))
    if epoch is None:
        raise Refused("records.unknown_compartment", compartment.hex())
    return CompartmentKey(session.chain_id, compartment, number, tuple(epoch.commitments))


def _open_all(chain_id: bytes, wanted: Sequence[_Wanted]) -> list[Opened]:
    read = []
    for identifier, record, key, envelope, partials in wanted:
        context = Context(chain_id, identifier, record.compartment, record.epoch, record.author)
        verify_anchor(envelope, context, record.anchor)
        opened = sealing.open_with_partials(envelope, context, key, partials)
        read.append(Opened(identifier, opened.payload, opened.header))
    return read
