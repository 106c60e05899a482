"""Who may enrol, add, revoke and suspend whom, and which keys speak for whom."""

from __future__ import annotations

import msgspec
import pytest

from consilium.contracts import identity
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import ReceiptLeaf, execute_genesis
from consilium.ledger.state import MemoryState
from tests.unit.contracts import world as w
from tests.unit.contracts.world import APP, DAN, DORA, NOBODY, NORTH, PETRA, SOUTH, WEST, World


@pytest.fixture
def world() -> World:
    return World().populate()


def adding(world: World, who: w.Actor, new: w.Actor) -> identity.AddKey:
    digest = identity.addition_digest(chain_id=world.chain_id, identity=who.id, key=new.key.public)
    return identity.AddKey(new.key.public, new.key.sign(digest))


def test_genesis_founds_the_institutions() -> None:
    world = World()
    north = identity.IDENTITIES.get(world.state, NORTH.id)
    assert north is not None
    assert (north.kind, north.status, north.sponsor) == ("institution", "active", None)
    assert north.roles == ["author", "custodian", "manager"]
    assert [event.kind for event in world.events] == ["identity.enrolled"] * 3


def test_an_institution_is_founded_by_genesis_only() -> None:
    world = World()
    body = msgspec.structs.replace(w.found(NORTH), key=NOBODY.key.public)
    assert world.refused(NORTH, body) == "contract.founding_only"


def test_genesis_enrols_nobody_else() -> None:
    world = World()
    operation = world.operation(world.enrolment(PETRA, NORTH, "patient"))
    genesis = msgspec.structs.replace(world.genesis, operations=[*world.genesis.operations, operation])
    with pytest.raises(Refused) as caught:
        execute_genesis(genesis, MemoryState(), world.registry)
    assert caught.value.code == "genesis.malformed"


@pytest.mark.parametrize("roles", [["manager", "author"], ["author", "author"]])
def test_roles_have_one_writing(roles: list[identity.Role]) -> None:
    world = World()
    operation = world.operation(msgspec.structs.replace(w.found(NORTH), key=NOBODY.key.public, roles=roles))
    genesis = msgspec.structs.replace(world.genesis, operations=[operation])
    with pytest.raises(Refused, match=r"identity\.bad_roles"):
        execute_genesis(genesis, MemoryState(), world.registry)


def test_an_enrolled_identity_has_its_sponsor_and_speaks(world: World) -> None:
    dora = identity.IDENTITIES.get(world.state, DORA.id)
    assert dora is not None
    assert (dora.kind, dora.sponsor, dora.keys) == ("practitioner", SOUTH.id, [DORA.key.public])
    assert identity.key_standing(world.state, DORA.id, DORA.key.public, world.time_ms) is None


def test_enrolment_tells_identity_and_sponsor() -> None:
    world = World()
    leaf = world.ok(NORTH, world.enrolment(PETRA, NORTH, "patient"))
    expected = identity.Enrolled(PETRA.id, "patient", NORTH.id)
    assert codec.decode(leaf.results[0], identity.Enrolled, 256) == expected
    (event,) = world.events
    assert (event.kind, event.subjects) == ("identity.enrolled", [PETRA.id, NORTH.id])
    assert codec.decode(event.data, identity.Enrolled, 256) == expected


def test_only_a_manager_enrols_patients() -> None:
    world = World()
    assert world.refused(WEST, world.enrolment(PETRA, WEST, "patient")) == "identity.role_missing"
    world.ok(WEST, world.enrolment(DORA, WEST, "practitioner"))


def test_only_institutions_enrol(world: World) -> None:
    for who in (DORA, PETRA, APP):
        code = world.refused(who, world.enrolment(NOBODY, who, "practitioner"))
        assert code == "identity.not_an_institution"
        assert world.refused(who, world.enrolment(NOBODY, who, "patient")) == "identity.role_missing"


def test_nobody_registers_somebody_elses_key(world: World) -> None:
    body = world.enrolment(NOBODY, SOUTH, "patient")
    # South's proof in North's hands, another kind, another encryption key, another's signature.
    assert world.refused(NORTH, body) == "identity.bad_proof"
    assert world.refused(SOUTH, msgspec.structs.replace(body, kind="application")) == "identity.bad_proof"
    other = msgspec.structs.replace(body, encryption_key=DAN.encryption_key)
    assert world.refused(SOUTH, other) == "identity.bad_proof"
    forged = msgspec.structs.replace(body, proof=SOUTH.key.sign(w.some("x", 32)))  # type: ignore[arg-type]
    assert world.refused(SOUTH, forged) == "identity.bad_proof"
    world.ok(SOUTH, body)


def test_a_key_belongs_to_one_identity_for_ever(world: World) -> None:
    second = w.actor("dora's second")
    assert world.refused(NORTH, world.enrolment(DORA, NORTH, "practitioner")) == "identity.key_taken"
    world.ok(DORA, adding(world, DORA, second))
    assert world.refused(NORTH, world.enrolment(second, NORTH, "practitioner")) == "identity.key_taken"
    assert world.refused(DAN, adding(world, DAN, second)) == "identity.key_taken"
    world.ok(DORA, identity.RevokeKey(second.key.public))
    assert world.refused(DORA, adding(world, DORA, second)) == "identity.key_taken"
    assert world.refused(NORTH, world.enrolment(second, NORTH, "practitioner")) == "identity.key_taken"


def test_a_rotated_key_speaks_and_the_old_one_no_more(world: World) -> None:
    second = w.actor("dora's second")
    world.ok(DORA, adding(world, DORA, second), identity.RevokeKey(DORA.key.public))
    world.ok(second, w.asking(records_=[w.record_id("x")]), sender=DORA.id)
    assert world.refused(DORA, w.asking(records_=[w.record_id("x")])) == "identity.key_not_authorised"
    entry = identity.KEYS.get(world.state, DORA.key.public)
    assert entry is not None
    assert entry.identity == DORA.id
    assert entry.revoked_ms is not None
    assert entry.added_ms < entry.revoked_ms


def test_the_last_key_stays(world: World) -> None:
    assert world.refused(DORA, identity.RevokeKey(DORA.key.public)) == "identity.last_key"


def test_only_own_current_keys_are_revoked(world: World) -> None:
    second = w.actor("dora's second")
    world.ok(DORA, adding(world, DORA, second))
    for key in (DAN.key.public, NOBODY.key.public):
        assert world.refused(DORA, identity.RevokeKey(key)) == "identity.not_own_key"
    # Neither does an employer.
    assert world.refused(SOUTH, identity.RevokeKey(second.key.public)) == "identity.not_own_key"
    world.ok(DORA, identity.RevokeKey(second.key.public))
    assert world.refused(DORA, identity.RevokeKey(second.key.public)) == "identity.not_own_key"


def test_an_added_key_proves_itself_for_this_identity(world: World) -> None:
    second = w.actor("second")
    assert world.refused(DAN, adding(world, DORA, second)) == "identity.bad_proof"


def test_keys_are_bounded(world: World) -> None:
    for number in range(identity.KEYS_PER_IDENTITY_MAX - 1):
        world.ok(DORA, adding(world, DORA, w.actor(f"key {number}")))
    assert world.refused(DORA, adding(world, DORA, w.actor("one more"))) == "identity.too_many_keys"


def test_unknown_senders_and_others_keys_are_refused(world: World) -> None:
    request = w.asking(records_=[w.record_id("x")])
    assert world.refused(NOBODY, request) == "identity.unknown"
    assert world.refused(DAN, request, sender=DORA.id) == "identity.key_not_authorised"
    assert world.refused(NOBODY, request, sender=DORA.id) == "identity.key_not_authorised"


def test_the_employer_suspends_and_reinstates(world: World) -> None:
    request = w.asking(records_=[w.record_id("x")])
    world.ok(SOUTH, identity.Suspend(DORA.id))
    (event,) = world.events
    assert (event.kind, event.subjects) == ("identity.status_changed", [DORA.id, SOUTH.id])
    assert world.refused(DORA, request) == "identity.suspended"
    assert world.refused(SOUTH, identity.Suspend(DORA.id)) == "identity.status_unchanged"
    world.ok(SOUTH, identity.Reinstate(DORA.id))
    world.ok(DORA, request)
    assert world.refused(SOUTH, identity.Reinstate(DORA.id)) == "identity.status_unchanged"


def test_nobody_else_suspends(world: World) -> None:
    assert world.refused(NORTH, identity.Suspend(DORA.id)) == "identity.not_the_sponsor"
    assert world.refused(DORA, identity.Suspend(DORA.id)) == "identity.not_the_sponsor"
    assert world.refused(SOUTH, identity.Suspend(NOBODY.id)) == "identity.unknown"
    # The manager of a patient cannot silence the patient, and institutions not each other.
    assert world.refused(NORTH, identity.Suspend(PETRA.id)) == "identity.not_the_sponsor"
    assert world.refused(NORTH, identity.Suspend(SOUTH.id)) == "identity.not_the_sponsor"


def test_who_is_employed_stands_with_the_employer_and_patients_alone(world: World) -> None:
    for who in (SOUTH, NORTH):
        known = identity.IDENTITIES.get(world.state, who.id)
        assert known is not None
        suspended = msgspec.structs.replace(known, status="suspended")
        world.state.values[identity.IDENTITIES.key(who.id)] = codec.encode(suspended)
    assert identity.standing(world.state, DORA.id) == "identity.suspended"
    assert identity.standing(world.state, APP.id) == "identity.suspended"
    assert identity.standing(world.state, PETRA.id) is None
    assert world.refused(DORA, w.asking(records_=[w.record_id("x")])) == "identity.suspended"


def test_a_revocation_runs_before_what_the_key_signed_in_the_same_block(world: World) -> None:
    second = w.actor("dora's second")
    world.ok(DORA, adding(world, DORA, second))
    request = world.sign(second, w.asking(records_=[w.record_id("x")]), sender=DORA.id)
    outcome = world.block([request, world.sign(DORA, identity.RevokeKey(second.key.public))])
    codes = [codec.decode(leaf, ReceiptLeaf, 1 << 20).code for leaf in outcome.leaves]
    assert codes == ["ok", "identity.key_not_authorised"]
