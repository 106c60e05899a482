"""What an institution records is whole or not there, and whatever was cut off can be begun again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.client import recording, session
from consilium.client.recording import Payload
from consilium.client.rpc import RpcClient
from consilium.client.wallet import Wallet
from consilium.contracts import identity, records
from consilium.contracts.classes import CLASSES, HIV, PSYCHIATRY
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.storage import schema
from consilium.storage.chain import Place
from tests.unit.node.care import HEADER, Ward, note, ward
from tests.unit.node.harness import wallet_of


class Crash(Exception):
    """The program ends here."""


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with ward() as made:
        yield made


@pytest.fixture
async def admitted(care: Ward) -> Ward:
    await care.admit_petra()
    return care


def code_of(refused: pytest.ExceptionInfo[Refused]) -> str:
    return refused.value.code


def payloads(count: int, size: int = 20) -> list[Payload]:
    return [Payload(note("p", index)[:size], HEADER) for index in range(count)]


async def visible(care: Ward, patient: bytes) -> list[bytes]:
    """The patient's records that a reader could be allowed to see."""
    store = care.node.executor.store
    found = []
    for _, event in store.events_of(patient, Place(-1, -1), 10_000):
        if event.kind == records.ANCHORED.name:
            anchored = codec.decode(event.data, records.Anchored, 1 << 16)
            if records.visible_record(store.state, anchored.record) is not None:
                found.append(anchored.record)
    return found


# --- enrolling ------------------------------------------------------------------------------------------------------


async def test_enrolling_again_is_no_error(care: Ward) -> None:
    doctor = wallet_of("doctor")
    for _ in range(2):
        assert await recording.enrol(care.north, "practitioner", doctor) == doctor.identity
    known = await care.north.identity_of(doctor.identity)
    assert (known.kind, known.sponsor, known.encryption_key) == (
        "practitioner",
        care.north.identity,
        doctor.encryption_public,
    )


async def test_what_another_enrolled_is_not_taken_over(care: Ward) -> None:
    doctor = wallet_of("doctor")
    await recording.enrol(care.north, "practitioner", doctor)
    for who, kind in ((care.south, "practitioner"), (care.north, "patient")):
        with pytest.raises(Refused) as refused:
            await recording.enrol(who, kind, doctor)  # type: ignore[arg-type]
        assert code_of(refused) == "identity.key_taken"


async def test_an_enrolment_proves_the_newcomers_key_for_this_sponsor(care: Ward) -> None:
    doctor = wallet_of("doctor")
    norths = recording.enrolment(care.north, "practitioner", doctor)
    with pytest.raises(Refused) as refused:
        await care.south.submit([norths])
    assert code_of(refused) == "identity.bad_proof"
    assert await care.south.state(identity.IDENTITIES, doctor.identity) is None


# --- opening compartments -------------------------------------------------------------------------------------------


async def open_for(care: Ward, patient: Wallet, saved: list[Wallet]) -> Wallet:
    return await recording.open_compartments(
        care.session(patient), patient, care.harness.wallets[0].identity, saved.append
    )


async def test_every_class_is_opened_with_a_secret_that_the_patient_keeps(care: Ward) -> None:
    patient = wallet_of("paul")
    await recording.enrol(care.north, "patient", patient)
    saved: list[Wallet] = []
    opened = await open_for(care, patient, saved)
    state = await care.north.state(records.PATIENTS, patient.identity)
    assert state is not None
    assert len(state.compartments) == len(CLASSES)
    assert sorted(kept.compartment for kept in opened.compartments) == state.compartments
    assert [one.compartments for one in saved] == [opened.compartments]
    general, number, epoch = await recording.general_compartment(care.north, patient.identity)
    secret = opened.compartment_secret(general, number)
    assert secret is not None
    assert epoch.point == secret.point
    assert care.custodian.compartments == len(CLASSES)


async def test_nothing_is_published_that_the_patient_could_lose(care: Ward) -> None:
    """A crash while the wallet is being saved: nothing is on the chain, and it can be begun again."""
    patient = wallet_of("paul")
    await recording.enrol(care.north, "patient", patient)

    def crash(wallet: Wallet) -> None:
        raise Crash

    with pytest.raises(Crash):
        await recording.open_compartments(care.session(patient), patient, care.north.identity, crash)
    assert await care.north.state(records.PATIENTS, patient.identity) is None
    await open_for(care, patient, [])


@pytest.mark.parametrize("at", range(12))
async def test_opening_goes_on_where_a_crash_stopped_it(care: Ward, at: int) -> None:
    """Cut off at any call to the node, with the wallet as it was saved last, and begun again."""
    patient = wallet_of("paul")
    await recording.enrol(care.north, "patient", patient)
    saved = [patient]
    calls = 0

    def cut(method: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 1 + 3 * at:
            raise Crash

    whole, care.rpc._called = care.rpc._called, cut  # type: ignore[method-assign]
    try:
        await open_for(care, patient, saved)
    except Crash:
        care.rpc._called = whole  # type: ignore[method-assign]
        await care.tick()
        await open_for(care, saved[-1], saved)
    else:
        care.rpc._called = whole  # type: ignore[method-assign]
    general, number, epoch = await recording.general_compartment(care.north, patient.identity)
    secret = saved[-1].compartment_secret(general, number)
    assert secret is not None
    assert epoch.point == secret.point
    assert care.custodian.compartments == len(CLASSES)


# --- importing ------------------------------------------------------------------------------------------------------


async def test_an_import_is_one_bundle_in_the_order_of_the_payloads(admitted: Ward) -> None:
    progress: list[tuple[int, int]] = []
    imported = await recording.import_records(
        admitted.north,
        admitted.petra.identity,
        payloads(5),
        lambda done, total: progress.append((done, total)),
    )
    assert await visible(admitted, admitted.petra.identity) == list(imported.records)
    assert len(set(imported.records)) == 5
    await admitted.tick()
    for position, identifier in enumerate(imported.records):
        record = await admitted.north.state(records.RECORDS, identifier)
        assert record is not None
        assert (record.position, record.author, record.compartment) == (
            position,
            admitted.north.identity,
            imported.compartment,
        )
        assert await admitted.service.get_envelope(record.envelope)
    assert progress[0][0] == 5
    assert progress[-1] == (10, 10)
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)


async def test_no_byte_of_a_payload_reaches_chain_or_vault_in_the_clear(admitted: Ward) -> None:
    secret = b"a canary that must not be found anywhere"
    await recording.import_records(
        admitted.north, admitted.petra.identity, [Payload(secret, HEADER), Payload(secret, HEADER)]
    )
    for kv in (admitted.node.executor.store._store, admitted.service._vault._store):  # type: ignore[attr-defined]
        assert all(secret not in value for _, value in kv.iterate(b""))
        assert all(HEADER.media_type.encode() not in value for _, value in kv.iterate(b""))


@pytest.mark.parametrize("at", range(10))
async def test_an_import_that_is_cut_off_leaves_nothing_visible_and_can_be_repeated(
    admitted: Ward, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(session, "OPERATIONS_MAX", 3)
    monkeypatch.setattr(recording, "ENVELOPES_PER_CALL_MAX", 3)
    calls: list[str] = []

    def cut(method: str) -> None:
        calls.append(method)
        if method in ("put_envelopes", "submit", "wait") and calls.count(method) > at // 3:
            kinds = ("put_envelopes", "submit", "wait")
            if method == kinds[at % 3]:
                raise Crash

    whole, admitted.rpc._called = admitted.rpc._called, cut  # type: ignore[method-assign]
    finished = False
    try:
        await recording.import_records(admitted.north, admitted.petra.identity, payloads(8))
        finished = True
    except Crash:
        pass
    admitted.rpc._called = whole  # type: ignore[method-assign]
    await admitted.tick()
    seen = await visible(admitted, admitted.petra.identity)
    # The last word may have reached the ledger though its answer was lost: then it is all there.
    assert len(seen) in ((8,) if finished else (0, 8))
    again = await recording.import_records(admitted.north, admitted.petra.identity, payloads(8))
    assert (await visible(admitted, admitted.petra.identity))[len(seen) :] == list(again.records)


async def test_envelopes_are_durable_before_anything_names_them(admitted: Ward) -> None:
    admitted.rpc.calls.clear()
    await recording.import_records(admitted.north, admitted.petra.identity, payloads(3))
    calls = admitted.rpc.calls
    assert calls.index("put_envelopes") < calls.index("submit")
    vault: Any = admitted.service._vault
    assert vault._store.unsynced_writes == 0


async def test_a_vault_that_refuses_stops_the_import(admitted: Ward) -> None:
    admitted.rpc.fail["put_envelopes"] = [Refused("vault.oversized")]
    with pytest.raises(Refused):
        await recording.import_records(admitted.north, admitted.petra.identity, payloads(2))
    assert await visible(admitted, admitted.petra.identity) == []


async def test_what_cannot_be_imported_is_refused_before_anything_is_stored(admitted: Ward) -> None:
    nobody = wallet_of("nobody").identity
    sensitive = [Payload(b"x", HEADER, (HIV, PSYCHIATRY))]
    for patient, given_payloads, code in (
        (admitted.petra.identity, [], "records.bundle_too_large"),
        (admitted.petra.identity, payloads(1) * (records.BUNDLE_RECORDS_MAX + 1), "records.bundle_too_large"),
        (nobody, payloads(1), "records.unknown_compartment"),
        (admitted.petra.identity, sensitive, "records.class_map_missing"),
    ):
        admitted.rpc.calls.clear()
        with pytest.raises(Refused) as refused:
            await recording.import_records(admitted.north, patient, given_payloads)
        assert code_of(refused) == code
        assert "put_envelopes" not in admitted.rpc.calls
    assert list(admitted.service._vault._store.iterate(schema.ENVELOPE)) == []  # type: ignore[attr-defined]


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 12), st.integers(1, 7))
def test_groups_keep_order_and_limits(sizes: list[int], bytes_max: int, count_max: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "ENVELOPE_CALL_BYTES", bytes_max)
        patch.setattr(recording, "ENVELOPES_PER_CALL_MAX", count_max)
        given_payloads = [Payload(bytes(size), HEADER) for size in sizes]
        groups = recording._grouped(given_payloads)
    assert [one for group in groups for one in group] == given_payloads
    for group in groups:
        assert 1 <= len(group) <= count_max
        assert len(group) == 1 or sum(len(one.raw) for one in group) <= bytes_max


class Behind:
    """A custodian's node that is behind for so many calls."""

    def __init__(self, calls: int, code: str = "vault.behind") -> None:
        self.left, self.code = calls, code
        self.taken: list[bytes] = []

    async def deposit_share(self, parcel: bytes) -> None:
        if self.left:
            self.left -= 1
            raise Refused(self.code)
        self.taken.append(parcel)


async def test_a_node_that_has_just_started_is_given_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "BEHIND_PAUSE_S", 0.0)
    late = Behind(recording.BEHIND_ATTEMPTS - 1)
    await recording._deposited(cast(RpcClient, late), b"parcel")
    assert late.taken == [b"parcel"]
    for refusing in (Behind(recording.BEHIND_ATTEMPTS), Behind(1, "custodian.disabled")):
        with pytest.raises(Refused) as refused:
            await recording._deposited(cast(RpcClient, refusing), b"parcel")
        assert code_of(refused) == refusing.code
        assert refusing.taken == []
