"""Weights tell what operations cost: every node can afford a block that keeps its weight, whatever is in it.

Cost is counted, not timed, so that a loaded machine finds the same: calls of the interpreter, signatures and points,
bytes decoded and hashed, entries written, each with the microseconds that it was measured at. What is counted of the
fuzzer's bodies, on a world in which much has happened and on one whose lists are full, stays within FACTOR of what the
operation weighs.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import pytest
from hypothesis import given

from consilium.contracts import erasure, teams, weights
from consilium.contracts.classes import CLASSES
from consilium.contracts.consent import CONSENTS_PER_GRANTEE_MAX, GrantConsent
from consilium.contracts.disclosures import ATTESTATIONS_MAX, AttestedRelease, AttestReleases
from consilium.contracts.forgetting import RECORDS_PER_ERASURE_MAX
from consilium.contracts.registry import default_registry, operation
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import Overlay
from consilium.ledger.transaction import OPERATION_BODY_BYTES_MAX, OPERATIONS_MAX, Operation
from consilium.ledger.weight import BATCH_WEIGHT_MAX, BLOCK_WEIGHT_MAX, TRANSACTION_WEIGHT_MAX
from tests.unit.contracts import care, golden_erasure_cases
from tests.unit.contracts import world as w
from tests.unit.contracts.test_fuzz import SEEDS, SLOW, crowded, draw, forget, lived, pool_of, signer_of
from tests.unit.contracts.world import DORA, NORTH, PETRA, SOUTH, Actor, World, some

FACTOR: Final = 2
"""So much more than its weight an operation may cost: a block of BLOCK_WEIGHT_MAX so many times a second."""
CALL_US: Final = 0.12
SIGNATURE_US: Final = 45
POINT_US: Final = 32
WRITE_US: Final = 15
"""Of one entry, in the trie and in the store."""
BYTES_US: Final = 250
"""So many bytes of state are decoded, or encoded, in a microsecond."""
REGISTRY = default_registry()


class Counted(Overlay):
    """Counts what is read and written through it."""

    __slots__ = ("bytes", "writes")

    def __init__(self, base: Any) -> None:
        super().__init__(base)
        self.bytes = self.writes = 0

    def get(self, key: bytes) -> bytes | None:
        value = super().get(key)
        self.bytes += len(value or b"")
        return value

    def put(self, key: bytes, value: bytes) -> None:
        self.writes += 1
        self.bytes += len(value)
        super().put(key, value)


def cost_us(run: Callable[[], object], state: Counted) -> float:
    """Of one operation."""
    calls = signatures = points = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls, signatures, points
        if event in ("call", "c_call"):
            calls += 1
            name = frame.f_code.co_name if event == "call" else ""
            signatures += name == "crypto_sign_open"
            points += name == "crypto_core_ed25519_is_valid_point"

    sys.setprofile(note)
    try:
        run()
    except Refused:
        pass
    finally:
        sys.setprofile(None)
    crypto = signatures * SIGNATURE_US + points * POINT_US
    return calls * CALL_US + crypto + state.writes * WRITE_US + state.bytes / BYTES_US


def check(body: Operation, context: OperationContext) -> float:
    """That an operation costs what it weighs. Returns its cost."""
    state = context.state
    assert isinstance(state, Counted)
    forget(REGISTRY)
    context.weight = REGISTRY.weight(body)
    cost = cost_us(lambda: REGISTRY.run(body, context), state)
    assert cost <= FACTOR * context.weight, (body.name, cost, context.weight)
    return cost


def context_of(world: World, sender: bytes, key: bytes, time_ms: int, height: int) -> OperationContext:
    return OperationContext(
        Counted(world.state),
        height,
        time_ms,
        world.chain_id,
        sender,
        key,
        some("weighed transaction", 32),
        1,
        validators=world.validators,
        ancestor=world.ancestor,
    )


@SLOW
@given(SEEDS)
def test_no_drawn_operation_costs_more_than_it_weighs(seed: int) -> None:
    pool = pool_of(lived())
    for number, name in enumerate(sorted(REGISTRY.operations)):
        for world in (lived(), crowded(0), crowded(1)):
            rng = random.Random(seed * 1_000 + number)
            sender, drawn = draw(rng, name, pool, world.state, world.chain_id, world.time_ms + 1)
            key = signer_of(rng, sender, world.state).public
            height = 0 if REGISTRY.operations[name].founding else world.height + 1
            check(drawn, context_of(world, sender, key, world.time_ms + 1, height))


# --- what the fuzzer does not find: the largest of each kind ---------------------------------------------------------


def by(world: World, who: Actor) -> OperationContext:
    return context_of(world, who.id, who.key.public, world.time_ms + 1, world.height + 1)


@pytest.fixture
def world() -> World:
    return World().populate()


def test_a_request_of_somebody_with_all_consents_that_one_can_have(world: World) -> None:
    parties = [some(f"team/{number}") for number in range(teams.TEAMS_PER_MEMBER_MAX)]
    for team in parties:
        world.ok(SOUTH, care.forming(team=team), teams.AdmitMember(team, DORA.id))
    for party in (*parties, DORA.id, SOUTH.id, None):
        name = (party or b"everybody").hex()
        world.ok(
            PETRA,
            *(
                GrantConsent(some(f"{name}/{number}"), PETRA.id, [w.provision(party)], None)
                for number in range(CONSENTS_PER_GRANTEE_MAX)
            ),
        )
    asked = w.asking(compartments=[w.compartment_of(PETRA, code) for code in CLASSES])
    context = by(world, DORA)
    cost = check(operation("access.request", asked), context)
    consents = (len(parties) + 3) * CONSENTS_PER_GRANTEE_MAX * len(CLASSES)
    assert context.weight >= consents * weights.CONSENT
    assert cost >= context.weight / (5 * FACTOR)  # what state adds is counted as what it is, not for fear


def test_releases_on_as_many_verdicts_as_fit(world: World) -> None:
    world.ok(NORTH, w.anchoring("r", PETRA))
    world.ok(PETRA, w.granting("c", SOUTH))
    asked = []
    for _ in range(ATTESTATIONS_MAX):
        signed = world.sign(SOUTH, w.asking(compartments=[w.compartment_of(PETRA)]))
        world.block([signed])
        asked.append(signed.id)
    releases = [AttestedRelease(one, 0, 0, 0, 1, world.time_ms) for one in asked]
    context = by(world, NORTH)
    check(operation("disclosure.attest", AttestReleases(releases)), context)
    assert len(context.state.changes()) > ATTESTATIONS_MAX


def test_erasing_as_many_records_as_one_order_names(world: World) -> None:
    named = []
    for number in range(RECORDS_PER_ERASURE_MAX):
        body = w.anchoring(f"r{number}", PETRA, bundle=f"b{number}", classes=(1, 3, 6))
        world.ok(SOUTH, body)
        named.append(body.record)
    order = golden_erasure_cases.erasing("many", records=named)
    context = by(world, PETRA)
    check(operation("erasure.request", order), context)
    assert len(context.state.changes()) > RECORDS_PER_ERASURE_MAX
    assert context.weight >= RECORDS_PER_ERASURE_MAX * weights.ERASED_RECORD


# --- the limits fit each other --------------------------------------------------------------------------------------


def test_every_operation_fits_into_a_transaction_whatever_its_length() -> None:
    for name in REGISTRY.operations:
        assert REGISTRY.weight(Operation(name, bytes(OPERATION_BODY_BYTES_MAX))) <= TRANSACTION_WEIGHT_MAX


def test_a_full_transaction_of_records_is_no_heavy_one() -> None:
    one = operation("records.anchor", w.anchoring("r", PETRA))
    assert REGISTRY.weight(one) * OPERATIONS_MAX <= TRANSACTION_WEIGHT_MAX


def test_what_contracts_bound_for_a_transaction_fits_into_its_weight() -> None:
    most = (teams.TEAMS_PER_MEMBER_MAX + 3) * CONSENTS_PER_GRANTEE_MAX * len(CLASSES)
    assert most * weights.CONSENT < TRANSACTION_WEIGHT_MAX // 2
    assert erasure.EPOCHS_PER_ERASURE_MAX * weights.ERASED_EPOCH < TRANSACTION_WEIGHT_MAX // 2


def test_a_block_has_room_for_batches_and_a_batch_for_transactions() -> None:
    assert 2 * TRANSACTION_WEIGHT_MAX <= BATCH_WEIGHT_MAX
    assert 4 * BATCH_WEIGHT_MAX <= BLOCK_WEIGHT_MAX


def test_an_operation_that_nobody_knows_weighs_nearly_nothing() -> None:
    assert 0 < REGISTRY.weight(Operation("no.such", bytes(16_000))) < 100


def test_the_table_names_operations_that_there_are() -> None:
    assert {*weights.WEIGHTS} <= {*REGISTRY.operations}


def test_a_genesis_document_may_weigh_what_it_likes(world: World) -> None:
    context = context_of(world, SOUTH.id, SOUTH.key.public, world.time_ms, 0)
    context.charge(10 * BLOCK_WEIGHT_MAX)
    with pytest.raises(Refused) as refused:
        by(world, SOUTH).charge(TRANSACTION_WEIGHT_MAX + 1)
    assert refused.value.code == "transaction.too_heavy"
