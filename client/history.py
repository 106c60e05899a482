"""What the chain's events tell of somebody: which records there are, which consents, who asked to read.

Events are found by subject. They are the node's word: what must be proved is proved by a receipt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from consilium.client.rpc import BEFORE_ALL, EventAt, RpcClient
from consilium.contracts import accounting, consent, delegation, forgetting, records, takeover
from consilium.ledger import codec
from consilium.ledger.execution import EVENT_BYTES_MAX, Event

EVENTS_PER_CALL: Final = 1_000


@dataclass(frozen=True, slots=True)
class RecordLine:
    """A record that was anchored. It is visible once the last of its bundle's `count` records is, and while it is not
    `erased` one by one; of what went with a compartment or the patient the ledger says so when it is asked for."""

    record: bytes
    compartment: bytes
    bundle: bytes
    position: int
    count: int
    author: bytes
    anchored_ms: int
    transaction: bytes
    visible: bool
    erased: bool = False


@dataclass(frozen=True, slots=True)
class ConsentLine:
    """A consent that was granted; `revoked_ms` is None while it was not revoked.

    The fields are those of its root provision; `grantee` is its first actor, or None where it names nobody in
    particular. `provisions` is how many it has, `is_conditional` whether conditions are sealed beside it. `parent` is
    the consent that it was passed on from: it ends with that.
    """

    consent: bytes
    patient: bytes
    grantee: bytes | None
    purposes: tuple[str, ...]
    effect: str
    compartments: tuple[bytes, ...] | None
    not_before_ms: int
    not_after_ms: int
    granted_ms: int
    revoked_ms: int | None
    transaction: bytes
    provisions: int = 1
    is_conditional: bool = False
    parent: bytes | None = None

    def standing(self, time_ms: int) -> str:
        """`revoked`, `expired`, `pending` or `active` at a block time."""
        if self.revoked_ms is not None:
            return "revoked"
        if time_ms >= self.not_after_ms:
            return "expired"
        return "pending" if time_ms < self.not_before_ms else "active"


@dataclass(frozen=True, slots=True)
class ReleasedLine:
    """What one custodian attests to have released on a verdict so far: how many records, and when the last of them (its
    own clock). `height` is where the ledger has it."""

    custodian: bytes
    records: int
    released_ms: int
    attested_ms: int
    height: int
    transaction: bytes


@dataclass(frozen=True, slots=True)
class AccessLine:
    """One verdict on one compartment: a line of the access log. `records` None means the whole compartment.

    `released` has a line for each custodian that attested a release.
    """

    time_ms: int
    height: int
    transaction: bytes
    patient: bytes | None
    reader: bytes
    institution: bytes | None
    purpose: str
    allow: bool
    basis: str
    ground: bytes | None
    compartment: bytes | None
    records: int | None
    operation: int = 0
    verdict: int = 0
    application: bytes | None = None
    automated: bool = False
    released: tuple[ReleasedLine, ...] = ()


async def events_of(rpc: RpcClient, kinds: Sequence[str], subject: bytes) -> AsyncIterator[EventAt]:
    """All events of these kinds about a subject, from the first to the newest."""
    after = BEFORE_ALL
    while True:
        found = await rpc.events(after, EVENTS_PER_CALL, kinds, subject)
        for item in found:
            yield item
        if len(found) < EVENTS_PER_CALL:
            return
        after = found[-1].cursor


async def records_of(rpc: RpcClient, subject: bytes) -> list[RecordLine]:
    """The records of a patient, or those that an institution authored, oldest first."""
    lines: list[RecordLine] = []
    complete: set[tuple[bytes, bytes]] = set()
    erased: set[bytes] = set()
    kinds = (records.ANCHORED.name, records.COMPLETED.name, forgetting.CARRIED.name)
    async for item in events_of(rpc, kinds, subject):
        event = item.event
        if event.kind == forgetting.CARRIED.name:
            told = codec.decode(event.data, forgetting.Erased, EVENT_BYTES_MAX)
            erased.update(told.records or [])
            continue
        author = event.subjects[1]
        if event.kind == records.COMPLETED.name:
            completed = codec.decode(event.data, records.Completed, EVENT_BYTES_MAX)
            complete.add((author, completed.bundle))
            continue
        data = codec.decode(event.data, records.Anchored, EVENT_BYTES_MAX)
        lines.append(
            RecordLine(
                data.record,
                data.compartment,
                data.bundle,
                data.position,
                data.count,
                author,
                event.time_ms,
                event.transaction,
                visible=False,
            )
        )
    return [
        replace(
            line,
            visible=(line.author, line.bundle) in complete and line.record not in erased,
            erased=line.record in erased,
        )
        for line in lines
    ]


async def consents_of(rpc: RpcClient, subject: bytes) -> list[ConsentLine]:
    """The consents that a patient granted, or that a grantee was given or passed on, oldest first.

    One that was passed on is revoked when what it comes from is, also where only itself was told to the subject. To a
    patient, what permits and was granted before a take-over is revoked by that.
    """
    lines: dict[bytes, ConsentLine] = {}
    kinds = (consent.GRANTED.name, consent.REVOKED.name, delegation.PASSED_ON.name, takeover.COMPLETED.name)
    async for item in events_of(rpc, kinds, subject):
        event = item.event
        if event.kind == takeover.COMPLETED.name:
            ended = [
                one
                for one in lines.values()
                if one.patient == event.subjects[0] and one.effect == consent.PERMIT
            ]
            for line in ended:
                lines[line.consent] = replace(line, revoked_ms=line.revoked_ms or event.time_ms)
            continue
        if event.kind == delegation.PASSED_ON.name:
            line = _passed_on(event)
            lines[line.consent] = line
            continue
        if event.kind == consent.REVOKED.name:
            revoked = codec.decode(event.data, consent.RevokeConsent, EVENT_BYTES_MAX)
            if revoked.consent in lines:
                lines[revoked.consent] = replace(lines[revoked.consent], revoked_ms=event.time_ms)
            continue
        data = codec.decode(event.data, consent.GrantConsent, EVENT_BYTES_MAX)
        root = data.provisions[0]
        lines[data.consent] = ConsentLine(
            data.consent,
            data.patient,
            None if root.actors is None else root.actors[0],
            tuple(root.purposes or ()),
            root.effect,
            None if root.compartments is None else tuple(root.compartments),
            root.not_before,
            max(provision.not_after for provision in data.provisions),
            event.time_ms,
            None,
            event.transaction,
            len(data.provisions),
            data.obligations is not None,
        )
    return [await _with_its_parent(rpc, line) for line in lines.values()]


def _passed_on(event: Event) -> ConsentLine:
    data = codec.decode(event.data, delegation.PassOn, EVENT_BYTES_MAX)
    return ConsentLine(
        consent=data.consent,
        # who is told: the patient first
        patient=event.subjects[0],
        grantee=data.actor,
        purposes=tuple(data.purposes or ()),
        effect="permit",
        compartments=None if data.compartments is None else tuple(data.compartments),
        not_before_ms=data.not_before,
        not_after_ms=data.not_after,
        granted_ms=event.time_ms,
        revoked_ms=None,
        transaction=event.transaction,
        parent=data.parent,
    )


async def _with_its_parent(rpc: RpcClient, line: ConsentLine) -> ConsentLine:
    if line.parent is None or line.revoked_ms is not None:
        return line
    raw, _ = await rpc.state(consent.CONSENTS.key(line.parent))
    parent = None if raw is None else consent.CONSENTS.decode(raw)
    ended = parent.revoked_ms if parent is not None else None
    return line if ended is None else replace(line, revoked_ms=ended)


async def accesses_of(rpc: RpcClient, subject: bytes) -> list[AccessLine]:
    """The access log of a patient, or of a reader or institution: every verdict, allow and deny, oldest first, with
    what custodians attest to have released on it. One gap-evident for its patient is `disclosures.consult`."""
    lines: dict[tuple[bytes, int, int], AccessLine] = {}
    async for item in events_of(rpc, (accounting.DECIDED.name, accounting.RELEASED.name), subject):
        event, height = item.event, item.cursor.height
        if event.kind == accounting.RELEASED.name:
            data = codec.decode(event.data, accounting.RecordsReleased, EVENT_BYTES_MAX)
            place = (data.request, data.request_operation, data.verdict)
            if place in lines:
                lines[place] = _with_release(lines[place], data, event, height)
            continue
        decided = codec.decode(event.data, accounting.AccessDecided, EVENT_BYTES_MAX)
        for line in decided.lines:
            lines[(event.transaction, event.operation, line.verdict)] = AccessLine(
                time_ms=event.time_ms,
                height=height,
                transaction=event.transaction,
                patient=decided.patient,
                reader=decided.reader,
                institution=decided.institution,
                purpose=decided.purpose,
                allow=line.allow,
                basis=line.basis,
                ground=line.ground,
                compartment=line.compartment,
                records=line.records,
                operation=event.operation,
                verdict=line.verdict,
                application=decided.application,
                automated=decided.automated,
            )
    return list(lines.values())


def _with_release(
    line: AccessLine, data: accounting.RecordsReleased, event: Event, height: int
) -> AccessLine:
    """A custodian's last word counts: its number only grows."""
    said = ReleasedLine(
        data.custodian, data.records, data.released_ms, event.time_ms, height, event.transaction
    )
    others = {one.custodian: one for one in line.released}
    return replace(line, released=tuple({**others, data.custodian: said}.values()))
