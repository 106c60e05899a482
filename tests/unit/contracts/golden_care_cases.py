"""The golden cases of what belongs to care: settings, consent, treatment, emergencies, who speaks for a patient.

As `golden_cases`, which merges them with its own.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from consilium.contracts import (
    credentials,
    emergency,
    mandates,
    preferences,
    recovery,
    representation,
    sessions,
    settings,
    teams,
)
from consilium.ledger import codec
from consilium.ledger.genesis import FOUNDER
from tests.unit.contracts import care, summarising
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DAN, DORA, NORTH, PAUL, PETRA, SOUTH, WEST, Actor, World

Prepare = Callable[[World], tuple[bytes, codec.Wire]]
Case = tuple[str, Prepare]
Body = codec.Wire | Callable[[World], codec.Wire]


def by(who: Actor, body: Body, *before: tuple[Actor, Body]) -> Prepare:
    """`body` by `who`, after these others."""

    def prepare(world: World) -> tuple[bytes, codec.Wire]:
        for actor, earlier in before:
            world.ok(actor, _made(earlier, world))
        return who.id, _made(body, world)

    return prepare


def _made(body: Body, world: World) -> codec.Wire:
    return body if isinstance(body, codec.Wire) else body(world)


def _with_settings(world: World) -> tuple[bytes, codec.Wire]:
    world.state.values[settings.SETTINGS.key()] = codec.encode(settings.DEFAULTS)
    return FOUNDER, settings.DEFAULTS


def _two_guardians(body: Body, who: Actor, *before: tuple[Actor, Body]) -> Prepare:
    appointed = [(PETRA, care.appointing(PAUL)), (PETRA, care.appointing(DAN, changes=1))]
    return by(who, body, *appointed, *before)


def _ready(world: World) -> tuple[bytes, codec.Wire]:
    _two_guardians(PREFERENCE, PETRA, (PAUL, care.proposing_recovery), (DAN, care.approving_recovery()))(
        world
    )
    world.time_ms += settings.DEFAULTS.recovery_wait_ms
    return PAUL.id, care.completing_recovery()


def _overdue(world: World) -> tuple[bytes, codec.Wire]:
    by(DORA, PREFERENCE, *BROKEN)(world)
    world.time_ms += settings.DEFAULTS.review_ms
    return PAUL.id, emergency.ReportOverdue(care.glass())


KEY = w.actor("a shift")
OPTED_OUT = preferences.Preferences(emergency_deny=False, opt_out=False, summary_opt_out=True)
PREFERENCE = preferences.Preferences(emergency_deny=True, opt_out=False)
LENT = w.granting("c", SOUTH, transferable=True)
LICENSED = (WEST, care.licensing)
DANS = (WEST, lambda world: care.licensing(world, DAN, "dan's licence"))
BROKEN = (LICENSED, DANS, (DORA, care.declaring))


def _summaries(who: Actor, body: Body, *before: tuple[Actor, Body]) -> Prepare:
    """In a network that uses emergency summaries; South has a key for Dora and a colleague."""

    def prepare(world: World) -> tuple[bytes, codec.Wire]:
        summarising.switch_on(world)
        return by(who, body, *before)(world)

    return prepare


KEYED = (SOUTH, summarising.setting_key)
PLACED = (PETRA, summarising.placing)

CASES: dict[str, list[Case]] = {
    "summary.set_key": [
        ("for two of two", _summaries(SOUTH, summarising.setting_key)),
        ("for one", _summaries(SOUTH, lambda world: summarising.setting_key(world, holders=1))),
        ("for others' staff", _summaries(NORTH, summarising.setting_key)),
        ("where the network has none", by(SOUTH, summarising.setting_key)),
    ],
    "summary.place": [
        ("by the patient", _summaries(PETRA, summarising.placing, KEYED)),
        ("by the manager", _summaries(NORTH, summarising.placing, KEYED)),
        ("by a stranger", _summaries(WEST, summarising.placing, KEYED)),
        ("without a key", _summaries(PETRA, summarising.placing)),
        ("against the patient's will", _summaries(NORTH, summarising.placing, KEYED, (PETRA, OPTED_OUT))),
    ],
    "summary.withdraw": [
        ("by the patient", _summaries(PETRA, summarising.WITHDRAWAL, KEYED, PLACED)),
        ("by another", _summaries(WEST, summarising.WITHDRAWAL, KEYED, PLACED)),
        ("nothing", _summaries(PETRA, summarising.WITHDRAWAL, KEYED)),
    ],
    "summary.report": [
        ("the first entry", _summaries(SOUTH, summarising.reporting, KEYED, PLACED)),
        ("by the opener", _summaries(DORA, summarising.reporting, KEYED, PLACED)),
        (
            "one that is not sound",
            _summaries(SOUTH, lambda world: summarising.reporting(world, second=DORA), KEYED, PLACED),
        ),
        (
            "out of order",
            _summaries(SOUTH, lambda world: summarising.reporting(world, sequence=2), KEYED, PLACED),
        ),
        (
            "signed by another institution",
            _summaries(SOUTH, lambda world: summarising.reporting(world, institution=NORTH), KEYED, PLACED),
        ),
    ],
    "settings.found": [
        ("the defaults", lambda world: (FOUNDER, settings.DEFAULTS)),
        ("a second time", _with_settings),
        ("not after genesis", by(NORTH, settings.DEFAULTS)),
        (
            "a policy for research",
            lambda world: (
                FOUNDER,
                msgspec.structs.replace(settings.DEFAULTS, policy_purposes=["TREAT", "CLINTRCH"]),
            ),
        ),
    ],
    "preferences.set": [
        ("no emergency access", by(PETRA, PREFERENCE)),
        ("not by the manager", by(NORTH, PREFERENCE)),
    ],
    "delegation.pass_on": [
        ("to a specialist", by(SOUTH, care.passing_on(), (PETRA, LENT))),
        ("what may not be passed on", by(SOUTH, care.passing_on(), (PETRA, w.granting("c", SOUTH)))),
        ("for more", by(SOUTH, care.passing_on(purposes=["HPAYMT"]), (PETRA, LENT))),
        ("for longer", by(SOUTH, care.passing_on(not_after=LENT.provisions[0].not_after + 1), (PETRA, LENT))),
        ("by another", by(NORTH, care.passing_on(), (PETRA, LENT))),
        (
            "a second time",
            by(
                DAN, care.passing_on("passed", DORA, label="again"), (PETRA, LENT), (SOUTH, care.passing_on())
            ),
        ),
    ],
    "teams.form": [
        ("a care team", by(SOUTH, care.forming())),
        ("a taken id", by(NORTH, care.forming("role"), (SOUTH, care.forming()))),
        ("by a practitioner", by(DORA, care.forming())),
    ],
    "teams.admit": [
        ("an employee", by(SOUTH, teams.AdmitMember(care.TEAM, DORA.id), (SOUTH, care.forming("role")))),
        ("a guest", by(SOUTH, teams.AdmitMember(care.TEAM, DAN.id), (SOUTH, care.forming()))),
        ("a guest to a role", by(SOUTH, teams.AdmitMember(care.TEAM, DAN.id), (SOUTH, care.forming("role")))),
        ("by another", by(NORTH, teams.AdmitMember(care.TEAM, DAN.id), (SOUTH, care.forming()))),
    ],
    "teams.join": [
        (
            "who was invited",
            by(
                DAN,
                teams.JoinTeam(care.TEAM),
                (SOUTH, care.forming()),
                (SOUTH, teams.AdmitMember(care.TEAM, DAN.id)),
            ),
        ),
        ("who was not", by(DAN, teams.JoinTeam(care.TEAM), (SOUTH, care.forming()))),
    ],
    "teams.remove": [
        (
            "a member",
            by(
                SOUTH,
                teams.RemoveMember(care.TEAM, DORA.id),
                (SOUTH, care.forming()),
                (SOUTH, teams.AdmitMember(care.TEAM, DORA.id)),
            ),
        ),
        ("nobody", by(SOUTH, teams.RemoveMember(care.TEAM, DORA.id), (SOUTH, care.forming()))),
    ],
    "treatment.attest": [
        ("witnessed by the patient", by(SOUTH, care.attesting)),
        ("without a witness", by(SOUTH, lambda world: care.attesting(world, witness=None))),
        ("witnessed by an employee", by(SOUTH, lambda world: care.attesting(world, witness=DORA))),
        ("for somebody else's staff", by(SOUTH, lambda world: care.attesting(world, practitioners=[DAN]))),
        ("for two months", by(SOUTH, lambda world: care.attesting(world, lasts_ms=60 * w.DAY_MS))),
    ],
    "treatment.end": [
        ("by the institution", by(SOUTH, care.ending(), (SOUTH, care.attesting))),
        ("by another", by(NORTH, care.ending(), (SOUTH, care.attesting))),
        ("an unknown one", by(SOUTH, care.ending())),
    ],
    "mandate.issue": [
        ("countersigned", by(WEST, care.mandating)),
        ("alone", by(WEST, lambda world: care.mandating(world, countersigner=None))),
        ("countersigned by the reader", by(WEST, lambda world: care.mandating(world, countersigner=SOUTH))),
        ("without the role", by(NORTH, care.mandating)),
    ],
    "mandate.withdraw": [
        ("by its issuer", by(WEST, mandates.WithdrawMandate(w.some("mandate/m")), (WEST, care.mandating))),
        ("by another", by(NORTH, mandates.WithdrawMandate(w.some("mandate/m")), (WEST, care.mandating))),
    ],
    "credential.issue": [
        ("a licence", by(WEST, care.licensing)),
        ("without the role", by(NORTH, care.licensing)),
        ("to itself", by(WEST, lambda world: care.licensing(world, WEST))),
        ("bound to another's key", by(WEST, lambda world: care.licensing(world, holder=DAN))),
    ],
    "credential.revoke": [
        (
            "by its issuer",
            by(WEST, credentials.RevokeCredential(w.some("credential/licence")), (WEST, care.licensing)),
        ),
        (
            "by the employer",
            by(SOUTH, credentials.RevokeCredential(w.some("credential/licence")), (WEST, care.licensing)),
        ),
    ],
    "emergency.declare": [
        ("with licence and second person", by(DORA, care.declaring, LICENSED, DANS)),
        ("without a licence", by(DORA, care.declaring, DANS)),
        ("the second without one", by(DORA, care.declaring, LICENSED)),
        ("alone", by(DORA, lambda world: care.declaring(world, second=None), LICENSED)),
        ("the clinician twice", by(DORA, lambda world: care.declaring(world, second=DORA), LICENSED)),
        ("for a week", by(DORA, lambda world: care.declaring(world, lasts_ms=7 * w.DAY_MS), LICENSED)),
        ("by an institution", by(SOUTH, care.declaring, LICENSED, DANS)),
    ],
    "emergency.close": [
        ("by the employer", by(SOUTH, emergency.Close(care.glass()), *BROKEN)),
        ("by another", by(NORTH, emergency.Close(care.glass()), *BROKEN)),
    ],
    "emergency.review": [
        ("by another institution", by(WEST, emergency.ReviewEmergency(care.glass(), "justified"), *BROKEN)),
        ("by the employer", by(SOUTH, emergency.ReviewEmergency(care.glass(), "justified"), *BROKEN)),
        (
            "by the second's employer",
            by(NORTH, emergency.ReviewEmergency(care.glass(), "justified"), *BROKEN),
        ),
    ],
    "emergency.report_overdue": [
        ("three days later", _overdue),
        ("too early", by(PAUL, emergency.ReportOverdue(care.glass()), *BROKEN)),
    ],
    "representation.appoint": [
        ("a guardian", by(PETRA, care.appointing(PAUL))),
        ("a delegate", by(PETRA, care.appointing(DAN, capacity="delegate", not_after=care.QUARTER_DAY - 1))),
        (
            "a guardian by the manager",
            by(
                NORTH,
                lambda world: w.attested(world, NORTH, care.appointing(PAUL), "countersignature", SOUTH),
            ),
        ),
        ("by the manager alone", by(NORTH, care.appointing(PAUL))),
        ("until a birthday", by(PETRA, care.appointing(PAUL, not_after=care.QUARTER_DAY + w.DAY_MS))),
        ("by a stranger", by(PAUL, care.appointing(PAUL))),
    ],
    "representation.dismiss": [
        (
            "a guardian",
            by(PETRA, representation.Dismiss(PETRA.id, PAUL.id), (PETRA, care.appointing(PAUL))),
        ),
        ("nobody", by(PETRA, representation.Dismiss(PETRA.id, PAUL.id))),
        (
            "by another",
            by(NORTH, representation.Dismiss(PETRA.id, PAUL.id), (PETRA, care.appointing(PAUL))),
        ),
    ],
    "takeover.complete": [
        ("by the patient", by(PETRA, care.taking_over)),
        ("by the manager", by(NORTH, care.taking_over)),
        ("by a stranger", by(SOUTH, care.taking_over)),
        (
            "without an epoch",
            by(PETRA, lambda world: msgspec.structs.replace(care.taking_over(world), epochs=[])),
        ),
        ("a proof of another time", by(PETRA, lambda world: care.taking_over(world, generation=1))),
        (
            "without knowing the classes",
            by(PETRA, lambda world: msgspec.structs.replace(care.taking_over(world), class_commitments=[])),
        ),
        (
            "with one class hidden anew",
            by(
                PETRA,
                lambda world: msgspec.structs.replace(
                    care.taking_over(world), class_commitments=care.hidden_anew(PETRA)[:1]
                ),
            ),
        ),
    ],
    "recovery.propose": [
        ("by a guardian", _two_guardians(care.proposing_recovery, PAUL)),
        ("by a stranger", by(PAUL, care.proposing_recovery)),
        (
            "in place of one that others approved",
            _two_guardians(
                lambda world: care.proposing_recovery(world, fresh=KEY),
                PAUL,
                (PAUL, care.proposing_recovery),
                (DAN, care.approving_recovery()),
            ),
        ),
    ],
    "recovery.approve": [
        (
            "by the second guardian",
            _two_guardians(care.approving_recovery(), DAN, (PAUL, care.proposing_recovery)),
        ),
        ("by the same", _two_guardians(care.approving_recovery(), PAUL, (PAUL, care.proposing_recovery))),
    ],
    "recovery.veto": [
        (
            "by the patient",
            _two_guardians(
                recovery.VetoRecovery(care.FRESH.key.public), PETRA, (PAUL, care.proposing_recovery)
            ),
        ),
        ("of nothing", by(PETRA, recovery.VetoRecovery(care.FRESH.key.public))),
    ],
    "recovery.complete": [
        ("after the waiting time", _ready),
        (
            "too early",
            _two_guardians(
                care.completing_recovery(),
                PAUL,
                (PAUL, care.proposing_recovery),
                (DAN, care.approving_recovery()),
            ),
        ),
    ],
    "session.begin": [
        ("for a shift", by(SOUTH, lambda world: care.beginning_session(world, KEY))),
        (
            "for a day",
            by(SOUTH, lambda world: care.beginning_session(world, KEY, lasts_ms=24 * care.HOUR_MS)),
        ),
        ("for another's staff", by(NORTH, lambda world: care.beginning_session(world, KEY))),
    ],
    "session.end": [
        (
            "at logout",
            by(
                DORA,
                sessions.EndSession(DORA.id, KEY.key.public),
                (SOUTH, lambda world: care.beginning_session(world, KEY)),
            ),
        ),
        ("an unknown one", by(SOUTH, sessions.EndSession(DORA.id, KEY.key.public))),
    ],
}
