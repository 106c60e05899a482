"""What parties with valid keys try to get beyond their rights: each test is an attack that once worked."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import (
    access,
    accounting,
    ballot,
    consent,
    delegation,
    emergency,
    records,
    recovery,
    retention,
    summaries,
)
from consilium.contracts import (
    rekeying as rekeyed,
)
from consilium.contracts.classes import HIV
from consilium.contracts.erasure import EPOCHS_PER_ERASURE_MAX
from consilium.contracts.forgetting import ErasureVerdict, RequestErasure
from consilium.ledger import codec
from tests.unit.contracts import care, summarising
from tests.unit.contracts import world as w
from tests.unit.contracts.care import FRESH, QUARTER_DAY
from tests.unit.contracts.world import DAN, DAY_MS, DORA, NORTH, PAUL, PETRA, SOUTH, WEST, World, some

GENERAL_PLACE = w.compartment_of(PETRA)
HIV_PLACE = w.compartment_of(PETRA, HIV)
SHIFT = w.actor("a session key that south opened for dora")
SAM = w.actor("sam")


@pytest.fixture
def world() -> World:
    return World().populate()


def asked(
    world: World,
    who: w.Actor,
    purpose: str = "TREAT",
    place: bytes = GENERAL_PLACE,
    key: w.Actor | None = None,
) -> access.Verdict:
    body = w.asking(compartments=[place], purpose=purpose)
    leaf = world.ok(key or who, body, sender=who.id)
    return codec.decode(leaf.results[0], access.Decision, 1 << 16).verdicts[0]


# --- an institution that countersigns its own staff ----------------------------------------------------------------


def test_an_employer_does_not_countersign_what_its_own_employee_grants(world: World) -> None:
    """South employs the patient's delegate, opens a session for her, and would be both signatures."""
    world.ok(SOUTH, world.enrolment(SAM, SOUTH, "practitioner"))
    world.ok(PETRA, care.appointing(DORA, capacity="delegate"))
    body = w.granting("x", SAM, compartments=[HIV_PLACE], purposes=["HMARKT"], not_after=QUARTER_DAY)
    signed = w.attested(world, DORA, body, "countersignature", SOUTH)
    assert world.refused(DORA, signed) == "attestation.not_independent"
    world.ok(DORA, w.attested(world, DORA, body, "countersignature", NORTH))


def test_the_institution_of_an_actor_does_not_countersign(world: World) -> None:
    """Neither for its practitioner nor for a team that it formed."""
    world.ok(SOUTH, care.forming())
    for label, actor in (("practitioner", DORA), ("team", care.TEAM)):
        body = w.granting(label, actor, compartments=[HIV_PLACE])
        signed = w.attested(world, NORTH, body, "countersignature", SOUTH)
        assert world.refused(NORTH, signed) == "attestation.not_independent"
        world.ok(NORTH, w.attested(world, NORTH, body, "countersignature", WEST))


def test_the_employer_of_a_guardian_does_not_countersign_the_appointment(world: World) -> None:
    body = care.appointing(DORA)
    signed = w.attested(world, NORTH, body, "countersignature", SOUTH)
    assert world.refused(NORTH, signed) == "attestation.not_independent"
    world.ok(NORTH, w.attested(world, NORTH, body, "countersignature", WEST))


# --- an employer with the session keys of its staff ----------------------------------------------------------------


def test_an_employer_does_not_become_the_patient_by_its_employees_guardianship(world: World) -> None:
    world.ok(PETRA, care.appointing(DORA))
    world.ok(SOUTH, care.beginning_session(world, SHIFT))
    proposal = care.proposing_recovery(world)
    assert world.refused(SHIFT, proposal, sender=DORA.id) == "identity.session_key"
    world.ok(DORA, proposal)
    world.time_ms += 4 * DAY_MS
    again = w.actor("another session key")
    world.ok(SOUTH, care.beginning_session(world, again))
    completion = recovery.CompleteRecovery(PETRA.id, FRESH.key.public)
    assert world.refused(again, completion, sender=DORA.id) == "identity.session_key"
    world.ok(DORA, completion)


def test_an_employer_does_not_represent_whom_its_employee_represents(world: World) -> None:
    world.ok(PETRA, care.appointing(DORA))
    world.ok(PETRA, w.granting("mine", SOUTH))
    world.ok(SOUTH, care.beginning_session(world, SHIFT))
    grant = w.granting("g", SOUTH, compartments=[GENERAL_PLACE])
    erasure = RequestErasure(some("e"), PETRA.id, None, GENERAL_PLACE, 0, "objected")
    for body in (grant, w.revoking("mine"), erasure):
        assert world.refused(SHIFT, body, sender=DORA.id) == "identity.session_key"
    world.ok(DORA, grant)


def test_a_session_key_passes_nothing_on_that_would_outlast_the_shift(world: World) -> None:
    world.ok(PETRA, w.granting("t", DORA, transferable=True))
    world.ok(SOUTH, care.beginning_session(world, SHIFT))
    body = delegation.PassOn(
        some("p"), some("consent/t"), SOUTH.id, ["TREAT"], None, 0, w.START_MS + 20 * DAY_MS
    )
    assert world.refused(SHIFT, body, sender=DORA.id) == "identity.session_key"
    world.ok(DORA, body)


# --- an institution that wants others to look guilty ----------------------------------------------------------------


def report(
    world: World, entry: summaries.SummaryOpening
) -> tuple[summaries.SummaryOpened, accounting.Opened]:
    """What an entry becomes: what the patient is told, and the line of the accounting."""
    world.ok(SOUTH, summarising.reporting(world, entry=entry))
    (told,) = [
        codec.decode(one.data, summaries.SummaryOpened, 4_096)
        for one in world.events
        if one.kind == summaries.OPENED.name
    ]
    (line,) = [
        line for one in world.events if one.kind in accounting.KINDS for line in accounting.lines_of(one)
    ]
    assert isinstance(line.content, accounting.Opened)
    return told, line.content


def test_an_opening_is_not_signed_with_session_keys(world: World) -> None:
    summarising.switch_on(world)
    world.ok(SOUTH, summarising.setting_key(world))
    keys = [w.actor(f"shift {number}") for number in range(2)]
    world.ok(SOUTH, care.beginning_session(world, keys[0]))
    world.ok(SOUTH, care.beginning_session(world, keys[1], practitioner=summarising.SAM))
    entry = summarising.opening(world)
    digest = summaries.request_digest(
        chain_id=world.chain_id,
        institution=SOUTH.id,
        summary=entry.summary,
        reason=entry.reason,
        opener=entry.opener,
        second=entry.second,
        opened_ms=entry.opened_ms,
    )
    forged = msgspec.structs.replace(
        entry,
        opener_key=keys[0].key.public,
        opener_signature=keys[0].key.sign(digest),
        second_key=keys[1].key.public,
        second_signature=keys[1].key.sign(digest),
    )
    told, line = report(world, forged)
    assert not told.is_sound
    assert (line.opener, line.second) == (SOUTH.id, SOUTH.id)


def test_an_institution_does_not_write_strangers_into_an_accounting(world: World) -> None:
    """Dan of North and Sam never signed anything: South answers for its entry alone."""
    summarising.switch_on(world)
    entry = msgspec.structs.replace(
        summarising.opening(world), opener=DAN.id, opener_signature=bytes(64), second_signature=bytes(64)
    )
    told, line = report(world, entry)
    assert not told.is_sound
    assert (line.opener, line.second, line.institution) == (SOUTH.id, SOUTH.id, SOUTH.id)
    assert not any({DAN.id, summarising.SAM.id} & {*event.subjects} for event in world.events)
    glass = emergency.GLASSES.get(world.state, entry.glass)
    assert glass is not None
    assert (glass.clinician, glass.second, glass.institution) == (SOUTH.id, None, SOUTH.id)
    assert world.refused(SOUTH, emergency.ReviewEmergency(entry.glass, "justified")) == (
        "emergency.not_independent"
    )
    world.ok(NORTH, emergency.ReviewEmergency(entry.glass, "unjustified"))


# --- a guardian, a manager -------------------------------------------------------------------------------------------


def test_a_guardian_does_not_lift_a_denial_beyond_the_general_class(world: World) -> None:
    world.ok(PETRA, care.appointing(PAUL))
    world.ok(PETRA, w.granting("yes", None, compartments=[HIV_PLACE]))
    world.ok(PETRA, w.granting("no", SOUTH, purposes=None, effect="deny"))
    world.ok(PETRA, w.granting("general", WEST, purposes=None, effect="deny", compartments=[GENERAL_PLACE]))
    assert world.refused(PAUL, w.revoking("no")) == "consent.not_the_patient"
    assert not asked(world, SOUTH, place=HIV_PLACE).allow
    # What a guardian may say anything about, and what merely opens, it takes back.
    world.ok(PAUL, w.revoking("general"))
    world.ok(PAUL, w.revoking("yes"))


def test_a_patient_can_shut_out_a_proxy(world: World) -> None:
    world.ok(PETRA, care.appointing(PAUL))
    world.ok(PETRA, w.granting("yes", None, purposes=["PATRQT"]))
    assert asked(world, PAUL, "PATRQT").basis == "representative"
    world.ok(PETRA, w.granting("no", None, purposes=None, effect="deny"))
    assert asked(world, PAUL, "PATRQT").basis == "denied"
    assert asked(world, PETRA, "PATRQT").allow
    assert world.refused(PAUL, w.revoking("no")) == "consent.not_the_patient"


def test_a_permit_to_everybody_is_none_to_patients(world: World) -> None:
    world.ok(PETRA, w.granting("yes", None, purposes=["TREAT", "PATRQT"]))
    for purpose in ("TREAT", "PATRQT"):
        assert asked(world, PAUL, purpose).basis == "no-basis"


def test_others_leave_room_for_the_patients_own_denial(world: World) -> None:
    for number in range(consent.CONSENTS_OF_OTHERS_MAX):
        world.ok(NORTH, w.granting(f"n{number}", SOUTH, compartments=[GENERAL_PLACE]))
    one_more = w.granting("more", SOUTH, compartments=[GENERAL_PLACE])
    assert world.refused(NORTH, one_more) == "consent.too_many"
    world.ok(PETRA, w.granting("no", SOUTH, purposes=None, effect="deny"))
    assert asked(world, SOUTH).basis == "denied"


def test_what_was_granted_with_a_kept_key_does_not_outlast_a_take_over(world: World) -> None:
    """North made Petra's first key, and permits itself everything for ever in her name."""
    trojan = w.granting("trojan", NORTH, purposes=["TREAT", "HMARKT"], not_after=2**52, transferable=True)
    world.ok(PETRA, trojan)
    passed = delegation.PassOn(some("p"), trojan.consent, DORA.id, ["TREAT"], None, 0, 2**51)
    world.ok(NORTH, passed)
    open_before = world.ask(NORTH, compartments=[HIV_PLACE], purpose="HMARKT")
    assert open_before.verdicts[0].allow
    world.ok(PETRA, w.granting("never", WEST, purposes=None, effect="deny"))
    world.ok(PETRA, care.taking_over(world))
    assert asked(world, NORTH, "HMARKT", HIV_PLACE).basis == "no-basis"
    assert asked(world, DORA).basis == "no-basis"
    again = msgspec.structs.replace(passed, consent=some("again"))
    assert world.refused(NORTH, again) == "delegation.parent_ended"
    # A denial opens nothing, and stands until who took over takes it back.
    world.ok(FRESH, w.granting("all", None), sender=PETRA.id)
    assert asked(world, SOUTH).allow
    assert asked(world, WEST).basis == "denied"
    world.ok(FRESH, w.revoking("never"), sender=PETRA.id)
    assert asked(world, WEST).allow


def rekeying(patient: w.Actor, code: int, label: str) -> records.BeginEpoch:
    sensitive = code != 0
    points = [w.some_point(f"{label}/{part}") for part in range(1 + sensitive)]
    return records.BeginEpoch(w.compartment_of(patient, code), points, [NORTH.id, SOUTH.id][: len(points)])


def test_nobody_gives_what_the_patient_keyed_another_key(world: World) -> None:
    """Who makes a key reads what is sealed to it: a manager that keeps the envelopes needs no decision then."""
    pat = w.actor("pat")
    world.ok(NORTH, world.enrolment(pat, NORTH, "patient"))
    world.ok(pat, w.opening(pat))
    world.ok(pat, care.appointing(PAUL, patient=pat))
    for who in (NORTH, PAUL):
        for code in (0, HIV):
            assert world.refused(who, rekeying(pat, code, "known")) == "records.patients_own_key"
    world.ok(pat, rekeying(pat, HIV, "own"))
    # A key that the manager made is the manager's to replace, until the patient makes one.
    world.ok(NORTH, rekeying(PETRA, HIV, "by the manager"))
    world.ok(PETRA, rekeying(PETRA, HIV, "by the patient"))
    assert world.refused(NORTH, rekeying(PETRA, HIV, "again")) == "records.patients_own_key"


def test_a_manager_does_not_use_epochs_up(world: World) -> None:
    """Without a key left there is no take-over, and what looks at every epoch could not be erased."""
    for number in range(rekeyed.EPOCHS_OF_OTHERS_MAX):
        world.ok(NORTH, rekeying(PETRA, 0, f"burn {number}"))
    assert world.refused(NORTH, rekeying(PETRA, 0, "more")) == "records.too_many_epochs"
    world.ok(NORTH, rekeying(PETRA, HIV, "another compartment"))
    world.time_ms += rekeyed.EPOCHS_OF_OTHERS_MS
    world.ok(NORTH, rekeying(PETRA, 0, "a month later"))
    world.ok(PETRA, rekeying(PETRA, 0, "the patient's own"))


def test_many_epochs_are_erased_in_steps(world: World) -> None:
    for number in range(EPOCHS_PER_ERASURE_MAX + 1):
        world.ok(PETRA, rekeying(PETRA, 0, f"e{number % 2}"))
    world.ok(NORTH, w.anchoring("r", PETRA, epoch=EPOCHS_PER_ERASURE_MAX + 1))

    def erasing(label: str, through: int | None) -> RequestErasure:
        place = None if through is None else GENERAL_PLACE
        return RequestErasure(some(label), PETRA.id, None, place, through, "objected")

    for through in (None, EPOCHS_PER_ERASURE_MAX):
        assert world.refused(PETRA, erasing("at once", through)) == "erasure.too_large"
    world.ok(PETRA, erasing("step", EPOCHS_PER_ERASURE_MAX - 1))
    world.ok(PETRA, erasing("next step", EPOCHS_PER_ERASURE_MAX))
    leaf = world.ok(PETRA, erasing("the rest", None))
    verdict = codec.decode(leaf.results[0], ErasureVerdict, 1 << 16)
    assert verdict.outcome == "carried-out"
    assert {NORTH.id, SOUTH.id} <= {*verdict.holders}


# --- an authority that is one no more --------------------------------------------------------------------------------


def test_a_former_authority_holds_nothing_of_others_back(world: World) -> None:
    hold = retention.PlaceHold(some("h"), PETRA.id, None, True, "court-order", world.time_ms + 1_000 * DAY_MS)
    world.ok(WEST, hold)

    def erase(label: str) -> str:
        body = RequestErasure(some(label), PETRA.id, None, None, None, "objected")
        return codec.decode(world.ok(PETRA, body).results[0], ErasureVerdict, 1 << 16).outcome

    # A suspension may be lifted again, and what is erased is gone for good.
    world.ok(NORTH, w.proposing("out", ballot.SuspendInstitution(WEST.id)))
    assert erase("while suspended") == "refused"
    world.ok(NORTH, w.proposing("in", ballot.ReinstateInstitution(WEST.id)))
    world.ok(NORTH, w.proposing("no authority", ballot.ChangeRoles(WEST.id, ["issuer"])))
    assert erase("after") == "carried-out"
