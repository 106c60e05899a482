"""Whatever a transaction carries, execution refuses or does it: anything else would halt every node at the same block.

Bodies are drawn from the types of all operations, and sequences of operations are run by everybody who exists, on a
world in which much has happened. Each must end in a result or in a code of the catalogue, and never in the net under
the contracts (`contract.fault`); state, events and results keep their limits, and a second run gives the same bytes.

`CONSILIUM_FUZZ_EXAMPLES` says how many examples each test looks at, for long runs.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.contracts import (
    ballot,
    consent,
    credentials,
    delegation,
    identity,
    mandates,
    records,
    retention,
    sessions,
    summaries,
    takeover,
    teams,
    treatment,
)
from consilium.contracts.emergency import Declare
from consilium.contracts.forgetting import RequestErasure
from consilium.contracts.registry import Registry, default_registry
from consilium.contracts.representation import Appoint, account_of
from consilium.ledger import codec
from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused
from consilium.ledger.execution import (
    EVENT_BYTES_MAX,
    EVENT_SUBJECTS_MAX,
    OK,
    RESULT_BYTES_MAX,
    Event,
    OperationContext,
    Outcome,
    ReceiptLeaf,
    execute,
)
from consilium.ledger.state import STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX, Change, MemoryState, Overlay
from consilium.ledger.transaction import (
    OPERATION_BODY_BYTES_MAX,
    Operation,
    Transaction,
    Verified,
    sign_transaction,
)
from consilium.ledger.validators import Validator, ValidatorSet
from tests.unit.contracts import care, fuzzing, golden_erasure_cases, summarising
from tests.unit.contracts import world as w
from tests.unit.contracts.fuzzing import ACTORS, SPARE, Drawing, Pool
from tests.unit.contracts.test_records import _SHARED
from tests.unit.contracts.world import DAN, DORA, NORTH, PAUL, PETRA, SOUTH, WEST, World

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "contracts"
EXAMPLES = int(os.environ.get("CONSILIUM_FUZZ_EXAMPLES", "30"))
BLOCKS = 40
TRANSACTIONS_PER_BLOCK_MAX = 8
OPERATIONS_MAX = 6
LATE_MS = codec.UINT_MAX - 30 * 60_000
"""The latest block time of a run: no sum with a transaction's validity may pass what a wire integer holds."""
STEPS_MS = (1, 1_000, 1_000, 60_000, 60_000, 600_000, care.HOUR_MS, 4 * care.HOUR_MS, w.DAY_MS, 4 * w.DAY_MS)
SEEDS = st.integers(0, 2**32 - 1)
SLOW = settings(max_examples=EXAMPLES)

FRESH_IDS: Mapping[type[codec.Wire], str] = {
    ballot.Propose: "proposal",
    consent.GrantConsent: "consent",
    credentials.IssueCredential: "credential",
    delegation.PassOn: "consent",
    Declare: "glass",
    RequestErasure: "erasure",
    mandates.IssueMandate: "mandate",
    records.AnchorRecord: "record",
    retention.PlaceHold: "hold",
    summaries.SetSummaryKey: "key",
    teams.FormTeam: "team",
    treatment.AttestTreatment: "relationship",
}
"""The field of a body that names what it makes."""

Template = tuple[bytes, codec.Wire]


@functools.cache
def lived() -> World:
    """A world in which much has happened: an entry of nearly every kind."""
    world = summarising.switch_on(_SHARED.copy())
    first = w.anchoring("r", PETRA)
    sensitive = w.anchoring("h", PETRA, bundle="h", classes=(3, 6))
    care.with_licence(world)
    for who, body in (
        (NORTH, first),
        (SOUTH, sensitive),
        (PETRA, w.granting("c", SOUTH, transferable=True)),
        (PETRA, w.granting("all", None, purposes=["PATRQT"])),
        (SOUTH, care.passing_on()),
        (SOUTH, care.forming()),
        (SOUTH, teams.AdmitMember(care.TEAM, DORA.id)),
        (SOUTH, teams.AdmitMember(care.TEAM, DAN.id)),
        (PETRA, w.granting("team", care.TEAM)),
        (PETRA, care.appointing(PAUL)),
        (PETRA, care.appointing(DAN, changes=1)),
        (NORTH, golden_erasure_cases.holding()),
        (
            PAUL,
            golden_erasure_cases.erasing("places", patient=PAUL, compartment=w.compartment_of(PAUL), epoch=0),
        ),
        (SOUTH, summarising.setting_key(world)),
        (PETRA, summarising.placing(world)),
        (SOUTH, summarising.reporting(world)),
        (DORA, w.asking(records_=[first.record, sensitive.record])),
        (SOUTH, w.asking(compartments=[w.compartment_of(PETRA)])),
    ):
        world.ok(who, body)
    world.ok(SOUTH, care.attesting(world))
    world.ok(WEST, care.mandating(world))
    world.ok(DORA, care.declaring(world))
    world.ok(PAUL, care.proposing_recovery(world))
    world.ok(SOUTH, care.beginning_session(world, SPARE[0]))
    return world


@functools.cache
def cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="ascii"))
    return found


@functools.cache
def templates() -> dict[str, list[Template]]:
    """The bodies of the golden cases, by operation, each with its sender."""
    return {
        name: [
            (bytes.fromhex(case["sender"]), codec.decode(bytes.fromhex(case["body"]), spec.body, 1 << 20))
            for case in cases(name)
        ]
        for name, spec in default_registry().operations.items()
    }


def pool_of(world: World) -> Pool:
    pool = Pool(world.registry)
    pool.learn(sorted(world.state.values.items()))
    return pool


def draw(
    rng: random.Random,
    name: str,
    pool: Pool,
    state: MemoryState,
    chain_id: bytes,
    time_ms: int,
    by: bytes | None = None,
) -> tuple[bytes, Operation]:
    """A sender and an operation: bytes, a drawn body, or one of the golden cases with fields changed."""
    drawing = Drawing(rng, pool, time_ms)
    sender, template = rng.choice(templates()[name])
    sender = by if by is not None else sender
    way = rng.random()
    if way < 0.45:
        body = template
        if rng.random() < 0.9:
            body = drawing.changed(body)
    else:
        body = drawing.body(type(template))
    if by is None and rng.random() < 0.25:
        sender = rng.choice(ACTORS).id
    if rng.random() < 0.8:
        body = _timely(_plausible(body, rng, state), rng, time_ms)
        body = fuzzing.mended(body, name, sender, chain_id, state, rng)
    raw = codec.encode(body)
    if way > 0.95 or len(raw) > OPERATION_BODY_BYTES_MAX:
        raw = fuzzing.spoilt(rng, raw[:OPERATION_BODY_BYTES_MAX])
    return sender, Operation(name, raw)


def _plausible(body: codec.Wire, rng: random.Random, state: MemoryState) -> codec.Wire:
    """What chance would never draw: the fields of one body that must fit each other."""
    if isinstance(body, takeover.TakeOver):
        epochs = fuzzing.epochs_for(state, body.patient, rng)
        hidden = [rng.randbytes(32) for _ in epochs] if rng.random() < 0.5 else []
        body = msgspec.structs.replace(
            body, epochs=epochs, class_commitments=hidden, key=rng.choice(SPARE).key.public
        )
    elif isinstance(body, sessions.BeginSession):
        body = msgspec.structs.replace(body, key=rng.choice(SPARE).key.public)
    elif isinstance(body, records.AnchorRecord):
        known = records.COMPARTMENTS.get(state, body.compartment)
        body = msgspec.structs.replace(body, epoch=known.epoch if known is not None else body.epoch)
    elif isinstance(body, Appoint):
        body = msgspec.structs.replace(body, changes=account_of(state, body.patient).changes)
    elif isinstance(body, summaries.ReportOpening):
        reported = summaries.openings_of(state, SOUTH.id)
        entry = msgspec.structs.replace(
            body.entry,
            version=summaries.OPENING_VERSION,
            institution=SOUTH.id,
            sequence=reported.count + 1,
            previous=reported.last,
        )
        signature = SOUTH.key.sign(entry.hash)
        body = summaries.ReportOpening(
            entry, SOUTH.key.public, signature, max(entry.opened_ms, body.returned_ms)
        )
    fresh = FRESH_IDS.get(type(body))
    if fresh is not None and rng.random() < 0.8:
        body = msgspec.structs.replace(body, **{fresh: rng.randbytes(16)})
    return body


def _timely(body: codec.Wire, rng: random.Random, time_ms: int) -> codec.Wire:
    """Periods that begin by now and end in time, mostly: those of the cases are over when a run has gone on."""
    if rng.random() < 0.2:
        return body
    ends = [time_ms + length for length in (1, care.HOUR_MS, 4 * care.HOUR_MS, 20 * w.DAY_MS)]
    if isinstance(getattr(body, "not_after", None), int):
        body = msgspec.structs.replace(body, not_after=rng.choice([*ends, care.QUARTER_DAY]))
    if isinstance(body, consent.GrantConsent):
        provisions = [
            msgspec.structs.replace(one, not_before=rng.choice((0, time_ms)), not_after=rng.choice(ends))
            for one in body.provisions
        ]
        body = msgspec.structs.replace(body, provisions=provisions)
    return body


def signer_of(rng: random.Random, sender: bytes, state: MemoryState) -> SigningKey:
    """A key that speaks for the sender now, where one is at hand; now and then anybody's."""
    known = identity.IDENTITIES.get(state, sender)
    found = [one for one in (known.keys if known is not None else []) if one in fuzzing.KEYS]
    if found and rng.random() < 0.95:
        return fuzzing.KEYS[rng.choice(found)]
    return rng.choice((*ACTORS, *SPARE)).key


# --- what must hold -------------------------------------------------------------------------------------------------


def check_code(code: str, time_ms: int) -> None:
    assert code in CATALOGUE, code
    # At the end of time, a sum passes what a wire integer holds. No primary can bring a network there.
    assert code != "contract.fault" or time_ms >= LATE_MS


def check_changes(registry: Registry, changes: list[Change]) -> None:
    assert [key for key, _ in changes] == sorted({key for key, _ in changes})
    for key, value in changes:
        slot = registry.slots[key[:1]]
        assert len(key) == 1 + sum(slot.parts) <= STATE_KEY_BYTES_MAX
        if value is not None:
            assert len(value) <= slot.bytes_max <= STATE_VALUE_BYTES_MAX
            assert codec.encode(slot.decode(value)) == value


def check_events(registry: Registry, events: tuple[Event, ...] | list[Event]) -> None:
    for event in events:
        assert codec.decode(codec.encode(event), Event, 64 * 1024) == event
        assert 0 < len(event.subjects) <= EVENT_SUBJECTS_MAX
        codec.decode(event.data, registry.events[event.kind].data, EVENT_BYTES_MAX)


def check_memory(registry: Registry) -> None:
    """What a slot remembers decoded is still what its bytes say: no handler changed a value that it was given."""
    for slot in registry.slots.values():
        for raw, value in slot.memory.items():
            assert codec.encode(value) == raw


def forget(registry: Registry) -> None:
    for slot in registry.slots.values():
        slot.memory.clear()


# --- one operation --------------------------------------------------------------------------------------------------


@functools.cache
def crowded(room: int) -> World:
    """The same world with every list filled up to `room` places."""
    world = copy.copy(lived())
    world.state = MemoryState(fuzzing.crowded(world.registry, lived().state.values, room))
    return world


def run_one(name: str, rng: random.Random, pool: Pool, world: World | None = None) -> str:
    """One drawn operation, on the world in which much has happened or another; returns its code."""
    world = world or lived()
    time_ms = world.time_ms + rng.choice(STEPS_MS)
    if rng.random() < 0.05:
        time_ms = LATE_MS
    sender, operation = draw(rng, name, pool, world.state, world.chain_id, time_ms)
    signer = signer_of(rng, sender, world.state)
    context = OperationContext(
        Overlay(world.state),
        0 if world.registry.operations[name].founding and rng.random() < 0.8 else world.height + 1,
        time_ms,
        world.chain_id,
        sender,
        signer.public,
        w.some("fuzz transaction", 32),
        rng.choice((0, 1, 255)),
        validators=world.validators,
        ancestor=world.ancestor,
    )
    return perform(operation, context)


def run_golden(name: str, rng: random.Random, pool: Pool) -> str:
    """A golden case with fields changed, on the very state that it was made for; returns its code."""
    case = rng.choice(cases(name))
    state = MemoryState({bytes.fromhex(key): bytes.fromhex(value) for key, value in case["pre"].items()})
    body = codec.decode(bytes.fromhex(case["body"]), lived().registry.operations[name].body, 1 << 20)
    sender = bytes.fromhex(case["sender"])
    chain_id = bytes.fromhex(case["chain_id"])
    if rng.random() < 0.9:
        body = Drawing(rng, pool, case["time_ms"]).changed(body)
    body = fuzzing.mended(body, name, sender, chain_id, state, rng)
    context = OperationContext(
        Overlay(state),
        case["height"],
        case["time_ms"],
        chain_id,
        sender,
        bytes.fromhex(case["key"]),
        bytes.fromhex(case["transaction"]),
        case["index"],
        validators=ValidatorSet(
            [Validator(bytes.fromhex(key), bytes.fromhex(of)) for key, of in case["validators"]]
        )
        if "validators" in case
        else lived().validators,
        ancestor=lambda height: w.some(f"block/{height}", 32),
    )
    return perform(Operation(name, codec.encode(body)[:OPERATION_BODY_BYTES_MAX]), context)


def perform(operation: Operation, context: OperationContext) -> str:
    """Run it and look at everything that it did; returns "ok", or the code of the refusal."""
    registry = lived().registry
    spec = registry.operations[operation.name]
    try:
        result = registry.run(operation, context)
    except Refused as refusal:
        check_code(refusal.code, context.time_ms)
        return refusal.code
    assert len(result) <= RESULT_BYTES_MAX
    if spec.result is None:
        assert result == b""
    else:
        codec.decode(result, spec.result, RESULT_BYTES_MAX)
    check_changes(registry, context.state.changes())
    check_events(registry, context.events)
    return OK


@SLOW
@given(SEEDS)
def test_every_operation_is_done_or_refused(seed: int) -> None:
    pool = pool_of(lived())
    for number, name in enumerate(sorted(lived().registry.operations)):
        run_one(name, random.Random(seed * 1_000 + number), pool)
        run_golden(name, random.Random(seed * 1_000 + number), pool)
    check_memory(lived().registry)


@SLOW
@given(SEEDS)
def test_a_full_list_is_met_by_a_refusal(seed: int) -> None:
    pool = pool_of(lived())
    for number, name in enumerate(sorted(lived().registry.operations)):
        for room in (0, 1):
            run_one(name, random.Random(seed * 1_000 + number), pool, crowded(room))


# --- sequences ------------------------------------------------------------------------------------------------------


class Run:
    """A chain of blocks drawn from one number, on a copy of the world."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        origin = lived()
        self.registry = default_registry()
        forget(self.registry)
        self.state = MemoryState(dict(origin.state.values))
        self.chain_id = origin.chain_id
        self.time_ms, self.height = origin.time_ms, origin.height
        self.validators = origin.validators
        self.pool = pool_of(origin)
        self.codes: Counter[tuple[str, str]] = Counter()

    def transactions(self) -> list[Verified[Transaction]]:
        found = []
        for _ in range(self.rng.randint(1, TRANSACTIONS_PER_BLOCK_MAX)):
            made = self._transaction()
            if made is not None:
                found += [made] * (2 if self.rng.random() < 0.03 else 1)
        return found

    def _transaction(self) -> Verified[Transaction] | None:
        rng = self.rng
        names = sorted(self.registry.operations)
        sender, first = self._draw(rng.choice(names))
        operations = [first]
        for _ in range(rng.choice((0, 0, 0, 0, 0, 0, 1, 2, OPERATIONS_MAX - 1))):
            name = first.name if rng.random() < 0.5 else rng.choice(names)
            operations.append(self._draw(name, sender)[1])
        key = signer_of(rng, sender, self.state)
        if rng.random() < 0.02:
            operations.append(Operation("records.shred", b""))
        try:
            return sign_transaction(
                key,
                chain_id=self.chain_id,
                sender=sender,
                nonce=rng.randbytes(16),
                valid_until=self.time_ms + rng.choice((*[60_000] * 30, 0, 601_000)),
                operations=operations,
            )
        except Refused:
            return None  # longer than a transaction may be: it never reaches execution

    def _draw(self, name: str, by: bytes | None = None) -> tuple[bytes, Operation]:
        return draw(self.rng, name, self.pool, self.state, self.chain_id, self.time_ms, by)

    def ancestor(self, height: int) -> bytes | None:
        return w.some(f"block/{height}", 32) if 0 <= height < self.height else None

    def execute(self, registry: Registry, transactions: list[Verified[Transaction]]) -> Outcome:
        return execute(
            chain_id=self.chain_id,
            height=self.height,
            time_ms=self.time_ms,
            transactions=transactions,
            state=self.state,
            seen=frozenset(),
            contracts=registry,
            validators=self.validators,
            ancestor=self.ancestor,
        )

    def block(self) -> Outcome:
        """One more block, executed twice: the second time with nothing remembered."""
        self.height += 1
        self.time_ms = min(LATE_MS, self.time_ms + self.rng.choice(STEPS_MS))
        if self.rng.random() < 0.001:
            self.time_ms = LATE_MS
        transactions = self.transactions()
        outcome = self.execute(self.registry, transactions)
        check_memory(self.registry)
        forget(self.registry)
        again = self.execute(Registry(), transactions)
        assert (again.receipts_root, again.changes) == (outcome.receipts_root, outcome.changes)
        assert again.events == outcome.events
        assert again.next_validators == outcome.next_validators
        self._check(outcome)
        self.state.apply(outcome.changes)
        self.pool.learn(outcome.changes)
        self.validators = outcome.next_validators
        return outcome

    def _check(self, outcome: Outcome) -> None:
        check_changes(self.registry, outcome.changes)
        check_events(self.registry, outcome.events)
        for _, code in outcome.skipped:
            check_code(code, self.time_ms)
        for raw, transaction in zip(outcome.leaves, outcome.transactions, strict=True):
            leaf = codec.decode(raw, ReceiptLeaf, 8 << 20)
            names = [one.name for one in transaction.value.operations]
            if leaf.code == OK:
                assert len(leaf.results) == len(names)
                self.codes.update((name, OK) for name in names)
            else:
                check_code(leaf.code, self.time_ms)
                assert leaf.failed is not None
                assert leaf.results == []
                self.codes[names[leaf.failed], leaf.code] += 1


@SLOW
@given(SEEDS)
def test_sequences_of_operations_are_done_or_refused_and_give_the_same_bytes(seed: int) -> None:
    run = Run(seed)
    for _ in range(BLOCKS):
        run.block()


def digest_of_a_run(seed: int) -> str:
    """Everything that a run decided, as one digest: what a process with another hash seed must find as well."""
    run = Run(seed)
    hasher = hashlib.sha256()
    for _ in range(BLOCKS):
        outcome = run.block()
        hasher.update(outcome.receipts_root)
        hasher.update(codec.encode([list(change) for change in outcome.changes]))
        hasher.update(codec.encode([event.data for event in outcome.events]))
        hasher.update(outcome.next_validators.hash)
    return hasher.hexdigest()


def test_another_hash_seed_gives_the_same_bytes() -> None:
    module = "tests.unit.contracts.test_fuzz"
    program = f"import {module} as fuzz; print(fuzz.digest_of_a_run(7))"
    found = [digest_of_a_run(7)]
    for hash_seed in ("1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).resolve().parents[3],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        found.append(done.stdout.strip())
    assert len({*found}) == 1


def test_the_drawing_reaches_every_operation() -> None:
    """A fuzzer whose every draw is refused at the door would show nothing."""
    pool = pool_of(lived())
    accepted: Counter[str] = Counter()
    for seed in range(30):
        for number, name in enumerate(sorted(lived().registry.operations)):
            for one in (run_one, run_golden):
                accepted[name] += one(name, random.Random(seed * 1_000 + number), pool) == OK
    assert [name for name in lived().registry.operations if not accepted[name]] == []
