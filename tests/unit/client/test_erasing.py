"""Ordering an erasure, holding, contesting; and the certificate that is made of it and proves it offline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from consilium.client import consenting, erasing, reading
from consilium.client import erasure_certificate as certificates
from consilium.client.erasure_certificate import (
    MAGIC,
    Recipient,
    decode_certificate,
    encode_certificate,
    recipients_of,
    verify_certificate,
)
from consilium.client.history import records_of
from consilium.client.session import Session
from consilium.contracts.forgetting import AttestErasure
from consilium.contracts.registry import operation
from consilium.ledger.errors import Refused
from tests.unit.node.care import Ward, ward
from tests.unit.node.harness import Harness

DAY_MS = 24 * 60 * 60 * 1000


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with ward() as made:
        await made.admit_petra()
        rpc: Any = made.rpc

        async def events(after: Any, limit: int, kinds: Sequence[str], subject: bytes) -> Any:
            return await made.service.events(after, limit, frozenset(kinds), subject)

        rpc.events = events
        rpc.verdict_receipt = made.service.verdict_receipt
        yield made


async def attest(session: Session, erasure: bytes) -> None:
    await session.submit([operation("erasure.attest", AttestErasure(erasure))], certified=True)


async def permit(care: Ward, who: Session) -> None:
    now_ms = care.node.clock.wall_ms
    await consenting.grant(
        care.patient, who.identity, ["TREAT"], not_before_ms=now_ms - 1, not_after_ms=now_ms + DAY_MS
    )


async def erased_world(care: Ward) -> tuple[bytes, bytes]:
    """An erased patient whom South had read, attested by North: the erasure, and its certificate."""
    imported = await care.import_notes(2)
    await permit(care, care.south)
    for _ in range(2):
        await reading.request(care.south, "TREAT", record_ids=imported.records)
    verdict, _ = await erasing.request(care.patient, "consent-withdrawn")
    await attest(care.north, verdict.erasure)
    return verdict.erasure, await erasing.certificate(care.patient, verdict.erasure)


async def test_a_record_is_ordered_certified_and_proved(care: Ward) -> None:
    imported = await care.import_notes(2)
    verdict, committed = await erasing.request(care.patient, "objected", record_ids=imported.records[:1])
    assert verdict.outcome == "carried-out"
    raw = await erasing.certificate(care.patient, verdict.erasure)
    proved = verify_certificate(raw, care.harness.genesis)
    assert (proved.erasure, proved.patient, proved.basis) == (
        verdict.erasure,
        care.petra.identity,
        "objected",
    )
    assert (proved.records, proved.compartment) == (tuple(imported.records[:1]), None)
    assert (proved.ordered_by, proved.ordered_ms > 0) == (care.petra.identity, True)
    assert (proved.holders, proved.missing, proved.complete) == (
        (care.north.identity,),
        (care.north.identity,),
        False,
    )
    assert (proved.keys, proved.recipients) == ((), ())
    await attest(care.north, verdict.erasure)
    later = verify_certificate(await erasing.certificate(care.patient, verdict.erasure), care.harness.genesis)
    assert (later.complete, list(later.attested)) == (True, [care.north.identity])
    assert committed.id != bytes(32)
    listed = await records_of(care.patient.rpc, care.petra.identity)
    assert [(line.erased, line.visible) for line in listed] == [(True, False), (False, True)]
    denied = await reading.request(care.patient, "PATRQT", record_ids=imported.records)
    assert {one.basis for one in denied.decision.verdicts} == {"erased", "representative"}


async def test_a_patient_with_keys_and_past_recipients(care: Ward) -> None:
    erasure, raw = await erased_world(care)
    proved = verify_certificate(raw, care.harness.genesis)
    assert (proved.outcome, proved.records, proved.compartment) == ("carried-out", None, None)
    assert len(proved.keys) == 9
    general = next(key for key in proved.keys if len(key.custodians) == 1)
    assert (general.threshold, general.suffice, general.destroyed) == (1, 1, True)
    sensitive = next(key for key in proved.keys if len(key.custodians) > 1)
    assert sensitive.suffice == len(sensitive.custodians) - sensitive.threshold + 1
    assert sensitive.destroyed == (len(sensitive.attested) >= sensitive.suffice)
    (recipient,) = proved.recipients
    assert (recipient.reader, recipient.requests) == (care.south.identity, 2)
    (listed,) = await erasing.erasures_of(care.patient, care.petra.identity)
    assert (listed[0], listed[1].attested) == (erasure, [care.north.identity])


async def test_a_compartment_is_erased_through_its_current_epoch(care: Ward) -> None:
    imported = await care.import_notes(1)
    verdict, _ = await erasing.request(care.patient, "objected", compartment=imported.compartment)
    raw = await erasing.certificate(care.patient, verdict.erasure)
    proved = verify_certificate(raw, care.harness.genesis)
    assert (proved.compartment, proved.epoch) == (imported.compartment, 0)
    assert [key.compartment for key in proved.keys] == [imported.compartment]
    with pytest.raises(Refused) as refused:
        await erasing.request(care.patient, "objected", compartment=bytes(16))
    assert refused.value.code == "records.unknown_compartment"


async def test_a_hold_is_in_the_certificate_with_its_basis(care: Ward) -> None:
    imported = await care.import_notes(1)
    ends_ms = care.node.clock.wall_ms + DAY_MS
    held, _ = await erasing.hold(care.north, care.petra.identity, "legal-obligation", not_after_ms=ends_ms)
    verdict, _ = await erasing.request(care.patient, "objected", record_ids=imported.records)
    assert verdict.outcome == "refused"
    raw = await erasing.certificate(care.patient, verdict.erasure)
    proved = verify_certificate(raw, care.harness.genesis)
    (kept,) = proved.kept
    assert (kept.hold, kept.basis, kept.not_after) == (held, "legal-obligation", ends_ms)
    assert not proved.complete
    await erasing.lift(care.north, held)
    again, _ = await erasing.request(care.patient, "objected", record_ids=imported.records)
    assert again.outcome == "carried-out"


async def test_what_an_author_orders_is_contested(care: Ward) -> None:
    imported = await care.import_notes(1)
    verdict, _ = await erasing.request(
        care.north, "recorded-in-error", patient=care.petra.identity, record_ids=imported.records
    )
    assert verdict.outcome == "pending"
    with pytest.raises(Refused) as refused:
        await erasing.carry_out(care.north, verdict.erasure)
    assert refused.value.code == "erasure.contestable"
    await erasing.contest(care.patient, verdict.erasure)
    await care.tick()
    assert (await erasing.status(care.patient, verdict.erasure)).outcome == "contested"
    proved = verify_certificate(
        await erasing.certificate(care.patient, verdict.erasure), care.harness.genesis
    )
    assert (proved.outcome, proved.complete) == ("pending", False)


async def test_nothing_is_certified_of_nothing(care: Ward) -> None:
    for call in (erasing.status(care.patient, bytes(16)), erasing.certificate(care.patient, bytes(16))):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.code == "erasure.unknown"


async def test_a_changed_byte_anywhere_fails(care: Ward) -> None:
    """Every byte of the frame and the recipients, and every 11th of the receipts, whose own tests look at each."""
    _, raw = await erased_world(care)
    verify_certificate(raw, care.harness.genesis)
    places = [*range(120), *range(120, len(raw) - 150, 11), *range(len(raw) - 150, len(raw))]
    for place in places:
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(Refused):
            verify_certificate(bytes(changed), care.harness.genesis)
    for short in (raw[:-1], raw + b"\x00", raw[: len(MAGIC)], b"", raw[1:]):
        with pytest.raises(Refused):
            verify_certificate(short, care.harness.genesis)


async def test_parts_that_do_not_belong_together_fail(care: Ward) -> None:
    """Each with the checksum put right, as somebody would who lies."""
    erasure, raw = await erased_world(care)
    certificate = decode_certificate(raw)
    some_receipt = certificate.order
    lies = [
        msgspec.structs.replace(certificate, erasure=b"x" * 16),
        msgspec.structs.replace(certificate, order=certificate.attestations[0]),
        msgspec.structs.replace(certificate, order=certificate.epochs[0]),
        msgspec.structs.replace(certificate, carried_out=certificate.order),
        msgspec.structs.replace(certificate, attestations=certificate.attestations * 2),
        msgspec.structs.replace(certificate, attestations=[some_receipt]),
        msgspec.structs.replace(certificate, epochs=[some_receipt]),
    ]
    for number, lie in enumerate(lies):
        with pytest.raises(Refused) as refused:
            verify_certificate(encode_certificate(lie), care.harness.genesis)
        assert refused.value.code in ("erasure.bad_certificate", "receipt.invalid"), number
    other = Harness(2).genesis
    with pytest.raises(Refused) as refused:
        verify_certificate(raw, other)
    assert refused.value.code == "receipt.wrong_chain"
    assert decode_certificate(raw).erasure == erasure


def test_recipients_are_one_line_each_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [Recipient(bytes([who]) * 16, None, 1, when, bytes(32)) for who, when in ((1, 5), (2, 6), (1, 7))]
    merged = recipients_of(lines)
    assert [(one.reader[0], one.requests, one.last_ms) for one in merged] == [(1, 2, 7), (2, 1, 6)]
    monkeypatch.setattr(certificates, "RECIPIENTS_MAX", 1)
    assert len(recipients_of(lines)) == 1
