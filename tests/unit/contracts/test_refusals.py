"""What must never work, by name: the refusals that privacy stands on, as far as contracts give them.

Custodians' refusals stand in `tests/unit/node/test_custodian.py`, those of wraps and envelopes in `tests/unit/client`.
"""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import access, consent, credentials, identity, records, representation
from consilium.contracts.classes import HIV
from consilium.ledger import codec
from consilium.ledger.crypto import Tag
from consilium.ledger.errors import Refused
from consilium.ledger.execution import ReceiptLeaf, execute
from consilium.ledger.transaction import VALIDITY_MAX_MS, sign_transaction, verify_transaction
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.test_records import beginning
from tests.unit.contracts.test_representation import managed
from tests.unit.contracts.world import DAN, DORA, NORTH, PAUL, PETRA, SOUTH, WEST, World

PLACE = w.compartment_of(PETRA)
OTHER_CHAIN = Tag("test/another-network").digest(b"")


@pytest.fixture
def world() -> World:
    """Petra lets South read for treatment."""
    world = World().populate()
    world.ok(PETRA, w.granting("c", SOUTH))
    return world


def denied(world: World, who: w.Actor, place: bytes = PLACE, purpose: str = "TREAT") -> str:
    (verdict,) = world.ask(who, compartments=[place], purpose=purpose).verdicts
    assert not verdict.allow
    return verdict.basis


def test_a_third_party_adds_a_permission(world: World) -> None:
    for who in (SOUTH, WEST, DORA, DAN, PAUL):
        assert world.refused(who, w.granting("x", who)) == "consent.not_the_patient"


def test_a_third_party_removes_a_permission(world: World) -> None:
    for who in (NORTH, SOUTH, WEST, DORA, PAUL):
        assert world.refused(who, w.revoking("c")) == "consent.not_the_patient"
    assert world.ask(SOUTH, compartments=[PLACE]).verdicts[0].allow


def test_a_non_owner_enables_a_custodian(world: World) -> None:
    """A custodian is enabled by an epoch that names it."""
    for who in (SOUTH, WEST, DORA, PAUL):
        assert world.refused(who, beginning(PETRA)) == "records.not_yours"


def test_removing_an_unknown_custodian_removes_no_other(world: World) -> None:
    unknown = records.BeginEpoch(PLACE, [w.some_point("new")], [w.actor("unknown").id])
    assert world.refused(PETRA, unknown) == "identity.unknown"
    epoch = records.EPOCHS.get(world.state, PLACE, records.epoch_bytes(0))
    compartment = records.COMPARTMENTS.get(world.state, PLACE)
    assert epoch is not None
    assert compartment is not None
    assert (epoch.custodians, compartment.epoch) == ([NORTH.id], 0)


def test_removing_an_unknown_representative_or_consent_removes_no_other(world: World) -> None:
    care.with_guardians(world, PAUL)
    assert world.refused(PETRA, representation.Dismiss(PETRA.id, DAN.id)) == "representation.not_appointed"
    assert world.refused(PETRA, w.revoking("unknown")) == "consent.unknown"
    assert len(representation.account_of(world.state, PETRA.id).representatives) == 1
    assert len(consent.consents_between(world.state, PETRA.id, SOUTH.id)) == 1


def test_the_last_owner_is_removed(world: World) -> None:
    assert world.refused(PETRA, identity.RevokeKey(PETRA.key.public)) == "identity.last_key"


def test_a_signed_request_is_replayed_to_the_same_network(world: World) -> None:
    request = world.sign(SOUTH, w.asking(compartments=[PLACE]))
    assert world.block([request]).skipped == ()
    replayed = execute(
        chain_id=world.chain_id,
        height=world.height + 1,
        time_ms=world.time_ms + 1,
        transactions=[request, request],
        state=world.state,
        seen=frozenset({request.id}),
        contracts=world.registry,
        validators=world.validators,
    )
    assert [code for _, code in replayed.skipped] == ["transaction.duplicate"] * 2
    assert replayed.leaves == ()


def test_a_signed_request_is_replayed_to_another_network(world: World) -> None:
    request = world.sign(SOUTH, w.asking(compartments=[PLACE]))
    with pytest.raises(Refused):
        verify_transaction(request.raw, OTHER_CHAIN)


@pytest.mark.parametrize("late", [True, False])
def test_a_request_that_expired_or_is_dated_ahead(world: World, late: bool) -> None:
    valid_until = world.time_ms - 1 if late else world.time_ms + VALIDITY_MAX_MS + 60_000
    request = sign_transaction(
        SOUTH.key,
        chain_id=world.chain_id,
        sender=SOUTH.id,
        nonce=bytes(16),
        valid_until=valid_until,
        operations=[world.operation(w.asking(compartments=[PLACE]))],
    )
    outcome = execute(
        chain_id=world.chain_id,
        height=world.height + 1,
        time_ms=world.time_ms + 1,
        transactions=[request],
        state=world.state,
        seen=frozenset(),
        contracts=world.registry,
        validators=world.validators,
    )
    assert outcome.leaves == ()
    assert len(outcome.skipped) == 1


def test_an_expired_consent(world: World) -> None:
    world.ok(PETRA, w.granting("short", DAN, not_after=world.time_ms + 3 * w.STEP_MS))
    assert world.ask(DAN, compartments=[PLACE]).verdicts[0].allow
    assert denied(world, DAN) == "no-basis"


def test_a_future_dated_consent(world: World) -> None:
    world.ok(PETRA, w.granting("later", DAN, not_before=world.time_ms + 60_000))
    assert denied(world, DAN) == "no-basis"


def test_the_wrong_purpose(world: World) -> None:
    for purpose in ("HPAYMT", "HRESCH", "HMARKT"):
        assert denied(world, SOUTH, purpose=purpose) == "no-basis"
    world.ok(PETRA, w.granting("emergency", DAN, purposes=["ETREAT"]))
    assert denied(world, DAN) == "no-basis"


def test_the_wrong_compartment(world: World) -> None:
    world.ok(PETRA, w.granting("general", DAN, compartments=[PLACE]))
    assert denied(world, DAN, w.compartment_of(PETRA, HIV)) == "no-basis"
    assert denied(world, SOUTH, w.compartment_of(PAUL)) == "no-basis"


def test_an_unknown_purpose_code(world: World) -> None:
    for purpose in ("FooBar", "treat", "PurposeOfUse", "TREATMENT"):
        assert (
            world.refused(SOUTH, w.asking(compartments=[PLACE], purpose=purpose)) == "consent.unknown_purpose"
        )
        assert world.refused(PETRA, w.granting("p", SOUTH, purposes=[purpose])) == "consent.unknown_purpose"


def test_a_revoked_credential(world: World) -> None:
    care.with_licence(world)
    world.ok(DORA, care.declaring(world))
    world.ok(PETRA, w.revoking("c"))
    assert world.ask(DORA, compartments=[PLACE], purpose="BTG").verdicts[0].allow
    world.ok(WEST, credentials.RevokeCredential(w.some("credential/licence")))
    assert denied(world, DORA, purpose="BTG") == "no-basis"


def test_a_rotated_key(world: World) -> None:
    second = w.actor("south's second")
    digest = identity.addition_digest(chain_id=world.chain_id, identity=SOUTH.id, key=second.key.public)
    decision = world.ask(SOUTH, compartments=[PLACE])
    adding = identity.AddKey(second.key.public, second.key.sign(digest))
    world.ok(SOUTH, adding, identity.RevokeKey(SOUTH.key.public))
    assert world.refused(SOUTH, w.asking(compartments=[PLACE])) == "identity.key_not_authorised"
    code = access.still_stands(world.state, decision, decision.verdicts[0], world.time_ms)
    assert code == "identity.key_not_authorised"


def test_a_suspended_institution_and_its_people(world: World) -> None:
    decision = world.ask(DORA, compartments=[PLACE])
    known = identity.IDENTITIES.get(world.state, SOUTH.id)
    assert known is not None
    suspended = msgspec.structs.replace(known, status="suspended")
    world.state.values[identity.IDENTITIES.key(SOUTH.id)] = codec.encode(suspended)
    for who in (SOUTH, DORA):
        assert world.refused(who, w.asking(compartments=[PLACE])) == "identity.suspended"
    code = access.still_stands(world.state, decision, decision.verdicts[0], world.time_ms)
    assert code == "identity.suspended"


def test_a_grantee_passes_on_what_it_may_not(world: World) -> None:
    assert world.refused(SOUTH, care.passing_on()) == "delegation.not_transferable"
    assert world.refused(SOUTH, w.granting("x", DAN)) == "consent.not_the_patient"


def test_a_grantee_passes_on_more_or_for_longer(world: World) -> None:
    world.ok(PETRA, w.granting("t", SOUTH, transferable=True, compartments=[PLACE]))
    assert world.refused(SOUTH, care.passing_on("t")) == "delegation.wider"
    assert world.refused(SOUTH, care.passing_on("t", purposes=["HRESCH"])) == "delegation.wider"
    longer = care.passing_on("t", compartments=[PLACE], not_after=w.START_MS + 31 * w.DAY_MS)
    assert world.refused(SOUTH, longer) == "delegation.longer"


def test_a_release_without_an_allow_after_the_window_or_after_a_revocation(world: World) -> None:
    decision = world.ask(SOUTH, compartments=[PLACE])
    (verdict,) = decision.verdicts
    state, now = world.state, world.time_ms
    no = world.ask(DAN, compartments=[PLACE])
    assert access.still_stands(state, no, no.verdicts[0], world.time_ms) == "access.not_allowed"
    # Another's verdict beside this decision.
    assert access.still_stands(state, no, verdict, now) == "access.not_allowed"
    assert access.still_stands(state, decision, verdict, verdict.valid_until) == "access.window_closed"
    assert access.still_stands(state, decision, verdict, now) is None
    world.ok(PETRA, w.revoking("c"))
    assert access.still_stands(state, decision, verdict, world.time_ms) == "access.consent_ended"


def test_a_record_sealed_to_an_ended_epoch(world: World) -> None:
    world.ok(PETRA, beginning(PETRA))
    assert world.refused(NORTH, w.anchoring("r", PETRA, epoch=0)) == "records.epoch_ended"


def test_a_manager_consents_beyond_its_bounds(world: World) -> None:
    assert world.refused(NORTH, managed(purposes=["HRESCH"])) == "consent.beyond_bounds"


def test_a_manager_signs_as_the_patient(world: World) -> None:
    assert world.refused(NORTH, managed(), sender=PETRA.id) == "identity.key_not_authorised"


def test_a_revocation_runs_before_the_requests_of_its_block(world: World) -> None:
    """Wherever the primary put it: a withheld one is the business of agreement."""
    request = world.sign(SOUTH, w.asking(compartments=[PLACE]))
    outcome = world.block([request, world.sign(PETRA, w.revoking("c"))])
    leaves = [codec.decode(one, ReceiptLeaf, 1 << 20) for one in outcome.leaves]
    (decided,) = [leaf for leaf in leaves if leaf.transaction == request.id]
    assert not access.DECISIONS.decode(decided.results[0]).verdicts[0].allow
