"""What events tell: visibility by bundle, standing of consents, one line a verdict, page after page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from consilium.client import history
from consilium.client.rpc import BEFORE_ALL, Cursor
from consilium.client.rpc_answers import EventAt
from consilium.contracts import accounting, consent, delegation, records, takeover
from consilium.ledger import codec
from consilium.ledger.execution import Event

ADA, ANNA, BERT = bytes([1]) * 16, bytes([2]) * 16, bytes([3]) * 16
COMPARTMENT, CUSTODIAN = bytes([9]) * 16, bytes([8]) * 16


class Told:
    """A node's events, and how often it was asked."""

    def __init__(self) -> None:
        self.items: list[EventAt] = []
        self.calls = 0
        self.values: dict[bytes, bytes] = {}

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        return self.values.get(key), 0

    def tell(self, kind: Any, subjects: Sequence[bytes], data: codec.Wire) -> None:
        height = len(self.items)
        event = Event(kind.name, list(subjects), bytes(32), 0, height * 1_000, codec.encode(data))
        self.items.append(EventAt(Cursor(height, 0), event))

    async def events(
        self, after: Cursor, limit: int, kinds: Sequence[str] | None, subject: bytes | None
    ) -> list[EventAt]:
        self.calls += 1
        found = [
            one
            for one in self.items
            if one.cursor > after and kinds and one.event.kind in kinds and subject in one.event.subjects
        ]
        return found[:limit]


def _bundle(told: Told, number: int, count: int, anchored: int, author: bytes = ANNA) -> None:
    bundle = bytes([number]) * 16
    for position in range(anchored):
        record = bytes([number, position]) * 8
        told.tell(
            records.ANCHORED,
            [ADA, author],
            records.Anchored(record, COMPARTMENT, [], bundle, position, count),
        )
    if anchored == count:
        told.tell(records.COMPLETED, [ADA, author], records.Completed(bundle, count))


async def test_records_are_visible_with_the_last_of_their_bundle() -> None:
    told = Told()
    _bundle(told, 1, count=2, anchored=2)
    _bundle(told, 2, count=3, anchored=2)
    # The same bundle id by another author is another bundle.
    _bundle(told, 2, count=1, anchored=1, author=BERT)
    lines = await history.records_of(told, ADA)  # type: ignore[arg-type]
    assert [(line.bundle[0], line.position, line.author, line.visible) for line in lines] == [
        (1, 0, ANNA, True),
        (1, 1, ANNA, True),
        (2, 0, ANNA, False),
        (2, 1, ANNA, False),
        (2, 0, BERT, True),
    ]


async def test_all_pages_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "EVENTS_PER_CALL", 3)
    told = Told()
    _bundle(told, 1, count=8, anchored=8)
    assert len(await history.records_of(told, ADA)) == 8  # type: ignore[arg-type]
    assert told.calls == 4
    assert [item async for item in history.events_of(told, ["none"], ADA)] == []  # type: ignore[arg-type]
    assert Cursor(0, 0) > BEFORE_ALL


async def test_consents_stand_as_time_and_revocation_have_it() -> None:
    told = Told()
    ids = [bytes([number]) * 16 for number in range(2)]
    for identifier in ids:
        told.tell(
            consent.GRANTED,
            [ADA, ANNA],
            consent.GrantConsent(
                identifier,
                ADA,
                [consent.Provision(0, "permit", [ANNA], ["TREAT"], None, 5_000, 10_000, False)],
            ),
        )
    told.tell(consent.REVOKED, [ADA, ANNA], consent.RevokeConsent(ids[1]))
    kept, revoked = await history.consents_of(told, ADA)  # type: ignore[arg-type]
    assert (kept.patient, kept.grantee, kept.purposes, kept.granted_ms) == (ADA, ANNA, ("TREAT",), 0)
    standings = [kept.standing(time_ms) for time_ms in (4_999, 5_000, 9_999, 10_000)]
    assert standings == ["pending", "active", "active", "expired"]
    assert revoked.revoked_ms == 2_000
    assert revoked.standing(6_000) == "revoked"


async def test_a_take_over_ends_what_permits_and_was_granted_before() -> None:
    told = Told()
    for number, effect in enumerate(("permit", "deny", "permit")):
        if number == 2:
            told.tell(takeover.COMPLETED, [ADA], takeover.TakenOver(bytes(32), 1))
        rule = consent.Provision(0, effect, [ANNA], ["TREAT"], None, 0, 10_000, False)  # type: ignore[arg-type]
        told.tell(consent.GRANTED, [ADA, ANNA], consent.GrantConsent(bytes([number]) * 16, ADA, [rule]))
    lines = await history.consents_of(told, ADA)  # type: ignore[arg-type]
    assert [one.standing(9_000) for one in lines] == ["revoked", "active", "active"]
    assert lines[0].revoked_ms == 2_000


async def test_what_was_passed_on_stands_with_what_it_comes_from() -> None:
    told = Told()
    parents, children = ([bytes([kind + number]) * 16 for number in range(2)] for kind in (16, 32))
    provision = consent.Provision(0, "permit", [ANNA], ["TREAT"], None, 0, 10_000, False)
    for parent, child in zip(parents, children, strict=True):
        body = delegation.PassOn(child, parent, BERT, ["TREAT"], None, 0, 9_000)
        told.tell(delegation.PASSED_ON, [ADA, BERT, ANNA], body)
        known = consent.Consent(
            patient=ADA,
            provisions=[provision],
            obligations=None,
            source=None,
            transferable=True,
            granted_by=ADA,
            generation=0,
            parent=None,
            granted_ms=0,
            revoked_ms=5_000 if parent == parents[1] else None,
        )
        told.values[consent.CONSENTS.key(parent)] = codec.encode(known)
    # Bert was never told that what the second comes from was revoked.
    for subject in (ADA, BERT):
        kept, ended = await history.consents_of(told, subject)  # type: ignore[arg-type]
        assert (kept.consent, kept.parent, kept.patient, kept.grantee) == (children[0], parents[0], ADA, BERT)
        assert (kept.not_after_ms, kept.standing(6_000)) == (9_000, "active")
        assert (ended.revoked_ms, ended.standing(6_000)) == (5_000, "revoked")


async def test_the_access_log_has_a_line_for_each_verdict() -> None:
    told = Told()
    lines = [
        accounting.AccessLine(0, COMPARTMENT, [], 3, True, "consent", bytes(16), 9_000),
        accounting.AccessLine(1, None, [], None, False, "no-basis", None, 0),
    ]
    decided = accounting.AccessDecided(ADA, BERT, ANNA, None, True, "TREAT", 1, lines)
    told.tell(accounting.DECIDED, [ADA, BERT, ANNA], decided)
    (first, _) = await history.accesses_of(told, ADA)  # type: ignore[arg-type]
    assert first.released == ()
    for records_, custodian in ((1, CUSTODIAN), (2, bytes(16)), (3, CUSTODIAN)):
        released = accounting.RecordsReleased(
            ADA, 3, custodian, BERT, ANNA, first.transaction, 0, 0, COMPARTMENT, [], records_, 7_000
        )
        told.tell(accounting.RELEASED, [ADA, custodian, BERT, ANNA], released)
    allowed, denied = await history.accesses_of(told, ADA)  # type: ignore[arg-type]
    assert (allowed.allow, allowed.records, allowed.reader, allowed.institution) == (True, 3, BERT, ANNA)
    assert (denied.allow, denied.basis, denied.records, denied.purpose) == (False, "no-basis", None, "TREAT")
    assert [(one.custodian, one.records, one.released_ms) for one in allowed.released] == [
        (CUSTODIAN, 3, 7_000),
        (bytes(16), 2, 7_000),
    ]
    assert denied.released == ()
    assert (allowed.automated, allowed.application) == (True, None)
    assert await history.accesses_of(told, bytes(16)) == []  # type: ignore[arg-type]
