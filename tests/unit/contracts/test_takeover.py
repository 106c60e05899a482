"""Take-over: everything of before ends in one transaction."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import consent, identity, records, representation, takeover
from consilium.contracts.classes import CLASSES, HIV
from consilium.ledger import codec
from consilium.ledger.execution import ReceiptLeaf
from tests.unit.contracts import care
from tests.unit.contracts import world as w
from tests.unit.contracts.care import FRESH
from tests.unit.contracts.test_records import beginning
from tests.unit.contracts.test_representation import managed
from tests.unit.contracts.world import DAN, NORTH, PAUL, PETRA, SOUTH, World


@pytest.fixture
def world() -> World:
    """Petra has a guardian and a delegate, and North granted something for her."""
    world = World().populate()
    world.ok(PETRA, care.appointing(PAUL), care.appointing(DAN, capacity="delegate", changes=1))
    world.ok(NORTH, managed())
    world.ok(PETRA, w.granting("mine", SOUTH, purposes=["HPAYMT"]))
    return world


def test_everything_of_before_ends_at_once(world: World) -> None:
    world.ok(PETRA, care.taking_over(world))
    # The old key, the manager, guardian and delegate.
    assert world.refused(PETRA, w.granting("old", SOUTH)) == "identity.key_not_authorised"
    for who in (NORTH, PAUL, DAN):
        body = msgspec.structs.replace(managed(), consent=w.some("another"))
        assert world.refused(who, body) == "consent.not_the_patient"
    assert world.refused(NORTH, beginning(PETRA, "more")) == "records.not_yours"
    account = representation.account_of(world.state, PETRA.id)
    assert (account.manager, account.representatives, account.generation) == (None, [], 1)
    # What North granted is void, and so is what was granted with Petra's old key, which North may have made.
    place = [w.compartment_of(PETRA)]
    assert not world.ask(SOUTH, compartments=place).verdicts[0].allow
    assert not world.ask(SOUTH, compartments=place, purpose="HPAYMT").verdicts[0].allow
    # Every compartment has a new epoch with the patient's own key.
    for code in CLASSES:
        compartment = records.COMPARTMENTS.get(world.state, w.compartment_of(PETRA, code))
        epoch = records.EPOCHS.get(world.state, w.compartment_of(PETRA, code), records.epoch_bytes(1))
        assert compartment is not None
        assert epoch is not None
        assert (compartment.epoch, epoch.point) == (1, w.some_point(f"own/{code}"))
    assert world.refused(NORTH, w.anchoring("r", PETRA, epoch=0)) == "records.epoch_ended"
    # The new key speaks, with its own encryption key.
    world.ok(FRESH, w.granting("new", SOUTH), sender=PETRA.id)
    known = identity.IDENTITIES.get(world.state, PETRA.id)
    assert known is not None
    assert (known.keys, known.encryption_key) == ([FRESH.key.public], FRESH.encryption_key)


def test_what_was_signed_before_is_void_even_in_the_same_block(world: World) -> None:
    signed = world.sign(PETRA, w.granting("pre-signed", SOUTH))
    by_manager = world.sign(NORTH, msgspec.structs.replace(managed(), consent=w.some("pre")))
    outcome = world.block([signed, by_manager, world.sign(PETRA, care.taking_over(world))])
    codes = {
        leaf.transaction: leaf.code
        for leaf in (codec.decode(one, ReceiptLeaf, 1 << 20) for one in outcome.leaves)
    }
    assert codes[signed.id] == "identity.key_not_authorised"
    assert codes[by_manager.id] == "consent.not_the_patient"
    assert list(codes.values()).count("ok") == 1


def test_nobody_else_takes_over(world: World) -> None:
    for who in (NORTH, SOUTH, PAUL, DAN):  # North manages the account, and could have made the new key itself
        assert world.refused(who, care.taking_over(world)) == "records.not_yours"


def test_the_new_key_proves_itself_for_this_take_over(world: World) -> None:
    body = care.taking_over(world)
    other = msgspec.structs.replace(body, encryption_key=bytes(32))
    assert world.refused(PETRA, other) == "identity.bad_proof"
    assert world.refused(PETRA, care.taking_over(world, generation=7)) == "identity.bad_proof"
    taken = care.taking_over(world, fresh=PAUL)
    assert world.refused(PETRA, taken) == "identity.key_taken"


def test_every_compartment_gets_a_key_that_it_did_not_have(world: World) -> None:
    body = care.taking_over(world)
    for epochs in (body.epochs[1:], body.epochs[::-1], [*body.epochs, body.epochs[0]]):
        changed = msgspec.structs.replace(body, epochs=epochs)
        assert world.refused(PETRA, changed) == "takeover.epochs_incomplete"
    same = [
        msgspec.structs.replace(one, commitments=[w.some_point("C/petra")])
        if one.compartment == w.compartment_of(PETRA)
        else one
        for one in body.epochs
    ]
    assert world.refused(PETRA, msgspec.structs.replace(body, epochs=same)) == "records.key_unchanged"
    alone = [
        msgspec.structs.replace(one, commitments=one.commitments[:1])
        if one.compartment == w.compartment_of(PETRA, HIV)
        else one
        for one in body.epochs
    ]
    assert world.refused(PETRA, msgspec.structs.replace(body, epochs=alone)) == "records.too_few_custodians"


def test_classes_are_hidden_anew_and_general_stays_general(world: World) -> None:
    before = {one: records.COMPARTMENTS.get(world.state, one) for one in places()}
    world.ok(PETRA, care.taking_over(world))
    after = [records.COMPARTMENTS.get(world.state, one) for one in places()]
    assert [one.class_commitment for one in after if one] == care.hidden_anew(PETRA)
    assert [one.general for one in after if one] == [one.general for one in before.values() if one]
    for one in places():  # and by nothing but a take-over
        assert before[one] != records.COMPARTMENTS.get(world.state, one)


def test_who_does_not_know_the_classes_leaves_them_hidden_as_they_were(world: World) -> None:
    before = [records.COMPARTMENTS.get(world.state, one) for one in places()]
    world.ok(PETRA, msgspec.structs.replace(care.taking_over(world), class_commitments=[]))
    after = [records.COMPARTMENTS.get(world.state, one) for one in places()]
    assert [one.class_commitment for one in after if one] == [one.class_commitment for one in before if one]


def test_every_class_is_hidden_by_a_commitment_of_its_own(world: World) -> None:
    body = care.taking_over(world)
    hidden = body.class_commitments
    more = w.some("more", 32)
    for wrong in (hidden[1:], [*hidden, more], hidden[:-1] + hidden[:1], [*hidden, hidden[0]]):
        changed = msgspec.structs.replace(body, class_commitments=wrong)
        assert world.refused(PETRA, changed) == "takeover.classes_incomplete"


def places() -> list[bytes]:
    """Petra's compartments, in the order of ids."""
    return sorted(w.compartment_of(PETRA, code) for code in CLASSES)


def test_a_second_take_over_begins_where_the_first_ended(world: World) -> None:
    world.ok(PETRA, care.taking_over(world))
    third = w.actor("petra's third")
    body = takeover.TakeOver(
        PETRA.id,
        third.key.public,
        third.encryption_key,
        care.new_key_proof(world, PETRA, third, 1),
        care.epochs_of(PETRA, label="second"),
        [],
    )
    assert world.refused(NORTH, body) == "records.not_yours"
    world.ok(FRESH, body, sender=PETRA.id)
    assert representation.account_of(world.state, PETRA.id).generation == 2
    kept = consent.CONSENTS.get(world.state, w.some("consent/m"))
    assert kept is not None
    assert not consent.stands(world.state, kept)
