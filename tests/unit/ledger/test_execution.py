"""Executing blocks: atomic, in the order of ranks, each id once, the same bytes however the process was started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.ledger import codec, execution
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.execution import (
    EVENT_BYTES_MAX,
    EVENT_SUBJECTS_MAX,
    LEAF_BYTES_MAX,
    OK,
    POSTPONED,
    RESULT_BYTES_MAX,
    OperationContext,
    Outcome,
    ReceiptLeaf,
    execute,
    execute_genesis,
)
from consilium.ledger.genesis import FOUNDER, GENESIS_VERSION, Genesis
from consilium.ledger.merkle import merkle_root
from consilium.ledger.state import MemoryState, Overlay
from consilium.ledger.transaction import (
    OPERATIONS_MAX,
    VALIDITY_MAX_MS,
    Operation,
    Transaction,
    Verified,
)
from consilium.ledger.validators import ValidatorSet
from consilium.ledger.weight import BLOCK_WEIGHT_MAX, TRANSACTION_WEIGHT_MAX
from tests.unit.ledger.fingerprint import CHAIN, NOW, fingerprint, sign
from tests.unit.ledger.world import (
    BARRED,
    START_MS,
    SmallContracts,
    council,
    new_council,
    put,
    run_block,
)

PROJECT = Path(__file__).resolve().parents[3]


def run(
    *transactions: Verified[Transaction], state: dict[bytes, bytes] | None = None, **more: Any
) -> Outcome:
    return run_block(list(transactions), MemoryState(dict(state or {})), chain_id=CHAIN, **more)


def leaves(outcome: Outcome) -> list[ReceiptLeaf]:
    return [codec.decode(raw, ReceiptLeaf, LEAF_BYTES_MAX) for raw in outcome.leaves]


# ---- one transaction


def test_what_takes_effect() -> None:
    transaction = sign("one", put((b"a", b"1"), (b"b", b"2")), put((b"a", b"3"), name="tell"))
    outcome = run(transaction, state={b"b": b"0", b"c": b"4"})
    assert leaves(outcome) == [ReceiptLeaf(transaction.id, OK, None, [b"\x02", b"\x01"])]
    assert outcome.changes == [(b"a", b"3"), (b"b", b"2")]
    assert outcome.transactions == (transaction,)
    assert outcome.skipped == ()
    assert outcome.receipts_root == merkle_root(list(outcome.leaves))
    (event,) = outcome.events
    assert (event.kind, event.transaction, event.operation, event.time_ms) == ("told", transaction.id, 1, NOW)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_refused_operation_undoes_the_others(place: int) -> None:
    operations = [put((b"a", b"1"), name="tell"), put((b"b", None)), put((b"c", b"3"), name="tell")]
    operations.insert(place, put((b"d", b"4"), name="refuse"))
    transaction = sign("refused", *operations)
    outcome = run(transaction, state={b"b": b"0"})
    assert leaves(outcome) == [ReceiptLeaf(transaction.id, "identity.last_key", place, [])]
    assert (outcome.changes, outcome.events) == ([], ())
    assert outcome.transactions == (transaction,)


def test_what_a_contract_said_is_for_people_and_in_no_receipt() -> None:
    refused, done = sign("refused", put(name="refuse")), sign("done", put((b"a", b"1")))
    outcome = run(refused, done)
    ((identifier, refusal),) = outcome.refusals
    assert (identifier, refusal.detail, refusal.__traceback__) == (refused.id, "as it was asked to", None)
    assert b"as it was asked to" not in b"".join(outcome.leaves)


def test_a_refused_transaction_leaves_no_trace_for_the_next() -> None:
    refused = sign("refused", put((b"a", b"1")), put((b"b", b"2"), name="refuse"))
    reads = sign("reads", put((b"a", None), (b"b", None), name="read"))
    assert leaves(run(refused, reads))[1].results == [b"--"]
    assert leaves(run(sign("kept", put((b"a", b"1"))), reads))[1].results == [b"1-"]


def test_operations_see_those_before_them() -> None:
    transaction = sign("sees", put((b"a", b"1")), put((b"a", None), name="read"), put((b"a", None)))
    outcome = run(transaction)
    assert leaves(outcome)[0].results == [b"\x01", b"1", b"\x01"]
    assert outcome.changes == []


def test_who_may_not_speak() -> None:
    transaction = sign("barred", put((b"a", b"1")))
    outcome = run(transaction, state={BARRED + transaction.value.sender: b"x"})
    assert leaves(outcome) == [ReceiptLeaf(transaction.id, "identity.key_not_authorised", 0, [])]
    assert outcome.changes == []


def test_what_no_contract_knows() -> None:
    outcome = run(sign("unknown", put((b"a", b"1")), Operation("no.such", b"")))
    assert [(leaf.code, leaf.failed) for leaf in leaves(outcome)] == [("transaction.unknown_operation", 1)]


def test_authority_can_be_lost_within_a_block() -> None:
    first, second = sign("one", put((b"a", b"1"))), sign("two", put((b"a", b"2")), sender="bob")
    bars = sign("bars", put((BARRED + second.value.sender, b"x"), name="early"))
    assert [leaf.code for leaf in leaves(run(first, second, bars))] == [OK, OK, "identity.key_not_authorised"]


# ---- order


def test_what_takes_away_runs_first() -> None:
    """In the order of ranks; within a rank, in the order of the batches."""
    late = [sign(f"late {n}", put((b"a", b"late %d" % n))) for n in range(3)]
    early = [sign(f"early {n}", put((b"a", b"early %d" % n), name="early")) for n in range(2)]
    outcome = run(late[0], early[0], late[1], early[1], late[2])
    assert list(outcome.transactions) == [*early, *late]
    assert outcome.changes == [(b"a", b"late 2")]


def test_nothing_is_smuggled_forward() -> None:
    """A transaction runs with its latest operation, whatever stands before it."""
    mixed = sign("mixed", put((b"a", b"mixed"), name="early"), put((b"b", b"1")))
    plain, early = sign("plain", put((b"a", b"plain"))), sign("early", put((b"a", b"early"), name="early"))
    assert list(run(plain, mixed, early).transactions) == [early, plain, mixed]


# ---- skipping


@pytest.mark.parametrize(
    ("valid_ms", "code"),
    [
        (NOW - 1, "transaction.expired"),
        (NOW, "transaction.expired"),
        (NOW + 1, None),
        (NOW + VALIDITY_MAX_MS, None),
        (NOW + VALIDITY_MAX_MS + 1, "transaction.too_far_ahead"),
    ],
)
def test_the_window_is_in_block_time(valid_ms: int, code: str | None) -> None:
    transaction = sign("timed", put((b"a", b"1")), valid_ms=valid_ms)
    outcome = run(transaction)
    if code is None:
        assert (len(outcome.leaves), outcome.skipped) == (1, ())
        return
    assert outcome.skipped == ((transaction.id, code),)
    assert (outcome.leaves, outcome.transactions, outcome.changes, outcome.events) == ((), (), [], ())
    assert outcome.receipts_root == merkle_root([])


def test_an_id_counts_once() -> None:
    again, other = sign("again", put((b"a", b"1"), name="tell")), sign("other", put((b"a", b"2")))
    outcome = run(again, other, again)
    assert list(outcome.transactions) == [again, other]
    assert outcome.skipped == ((again.id, "transaction.duplicate"),)
    assert len(outcome.events) == 1
    seen = run(again, other, seen=frozenset([other.id]))
    assert list(seen.transactions) == [again]
    assert seen.skipped == ((other.id, "transaction.duplicate"),)


def test_an_id_that_was_refused_counts_too() -> None:
    refused = sign("refused", put(name="refuse"))
    outcome = run(refused, refused)
    assert [leaf.code for leaf in leaves(outcome)] == ["identity.last_key"]
    assert outcome.skipped == ((refused.id, "transaction.duplicate"),)


def test_an_expired_one_is_not_seen() -> None:
    """What was skipped for its time has no receipt, so that it takes nobody's place."""
    late = sign("late", put((b"a", b"1")), valid_ms=NOW)
    assert [code for _, code in run(late, late).skipped] == ["transaction.expired"] * 2


# ---- weight


def heavy(name: str, kind: str = "heavy", size: int = 1) -> Verified[Transaction]:
    return sign(name, put((name.encode(), bytes(size)), name=kind))


def test_a_transaction_that_weighs_too_much_is_refused() -> None:
    (leaf,) = leaves(run(heavy("x", "heavier")))
    assert (leaf.code, leaf.failed) == ("transaction.too_heavy", 0)
    (leaf,) = leaves(run(sign("y", put((b"a", b"1")), put((b"b", b"1"), name="heavy"))))
    assert leaf.code == "transaction.too_heavy"  # its operations together
    assert leaves(run(heavy("z")))[0].code == OK


@pytest.mark.parametrize(("spare", "code"), [(0, OK), (-1, "transaction.too_heavy")])
def test_what_state_adds_counts_for_the_transaction(
    spare: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "TRANSACTION_WEIGHT_MAX", 1_000 + 1 + 50 + spare)
    outcome = run(sign("x", put((b"a", b"1")), put((b"b", bytes(50)), name="dear")))
    assert leaves(outcome)[0].code == code
    assert bool(outcome.changes) == (code == OK)


def test_what_a_block_has_no_weight_for_is_postponed() -> None:
    fits = BLOCK_WEIGHT_MAX // TRANSACTION_WEIGHT_MAX
    many = [heavy(f"{number:02}") for number in range(fits + 2)]
    outcome = run(*many)
    assert list(outcome.transactions) == many[:fits]
    assert outcome.skipped == tuple((one.id, POSTPONED) for one in many[fits:])
    assert outcome.postponed == {one.id for one in many[fits:]}
    following = run(*many, seen=frozenset(one.id for one in many[:fits]))
    assert list(following.transactions) == many[fits:]


def test_a_light_one_passes_a_heavy_one_that_is_postponed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "BLOCK_WEIGHT_MAX", TRANSACTION_WEIGHT_MAX + 1)
    first, second, light = heavy("a"), heavy("b"), sign("c", put((b"c", b"1")))
    outcome = run(first, second, light, second)
    assert list(outcome.transactions) == [first, light]
    assert outcome.skipped == ((second.id, POSTPONED),) * 2


@pytest.mark.parametrize("charged", [48, 49])
def test_what_state_adds_counts_for_the_block(charged: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "BLOCK_WEIGHT_MAX", 2 * 1_000 + 48)
    one, two = heavy("a", "dear", charged), heavy("b", "dear")
    assert len(run(one, two).transactions) == (2 if charged == 48 else 1)


def test_one_that_is_too_heavy_takes_no_more_of_the_block_than_the_heaviest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execution, "BLOCK_WEIGHT_MAX", 2 * TRANSACTION_WEIGHT_MAX)
    outcome = run(heavy("a", "heavier"), heavy("b"))
    assert [leaf.code for leaf in leaves(outcome)] == ["transaction.too_heavy", OK]


# ---- what a block does for the next


def test_the_set_that_state_asks_for() -> None:
    asked = council(5, "asked")
    before = ValidatorSet(council(4))
    assert run(validators=before).next_validators == before
    outcome = run(sign("asks", new_council(asked)), validators=before)
    assert outcome.next_validators == ValidatorSet(asked)
    refused = run(sign("asks", new_council(asked), put(name="refuse")), validators=before)
    assert refused.next_validators == before


def test_the_context_of_an_operation() -> None:
    seen: list[OperationContext] = []

    class Watching(SmallContracts):
        def run(self, operation: Operation, context: OperationContext) -> bytes:
            seen.append(context)
            return b""

    transaction = sign("watched", put())
    execute(
        chain_id=CHAIN,
        height=9,
        time_ms=NOW,
        transactions=[transaction],
        state=MemoryState(),
        seen=frozenset(),
        contracts=Watching(),
        validators=ValidatorSet(council(1)),
    )
    (context,) = seen
    value = transaction.value
    assert (context.height, context.time_ms, context.chain_id) == (9, NOW, CHAIN)
    assert (context.sender, context.key, context.transaction) == (value.sender, value.key, transaction.id)
    assert not context.is_genesis


# ---- bounds that contracts must keep


class Answering(SmallContracts):
    def __init__(self, result: bytes = b"", subjects: int = 0, data: int = 0) -> None:
        self.result, self.subjects, self.data = result, subjects, data

    def run(self, operation: Operation, context: OperationContext) -> bytes:
        context.emit("told", [bytes(16)] * self.subjects, bytes(self.data))
        return self.result


def answered(contracts: Answering, count: int = 1) -> Outcome:
    return execute(
        chain_id=CHAIN,
        height=1,
        time_ms=NOW,
        transactions=[sign("answered", *[put()] * count)],
        state=MemoryState(),
        seen=frozenset(),
        contracts=contracts,
        validators=ValidatorSet(council(1)),
    )


def test_the_largest_answers_can_be_read_again() -> None:
    outcome = answered(
        Answering(bytes(RESULT_BYTES_MAX), EVENT_SUBJECTS_MAX, EVENT_BYTES_MAX), OPERATIONS_MAX
    )
    assert len(leaves(outcome)[0].results) == OPERATIONS_MAX
    assert len(outcome.events) == OPERATIONS_MAX


@pytest.mark.parametrize(
    "contracts",
    [
        Answering(bytes(RESULT_BYTES_MAX + 1)),
        Answering(subjects=EVENT_SUBJECTS_MAX + 1),
        Answering(data=EVENT_BYTES_MAX + 1),
    ],
    ids=["result", "subjects", "data"],
)
def test_what_nobody_could_read_again_is_never_written(contracts: Answering) -> None:
    with pytest.raises(InvariantBroken, match="limit"):
        answered(contracts)


# ---- genesis


def genesis(*operations: Operation) -> Genesis:
    return Genesis(GENESIS_VERSION, "test", START_MS, council(4), list(operations))


def test_founding() -> None:
    made = genesis(put((b"a", b"1"), name="tell"), put((b"b", b"2")))
    outcome = execute_genesis(made, MemoryState(), SmallContracts())
    assert leaves(outcome) == [ReceiptLeaf(made.chain_id, OK, None, [b"\x01", b"\x01"])]
    assert outcome.changes == [(b"a", b"1"), (b"b", b"2")]
    assert outcome.events[0].subjects == [FOUNDER]
    assert (outcome.height, outcome.transactions, outcome.skipped) == (0, (), ())
    assert outcome.next_validators == made.validator_set


def test_founding_needs_nobodys_leave() -> None:
    outcome = execute_genesis(
        genesis(put((b"a", b"1"))), MemoryState({BARRED + FOUNDER: b"x"}), SmallContracts()
    )
    assert outcome.changes == [(b"a", b"1")]


def test_a_document_that_founds_nothing() -> None:
    with pytest.raises(Refused, match="operation 1 is refused") as raised:
        execute_genesis(genesis(put((b"a", b"1")), put(name="refuse")), MemoryState(), SmallContracts())
    assert raised.value.code == "genesis.malformed"


# ---- a dumb twin

NAMES = st.sampled_from(["put", "early", "refuse", "read", "nothing"])
PAIRS = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([None, b"1", b"2"])), max_size=3
)
OPERATIONS = st.lists(st.tuples(NAMES, PAIRS), min_size=1, max_size=3)
BLOCKS = st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 1), OPERATIONS), max_size=7)


def twin(block: list[Any], state: dict[bytes, bytes]) -> tuple[list[str], dict[bytes, bytes]]:
    """Codes in order of execution, and the state after: by copying the whole state for each transaction."""
    early = [entry for entry in block if all(name == "early" for name, _ in entry[2])]
    codes, seen = [], []
    for number, late, operations in [*early, *(entry for entry in block if entry not in early)]:
        statement = (number, late, operations)
        if late < 0 or statement in seen:
            continue
        seen.append(statement)
        tried, code = dict(state), OK
        for name, pairs in operations:
            if name == "nothing":
                code = "transaction.unknown_operation"
                break
            for key, value in pairs if name != "read" else []:
                tried.pop(key, None)
                if value is not None:
                    tried[key] = value
            if name == "refuse":
                code = "identity.last_key"
                break
        codes.append(code)
        state = tried if code == OK else state
    return codes, state


@settings(max_examples=200)
@given(BLOCKS, st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.just(b"0")))
def test_against_the_twin(block: list[Any], before: dict[bytes, bytes]) -> None:
    transactions = [
        sign(
            f"{number}",
            *(put(*pairs, name=name) for name, pairs in operations),
            valid_ms=NOW + 2 + late if late >= 0 else NOW,
        )
        for number, late, operations in block
    ]
    outcome = run(*transactions, state=before)
    codes, after = twin(block, before)
    assert [leaf.code for leaf in leaves(outcome)] == codes
    state = MemoryState(dict(before))
    state.apply(outcome.changes)
    assert state.values == after


# ---- determinism


@pytest.mark.parametrize(("seed", "options"), [("0", []), ("1", ["-O"]), ("4294967295", ["-OO"])])
def test_other_processes_give_the_same_bytes(seed: str, options: list[str]) -> None:
    """Whatever the seed of `hash()` and whatever is stripped."""
    program = "from tests.unit.ledger.fingerprint import fingerprint; print(fingerprint())"
    done = subprocess.run(
        [sys.executable, *options, "-c", program],
        cwd=PROJECT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == fingerprint()


@given(st.permutations([b"a", b"b", b"c", b"d"]))
def test_the_order_of_writing_inside_does_not_show(order: list[bytes]) -> None:
    """Equal writes in another order are equal changes."""
    one = run(sign("order", put(*((key, b"v") for key in order))))
    assert one.changes == [(key, b"v") for key in (b"a", b"b", b"c", b"d")]
    assert Overlay(MemoryState()).changes() == []
