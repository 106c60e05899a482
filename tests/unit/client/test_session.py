"""A session signs, hands in, and waits: what the ledger refused comes back as what the ledger said."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.client import rpc, session
from consilium.client.rpc import Submission
from consilium.client.session import Session, new_id, slices
from consilium.contracts import identity
from consilium.contracts.registry import operation
from consilium.ledger.errors import Refused
from consilium.ledger.execution import ReceiptLeaf
from consilium.ledger.transaction import (
    OPERATION_BODY_BYTES_MAX,
    OPERATION_NAME_CHARS_MAX,
    OPERATIONS_MAX,
    TRANSACTION_BYTES_MAX,
    VALIDITY_MAX_MS,
    Operation,
    verify_transaction,
)
from tests.unit.node.care import Ward, ward
from tests.unit.node.harness import START_MS, Harness, enrolment, wallet_of

HARNESS = Harness(1)


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with ward() as made:
        yield made


class ScriptedRpc:
    """Answers as it is told, and keeps what was handed in."""

    def __init__(self, answers: list[Submission] | None = None, tip_ms: int = START_MS) -> None:
        self.answers = answers or []
        self.tip_ms = tip_ms
        self.submitted: list[bytes] = []
        self.waited: list[tuple[float, bool]] = []
        self.leaf_code = "ok"
        self.failed: int | None = None
        self.detail = ""

    async def status(self) -> dict[str, Any]:
        return {"tip_time_ms": self.tip_ms}

    async def submit(self, transactions: list[bytes]) -> list[Submission]:
        self.submitted += transactions
        return [self.answers.pop(0) if self.answers else Submission(bytes(32), None, "")]

    async def wait(self, transaction: bytes, timeout_s: float, certified: bool) -> rpc.Committed:
        self.waited.append((timeout_s, certified))
        leaf = ReceiptLeaf(transaction, self.leaf_code, self.failed, [])
        return rpc.Committed(transaction, 3, 0, self.tip_ms, leaf, certified, self.detail)


def scripted(
    *answers: Submission, tip_ms: int = START_MS, wall_ms: int = START_MS
) -> tuple[Session, ScriptedRpc]:
    talk = ScriptedRpc(list(answers), tip_ms)
    made = Session(talk, HARNESS.genesis, wallet_of("somebody"), clock_ms=lambda: wall_ms)  # type: ignore[arg-type]
    return made, talk


def refused_with(code: str, retry_after_ms: int | None = None) -> Submission:
    return Submission(bytes(32), code, "because", retry_after_ms)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are noted, not slept."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr("consilium.client.session.asyncio.sleep", note)
    return pauses


OPERATION = Operation("test.one", b"")


# --- handing in -----------------------------------------------------------------------------------------------------


async def test_what_is_signed_is_what_every_node_accepts() -> None:
    made, talk = scripted()
    committed = await made.submit([OPERATION], certified=True)
    (raw,) = talk.submitted
    verified = verify_transaction(raw, HARNESS.chain_id)
    assert committed.id == verified.id
    assert verified.value.sender == made.identity
    assert verified.value.operations == [OPERATION]
    assert talk.waited == [(session.COMMIT_TIMEOUT_S, True)]


async def test_no_two_transactions_are_alike() -> None:
    made, talk = scripted()
    await made.submit([OPERATION])
    await made.submit([OPERATION])
    one, two = (verify_transaction(raw, HARNESS.chain_id) for raw in talk.submitted)
    assert one.id != two.id
    assert len({new_id() for _ in range(100)}) == 100


@settings(max_examples=60)
@given(ahead_ms=st.integers(-(10**9), 10**9))
def test_validity_is_what_the_tip_allows_whatever_the_clock_says(ahead_ms: int) -> None:
    async def scenario() -> int:
        made, talk = scripted(wall_ms=START_MS + ahead_ms)
        await made.submit([OPERATION])
        return verify_transaction(talk.submitted[0], HARNESS.chain_id).value.valid_until

    valid_until = asyncio.run(scenario())
    assert START_MS < valid_until <= START_MS + VALIDITY_MAX_MS
    if 0 <= ahead_ms <= session.VALIDITY_MS:
        assert valid_until == START_MS + ahead_ms + session.VALIDITY_MS


async def test_a_full_pool_is_tried_again_as_it_asked(slept: list[float]) -> None:
    made, talk = scripted(refused_with("mempool.full", 40), refused_with("mempool.full", 80))
    await made.submit([OPERATION])
    assert slept == [0.04, 0.08]
    assert len(set(talk.submitted)) == 1  # the same transaction each time
    assert len(talk.submitted) == 3


async def test_a_pool_that_stays_full_is_given_up(slept: list[float]) -> None:
    made, talk = scripted(*[refused_with("mempool.full", 1)] * 1_000)
    with pytest.raises(Refused) as refused:
        await made.submit([OPERATION])
    assert refused.value.code == "mempool.full"
    assert len(talk.submitted) == session.SUBMIT_RETRIES_MAX
    assert talk.waited == []


async def test_a_refusal_at_the_door_is_not_tried_again(slept: list[float]) -> None:
    made, talk = scripted(refused_with("transaction.expired"))
    with pytest.raises(Refused) as refused:
        await made.submit([OPERATION])
    assert (refused.value.code, refused.value.detail) == ("transaction.expired", "because")
    assert (len(talk.submitted), talk.waited) == (1, [])


async def test_a_repetition_after_a_lost_answer_is_waited_for() -> None:
    made, talk = scripted(refused_with("transaction.duplicate"))
    await made.submit([OPERATION])
    assert len(talk.waited) == 1


@pytest.mark.parametrize(("failed", "named"), [(1, "test.two"), (None, "the transaction")])
async def test_a_refusal_on_the_chain_comes_through(failed: int | None, named: str) -> None:
    made, talk = scripted()
    talk.leaf_code, talk.failed = "consent.unknown", failed
    with pytest.raises(Refused) as refused:
        await made.submit([OPERATION, Operation("test.two", b"")])
    assert refused.value.code == "consent.unknown"
    assert refused.value.detail == f"the ledger refused {named}: {refused.value.entry.cause}"
    talk.detail = "at most 2"
    with pytest.raises(Refused, match=f"{named}: at most 2"):
        await made.submit([OPERATION, Operation("test.two", b"")])


async def test_nothing_is_handed_in_that_every_node_would_refuse() -> None:
    made, talk = scripted()
    for operations, code in (
        ([], "transaction.no_operations"),
        ([OPERATION] * (OPERATIONS_MAX + 1), "codec.oversized"),
        ([Operation("x", bytes(OPERATION_BODY_BYTES_MAX))] * 9, "codec.oversized"),
    ):
        with pytest.raises(Refused) as refused:
            await made.submit(operations)
        assert refused.value.code == code
    assert talk.submitted == []


async def test_the_ledgers_own_refusal_reaches_the_application(care: Ward) -> None:
    patient = wallet_of("p")
    enrol = operation("identity.enrol", enrolment(care.harness, care.north.wallet, "patient", patient))
    await care.north.submit([enrol], certified=True)
    with pytest.raises(Refused) as refused:
        await care.north.submit([OPERATION])
    assert refused.value.code == "transaction.unknown_operation"
    with pytest.raises(Refused) as refused:
        await care.north.submit([enrol])
    assert refused.value.code == "identity.key_taken"
    with pytest.raises(Refused) as refused:
        await care.session(wallet_of("nobody")).submit([enrol])
    assert refused.value.code == "identity.unknown"


async def test_state_is_read_as_it_is_certified(care: Ward) -> None:
    known = await care.south.identity_of(care.north.identity)
    assert known.keys == [care.north.wallet.signing.public]
    assert await care.south.state(identity.IDENTITIES, bytes(16)) is None
    with pytest.raises(Refused) as refused:
        await care.south.identity_of(bytes(16))
    assert refused.value.code == "identity.unknown"


# --- slices ---------------------------------------------------------------------------------------------------------

OPERATIONS = st.builds(
    Operation,
    st.text("abc.", min_size=1, max_size=OPERATION_NAME_CHARS_MAX),
    st.integers(0, OPERATION_BODY_BYTES_MAX).map(bytes),
)


@settings(max_examples=40)
@given(
    st.one_of(
        st.lists(OPERATIONS, max_size=40),
        st.tuples(OPERATIONS, st.integers(1, 600)).map(lambda pair: [pair[0]] * pair[1]),
    )
)
def test_slices_keep_the_order_and_the_limits(operations: list[Operation]) -> None:
    parts = slices(operations)
    assert [one for part in parts for one in part] == operations
    assert all(parts)
    for part in parts:
        signed = HARNESS.transaction(HARNESS.wallets[0], *part)  # refuses what passes a limit
        assert len(signed.raw) <= TRANSACTION_BYTES_MAX
    for one, two in itertools.pairwise(parts):
        # No slice is cut short without need: the next operation would not have fitted, but for the spare room.
        size = sum(len(item.body) + len(item.name) for item in [*one, two[0]])
        spare = session.TRANSACTION_OVERHEAD_BYTES + session.OPERATION_OVERHEAD_BYTES * (len(one) + 1)
        assert len(one) == OPERATIONS_MAX or size + spare > TRANSACTION_BYTES_MAX
