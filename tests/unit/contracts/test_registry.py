"""From names to handlers: ranks, bad bodies, faulty contracts, and contracts that get in each other's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium.contracts import access, consent, identity, keys, registry
from consilium.contracts.operation import Contract, EventKind, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import MemoryState, Overlay
from consilium.ledger.transaction import Operation
from tests.unit.contracts import world as w
from tests.unit.contracts.world import NORTH, PETRA, SOUTH, World

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "contracts"


class Body(codec.Wire, frozen=True):
    number: codec.Uint


class Other(codec.Wire, frozen=True):
    number: codec.Uint


def context() -> OperationContext:
    return OperationContext(Overlay(MemoryState()), 1, 1_000, bytes(32), bytes(16), bytes(32), bytes(32))


def run(handler, result: type[codec.Wire] | None = None) -> bytes:
    contract = Contract("test", (OperationSpec("test.do", Body, handler, result),))
    return registry.Registry([contract]).run(Operation("test.do", codec.encode(Body(7))), context())


def test_names_follow_their_contract_and_every_operation_is_known() -> None:
    known = registry.default_registry()
    for contract in known.contracts:
        for spec in contract.operations:
            assert spec.name.startswith(f"{contract.name}.")
        for kind in contract.events:
            assert kind.name.startswith(f"{contract.name}.")
    assert sorted(known.operations) == sorted(path.stem for path in GOLDEN.glob("*.json"))


def test_every_prefix_is_of_one_byte_and_of_one_slot() -> None:
    prefixes = [value for name, value in vars(keys).items() if name.isupper()]
    assert sorted(prefixes) == sorted(registry.default_registry().slots)
    assert all(len(prefix) == 1 for prefix in prefixes)


def test_ranks() -> None:
    known = registry.default_registry()
    ranks = {name: known.rank(Operation(name, b"")) for name in (*known.operations, "unknown")}
    first = [name for name in ranks if ranks[name] == Rank.TAKES_RIGHTS]
    last = [name for name in ranks if ranks[name] == Rank.USES_RIGHTS]
    assert sorted(first) == [
        "consent.revoke",
        "credential.revoke",
        "emergency.close",
        "erasure.carry_out",
        "erasure.contest",
        "erasure.request",
        "governance.propose",
        "governance.vote",
        "identity.revoke_key",
        "identity.suspend",
        "mandate.withdraw",
        "preferences.set",
        "recovery.veto",
        "representation.dismiss",
        "session.end",
        "summary.withdraw",
        "takeover.complete",
        "teams.remove",
        "treatment.end",
    ]
    assert sorted(last) == ["access.request", "disclosure.consult"]
    assert ranks["unknown"] == Rank.ORDINARY


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(Refused, match=r"transaction\.unknown_operation"):
        registry.default_registry().run(Operation("records.shred", b""), context())


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "codec.malformed"),
        (b"\x91\xa0", "codec.malformed"),
        (b"\x92\x01\x02", "codec.malformed"),
        (b"\x91\x07\x00", "codec.malformed"),
        (b"\x91\xcc\x07", "codec.not_canonical"),
        (b"\x91\x07" + bytes(20_000), "codec.oversized"),
    ],
)
def test_a_bad_body_is_refused(raw: bytes, code: str) -> None:
    contract = Contract("test", (OperationSpec("test.do", Body, lambda body, context: None),))
    with pytest.raises(Refused) as caught:
        registry.Registry([contract]).run(Operation("test.do", raw), context())
    assert caught.value.code == code


@pytest.mark.parametrize(
    "fault", [ZeroDivisionError, AttributeError, KeyError, IndexError, TypeError, ValueError, UnicodeError]
)
def test_a_faulty_contract_refuses_its_transaction_and_halts_nobody(fault: type[Exception]) -> None:
    def handler(body: Body, context: OperationContext) -> None:
        raise fault

    with pytest.raises(Refused) as caught:
        run(handler)
    assert caught.value.code == "contract.fault"


@pytest.mark.parametrize("error", [RecursionError, MemoryError, InvariantBroken])
def test_what_depends_on_the_machine_goes_through(error: type[Exception]) -> None:
    def handler(body: Body, context: OperationContext) -> None:
        raise error

    with pytest.raises(error):
        run(handler)


def test_results_are_what_is_declared() -> None:
    assert run(lambda body, context: None) == b""
    assert run(lambda body, context: body, Body) == codec.encode(Body(7))
    for handler, result in (
        (lambda body, context: None, Body),
        (lambda body, context: Other(7), Body),
        (lambda body, context: body, None),
    ):
        with pytest.raises(Refused, match=r"contract\.fault"):
            run(handler, result)


def test_a_result_that_is_too_long_is_a_fault() -> None:
    class Long(codec.Wire, frozen=True):
        data: bytes

    with pytest.raises(Refused, match=r"contract\.fault"):
        run(lambda body, context: Long(bytes(20_000)), Long)


@pytest.mark.parametrize(
    "contract",
    [
        Contract("b", (OperationSpec("a.do", Body, lambda body, context: None),)),
        Contract("b", (), (Slot(b"A", (16,), Body, 16),)),
        Contract("b", (), (), (EventKind("a.done", Body),)),
    ],
)
def test_two_contracts_cannot_claim_one_thing(contract: Contract) -> None:
    first = Contract(
        "a",
        (OperationSpec("a.do", Body, lambda body, context: None),),
        (Slot(b"A", (16,), Body, 16),),
        (EventKind("a.done", Body),),
    )
    registry.Registry([first])
    with pytest.raises(ValueError, match="two contracts claim"):
        registry.Registry([first, contract])


def test_a_new_contract_runs_beside_the_others() -> None:
    """It is one module: nothing else of what a transaction does has to know it."""
    slot = Slot(b"z", (16,), Body, 16)

    def handler(body: Body, context: OperationContext) -> Body:
        slot.put(context.state, body, context.sender)
        return body

    spec = OperationSpec("notes.keep", Body, handler, Body)
    known = registry.Registry((*registry.CONTRACTS, Contract("notes", (spec,), (slot,))))
    world = World(registry=known)
    leaf = world.ok(NORTH, Body(9))
    assert codec.decode(leaf.results[0], Body, 16) == Body(9)
    assert slot.get(world.state, NORTH.id) == Body(9)


def test_validators_stay() -> None:
    world = World()
    assert world.registry.next_validators(world.state, world.validators) is world.validators


def test_operations_are_made_within_their_bounds() -> None:
    made = registry.operation("consent.revoke", w.revoking("c"))
    assert made == Operation("consent.revoke", codec.encode(w.revoking("c")))
    for name, body, code in (
        ("consent.unknown", w.revoking("c"), "transaction.unknown_operation"),
        ("consent.grant", w.revoking("c"), "codec.malformed"),
        ("consent.revoke", consent.RevokeConsent(b"short"), "codec.malformed"),
    ):
        with pytest.raises(Refused) as caught:
            registry.operation(name, body)
        assert caught.value.code == code


def test_all_operations_of_a_transaction_take_effect_or_none() -> None:
    world = World().populate()
    assert world.refused(PETRA, w.granting("c", SOUTH), w.revoking("none")) == "consent.unknown"
    assert consent.CONSENTS.get(world.state, w.some("consent/c")) is None


def test_what_a_transaction_grants_it_can_use() -> None:
    world = World().populate()
    second = w.actor("second")
    digest = identity.addition_digest(chain_id=world.chain_id, identity=SOUTH.id, key=second.key.public)
    addition = identity.AddKey(second.key.public, second.key.sign(digest))
    leaf = world.ok(SOUTH, addition, w.asking(compartments=[w.compartment_of(PETRA)]))
    assert access.DECISIONS.decode(leaf.results[1]).key == SOUTH.key.public
