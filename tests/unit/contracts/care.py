"""Bodies of what belongs to care, for tests: each with defaults that the small world accepts."""

from __future__ import annotations

from collections.abc import Sequence

from consilium.contracts import (
    credentials,
    delegation,
    emergency,
    mandates,
    records,
    recovery,
    representation,
    sessions,
    takeover,
    teams,
    treatment,
)
from consilium.contracts.classes import CLASSES, GENERAL
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DAN, DORA, NORTH, PETRA, SOUTH, WEST, Actor, World, some

HOUR_MS = 60 * 60 * 1000
QUARTER_DAY = 1_704_067_200_000
"""1 January 2024, the first after the world begins."""
NEXT_QUARTER_DAY = 1_711_929_600_000
"""1 April 2024."""
TEAM = some("team/ward")
FRESH = w.actor("petra's new phone")


def forming(kind: teams.TeamKind = "care-team", team: bytes = TEAM) -> teams.FormTeam:
    return teams.FormTeam(team, kind)


def attesting(
    world: World,
    label: str = "t",
    *,
    patient: Actor = PETRA,
    institution: Actor = SOUTH,
    practitioners: Sequence[Actor] | None = None,
    witness: Actor | None = PETRA,
    lasts_ms: int = 24 * HOUR_MS,
) -> treatment.AttestTreatment:
    people = None if practitioners is None else [one.id for one in practitioners]
    bare = treatment.AttestTreatment(
        some(f"treatment/{label}"), patient.id, people, world.time_ms + lasts_ms, None
    )
    return bare if witness is None else w.attested(world, institution, bare, "witness", witness)  # type: ignore[return-value]


def ending(label: str = "t") -> treatment.EndTreatment:
    return treatment.EndTreatment(some(f"treatment/{label}"))


def mandating(
    world: World,
    label: str = "m",
    *,
    reader: Actor = SOUTH,
    purposes: Sequence[str] = ("HLEGAL",),
    compartments: list[bytes] | None = None,
    countersigner: Actor | None = NORTH,
    lasts_ms: int = 24 * HOUR_MS,
) -> mandates.IssueMandate:
    bare = mandates.IssueMandate(
        some(f"mandate/{label}"),
        PETRA.id,
        reader.id,
        list(purposes),
        compartments,
        0,
        world.time_ms + lasts_ms,
        None,
    )
    if countersigner is None:
        return bare
    return w.attested(world, WEST, bare, "countersignature", countersigner)  # type: ignore[return-value]


def licensing(
    world: World,
    who: Actor = DORA,
    label: str = "licence",
    kind: credentials.CredentialKind = "licence",
    *,
    issuer: Actor = WEST,
    holder: Actor | None = None,
) -> credentials.IssueCredential:
    """Bound to the subject's own key, or to another of `holder`."""
    identifier = some(f"credential/{label}")
    digest = credentials.holder_digest(
        chain_id=world.chain_id, issuer=issuer.id, credential=identifier, subject=who.id
    )
    key = (holder or who).key
    not_after = world.time_ms + 365 * 24 * HOUR_MS
    return credentials.IssueCredential(identifier, who.id, kind, not_after, key.public, key.sign(digest))


def declaring(
    world: World,
    label: str = "g",
    *,
    patient: Actor = PETRA,
    clinician: Actor = DORA,
    second: Actor | None = DAN,
    credential: str = "licence",
    second_credential: str = "dan's licence",
    lasts_ms: int = HOUR_MS,
) -> emergency.Declare:
    bare = emergency.Declare(
        some(f"glass/{label}"),
        patient.id,
        "danger-to-life",
        some(f"credential/{credential}"),
        world.time_ms + lasts_ms,
        None if second is None else some(f"credential/{second_credential}"),
        None,
    )
    return bare if second is None else w.attested(world, clinician, bare, "second", second)  # type: ignore[return-value]


def glass(label: str = "g") -> bytes:
    return some(f"glass/{label}")


def appointing(
    who: Actor,
    *,
    patient: Actor = PETRA,
    capacity: representation.Capacity = "guardian",
    not_after: int = QUARTER_DAY,
    changes: int = 0,
) -> representation.Appoint:
    return representation.Appoint(patient.id, who.id, capacity, not_after, changes, None)


def beginning_session(
    world: World,
    key: Actor,
    *,
    practitioner: Actor = DORA,
    employer: Actor = SOUTH,
    lasts_ms: int = 8 * HOUR_MS,
) -> sessions.BeginSession:
    not_after = world.time_ms + lasts_ms
    digest = sessions.session_digest(
        chain_id=world.chain_id,
        institution=employer.id,
        practitioner=practitioner.id,
        key=key.key.public,
        not_after=not_after,
    )
    return sessions.BeginSession(practitioner.id, key.key.public, not_after, key.key.sign(digest))


def epochs_of(patient: Actor, custodian: Actor = SOUTH, label: str = "own") -> list[records.BeginEpoch]:
    """A new epoch of every compartment, in the order of ids, with keys that nobody had."""
    found = []
    for code in CLASSES:
        points = [w.some_point(f"{label}/{code}")]
        custodians = [custodian.id]
        if code != GENERAL:
            points.append(w.some_point(f"{label}/{code}/2"))
            custodians.append((NORTH if custodian is SOUTH else SOUTH).id)
        found.append(records.BeginEpoch(w.compartment_of(patient, code), points, custodians))
    return sorted(found, key=lambda one: one.compartment)


def new_key_proof(world: World, patient: Actor, fresh: Actor, generation: int = 0) -> bytes:
    digest = takeover.takeover_digest(
        chain_id=world.chain_id,
        patient=patient.id,
        key=fresh.key.public,
        encryption_key=fresh.encryption_key,
        generation=generation,
    )
    return fresh.key.sign(digest)


def taking_over(
    world: World, *, patient: Actor = PETRA, fresh: Actor = FRESH, generation: int = 0
) -> takeover.TakeOver:
    return takeover.TakeOver(
        patient.id,
        fresh.key.public,
        fresh.encryption_key,
        new_key_proof(world, patient, fresh, generation),
        epochs_of(patient),
        hidden_anew(patient),
    )


def hidden_anew(patient: Actor, label: str = "own") -> list[bytes]:
    """Another commitment for the class of every compartment, in the order of ids."""
    return [w.some(f"{label}/{one.compartment.hex()}", 32) for one in epochs_of(patient)]


def proposing_recovery(
    world: World, *, patient: Actor = PETRA, fresh: Actor = FRESH
) -> recovery.ProposeRecovery:
    proof = new_key_proof(world, patient, fresh)
    return recovery.ProposeRecovery(patient.id, fresh.key.public, fresh.encryption_key, proof)


def approving_recovery(patient: Actor = PETRA, fresh: Actor = FRESH) -> recovery.ApproveRecovery:
    return recovery.ApproveRecovery(patient.id, fresh.key.public)


def completing_recovery(patient: Actor = PETRA, fresh: Actor = FRESH) -> recovery.CompleteRecovery:
    return recovery.CompleteRecovery(patient.id, fresh.key.public)


def passing_on(
    parent: str = "c",
    actor: Actor = DAN,
    *,
    label: str = "passed",
    purposes: Sequence[str] = ("TREAT",),
    compartments: list[bytes] | None = None,
    not_before: int = 0,
    not_after: int = w.START_MS + 30 * w.DAY_MS,
) -> delegation.PassOn:
    return delegation.PassOn(
        some(f"consent/{label}"),
        some(f"consent/{parent}"),
        actor.id,
        list(purposes),
        compartments,
        not_before,
        not_after,
    )


def with_guardians(world: World, *guardians: Actor) -> World:
    """Petra appoints them."""
    for changes, one in enumerate(guardians):
        world.ok(PETRA, appointing(one, changes=changes))
    return world


def with_licence(world: World) -> World:
    """West licenses Dora and Dan."""
    world.ok(WEST, licensing(world), licensing(world, DAN, "dan's licence"))
    return world
