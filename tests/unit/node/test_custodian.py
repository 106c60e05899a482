"""The custodian obeys what was decided, while it stands, and nothing else: each reason to refuse has its test."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from consilium.client import boxes, consenting, reading, recording, sealing, sharing
from consilium.client import envelope as layout
from consilium.client.envelope import Context, parse
from consilium.client.reading import Asked, release_digest
from consilium.client.recording import Imported, Payload, current_epoch, general_compartment
from consilium.client.release import open_release, seal_release
from consilium.client.rpc_answers import Released
from consilium.client.session import Session, new_id
from consilium.client.sharing import CompartmentKey, make_compartment, seal_parcels
from consilium.contracts import access, identity, records
from consilium.contracts.forgetting import RequestErasure
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.node import custodian as custodians
from consilium.node import releasing
from consilium.node.custodian import Custodian
from consilium.node.ledger_reader import LedgerReader
from consilium.storage import releases as journals
from consilium.storage import schema
from consilium.storage.chain import ChainStore
from consilium.storage.releases import ReleaseJournal
from tests.unit.node.care import HEADER, STALENESS_MS, Ward, note, ward
from tests.unit.node.harness import kv_of, wallet_of

WINDOW_MS = access.RELEASE_WINDOW_MS


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with ward() as made:
        await made.admit_petra()
        yield made


def code_of(refused: pytest.ExceptionInfo[Refused]) -> str:
    return refused.value.code


async def permit(care: Ward, grantee: Session, days: int = 1) -> bytes:
    now_ms = care.node.clock.wall_ms
    consent, _ = await consenting.grant(
        care.patient,
        grantee.identity,
        ["TREAT"],
        not_before_ms=now_ms - 1,
        not_after_ms=now_ms + days * 86_400_000,
    )
    return consent


async def allowed(care: Ward, count: int = 3, **request: Any) -> tuple[Imported, Asked, bytes]:
    """Records, a consent, and a decision that allows `south` to read them."""
    imported = await care.import_notes(count)
    consent = await permit(care, care.south)
    asked = await reading.request(care.south, "TREAT", **(request or {"record_ids": imported.records}))
    assert asked.allowed
    return imported, asked, consent


def sign(
    care: Ward, who: Session, asked: Asked, operation_index: int = 0, chain_id: bytes | None = None
) -> bytes:
    digest = release_digest(chain_id or care.harness.chain_id, asked.transaction, operation_index)
    return who.wallet.signing.sign(digest)


def obey(care: Ward, asked: Asked, who: Session | None = None) -> Released:
    return care.custodian.release(asked.transaction, 0, sign(care, who or care.south, asked))


def refusal(care: Ward, asked: Asked, who: Session | None = None) -> str:
    with pytest.raises(Refused) as refused:
        obey(care, asked, who)
    return code_of(refused)


def named(released: Released, asked: Asked) -> list[bytes]:
    return [
        one.record
        for one in open_release(released.sealed_partials, asked.ephemeral, asked.transaction).partials
    ]


# --- obeying --------------------------------------------------------------------------------------------------------


async def test_it_releases_exactly_what_the_decision_names(care: Ward) -> None:
    imported, asked, _ = await allowed(care, 5)
    some_of_them = await reading.request(care.south, "TREAT", record_ids=imported.records[1:3])
    released = obey(care, some_of_them)
    assert named(released, some_of_them) == list(imported.records[1:3])
    assert len(released.envelopes) == 2
    assert named(obey(care, asked), asked) == list(imported.records)


async def test_a_compartment_opens_all_that_is_visible_in_it_and_nothing_beside(care: Ward) -> None:
    imported = await care.import_notes(3)
    compartment, _, _ = await general_compartment(care.north, care.petra.identity)
    await permit(care, care.south)
    asked = await reading.request(care.south, "TREAT", compartments=[compartment])
    later = await care.import_notes(2, "later")
    assert named(obey(care, asked), asked) == [*imported.records, *later.records]


async def test_one_verdict_opens_its_own_records_only(care: Ward) -> None:
    """Two patients asked for at once; one of them denies: only the other's records come out."""
    imported = await care.import_notes(2)
    paul = wallet_of("paul")
    await recording.enrol(care.north, "patient", paul)
    paul = await recording.open_compartments(
        care.session(paul), paul, care.harness.wallets[0].identity, lambda wallet: None
    )
    others = await recording.import_records(care.north, paul.identity, [Payload(note("paul", 0), HEADER)])
    await permit(care, care.south)
    mixed = [others.records[0], *imported.records, b"no such record!!"]
    asked = await reading.request(care.south, "TREAT", record_ids=mixed)
    assert [verdict.allow for verdict in asked.decision.verdicts] == [False, True, False]
    assert named(obey(care, asked), asked) == list(imported.records)


async def test_a_release_may_be_asked_for_again(care: Ward) -> None:
    _, asked, _ = await allowed(care, 1)
    first, second = obey(care, asked), obey(care, asked)
    assert first.envelopes == second.envelopes
    assert named(first, asked) == named(second, asked)


async def test_only_the_key_in_the_request_opens_a_release(care: Ward) -> None:
    _, asked, _ = await allowed(care, 1)
    released = obey(care, asked)
    with pytest.raises(Refused) as refused:
        open_release(released.sealed_partials, boxes.new_box_key(), asked.transaction)
    assert code_of(refused) == "sealing.wrong_key"


# --- whose word it takes --------------------------------------------------------------------------------------------


async def test_nothing_is_released_without_a_decision(care: Ward) -> None:
    imported, asked, consent = await allowed(care, 1)
    for transaction, index in (
        (b"\x00" * 32, 0),
        (asked.transaction, 1),
        (imported.transactions[0], 0),
    ):
        made_up = dataclasses.replace(asked, transaction=transaction)
        with pytest.raises(Refused) as refused:
            care.custodian.release(transaction, index, sign(care, care.south, made_up, index))
        assert code_of(refused) == "custodian.no_decision"
    assert consent


async def test_a_decision_counts_only_when_the_next_header_certified_it(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked, _ = await allowed(care, 1)
    reader = care.custodian._ledger
    store = care.node.executor.store
    height = next(h for h in range(store.tip.height, 0, -1) if asked.transaction in store.transactions(h).ids)
    monkeypatch.setattr(reader, "certified", lambda key: store.state_at(height - 1).get(key))
    assert refusal(care, asked) == "custodian.no_decision"
    monkeypatch.setattr(reader, "certified", lambda key: store.state_at(height).get(key))
    obey(care, asked)


async def test_a_custodian_on_a_fork_of_its_own_obeys_nothing(care: Ward) -> None:
    """Its own state says allow, and the header that a quorum certified does not: it stops."""
    imported = await care.import_notes(1)
    denied = await reading.request(care.south, "TREAT", record_ids=imported.records)
    (verdict,) = denied.decision.verdicts
    ours = msgspec.structs.replace(
        verdict, allow=True, basis="consent", valid_until=denied.decision.time_ms + WINDOW_MS
    )
    forged = msgspec.structs.replace(denied.decision, verdicts=[ours])
    store = care.node.executor.store
    kv = kv_of(care.node.executor)
    key = access.decision_key(denied.transaction, 0)
    place = next(name for name, row in kv.iterate(schema.STATE) if schema.state_of(row)[0] == key)
    kv.write([(place, schema.state_row(key, codec.encode(forged)))], sync=True)
    fresh = ChainStore(kv, care.harness.chain_id)  # no cache remembers what was there
    assert access.DECISIONS.get(fresh.state, denied.transaction, bytes(2)) == forged
    stranger = Custodian(
        wallet=care.harness.wallets[0],
        chain_id=care.harness.chain_id,
        ledger=LedgerReader(fresh),
        shares=care.custodian._shares,
        envelopes=care.custodian._envelopes,
        journal=care.journal,
        staleness_max_ms=STALENESS_MS,
        clock_ms=care.node.clock.now_ms,
    )
    with pytest.raises(InvariantBroken, match="certifies"):
        stranger.release(denied.transaction, 0, sign(care, care.south, denied))
    assert store.tip.height == fresh.tip.height


async def test_a_denial_releases_nothing(care: Ward) -> None:
    imported = await care.import_notes(1)
    asked = await reading.request(care.south, "TREAT", record_ids=imported.records)
    assert not asked.allowed
    assert refusal(care, asked) == "custodian.nothing_allowed"


async def test_only_the_key_that_asked_may_fetch(care: Ward) -> None:
    _, asked, _ = await allowed(care, 1)
    assert refusal(care, asked, care.west) == "custodian.bad_signature"
    assert refusal(care, asked, care.north) == "custodian.bad_signature"
    for signature in (
        sign(care, care.south, asked, operation_index=1),
        sign(care, care.south, asked, chain_id=b"\x01" * 32),
        sign(care, care.south, dataclasses.replace(asked, transaction=b"\x02" * 32)),
        bytes(64),
        b"",
    ):
        with pytest.raises(Refused) as refused:
            care.custodian.release(asked.transaction, 0, signature)
        assert code_of(refused) == "custodian.bad_signature"


async def test_a_release_request_that_is_replayed_gives_nothing_to_who_replays_it(care: Ward) -> None:
    """Whoever saw it pass may send it again, here or to another custodian: the answer is sealed to the reader's key."""
    _, asked, _ = await allowed(care, 1)
    seen = sign(care, care.south, asked)
    replayed = care.custodian.release(asked.transaction, 0, seen)
    with pytest.raises(Refused) as refused:
        open_release(replayed.sealed_partials, boxes.new_box_key(), asked.transaction)
    assert code_of(refused) == "sealing.wrong_key"
    # and it is the same disclosure, not another line of the accounting
    assert [one.records for one in care.journal.untold(9)] == [1]


async def test_anothers_decision_is_of_no_use(care: Ward) -> None:
    """West has a decision of its own, about something else, and tries South's."""
    imported, souths, _ = await allowed(care, 2)
    await permit(care, care.west)
    wests = await reading.request(care.west, "TREAT", record_ids=imported.records[:1])
    assert named(obey(care, wests, care.west), wests) == list(imported.records[:1])
    with pytest.raises(Refused) as refused:
        care.custodian.release(souths.transaction, 0, sign(care, care.west, souths))
    assert code_of(refused) == "custodian.bad_signature"


# --- while it stands ------------------------------------------------------------------------------------------------


async def test_a_revocation_in_a_later_block_ends_it_at_once(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked, consent = await allowed(care, 1)
    obey(care, asked)
    await consenting.revoke(care.patient, consent)
    assert refusal(care, asked) == "access.consent_ended"
    # Even where no header has certified the revocation yet.
    store = care.node.executor.store
    height = next(h for h in range(store.tip.height, 0, -1) if asked.transaction in store.transactions(h).ids)
    monkeypatch.setattr(care.custodian._ledger, "certified", lambda key: store.state_at(height).get(key))
    assert refusal(care, asked) == "access.consent_ended"


async def test_a_denial_granted_since_ends_it(care: Ward) -> None:
    _, asked, _ = await allowed(care, 1)
    now_ms = care.node.clock.wall_ms
    await consenting.grant(
        care.patient,
        care.south.identity,
        ["TREAT"],
        not_before_ms=now_ms - 1,
        not_after_ms=now_ms + 1_000_000,
        effect="deny",
    )
    assert refusal(care, asked) == "access.not_allowed"


async def test_the_window_closes_at_its_exact_end(care: Ward) -> None:
    _, asked, _ = await allowed(care, 1)
    end_ms = asked.decision.verdicts[0].valid_until
    assert end_ms == asked.decision.time_ms + WINDOW_MS
    await care.pass_time(end_ms - care.node.clock.wall_ms - 2_000)
    care.node.clock.wall_ms = end_ms - 1
    obey(care, asked)
    care.node.clock.wall_ms = end_ms
    assert refusal(care, asked) == "access.window_closed"


async def test_a_clock_that_runs_behind_the_chain_does_not_stretch_the_window(care: Ward) -> None:
    _, asked, _ = await allowed(care, 1)
    await care.pass_time(WINDOW_MS + 1_000)
    care.node.clock.wall_ms = care.node.executor.store.tip.time_ms - STALENESS_MS
    assert refusal(care, asked) == "access.window_closed"


async def test_a_clock_that_cannot_tell_old_from_fresh_releases_nothing(care: Ward) -> None:
    """By a clock that lags by an hour, a tip that is an hour old looks fresh."""
    _, asked, _ = await allowed(care, 1)
    tip_ms = care.node.executor.store.tip.time_ms
    care.node.clock.wall_ms = tip_ms - STALENESS_MS
    obey(care, asked)
    care.node.clock.wall_ms = tip_ms - STALENESS_MS - 1
    assert refusal(care, asked) == "custodian.stale"


async def test_a_consent_that_ended_meanwhile_ends_it(care: Ward) -> None:
    imported = await care.import_notes(1)
    now_ms = care.node.clock.wall_ms
    await consenting.grant(
        care.patient,
        care.south.identity,
        ["TREAT"],
        not_before_ms=now_ms - 1,
        not_after_ms=now_ms + 30_000,
    )
    asked = await reading.request(care.south, "TREAT", record_ids=imported.records)
    assert asked.decision.verdicts[0].valid_until == now_ms + 30_000
    care.node.clock.wall_ms = now_ms + 30_000
    assert refusal(care, asked) == "access.window_closed"


async def test_a_stale_tip_releases_nothing(care: Ward) -> None:
    _, asked, _ = await allowed(care, 1)
    tip_ms = care.node.executor.store.tip.time_ms
    care.node.clock.wall_ms = tip_ms + STALENESS_MS
    obey(care, asked)
    care.node.clock.wall_ms = tip_ms + STALENESS_MS + 1
    assert refusal(care, asked) == "custodian.stale"
    await care.tick()
    obey(care, asked)


async def test_a_reader_whose_key_was_revoked_gets_nothing(care: Ward) -> None:
    doctor, other = wallet_of("doctor"), wallet_of("doctor's second key")
    await recording.enrol(care.south, "practitioner", doctor)
    imported = await care.import_notes(1)
    await permit(care, care.south)
    session = care.session(doctor)
    asked = await reading.request(session, "TREAT", record_ids=imported.records)
    obey(care, asked, session)
    digest = identity.addition_digest(
        chain_id=care.harness.chain_id, identity=doctor.identity, key=other.signing.public
    )
    added = identity.AddKey(other.signing.public, other.signing.sign(digest))
    await session.submit([operation("identity.add_key", added)])
    obey(care, asked, session)
    await session.submit([operation("identity.revoke_key", identity.RevokeKey(doctor.signing.public))])
    assert refusal(care, asked, session) == "identity.key_not_authorised"


async def test_a_suspended_reader_gets_nothing(care: Ward) -> None:
    doctor = wallet_of("doctor")
    await recording.enrol(care.south, "practitioner", doctor)
    imported = await care.import_notes(1)
    await permit(care, care.south)
    session = care.session(doctor)
    asked = await reading.request(session, "TREAT", record_ids=imported.records)
    await care.south.submit([operation("identity.suspend", identity.Suspend(doctor.identity))])
    assert refusal(care, asked, session) == "identity.suspended"
    await care.south.submit([operation("identity.reinstate", identity.Reinstate(doctor.identity))])
    obey(care, asked, session)


async def test_a_custodian_that_is_suspended_releases_nothing(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger would not take its word of what it released."""
    _, asked, _ = await allowed(care, 1)
    standing = identity.standing

    def suspended(state: Any, who: bytes) -> str | None:
        return "identity.suspended" if who == care.north.identity else standing(state, who)

    monkeypatch.setattr(identity, "standing", suspended)
    assert refusal(care, asked) == "identity.suspended"
    assert care.journal.untold(1) == []


async def test_an_epoch_that_ended_ends_it(care: Ward) -> None:
    imported, asked, _ = await allowed(care, 1)
    fresh = make_compartment(1, 1)
    begin = records.BeginEpoch(
        imported.compartment, list(fresh.commitments), [care.harness.wallets[0].identity]
    )
    await care.patient.submit([operation("records.begin_epoch", begin)], certified=True)
    assert refusal(care, asked) == "access.epoch_ended"
    # A new decision opens what the old epoch's custodian still has the share of.
    again = await reading.request(care.south, "TREAT", record_ids=imported.records)
    assert named(obey(care, again), again) == list(imported.records)


# --- records, envelopes, shares -------------------------------------------------------------------------------------


async def test_a_record_of_an_incomplete_bundle_is_no_record(care: Ward) -> None:
    imported = await care.import_notes(2)
    stored = await care.north.state(records.RECORDS, imported.records[0])
    assert stored is not None
    half = records.AnchorRecord(
        record=new_id(),
        compartment=imported.compartment,
        also=[],
        epoch=0,
        bundle=new_id(),
        position=0,
        count=2,
        anchor=stored.anchor,
        envelope=stored.envelope,
    )
    await care.north.submit([operation("records.anchor", half)])
    await permit(care, care.south)
    asked = await reading.request(care.south, "TREAT", record_ids=[half.record])
    assert [verdict.basis for verdict in asked.decision.verdicts] == ["unknown"]
    assert refusal(care, asked) == "custodian.nothing_allowed"
    whole = await reading.request(care.south, "TREAT", compartments=[imported.compartment])
    assert named(obey(care, whole), whole) == list(imported.records)


async def test_a_missing_or_damaged_envelope_is_named(care: Ward) -> None:
    imported, asked, _ = await allowed(care, 2)
    vault: Any = care.service._vault
    stored = await care.north.state(records.RECORDS, imported.records[1])
    assert stored is not None
    place = schema.ENVELOPE + stored.envelope
    whole = vault.get(stored.envelope)
    vault._store.write([(place, whole[:-1] + bytes([whole[-1] ^ 1]))], sync=True)

    def withheld() -> list[tuple[bytes | None, str]]:
        released = obey(care, asked)
        assert named(released, asked) == [imported.records[0]]
        return [(one.record, one.code) for one in released.withheld]

    assert withheld() == [(imported.records[1], "vault.damaged")]
    vault._store.write([(place, None)], sync=True)
    assert withheld() == [(imported.records[1], "vault.unknown")]
    vault.put_many([(stored.envelope, whole)])
    assert obey(care, asked).withheld == ()
    vault.erase([stored.envelope])
    assert withheld() == [(imported.records[1], "vault.unknown")]


async def anchor(care: Ward, imported: Imported, envelope: bytes, digest: bytes, commitment: bytes) -> bytes:
    """Anchor what an author likes, as a bundle of one."""
    await care.service.put_envelopes([envelope])
    body = records.AnchorRecord(
        record=new_id(),
        compartment=imported.compartment,
        also=[],
        epoch=0,
        bundle=new_id(),
        position=0,
        count=1,
        anchor=commitment,
        envelope=digest,
    )
    await care.west.submit([operation("records.anchor", body)])
    return body.record


async def test_a_strangers_envelope_under_an_own_record_opens_nothing(care: Ward) -> None:
    """West copies North's envelope into a record of its own, which it lets itself read."""
    imported = await care.import_notes(1)
    stored = await care.north.state(records.RECORDS, imported.records[0])
    assert stored is not None
    envelope = await care.service.get_envelope(stored.envelope)
    copied = await anchor(care, imported, envelope, stored.envelope, stored.anchor)
    await permit(care, care.south)
    asked = await reading.request(care.south, "TREAT", record_ids=[copied])
    assert asked.allowed
    assert refusal(care, asked) == "sealing.wrong_anchor"


async def test_a_strangers_wrap_in_an_own_envelope_opens_nothing(care: Ward) -> None:
    """West seals an envelope of its own and puts North's wrap in, with an anchor that fits."""
    imported = await care.import_notes(1)
    stored = await care.north.state(records.RECORDS, imported.records[0])
    assert stored is not None
    theirs = parse(await care.service.get_envelope(stored.envelope))
    number, epoch = await current_epoch(care.west, imported.compartment)
    context = Context(care.harness.chain_id, new_id(), imported.compartment, number, care.west.identity)
    own = sealing.seal(b"mine", context, epoch.point, care.west.wallet.author_keys, [], HEADER)
    parsed = parse(own.envelope)
    head = codec.encode(msgspec.structs.replace(parsed.head, wrap=theirs.head.wrap))
    forged = len(head).to_bytes(4, "big") + head + bytes(parsed.stream)
    digest, commitment = layout.seals_of(forged, context)
    await care.service.put_envelopes([forged])
    body = records.AnchorRecord(
        record=context.record,
        compartment=imported.compartment,
        also=[],
        epoch=0,
        bundle=new_id(),
        position=0,
        count=1,
        anchor=commitment,
        envelope=digest,
    )
    await care.west.submit([operation("records.anchor", body)])
    await permit(care, care.south)
    asked = await reading.request(care.south, "TREAT", record_ids=[context.record])
    assert refusal(care, asked) == "sealing.bad_proof"


async def pages(care: Ward, asked: Asked) -> list[Released]:
    """All pages of a release."""
    found = [obey(care, asked)]
    while found[-1].next is not None:
        signature = sign(care, care.south, asked)
        found.append(care.custodian.release(asked.transaction, 0, signature, found[-1].next))
    return found


async def test_a_release_comes_in_pages_of_bounded_size(care: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    imported, asked, _ = await allowed(care, 3)
    stored = [await care.north.state(records.RECORDS, record) for record in imported.records]
    sizes = [len(await care.service.get_envelope(one.envelope)) for one in stored if one is not None]
    for bytes_max, expected in ((sum(sizes), [3]), (sum(sizes) - 1, [2, 1]), (1, [1, 1, 1])):
        monkeypatch.setattr(releasing, "PAGE_BYTES_MAX", bytes_max)
        found = await pages(care, asked)
        assert [len(page.envelopes) for page in found] == expected
        assert [one for page in found for one in named(page, asked)] == list(imported.records)
    opened = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert [one.record for one in opened] == list(imported.records)


async def test_a_large_compartment_is_looked_at_page_by_page(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = await care.import_notes(5)
    await permit(care, care.south)
    asked = await reading.request(care.south, "TREAT", compartments=[imported.compartment])
    monkeypatch.setattr(releasing, "PAGE_PARTIALS_MAX", 2)
    looked: list[bytes] = []
    records_in = care.custodian._ledger.records_in

    def counting(patient: bytes, compartment: bytes):
        for one in records_in(patient, compartment):
            looked.append(one)
            yield one

    monkeypatch.setattr(care.custodian._ledger, "records_in", counting)
    first = obey(care, asked)
    assert len(looked) == 3
    assert first.next == 2
    assert [len(page.envelopes) for page in await pages(care, asked)] == [2, 2, 1]
    monkeypatch.setattr(releasing, "PAGE_PLACES_MAX", 1)
    assert [len(page.envelopes) for page in await pages(care, asked)] == [1] * 5
    opened = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert [one.record for one in opened] == list(imported.records)


async def ward_round(care: Ward) -> tuple[Imported, Imported, Asked, bytes]:
    """Petra's and Paul's records in one decision that allows both, and Petra's consent."""
    petras = await care.import_notes(2)
    paul = wallet_of("paul")
    await recording.enrol(care.north, "patient", paul)
    paul = await recording.open_compartments(
        care.session(paul), paul, care.harness.wallets[0].identity, lambda wallet: None
    )
    pauls = await recording.import_records(care.north, paul.identity, [Payload(note("paul", 0), HEADER)])
    consent = await permit(care, care.south)
    now_ms = care.node.clock.wall_ms
    await consenting.grant(
        care.session(paul),
        care.south.identity,
        ["TREAT"],
        not_before_ms=now_ms - 1,
        not_after_ms=now_ms + 86_400_000,
    )
    asked = await reading.request(care.south, "TREAT", record_ids=[*petras.records, *pauls.records])
    assert asked.allowed
    return petras, pauls, asked, consent


async def test_one_verdict_that_has_ended_does_not_keep_the_others_back(care: Ward) -> None:
    petras, pauls, asked, consent = await ward_round(care)
    assert named(obey(care, asked), asked) == [*petras.records, *pauls.records]
    await consenting.revoke(care.patient, consent)
    released = obey(care, asked)
    assert named(released, asked) == list(pauls.records)
    assert [(one.verdict, one.record, one.code) for one in released.withheld] == [
        (0, None, "access.consent_ended")
    ]
    found = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert [one.record for one in found] == list(pauls.records)
    assert [(one.record, one.refusal.code) for one in found.withheld] == [
        (record, "access.consent_ended") for record in petras.records
    ]


async def test_one_record_that_cannot_be_released_does_not_keep_the_others_back(care: Ward) -> None:
    petras, pauls, asked, _ = await ward_round(care)
    stored = await care.north.state(records.RECORDS, petras.records[0])
    assert stored is not None
    vault: Any = care.service._vault
    vault._store.write([(schema.ENVELOPE + stored.envelope, None)], sync=True)
    released = obey(care, asked)
    assert named(released, asked) == [petras.records[1], *pauls.records]
    assert [(one.verdict, one.record, one.code) for one in released.withheld] == [
        (0, petras.records[0], "vault.unknown")
    ]
    found = await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert [one.refusal.code for one in found.withheld] == ["vault.unknown"]


async def test_a_record_that_was_erased_since_is_refused_by_its_name(care: Ward) -> None:
    petras, pauls, asked, _ = await ward_round(care)
    whole = await reading.request(care.south, "TREAT", compartments=[petras.compartment])
    erased = petras.records[0]
    body = RequestErasure(new_id(), care.petra.identity, [erased], None, None, "consent-withdrawn")
    await care.patient.submit([operation("erasure.request", body)], certified=True)
    released = obey(care, asked)
    assert named(released, asked) == [petras.records[1], *pauls.records]
    assert [(one.record, one.code) for one in released.withheld] == [(erased, "erasure.erased")]
    # A compartment is what is visible in it.
    rest = obey(care, whole)
    assert (named(rest, whole), rest.withheld) == ([petras.records[1]], ())


# --- the journal ----------------------------------------------------------------------------------------------------


def untold(care: Ward) -> list[tuple[int, int]]:
    return [(one.key.verdict, one.records) for one in care.journal.untold(100)]


async def test_what_is_released_is_in_the_journal_before_it_leaves(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, asked, _ = await ward_round(care)
    order: list[str] = []
    note_ = care.journal.note

    def noted(notes: Any) -> None:
        order.append("noted")
        note_(notes)

    def sealed(answer: Any, ephemeral: bytes) -> bytes:
        order.append("sealed")
        return seal_release(answer, ephemeral)

    monkeypatch.setattr(care.journal, "note", noted)
    monkeypatch.setattr(custodians, "seal_release", sealed)
    obey(care, asked)
    assert order == ["noted", "sealed"]
    assert untold(care) == [(0, 2), (1, 1)]
    store: Any = care.journal._store
    again = ReleaseJournal(store.crash())  # all that is not synced is gone
    assert [(one.key.transaction, one.key.operation) for one in again.untold(9)] == [
        (asked.transaction, 0)
    ] * 2


async def test_what_is_fetched_again_counts_once_and_what_is_withheld_not_at_all(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    petras, _, asked, _ = await ward_round(care)
    monkeypatch.setattr(releasing, "PAGE_PARTIALS_MAX", 1)
    obey(care, asked)
    assert untold(care) == [(0, 1)]
    obey(care, asked)
    assert untold(care) == [(0, 1)]
    await pages(care, asked)
    assert untold(care) == [(0, 2), (1, 1)]
    stored = await care.north.state(records.RECORDS, petras.records[0])
    assert stored is not None
    vault: Any = care.service._vault
    vault._store.write([(schema.ENVELOPE + stored.envelope, None)], sync=True)
    one = await reading.request(care.south, "TREAT", record_ids=petras.records[:1])
    assert refusal(care, one) == "vault.unknown"
    assert untold(care) == [(0, 2), (1, 1)]


async def test_a_journal_that_is_full_stops_the_releases(care: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    _, asked, _ = await allowed(care, 1)
    monkeypatch.setattr(journals, "ROWS_MAX", 0)
    assert refusal(care, asked) == "custodian.untold"


async def test_without_its_share_it_cannot_help(care: Ward) -> None:
    imported, asked, _ = await allowed(care, 1)
    shares: Any = care.custodian._shares
    shares._store.write([(schema.share_key(imported.compartment, 0), None)], sync=True)
    obey(care, asked)  # it is still in memory
    care.custodian._opened.clear()
    assert refusal(care, asked) == "custodian.no_share"


async def test_shares_in_memory_are_bounded(care: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custodians, "SHARES_CACHED_MAX", 2)
    _, asked, _ = await allowed(care, 1)
    kept = dict(care.custodian._opened)
    assert len(kept) > 2
    care.custodian._opened.clear()
    for (compartment, epoch), parcel in kept.items():
        care.custodian._remember(compartment, epoch, parcel)
    assert list(care.custodian._opened) == list(kept)[-2:]
    obey(care, asked)
    assert len(care.custodian._opened) == 2


# --- deposits -------------------------------------------------------------------------------------------------------


def parcel_of(care: Ward, imported: Imported, recipient: bytes | None = None, **changes: Any) -> bytes:
    secret = care.petra.compartment_secret(imported.compartment, 0)
    assert secret is not None
    key = CompartmentKey(care.harness.chain_id, imported.compartment, 0, secret.commitments)
    value = sharing.ShareParcel(1, key, secret.shares[0])
    value = msgspec.structs.replace(value, **changes)
    return boxes.seal_to(recipient or care.harness.wallets[0].encryption_public, codec.encode(value))


async def test_the_committed_share_is_taken_again_without_harm(care: Ward) -> None:
    imported = await care.import_notes(1)
    before = care.custodian.compartments
    care.custodian.deposit(parcel_of(care, imported))
    assert care.custodian.compartments == before


async def test_a_share_that_is_kept_costs_no_second_write(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = await care.import_notes(1)
    care.custodian.deposit(parcel_of(care, imported))
    shares: Any = care.custodian._shares
    writes: list[bytes] = []
    put = shares.put_share

    def counted(compartment: bytes, epoch: int, parcel: bytes) -> None:
        writes.append(compartment)
        put(compartment, epoch, parcel)

    monkeypatch.setattr(shares, "put_share", counted)
    care.custodian.deposit(parcel_of(care, imported))
    assert writes == []
    care.custodian._opened.clear()
    care.custodian.deposit(parcel_of(care, imported))
    assert writes == [imported.compartment]


async def test_what_is_not_the_committed_share_is_refused_and_not_kept(care: Ward) -> None:
    imported = await care.import_notes(1)
    secret = care.petra.compartment_secret(imported.compartment, 0)
    assert secret is not None
    key = CompartmentKey(care.harness.chain_id, imported.compartment, 0, secret.commitments)
    other = make_compartment(1, 1)
    (foreign,) = seal_parcels(
        other,
        CompartmentKey(care.harness.chain_id, b"unknown compart.", 0, other.commitments),
        (care.harness.wallets[0].encryption_public,),
    )
    replace = msgspec.structs.replace
    shares: Any = care.custodian._shares
    before = list(shares._store.iterate(schema.SHARE))
    for parcel, code in (
        (b"", "sealing.wrong_key"),
        (bytes(100), "sealing.wrong_key"),
        (bytes(100_000), "codec.oversized"),
        (parcel_of(care, imported, care.harness.wallets[1].encryption_public), "sealing.wrong_key"),
        (boxes.seal_to(care.harness.wallets[0].encryption_public, b"no parcel"), "codec.malformed"),
        (parcel_of(care, imported, share=other.shares[0]), "sealing.bad_share"),
        (parcel_of(care, imported, share=replace(secret.shares[0], index=2)), "sealing.bad_share"),
        (parcel_of(care, imported, version=2), "sealing.bad_share"),
        (parcel_of(care, imported, key=replace(key, chain_id=bytes(32))), "sealing.bad_share"),
        (parcel_of(care, imported, key=replace(key, commitments=other.commitments)), "sealing.bad_share"),
        (parcel_of(care, imported, key=replace(key, epoch=1)), "custodian.not_ours"),
        (parcel_of(care, imported, key=replace(key, epoch=2**40)), "custodian.not_ours"),
        (foreign, "custodian.not_ours"),
    ):
        with pytest.raises(Refused) as refused:
            care.custodian.deposit(parcel)
        assert code_of(refused) == code
    assert list(shares._store.iterate(schema.SHARE)) == before


async def test_a_custodian_that_the_chain_does_not_name_takes_nothing(care: Ward) -> None:
    imported = await care.import_notes(1)
    stranger = Custodian(
        wallet=care.harness.wallets[1],
        chain_id=care.harness.chain_id,
        ledger=care.custodian._ledger,
        shares=care.custodian._shares,
        envelopes=care.custodian._envelopes,
        journal=care.journal,
        staleness_max_ms=STALENESS_MS,
        clock_ms=care.node.clock.now_ms,
    )
    with pytest.raises(Refused) as refused:
        stranger.deposit(parcel_of(care, imported, care.harness.wallets[1].encryption_public))
    assert code_of(refused) == "custodian.not_ours"


async def test_the_disk_holds_no_share_in_the_clear(care: Ward) -> None:
    shares: Any = care.custodian._shares
    stored = b"".join(key + value for key, value in shares._store.iterate(b""))
    for kept in care.petra.compartments:
        for share in kept.secret.shares:
            assert share.scalar not in stored
            assert codec.encode(share)[-32:] not in stored


def test_the_reader_gives_states_of_the_right_heights() -> None:
    class Store:
        class tip:
            height = 0

        state = "now"

        def state_at(self, height: int) -> str:
            return f"at {height}"

    reader = LedgerReader(Store())  # type: ignore[arg-type]
    states: list[Any] = [reader.tip_state(), reader.certified_state()]
    assert states == ["now", "at 0"]
    Store.tip.height = 5
    states = [reader.certified_state()]
    assert states == ["at 4"]
