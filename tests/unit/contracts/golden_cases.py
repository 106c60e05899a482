"""The cases of the golden files, made by running each operation on a small world and writing down what it did.

`pre` has the state entries that the operation read, and no others: they are its whole pre-state. A case without `post`
must be refused, with the code it names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from consilium.contracts import identity
from consilium.contracts.ballot import (
    AddValidator,
    ChangeRoles,
    ChangeSettings,
    RemoveValidator,
    ReportEvidence,
    Returned,
)
from consilium.contracts.classes import HIV, VIOLENCE
from consilium.contracts.registry import default_registry
from consilium.contracts.settings import DEFAULTS
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.genesis import FOUNDER
from consilium.ledger.state import Overlay, StateReader
from consilium.ledger.transaction import Operation
from consilium.ledger.validators import Validator, ValidatorSet
from tests.unit.contracts import golden_care_cases, golden_disclosure_cases, golden_erasure_cases
from tests.unit.contracts import world as w
from tests.unit.contracts.test_records import _SHARED, beginning, sharing
from tests.unit.contracts.world import APP, DORA, NOBODY, NORTH, PAUL, PETRA, SOUTH, World

Case = tuple[str, Callable[[World], tuple[bytes, codec.Wire]]]
"""A name, and what prepares the world and returns (sender, body)."""


class Recording:
    """Reads through, and remembers which entries were there."""

    def __init__(self, base: StateReader) -> None:
        self.base = base
        self.read: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        value = self.base.get(key)
        if value is not None:
            self.read[key] = value
        return value


def perform(state: StateReader, case: dict[str, Any]) -> dict[str, Any]:
    """Run the operation of a case on `state`; returns the part of the case that says what came of it."""
    overlay = Overlay(state)
    context = OperationContext(
        overlay,
        case["height"],
        case["time_ms"],
        bytes.fromhex(case["chain_id"]),
        bytes.fromhex(case["sender"]),
        bytes.fromhex(case["key"]),
        bytes.fromhex(case["transaction"]),
        case["index"],
        validators=_validators(case),
        ancestor=lambda height: _ancestors(case).get(height),
    )
    operation = Operation(case["operation"], bytes.fromhex(case["body"]))
    try:
        result = default_registry().run(operation, context)
    except Refused as refusal:
        return {"refused": refusal.code}
    return {
        "post": {key.hex(): value.hex() if value is not None else None for key, value in overlay.changes()},
        "result": result.hex(),
        "events": [
            {"kind": e.kind, "subjects": [s.hex() for s in e.subjects], "data": e.data.hex()}
            for e in context.events
        ],
    }


def _validators(case: dict[str, Any]) -> ValidatorSet | None:
    named = case.get("validators")
    if named is None:
        return None
    return ValidatorSet([Validator(bytes.fromhex(key), bytes.fromhex(of)) for key, of in named])


def _ancestors(case: dict[str, Any]) -> dict[int, bytes]:
    return {int(height): bytes.fromhex(value) for height, value in case.get("ancestors", {}).items()}


def build() -> dict[str, list[dict[str, Any]]]:
    """Every golden file: operation name -> cases."""
    everything = {
        **CASES,
        **golden_care_cases.CASES,
        **golden_disclosure_cases.CASES,
        **golden_erasure_cases.CASES,
    }
    return {name: [_case(name, *case) for case in cases] for name, cases in everything.items()}


def _case(operation: str, name: str, prepare: Callable[[World], tuple[bytes, codec.Wire]]) -> dict[str, Any]:
    world = _SHARED.copy()
    sender, body = prepare(world)
    known = identity.IDENTITIES.get(world.state, sender)
    height = 0 if sender == FOUNDER else 9
    inputs = {
        "name": name,
        "operation": operation,
        "height": height,
        "time_ms": world.time_ms + w.STEP_MS,
        "chain_id": world.chain_id.hex(),
        "sender": sender.hex(),
        "key": (known.keys[0] if known is not None else bytes(32)).hex(),
        "transaction": w.some("golden transaction", 32).hex(),
        "index": 2,
        "body": codec.encode(body).hex(),
    }
    if operation.startswith("governance."):
        inputs["validators"] = [[v.key.hex(), v.institution.hex()] for v in world.validators.validators]
        inputs["ancestors"] = {"8": w.some("block/8", 32).hex()}
    recording = Recording(world.state)
    outcome = perform(recording, inputs)
    pre = {key.hex(): recording.read[key].hex() for key in sorted(recording.read)}
    return {**inputs, "pre": pre, **outcome}


def _as(who: w.Actor, make: Callable[[World], codec.Wire]) -> Callable[[World], tuple[bytes, codec.Wire]]:
    return lambda world: (who.id, make(world))


def _after(
    who: w.Actor, *before: tuple[w.Actor, codec.Wire], body: codec.Wire
) -> Callable[[World], tuple[bytes, codec.Wire]]:
    def prepare(world: World) -> tuple[bytes, codec.Wire]:
        for actor, earlier in before:
            world.ok(actor, earlier)
        return who.id, body

    return prepare


def _adding(who: w.Actor, new: w.Actor) -> Callable[[World], codec.Wire]:
    def make(world: World) -> codec.Wire:
        digest = identity.addition_digest(chain_id=world.chain_id, identity=who.id, key=new.key.public)
        return identity.AddKey(new.key.public, new.key.sign(digest))

    return make


def _with_second_key(body: Callable[[w.Actor], codec.Wire]) -> Callable[[World], tuple[bytes, codec.Wire]]:
    def prepare(world: World) -> tuple[bytes, codec.Wire]:
        second = w.actor("second")
        world.ok(DORA, _adding(DORA, second)(world))
        return DORA.id, body(second)

    return prepare


def _new_patient(world: World) -> tuple[bytes, codec.Wire]:
    world.ok(NORTH, world.enrolment(NOBODY, NORTH, "patient"))
    return NORTH.id, w.opening(NOBODY)


NEW = w.actor("founded later")
FOUND = identity.FoundInstitution(NEW.key.public, NEW.encryption_key, w.some_point("point/new"), ["author"])
GRANT = w.granting("g", SOUTH, purposes=["TREAT", "HPAYMT"], compartments=[w.compartment_of(PETRA)])
R0, R1 = w.anchoring("r0", PETRA, position=0, count=2), w.anchoring("r1", PETRA, position=1, count=2)
ASK = w.asking(records_=[R0.record, R1.record, w.record_id("none")])

SECOND = w.actor("second validator")
ADDITION = w.proposing("add", AddValidator(SECOND.key.public, SOUTH.id))


def _candidate(make: Callable[[World], codec.Wire]) -> Callable[[World], tuple[bytes, codec.Wire]]:
    def prepare(world: World) -> tuple[bytes, codec.Wire]:
        world.ok(NORTH, ADDITION)
        return SOUTH.id, make(world)

    return prepare


def _open_in_two(*, approve: bool) -> Callable[[World], tuple[bytes, codec.Wire]]:
    def prepare(world: World) -> tuple[bytes, codec.Wire]:
        world.validators = ValidatorSet(
            [Validator(NORTH.key.public, NORTH.id), Validator(SOUTH.key.public, SOUTH.id)]
        )
        world.ok(NORTH, ADDITION)
        return SOUTH.id, w.voting("add", approve=approve)

    return prepare


def _signed_by_another(world: World) -> codec.Wire:
    return msgspec.structs.replace(w.ready(world, NOBODY, SOUTH, 8), key=SECOND.key.public)


def _forged(world: World) -> codec.Wire:
    true = w.evidence(world, NORTH, 5)
    return ReportEvidence(msgspec.structs.replace(true, second_signature=true.first_signature))


def _admitting(world: World) -> codec.Wire:
    return w.proposing("admit", w.admission(world, NEW))


CASES: dict[str, list[Case]] = {
    "identity.found": [
        ("an institution of genesis", lambda world: (FOUNDER, FOUND)),
        ("not after genesis", _as(NORTH, lambda world: FOUND)),
        (
            "roles out of order",
            lambda world: (FOUNDER, msgspec.structs.replace(FOUND, roles=["manager", "author"])),
        ),
    ],
    "identity.enrol": [
        ("a patient by its manager", _as(NORTH, lambda world: world.enrolment(NOBODY, NORTH, "patient"))),
        ("a practitioner", _as(SOUTH, lambda world: world.enrolment(NOBODY, SOUTH, "practitioner"))),
        ("a proof for another", _as(NORTH, lambda world: world.enrolment(NOBODY, SOUTH, "patient"))),
        ("a taken key", _as(NORTH, lambda world: world.enrolment(DORA, NORTH, "practitioner"))),
        ("not by a practitioner", _as(DORA, lambda world: world.enrolment(NOBODY, DORA, "application"))),
    ],
    "identity.add_key": [
        ("a second key", _as(DORA, _adding(DORA, NOBODY))),
        ("a proof for another", _as(PETRA, _adding(DORA, NOBODY))),
        ("a taken key", _as(DORA, _adding(DORA, PETRA))),
    ],
    "identity.revoke_key": [
        ("the second key", _with_second_key(lambda second: identity.RevokeKey(second.key.public))),
        ("the first of two", _with_second_key(lambda _: identity.RevokeKey(DORA.key.public))),
        ("the last key", _as(DORA, lambda world: identity.RevokeKey(DORA.key.public))),
        ("another's key", _as(DORA, lambda world: identity.RevokeKey(PETRA.key.public))),
    ],
    "identity.suspend": [
        ("an employee", _as(SOUTH, lambda world: identity.Suspend(DORA.id))),
        ("another's employee", _as(NORTH, lambda world: identity.Suspend(DORA.id))),
        ("a patient", _as(NORTH, lambda world: identity.Suspend(PETRA.id))),
    ],
    "identity.reinstate": [
        ("an employee", _after(SOUTH, (SOUTH, identity.Suspend(DORA.id)), body=identity.Reinstate(DORA.id))),
        ("who is not suspended", _as(SOUTH, lambda world: identity.Reinstate(DORA.id))),
    ],
    "records.open_compartments": [
        ("every class of a new patient", _new_patient),
        ("a second time", _as(NORTH, lambda world: w.opening(PETRA))),
        ("by another institution", _as(SOUTH, lambda world: w.opening(PETRA))),
        (
            "two of one custodian",
            lambda world: (
                _new_patient(world)[0],
                sharing(w.opening(NOBODY), commitments=[w.some_point("one"), w.some_point("two")]),
            ),
        ),
        (
            "a sensitive class of one custodian",
            lambda world: (
                _new_patient(world)[0],
                sharing(w.opening(NOBODY), general=False, commitments=[w.some_point("one")]),
            ),
        ),
    ],
    "records.begin_epoch": [
        ("by the patient", _as(PETRA, lambda world: beginning(PETRA))),
        ("by a stranger", _as(PAUL, lambda world: beginning(PETRA))),
        ("with the old key", _as(NORTH, lambda world: beginning(PETRA, "C/petra"))),
    ],
    "records.anchor": [
        ("the first of two", _as(NORTH, lambda world: R0)),
        ("of two classes", _as(NORTH, lambda world: w.anchoring("h", PETRA, classes=(HIV, VIOLENCE)))),
        ("the last of two", _after(NORTH, (NORTH, R0), body=R1)),
        ("a taken position", _after(NORTH, (NORTH, R0), body=msgspec.structs.replace(R1, position=0))),
        ("a taken id", _after(NORTH, (NORTH, R0), body=msgspec.structs.replace(R1, record=R0.record))),
        ("an ended epoch", _after(NORTH, (NORTH, beginning(PETRA)), body=R0)),
        ("not by a practitioner", _as(DORA, lambda world: R0)),
    ],
    "consent.grant": [
        ("to an institution", _as(PETRA, lambda world: GRANT)),
        ("a second one", _after(PETRA, (PETRA, w.granting("f", SOUTH)), body=GRANT)),
        ("not by the manager", _as(NORTH, lambda world: GRANT)),
        ("a foreign compartment", _as(PAUL, lambda world: msgspec.structs.replace(GRANT, patient=PAUL.id))),
        ("an unknown purpose", _as(PETRA, lambda world: w.granting("g", SOUTH, purposes=["CURE"]))),
        ("a period that is over", _as(PETRA, lambda world: w.granting("g", SOUTH, not_after=1))),
    ],
    "consent.revoke": [
        (
            "one of two",
            _after(PETRA, (PETRA, w.granting("f", SOUTH)), (PETRA, GRANT), body=w.revoking("g")),
        ),
        ("by a third party", _after(PAUL, (PETRA, GRANT), body=w.revoking("g"))),
        ("an unknown one", _as(PETRA, lambda world: w.revoking("g"))),
        ("a second time", _after(PETRA, (PETRA, GRANT), (PETRA, w.revoking("g")), body=w.revoking("g"))),
    ],
    "access.request": [
        ("allowed, and unknown", _after(SOUTH, (NORTH, R0), (NORTH, R1), (PETRA, GRANT), body=ASK)),
        ("denied for want of consent", _after(DORA, (NORTH, R0), (NORTH, R1), body=ASK)),
        (
            "a compartment, denied by the patient",
            _after(
                DORA,
                (PETRA, GRANT),
                (PETRA, w.granting("no", DORA, effect="deny")),
                body=w.asking(compartments=[w.compartment_of(PETRA), w.compartment_of(PAUL)]),
            ),
        ),
        ("an unknown purpose", _as(SOUTH, lambda world: w.asking(records_=[R0.record], purpose="CURE"))),
        ("nothing named", _as(SOUTH, lambda world: w.asking())),
        ("by the patient", _as(PETRA, lambda world: w.asking(records_=[R0.record], purpose="PATRQT"))),
        ("not by an application", _as(APP, lambda world: ASK)),
        (
            "through an application, by a machine",
            _as(
                DORA,
                lambda world: msgspec.structs.replace(
                    w.asking(records_=[R0.record]), application=APP.id, automated=True
                ),
            ),
        ),
        (
            "through another's application",
            _as(NORTH, lambda world: msgspec.structs.replace(ASK, application=APP.id)),
        ),
    ],
    "governance.propose": [
        ("accepted by its proposer alone", _as(NORTH, lambda world: ADDITION)),
        ("an institution", _as(NORTH, _admitting)),
        ("the last validator", _as(NORTH, lambda world: w.proposing("p", RemoveValidator(NORTH.key.public)))),
        ("by who runs no validator", _as(SOUTH, lambda world: ADDITION)),
        ("roles", _as(NORTH, lambda world: w.proposing("p", ChangeRoles(SOUTH.id, ["author", "issuer"])))),
        ("settings", _as(NORTH, lambda world: w.proposing("p", ChangeSettings(DEFAULTS)))),
        (
            "unsorted roles",
            _as(NORTH, lambda world: w.proposing("p", ChangeRoles(SOUTH.id, ["issuer", "author"]))),
        ),
        ("a taken id", _after(NORTH, (NORTH, ADDITION), body=ADDITION)),
    ],
    "governance.vote": [
        ("the approval that decides", _open_in_two(approve=True)),
        ("a rejection", _open_in_two(approve=False)),
        ("when it is decided", _after(NORTH, (NORTH, ADDITION), body=w.voting("add"))),
        ("an unknown one", _as(NORTH, lambda world: w.voting("none"))),
    ],
    "governance.ready": [
        ("a candidate", _candidate(lambda world: w.ready(world, SECOND, SOUTH, 8))),
        ("an unknown block", _candidate(lambda world: w.ready(world, SECOND, SOUTH, 7))),
        ("another's signature", _candidate(lambda world: _signed_by_another(world))),
    ],
    "governance.report_evidence": [
        ("two seals", _as(SOUTH, lambda world: ReportEvidence(w.evidence(world, NORTH, 5)))),
        ("of no validator", _as(SOUTH, lambda world: ReportEvidence(w.evidence(world, SECOND, 5)))),
        ("of a height to come", _as(SOUTH, lambda world: ReportEvidence(w.evidence(world, NORTH, 50)))),
        ("forged", _as(SOUTH, lambda world: _forged(world))),
    ],
    "governance.returned": [
        ("a validator", _as(NORTH, lambda world: Returned(NORTH.key.public))),
        ("another's validator", _as(SOUTH, lambda world: Returned(NORTH.key.public))),
    ],
}
