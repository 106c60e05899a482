"""Break-glass: who, with whom, for how long, what it opens, who is told, and what it owes."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import access, credentials, emergency, identity, preferences, settings
from consilium.contracts.classes import PSYCHIATRY
from consilium.ledger import codec
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DAN, DORA, NORTH, PAUL, PETRA, SOUTH, WEST, World

PLACE = w.compartment_of(PETRA)
SENSITIVE = w.compartment_of(PETRA, PSYCHIATRY)


@pytest.fixture
def world() -> World:
    return care.with_licence(World().populate())


def ask(
    world: World, purpose: str = "BTG", compartment: bytes = PLACE, who: w.Actor = DORA
) -> access.Verdict:
    return world.ask(who, compartments=[compartment], purpose=purpose).verdicts[0]


def test_the_glass_opens_for_emergencies_and_nothing_else(world: World) -> None:
    assert ask(world).basis == "no-basis"
    world.ok(DORA, care.declaring(world))
    for purpose in ("ETREAT", "BTG", "ERTREAT"):
        verdict = ask(world, purpose)
        assert (verdict.allow, verdict.basis, verdict.ground) == (True, "break-glass", care.glass())
    for purpose in ("TREAT", "HPAYMT", "HRESCH"):
        assert not ask(world, purpose).allow
    # Another patient, another clinician, the employer.
    assert not ask(world, compartment=w.compartment_of(PAUL)).allow
    assert not ask(world, who=DAN).allow
    assert not ask(world, who=SOUTH).allow


def test_it_opens_sensitive_classes_against_a_denial(world: World) -> None:
    world.ok(PETRA, w.granting("no", None, purposes=None, effect="deny"))
    assert ask(world, compartment=SENSITIVE).basis == "denied"
    world.ok(DORA, care.declaring(world))
    assert ask(world, compartment=SENSITIVE).basis == "break-glass"


def test_it_ends_by_itself_and_is_closed_early(world: World) -> None:
    world.ok(DORA, care.declaring(world))
    verdict = ask(world)
    assert verdict.valid_until == world.time_ms + access.RELEASE_WINDOW_MS
    world.time_ms += care.HOUR_MS - 3 * w.STEP_MS - 1
    assert ask(world).allow
    assert not ask(world).allow
    world.ok(DORA, care.declaring(world, "second"))
    decision = world.ask(DORA, compartments=[PLACE], purpose="BTG")
    world.ok(SOUTH, emergency.Close(care.glass("second")))
    assert not ask(world).allow
    code = access.still_stands(world.state, decision, decision.verdicts[0], world.time_ms)
    assert code == "access.not_allowed"
    assert world.refused(SOUTH, emergency.Close(care.glass("second"))) == "emergency.over"


def test_the_patients_emergency_denial_comes_first(world: World) -> None:
    world.ok(DORA, care.declaring(world))
    world.ok(PETRA, w.granting("c", SOUTH))
    world.ok(PETRA, preferences.Preferences(emergency_deny=True, opt_out=False))
    assert ask(world).basis == "emergency-deny"
    assert ask(world, "TREAT").basis == "consent"
    world.ok(PETRA, preferences.Preferences(emergency_deny=False, opt_out=False))
    assert ask(world).basis == "break-glass"


def test_the_licence_is_from_another_than_the_employer(world: World) -> None:
    body = care.declaring(
        world,
        "dan",
        clinician=DAN,
        second=DORA,
        credential="dan's licence",
        second_credential="licence",
    )
    world.ok(DAN, body)
    # West may not license whom it employs; and a licence falls when its issuer becomes the employer.
    nurse = w.actor("nurse")
    world.ok(WEST, world.enrolment(nurse, WEST, "practitioner"))
    assert world.refused(WEST, care.licensing(world, nurse, "n")) == "credential.own_employee"


def test_another_persons_or_kind_of_credential_opens_nothing(world: World) -> None:
    world.ok(WEST, care.licensing(world, DAN, "dan's"), care.licensing(world, DORA, "program", "part2"))
    for credential in ("dan's", "program", "none"):
        body = care.declaring(world, credential=credential)
        assert world.refused(DORA, body) == "credential.unknown"


def test_a_revoked_licence_stops_what_was_decided(world: World) -> None:
    world.ok(DORA, care.declaring(world))
    decision = world.ask(DORA, compartments=[PLACE], purpose="BTG")
    assert access.still_stands(world.state, decision, decision.verdicts[0], world.time_ms) is None
    world.ok(WEST, credentials.RevokeCredential(w.some("credential/licence")))
    code = access.still_stands(world.state, decision, decision.verdicts[0], world.time_ms)
    assert code == "access.not_allowed"
    assert not ask(world).allow
    assert world.refused(DORA, care.declaring(world, "again")) == "credential.revoked"


def test_an_expired_licence_and_a_suspended_issuer(world: World) -> None:
    short = msgspec.structs.replace(care.licensing(world, DORA, "short"), not_after=world.time_ms + 5_000)
    world.ok(WEST, short)
    world.time_ms += 10_000
    assert world.refused(DORA, care.declaring(world, credential="short")) == "credential.expired"
    known = identity.IDENTITIES.get(world.state, WEST.id)
    assert known is not None
    world.state.values[identity.IDENTITIES.key(WEST.id)] = codec.encode(
        msgspec.structs.replace(known, status="suspended")
    )
    assert world.refused(DORA, care.declaring(world)) == "credential.issuer_not_accredited"


def test_the_second_person_is_another_practitioner_and_signed_this(world: World) -> None:
    assert world.refused(DORA, care.declaring(world, second=None)) == "attestation.missing"
    for second in (DORA, NORTH, PETRA):
        body = care.declaring(world, second=second)
        assert world.refused(DORA, body) == "attestation.not_independent"
    longer = msgspec.structs.replace(care.declaring(world), not_after=world.time_ms + 2 * care.HOUR_MS)
    assert world.refused(DORA, longer) == "attestation.bad_signature"
    # Dan signed for Dora: nobody else uses it.
    world.ok(WEST, care.licensing(world, DAN, "licence-2"))
    assert world.refused(DAN, care.declaring(world)) in ("attestation.bad_signature", "credential.unknown")


def test_an_employer_with_sessions_for_both_breaks_no_glass(world: World) -> None:
    """Session keys are the employer's word: it opens them for all of its staff, at any time."""
    colleague = w.actor("colleague")
    world.ok(SOUTH, world.enrolment(colleague, SOUTH, "practitioner"))
    world.ok(WEST, care.licensing(world, colleague, "colleague's"))
    shifts = {one.name: w.actor(f"shift of {one.name}") for one in (DORA, colleague)}
    for one in (DORA, colleague):
        world.ok(SOUTH, care.beginning_session(world, shifts[one.name], practitioner=one))
    bare = care.declaring(world, second=None)
    bare = msgspec.structs.replace(bare, second_credential=w.some("credential/colleague's"))
    by_session = w.attested(world, DORA, bare, "second", colleague, shifts["colleague"])
    by_card = w.attested(world, DORA, bare, "second", colleague)
    for clinician, body in (
        (shifts["dora"], by_session),
        (shifts["dora"], by_card),
        (DORA, by_session),
    ):
        assert world.refused(clinician, body, sender=DORA.id) == "credential.key_not_bound"
    # Nor with a lasting key that the issuer never saw.
    spare = w.actor("dora's spare key")
    digest = identity.addition_digest(chain_id=world.chain_id, identity=DORA.id, key=spare.key.public)
    world.ok(DORA, identity.AddKey(spare.key.public, spare.key.sign(digest)))
    assert world.refused(spare, by_card, sender=DORA.id) == "credential.key_not_bound"
    world.ok(DORA, by_card)
    # Reading in the emergency is done with the shift's key.
    asked = w.asking(compartments=[PLACE], purpose="BTG")
    leaf = world.ok(shifts["dora"], asked, sender=DORA.id)
    assert codec.decode(leaf.results[0], access.Decision, 1 << 16).verdicts[0].basis == "break-glass"


def test_no_session_key_is_bound_to_a_licence(world: World) -> None:
    shift = w.actor("a shift")
    world.ok(SOUTH, care.beginning_session(world, shift))
    assert world.refused(WEST, care.licensing(world, DORA, "s", holder=shift)) == "credential.bad_holder"
    unproved = msgspec.structs.replace(care.licensing(world, DORA, "u"), proof=bytes(64))
    assert world.refused(WEST, unproved) == "credential.bad_holder"
    halved = msgspec.structs.replace(care.licensing(world, DORA, "h"), holder=None)
    assert world.refused(WEST, halved) == "credential.bad_holder"
    # Without a holder it is a credential, and breaks no glass.
    plain = msgspec.structs.replace(care.licensing(world, DORA, "plain"), holder=None, proof=None)
    world.ok(WEST, plain)
    assert world.refused(DORA, care.declaring(world, credential="plain")) == "credential.key_not_bound"


def test_the_issuer_employs_neither_of_the_two(world: World) -> None:
    """North employs Dan: what it says of Dora is not the word of somebody outside."""
    known = identity.IDENTITIES.get(world.state, NORTH.id)
    assert known is not None
    world.state.values[identity.IDENTITIES.key(NORTH.id)] = codec.encode(
        msgspec.structs.replace(known, roles=[*known.roles, "issuer"])
    )
    world.ok(NORTH, care.licensing(world, DORA, "north's", issuer=NORTH))
    body = care.declaring(world, credential="north's")
    assert world.refused(DORA, body) == "credential.issuer_not_independent"


def test_the_second_has_a_licence_that_stands(world: World) -> None:
    assert world.refused(DORA, care.declaring(world, second_credential="licence")) == "credential.unknown"
    missing = msgspec.structs.replace(care.declaring(world, second=None), second_credential=None)
    signed = w.attested(world, DORA, missing, "second", DAN)
    assert world.refused(DORA, signed) == "credential.unknown"
    world.ok(WEST, credentials.RevokeCredential(w.some("credential/dan's licence")))
    assert world.refused(DORA, care.declaring(world)) == "credential.revoked"


def test_who_owes_reviews_is_found_from_one_entry(world: World) -> None:
    assert emergency.institutions_owing(world.state) == []
    for label in ("a", "b"):
        world.ok(DORA, care.declaring(world, label))
        assert emergency.institutions_owing(world.state) == [SOUTH.id]
    world.ok(WEST, emergency.ReviewEmergency(care.glass("a"), "justified"))
    assert emergency.institutions_owing(world.state) == [SOUTH.id]
    world.ok(WEST, emergency.ReviewEmergency(care.glass("b"), "unclear"))
    assert emergency.institutions_owing(world.state) == []


def test_a_network_may_do_without_a_second_person(world: World) -> None:
    lax = msgspec.structs.replace(settings.DEFAULTS, second_person=False)
    world.state.values[settings.SETTINGS.key()] = codec.encode(lax)
    world.ok(DORA, care.declaring(world, second=None))
    # Who signs all the same is held to it.
    assert world.refused(DORA, care.declaring(world, "b", second=DORA)) == "attestation.not_independent"


def test_the_patient_is_told_and_of_what_is_sensitive_no_proxy(world: World) -> None:
    care.with_guardians(world, PAUL)
    world.ok(DORA, care.declaring(world))
    (told,) = world.events
    assert (told.kind, told.subjects) == ("emergency.declared", [PETRA.id, DORA.id, SOUTH.id, DAN.id])
    ask(world)
    (notice,) = [event for event in world.events if event.kind == "access.notice"]
    assert notice.subjects == [PETRA.id, PAUL.id]
    assert codec.decode(notice.data, access.AccessNotice, 256) == access.AccessNotice(
        DORA.id, "break-glass", care.glass()
    )
    ask(world, compartment=SENSITIVE)
    (notice,) = [event for event in world.events if event.kind == "access.notice"]
    assert notice.subjects == [PETRA.id]


def test_reviews_are_owed_counted_and_done_by_others(world: World) -> None:
    world.ok(DORA, care.declaring(world))
    due = world.time_ms + settings.DEFAULTS.review_ms
    owed = emergency.REVIEWS.get(world.state, SOUTH.id)
    assert owed == emergency.Reviews([emergency.OpenReview(care.glass(), due)], 0, 0)
    assert emergency.overdue_reviews(owed, due - 1) == ()
    assert emergency.overdue_reviews(owed, due) == tuple(owed.open)
    review = emergency.ReviewEmergency(care.glass(), "unjustified")
    for involved in (SOUTH, NORTH, DAN, PETRA):
        assert world.refused(involved, review) == "emergency.not_independent"
    world.ok(WEST, review)
    kept = emergency.GLASSES.get(world.state, care.glass())
    assert kept is not None
    assert (kept.reviewer, kept.outcome, kept.reviewed_ms) == (WEST.id, "unjustified", world.time_ms)
    assert emergency.reviews_of(world.state, SOUTH.id).open == []
    assert world.refused(WEST, review) == "emergency.reviewed_already"


def test_an_overdue_review_is_visible_and_may_come_late(world: World) -> None:
    world.ok(DORA, care.declaring(world))
    report = emergency.ReportOverdue(care.glass())
    assert world.refused(PETRA, report) == "emergency.not_overdue"
    world.time_ms += settings.DEFAULTS.review_ms
    world.ok(PETRA, report)
    assert [event.kind for event in world.events] == ["emergency.review_overdue"]
    owed = emergency.REVIEWS.get(world.state, SOUTH.id)
    assert owed is not None
    assert owed.reported == 1
    assert world.refused(NORTH, report) == "emergency.reported_already"
    world.ok(WEST, emergency.ReviewEmergency(care.glass(), "justified"))
    assert codec.decode(world.events[0].data, emergency.Reviewed, 256).is_late
    assert world.refused(PETRA, report) == "emergency.not_overdue"


def test_too_many_of_one_clinician_raise_an_alarm(world: World) -> None:
    kinds = []
    for number in range(5):
        world.ok(DORA, care.declaring(world, str(number), patient=(PETRA, PAUL)[number % 2]))
        kinds.append([event.kind for event in world.events])
    alarmed = ["emergency.declared", "emergency.rate_alarm"]
    assert kinds == [["emergency.declared"]] * 3 + [alarmed] * 2
    world.time_ms += settings.DEFAULTS.glass_alarm_ms
    world.ok(DORA, care.declaring(world, "later"))
    assert [event.kind for event in world.events] == ["emergency.declared"]


def test_a_hospital_that_never_reviews_may_still_save_lives(world: World) -> None:
    full = emergency.Reviews([emergency.OpenReview(bytes(16), 1)] * emergency.OPEN_REVIEWS_MAX, 0, 0)
    world.state.values[emergency.REVIEWS.key(SOUTH.id)] = codec.encode(full)
    world.ok(DORA, care.declaring(world))
    owed = emergency.REVIEWS.get(world.state, SOUTH.id)
    assert owed is not None
    assert (len(owed.open), owed.uncounted) == (emergency.OPEN_REVIEWS_MAX, 1)
    assert owed.open[-1].glass == care.glass()


def test_few_emergencies_at_a_time(world: World) -> None:
    for number in range(emergency.GLASSES_PER_PAIR_MAX):
        world.ok(DORA, care.declaring(world, str(number)))
    assert world.refused(DORA, care.declaring(world, "more")) == "emergency.too_many"
    assert world.refused(DORA, care.declaring(world, "0")) == "emergency.id_taken"
    world.time_ms += care.HOUR_MS
    world.ok(DORA, care.declaring(world, "more"))
