"""What a reader does: ask, have it decided, fetch what custodians release, open it.

A decision is of the ledger; a release is of a custodian, and needs the decision. The reader checks the custodian as
much as the custodian checks the reader: every envelope is held against its anchor on the chain, every partial against
its proof, so that what comes out is what the author sealed, or nothing. One record that does not come out keeps no
other back: it is named, with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, overload

from consilium.client import boxes, sealing
from consilium.client.envelope import Context, SignedHeader, envelope_digest, verify_anchor
from consilium.client.release import Partial, open_release
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.client.sharing import CompartmentKey
from consilium.contracts import access, records
from consilium.contracts import identity as identities
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag
from consilium.ledger.errors import Refused
from consilium.ledger.execution import RESULT_BYTES_MAX

FETCH_BYTES_MAX: Final = 256 * 1024 * 1024
"""Of what one custodian answers that `fetch` takes into memory at a time."""
PAGES_MAX: Final = 4_096
"""Of one custodian's answer: an honest one is at its end long before."""
FETCH_TIMEOUT_S: Final = 900.0
"""For all pages of one custodian: who gives one at a time, each at the last moment, holds a reader no longer. What may
be fetched at a time comes within it at 3 Mbit/s."""
WITHHELD_BYTES: Final = 256
"""What a record that is withheld counts, of the bytes of an answer."""

RECORDS_AT_ONCE: Final = 16
"""Entries of records that are asked of a node at the same time."""

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


@dataclass(frozen=True, slots=True)
class Withheld:
    """What was allowed and did not come out: one record, or (None) a whole verdict of the decision, and why."""

    verdict: int
    record: bytes | None
    refusal: Refused


@dataclass(frozen=True, slots=True)
class Fetched(Sequence[Opened]):
    """The records that were opened, in the order of the decision, and what was withheld, by name."""

    opened: tuple[Opened, ...]
    withheld: tuple[Withheld, ...] = ()

    def __len__(self) -> int:
        return len(self.opened)

    @overload
    def __getitem__(self, index: int) -> Opened: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Opened]: ...

    def __getitem__(self, index: int | slice) -> Opened | Sequence[Opened]:
        return self.opened[index]


class _Wanted(NamedTuple):
    """What it takes to open one record."""

    identifier: bytes
    record: records.Record
    key: CompartmentKey
    envelope: bytes
    partials: list[Partial]


@dataclass
class _Answer:
    """All pages of one custodian."""

    envelopes: dict[bytes, bytes] = field(default_factory=dict)
    partials: dict[bytes, Partial] = field(default_factory=dict)
    withheld: list[Withheld] = field(default_factory=list)


async def request(
    session: Session,
    purpose: str,
    *,
    record_ids: Sequence[bytes] | None = None,
    compartments: Sequence[bytes] | None = None,
    certified: bool = True,
    application: bytes | None = None,
    automated: bool = False,
) -> Asked:
    """Ask the ledger for records or whole compartments, for one purpose. A denial is an answer, not an error.

    `application` is the identity of the program that asks in the reader's name; `automated` says that no hand did.
    """
    ephemeral = boxes.new_box_key()
    body = access.AccessRequest(
        records=None if record_ids is None else list(record_ids),
        compartments=None if compartments is None else list(compartments),
        purpose=purpose,
        ephemeral=ephemeral.public,
        application=application,
        automated=automated,
    )
    committed = await session.submit([operation("access.request", body)], certified=certified)
    decision = codec.decode(committed.leaf.results[0], access.Decision, RESULT_BYTES_MAX)
    return Asked(committed.id, committed.height, decision, ephemeral)


async def fetch(session: Session, asked: Asked, *custodians: RpcClient) -> Fetched:
    """Fetch and open everything that the decision allows, from as many custodians as its records take to open.

    The general class is opened by one; give the nodes of several for sensitive ones. A custodian that refuses or lies
    does no harm while enough others answer. What cannot be opened is withheld by name while anything else can. Raises
    Refused with the reason where nothing can, and `custodian.incomplete` where a record is left out without any. What
    answers something else than what was asked is as good as a refusal, `sealing.*`.
    """
    found = await collect(session, asked, *custodians)
    if found.withheld and not found.opened:
        first = found.withheld[0].refusal
        raise Refused(first.code, first.detail)
    return found


async def collect(session: Session, asked: Asked, *custodians: RpcClient) -> Fetched:
    """As `fetch`, and what cannot be opened is withheld by name, be it everything.

    Raises Refused where every custodian refuses the whole, and as `fetch` for the rest.
    """
    answers = await asyncio.gather(*(_released(session, asked, one) for one in custodians))
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    sent = [answer for answer in answers if isinstance(answer, _Answer)]
    named = list(dict.fromkeys(one for answer in sent for one in answer.partials))
    decided = _decided(asked, dict(zip(named, await _records(session, named), strict=True)))
    heard = [answer for answer in sent if all(one in decided for one in answer.partials)]
    if len(heard) < len(sent):
        refusals.append(Refused("sealing.wrong_request", "a custodian names what was not decided on"))
    if not heard:
        raise refusals[0] if refusals else Refused("sealing.too_few_partials", "no custodian was asked")
    withheld = _left_out(asked, heard, refusals)
    wanted: list[_Wanted] = []
    keys: dict[tuple[bytes, int], CompartmentKey] = {}
    for identifier, (record, verdict) in decided.items():
        if not any(identifier in answer.partials for answer in heard):
            continue
        place = (record.compartment, record.epoch)
        if place not in keys:
            keys[place] = await _compartment_key(session, *place)
        given = [answer.partials[identifier] for answer in heard if identifier in answer.partials]
        if len(given) < keys[place].threshold:
            withheld.append(Withheld(verdict, identifier, _reason(verdict, identifier, heard, refusals)))
            continue
        envelopes = [
            answer.envelopes[record.envelope] for answer in heard if record.envelope in answer.envelopes
        ]
        if not envelopes:
            missing = Refused("sealing.wrong_anchor", f"the envelope of record {identifier.hex()} is missing")
            withheld.append(Withheld(verdict, identifier, missing))
            continue
        wanted.append(_Wanted(identifier, record, keys[place], envelopes[0], given))
    opened = await asyncio.to_thread(_open_all, session.chain_id, wanted)
    authors = {one.identifier: one.record.author for one in wanted}
    vouched = await _vouched(
        session, [(one, authors[one.record]) for one in opened if isinstance(one, Opened)]
    )
    for one, known in zip(opened, wanted, strict=True):
        problem = one if isinstance(one, Refused) else vouched.get((one.header.key, known.record.author))
        if problem is not None:
            withheld.append(Withheld(decided[known.identifier][1], known.identifier, problem))
    kept = {one.record for one in withheld}
    return Fetched(
        tuple(one for one in opened if isinstance(one, Opened) and one.record not in kept), tuple(withheld)
    )


def _decided(
    asked: Asked, found: Mapping[bytes, records.Record | None]
) -> dict[bytes, tuple[records.Record, int]]:
    """Of what custodians named, the records that the decision opens, each with its verdict."""
    decided: dict[bytes, tuple[records.Record, int]] = {}
    for identifier, record in found.items():
        verdict = _verdict_of(asked, identifier, record)
        if record is not None and verdict is not None:
            decided[identifier] = (record, verdict)
    return decided


async def _records(session: Session, identifiers: Sequence[bytes]) -> list[records.Record | None]:
    """The records' entries in certified state, some asked for at a time."""
    found: list[records.Record | None] = []
    for start in range(0, len(identifiers), RECORDS_AT_ONCE):
        part = identifiers[start : start + RECORDS_AT_ONCE]
        found += await asyncio.gather(*(session.state(records.RECORDS, one) for one in part))
    return found


def _left_out(asked: Asked, heard: Sequence[_Answer], refusals: Sequence[Refused]) -> list[Withheld]:
    """What nobody released of what is named, with the reasons that were given.

    What the patient's conditions withhold is left out rightly, and nobody here knows what that is. Raises Refused
    `custodian.incomplete` where another record is left out without any reason.
    """
    released = {record for answer in heard for record in answer.partials}
    withheld: list[Withheld] = []
    missing: list[bytes] = []
    for index, verdict in enumerate(asked.decision.verdicts):
        if not verdict.allow:
            continue
        said = [one for answer in heard for one in answer.withheld if one.verdict == index]
        whole = next((one for one in said if one.record is None), None)
        if verdict.records is None:
            found = {one.record: one for one in said if one.record is not None}
            withheld += [one for record, one in found.items() if record not in released]
            if sum(one.record is None for one in said) == len(heard) and whole is not None:
                withheld.append(whole)
            continue
        reasons = {one.record: one for one in reversed(said)}
        for record in verdict.records:
            reason = reasons.get(record) or whole
            if record in released or (reason is None and verdict.obligations):
                continue
            if reason is not None:
                withheld.append(Withheld(index, record, reason.refusal))
            elif refusals:
                withheld.append(Withheld(index, record, refusals[0]))
            else:
                missing.append(record)
    if missing:
        raise Refused("custodian.incomplete", f"{len(missing)} records, {missing[0].hex()} first")
    return withheld


def _reason(verdict: int, record: bytes, heard: Sequence[_Answer], refusals: Sequence[Refused]) -> Refused:
    """Why a record has too few partials."""
    said = [one for answer in heard for one in answer.withheld if one.verdict == verdict]
    named = [one.refusal for one in said if one.record in (record, None)]
    if named or refusals:
        return [*named, *refusals][0]
    return Refused("sealing.too_few_partials", f"record {record.hex()}")


def _verdict_of(asked: Asked, identifier: bytes, record: records.Record | None) -> int | None:
    if record is None:
        return None
    for index, verdict in enumerate(asked.decision.verdicts):
        if access.opens(verdict, record, identifier):
            return index
    return None


async def _released(session: Session, asked: Asked, custodian: RpcClient) -> _Answer | Refused:
    """All that one custodian releases, or why it does not; one that repeats itself, or never ends, does not."""
    try:
        async with asyncio.timeout(FETCH_TIMEOUT_S):
            return await _pages(session, asked, custodian)
    except TimeoutError:
        return Refused("rpc.timeout", f"a custodian's answer within {FETCH_TIMEOUT_S:g} s")


async def _pages(session: Session, asked: Asked, custodian: RpcClient) -> _Answer | Refused:
    """Page after page."""
    signature = session.wallet.signing.sign(release_digest(session.chain_id, asked.transaction, 0))
    answer = _Answer()
    start, size = 0, 0
    for _ in range(PAGES_MAX):
        try:
            page = await custodian.release(asked.transaction, 0, signature, start)
            opened = open_release(page.sealed_partials, asked.ephemeral, asked.transaction)
        except Refused as refusal:
            return refusal
        for item in opened.partials:
            if item.record in answer.partials:
                return Refused("sealing.wrong_request", "a custodian names one record twice")
            answer.partials[item.record] = item.partial
        answer.envelopes.update((envelope_digest(envelope), envelope) for envelope in page.envelopes)
        answer.withheld += [
            Withheld(one.verdict, one.record, Refused(one.code, one.detail)) for one in page.withheld
        ]
        size += len(page.sealed_partials) + sum(map(len, page.envelopes))
        size += WITHHELD_BYTES * len(page.withheld)
        if page.next is None:
            return answer
        if page.next <= start:
            return Refused("sealing.wrong_request", "a custodian goes round in circles")
        if size > FETCH_BYTES_MAX:
            return Refused("custodian.release_too_large", f"more than {FETCH_BYTES_MAX} bytes")
        start = page.next
    return Refused("custodian.release_too_large", f"more than {PAGES_MAX} pages")


async def _vouched(
    session: Session, read: Sequence[tuple[Opened, bytes]]
) -> dict[tuple[bytes, bytes], Refused]:
    """The signing keys of headers that do not speak for the author, with the refusal."""
    found: dict[tuple[bytes, bytes], Refused] = {}
    for signer in dict.fromkeys((one.header.key, author) for one, author in read):
        try:
            await _check_author(session, *signer)
        except Refused as refusal:
            if refusal.code != "sealing.bad_signature":
                raise
            found[signer] = refusal
    return found


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


def _open_all(chain_id: bytes, wanted: Sequence[_Wanted]) -> list[Opened | Refused]:
    """Each record, or why it does not open."""
    read: list[Opened | Refused] = []
    for identifier, record, key, envelope, partials in wanted:
        context = Context(chain_id, identifier, record.compartment, record.epoch, record.author)
        try:
            verify_anchor(envelope, context, record.anchor)
            opened = sealing.open_with_partials(envelope, context, key, partials)
        except Refused as refusal:
            read.append(refusal)
        else:
            read.append(Opened(identifier, opened.payload, opened.header))
    return read
