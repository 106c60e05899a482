"""The chain's store: what is committed is there after a crash, all of it or none; old heights answer as they were."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from consilium.ledger import codec, merkle, trie_nodes
from consilium.ledger.batch import VerifiedBatch, seal_batch
from consilium.ledger.block import (
    BLOCK_VERSION,
    Block,
    CommitCertificate,
    Header,
    Seal,
    batches_root,
    sign_seal,
)
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.execution import OK, Event, Outcome, ReceiptLeaf
from consilium.ledger.genesis import GENESIS_VERSION, Genesis, genesis_block
from consilium.ledger.state import Change
from consilium.ledger.transaction import Operation, Transaction, Verified, sign_transaction
from consilium.ledger.trie_parts import build
from consilium.ledger.trie_proof import EMPTY_STATE_ROOT, value_hash, verify_state
from consilium.ledger.validators import Validator
from consilium.storage import schema
from consilium.storage.chain import ChainStore, Place, Tip, create_chain
from consilium.storage.kv import KeyValue, MemoryKV
from consilium.storage.leveldb import LevelKV

KEY = SigningKey(b"k" * 32)
VALIDATOR = Validator(KEY.public, bytes(16))
GENESIS = Genesis(GENESIS_VERSION, "test", 1_000_000, [VALIDATOR], [])
CHAIN = GENESIS.chain_id
VALIDATORS = GENESIS.validator_set
PATIENTS = [bytes([number]) * 16 for number in range(4)]
PROOF_HEIGHTS = 6


def outcome_of(
    height: int, changes: list[Change], transactions: tuple[Verified[Transaction], ...] = ()
) -> Outcome:
    leaves = tuple(codec.encode(ReceiptLeaf(t.id, OK, None, [b"done"])) for t in transactions)
    events = tuple(
        Event(
            "test.kind",
            [PATIENTS[height % 4], PATIENTS[number % 4]][: 1 + (height % 4 != number % 4)],
            t.id,
            0,
            5,
            b"data",
        )
        for number, t in enumerate(transactions)
    )
    return Outcome(
        height=height,
        leaves=leaves,
        transactions=transactions,
        skipped=(),
        receipts_root=merkle.merkle_root(leaves),
        changes=sorted(changes),
        events=events,
        next_validators=VALIDATORS,
    )


def batch_of(height: int, count: int) -> VerifiedBatch:
    transactions = [
        sign_transaction(
            KEY,
            chain_id=CHAIN,
            sender=bytes(16),
            nonce=height.to_bytes(8, "big") + number.to_bytes(8, "big"),
            valid_until=2_000_000,
            operations=[Operation("test", b"")],
        )
        for number in range(count)
    ]
    return seal_batch(KEY, CHAIN, height, transactions)


def block_after(
    tip: Tip, batches: list[VerifiedBatch], step_ms: int = 100
) -> tuple[Block, CommitCertificate]:
    digests: list[bytes] = [batch.digest for batch in batches]
    header = Header(
        version=BLOCK_VERSION,
        chain_id=CHAIN,
        height=tip.height + 1,
        parent=tip.block_hash,
        time_ms=tip.time_ms + step_ms,
        primary=KEY.public,
        lost=0,
        batches_root=batches_root(digests),
        state_root=tip.state_root,
        receipts_root=tip.receipts_root,
        validators_hash=VALIDATORS.hash,
        next_validators_hash=VALIDATORS.hash,
        history_root=tip.history.root(),
    )
    seal = sign_seal(KEY, CHAIN, header.height, 0, header.hash)
    return Block(header, digests), CommitCertificate(header.height, 0, header.hash, [Seal(0, seal)])


class Run:
    """A chain in the making, and a twin that remembers the whole state of every height."""

    def __init__(self, store: KeyValue) -> None:
        self.store = store
        self.step_ms = 100
        first: list[Change] = [(b"genesis", b"yes"), (b"key 1", b"one")]
        create_chain(store, genesis_block(GENESIS), outcome_of(0, first), VALIDATORS)
        self.states: list[dict[bytes, bytes]] = [{key: value for key, value in first if value is not None}]
        self.batches: list[VerifiedBatch | None] = [None]
        self.chain = self.open()

    def open(self, store: KeyValue | None = None) -> ChainStore:
        return ChainStore(store or self.store, CHAIN, proof_heights=PROOF_HEIGHTS)

    def add(self, changes: list[Change], count: int = 2, *, ahead: bool = False) -> Tip:
        height = self.chain.tip.height + 1
        batch = batch_of(height, count)
        block, certificate = block_after(self.chain.tip, [batch], self.step_ms)
        outcome = outcome_of(height, changes, batch.transactions)
        update = self.chain.prepare(outcome) if ahead else None
        tip = self.chain.commit(block, certificate, [batch.raw], outcome, update)
        state = dict(self.states[-1])
        for key, value in changes:
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
        self.states.append(state)
        self.batches.append(batch)
        return tip

    def add_many(self, count: int, seed: int = 0) -> None:
        draw = random.Random(seed)
        for number in range(count):
            keys = [b"key %d" % draw.randrange(60) for _ in range(draw.choice([0, 1, 5, 30]))]
            known = self.states[-1]
            changes: list[Change] = [
                (key, None if key in known and draw.random() < 0.3 else b"%d" % draw.randrange(10**6))
                for key in dict.fromkeys(keys)
            ]
            self.add(changes, ahead=number % 2 == 0)


@pytest.fixture(params=["memory", "leveldb"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    return Run(MemoryKV() if request.param == "memory" else LevelKV(tmp_path / "chain", create=True))


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        act()
    return refused.value.code


def test_everything_of_a_height_can_be_read(run: Run) -> None:
    run.add_many(9)
    chain = run.open()
    tip = chain.tip
    assert tip == run.chain.tip
    assert tip.height == 9
    parent = genesis_block(GENESIS).hash
    for height in range(1, 10):
        block, batch = chain.block(height), run.batches[height]
        assert batch is not None
        assert block.header == chain.header(height)
        assert block.header.parent == parent
        certificate = chain.certificate(height)
        assert certificate is not None
        assert certificate.block_hash == block.hash
        assert chain.height_of(block.hash) == height
        assert chain.batches(height) == [batch.raw]
        assert chain.batch(batch.digest) == batch.raw
        leaves = chain.leaves(height)
        assert [codec.decode(raw, ReceiptLeaf, 1000).transaction for raw in leaves] == [
            t.id for t in batch.transactions
        ]
        seen = chain.transactions(height)
        assert (seen.height, seen.time_ms, list(seen.ids)) == (
            height,
            block.header.time_ms,
            [t.id for t in batch.transactions],
        )
        for index, transaction in enumerate(batch.transactions):
            assert chain.place_of(transaction.id) == Place(height, index)
        parent = block.hash
    assert chain.block(0) == genesis_block(GENESIS)
    assert chain.certificate(0) is None
    assert chain.validators(VALIDATORS.hash) == VALIDATORS
    assert chain.place_of(bytes(32)) is None
    assert chain.batch(bytes(32)) is None
    assert chain.height_of(bytes(32)) is None
    for read in (
        chain.block,
        chain.header,
        chain.certificate,
        chain.batches,
        chain.leaves,
        chain.transactions,
    ):
        assert refusal(partial(read, 10)) == "chain.unknown_height"
    assert refusal(lambda: chain.block(-1)) == "chain.unknown_height"
    with pytest.raises(InvariantBroken):
        chain.validators(bytes(32))


def test_state_and_proofs_of_the_heights_that_are_kept(run: Run) -> None:
    run.add_many(25, seed=3)
    run.add([])  # its header carries the state root of the height before
    chain = run.open()
    keys = [b"genesis", b"absent", *(b"key %d" % number for number in range(60))]
    oldest = chain.tip.height - PROOF_HEIGHTS
    for height in range(oldest, chain.tip.height):
        state, root = chain.state_at(height), chain.header(height + 1).state_root
        for key in keys:
            value, proof = chain.prove(key, height)
            assert value == state.get(key) == run.states[height].get(key)
            assert verify_state(root, key, value, proof)
            assert not verify_state(root, key, b"another", proof)
    for key in keys:
        assert chain.state.get(key) == run.chain.state.get(key) == run.states[-1].get(key)
    assert refusal(lambda: chain.prove(b"key 1", oldest - 1)) == "chain.height_pruned"
    assert refusal(lambda: chain.state_at(0)) == "chain.height_pruned"
    assert refusal(lambda: chain.state_at(chain.tip.height + 1)) == "chain.unknown_height"
    rows = list(chain.state_rows())
    assert {key: value for _, key, value in rows} == run.states[-1]
    assert [path for path, _, _ in rows] == sorted(path for path, _, _ in rows)
    assert list(chain.state_rows(after=rows[3][0], limit=2)) == rows[4:6]


def test_a_state_reader_of_a_height_that_is_pruned_meanwhile_says_so(run: Run) -> None:
    run.add_many(3)
    state = run.chain.state_at(1)
    assert state.get(b"genesis") == b"yes"
    run.add_many(PROOF_HEIGHTS + 2)
    assert refusal(lambda: state.get(b"genesis")) == "chain.height_pruned"


def test_pruning_leaves_only_what_the_kept_heights_need(run: Run) -> None:
    run.add_many(30, seed=9)
    store, tip = run.store, run.chain.tip.height
    for kind in (schema.UNDO, schema.MOVES):
        heights = [schema.height_in(key) for key, _ in store.iterate(kind)]
        assert heights == list(range(tip - PROOF_HEIGHTS + 1, tip + 1))
    roots = [schema.height_in(key) for key, _ in store.iterate(schema.ROOT)]
    assert roots == list(range(tip - PROOF_HEIGHTS, tip + 1))
    # With no change for PROOF_HEIGHTS, the branches that are left are exactly those of the last tree.
    for _ in range(PROOF_HEIGHTS + 1):
        run.add([])
    pairs = [(path, value_hash(value)) for path, _, value in run.chain.state_rows()]
    _, branches = build(pairs, b"")
    assert branches
    assert {key[1:]: trie_nodes.BRANCH_HEAD + row for key, row in store.iterate(schema.BRANCH)} == dict(
        branches
    )


def test_history_proofs(run: Run) -> None:
    run.add_many(12)
    chain = run.chain
    for size in range(1, 13):
        root = chain.header(size).history_root
        for height in range(size):
            proof = chain.history_proof(height, size)
            leaf = merkle.leaf_hash(chain.header(height).hash)
            assert merkle.verify_inclusion(leaf, proof.index, proof.size, proof.path, root)
    assert chain.history_proof(12, 13).index == 12  # of the header to come
    for height, size in ((-1, 3), (3, 3), (5, 14)):
        assert refusal(partial(chain.history_proof, height, size)) == "chain.unknown_height"


def test_events_from_a_cursor(run: Run) -> None:
    run.add_many(7)
    chain = run.chain
    everything = chain.events(Place(-1, -1), 1000)
    assert [place for place, _ in everything] == [
        Place(height, index) for height in range(1, 8) for index in (0, 1)
    ]
    for at, (place, _) in enumerate(everything):
        assert chain.events(place, 3) == everything[at + 1 : at + 4]
    assert chain.events(Place(4, -1), 1) == [everything[6]]
    for patient in PATIENTS:
        of_patient = [(place, event) for place, event in everything if patient in event.subjects]
        assert of_patient
        assert chain.events_of(patient, Place(-1, -1), 1000) == of_patient
        for at, (place, _) in enumerate(of_patient):
            assert chain.events_of(patient, place, 2) == of_patient[at + 1 : at + 3]
    assert chain.events_of(bytes(15) + b"x", Place(-1, -1), 10) == []


def test_the_window_of_ids(run: Run) -> None:
    run.add_many(6)
    times = {height: run.chain.header(height).time_ms for height in range(7)}
    assert [seen.height for seen in run.chain.seen_since(times[3])] == [6, 5, 4]
    assert [seen.height for seen in run.chain.seen_since(0)] == [6, 5, 4, 3, 2, 1, 0]


def test_a_commit_is_one_synced_batch() -> None:
    store = MemoryKV()
    run = Run(store)
    run.add_many(4)
    assert store.unsynced_writes == 0
    chain = run.open(store.crash())
    assert chain.tip == run.chain.tip
    store.fail_next_write = True
    with pytest.raises(InvariantBroken):
        run.add([(b"key 1", b"lost")])
    assert run.chain.tip.height == 4
    assert run.chain.state.get(b"key 1") == run.states[-1].get(b"key 1")


def test_a_prepared_update_that_is_dropped_leaves_nothing(run: Run) -> None:
    run.add_many(3)
    rows = list(run.store.iterate(b""))
    run.chain.prepare(outcome_of(4, [(b"key 1", b"dropped"), (b"genesis", None)]))
    assert list(run.store.iterate(b"")) == rows
    run.add([(b"key 1", b"kept")], ahead=True)
    assert run.chain.state.get(b"key 1") == b"kept"
    assert run.chain.state.get(b"genesis") == b"yes"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", 9),
        ("parent", bytes(32)),
        ("chain_id", bytes(32)),
        ("state_root", bytes(32)),
        ("receipts_root", bytes(32)),
        ("history_root", bytes(32)),
        ("next_validators_hash", bytes(32)),
    ],
)
def test_a_header_that_contradicts_this_node_halts_it(field: str, value: object) -> None:
    run = Run(MemoryKV())
    run.add_many(2)
    rows = list(run.store.iterate(b""))
    block, _ = block_after(run.chain.tip, [])
    header = msgspec.structs.replace(block.header, **{field: value})
    certificate = CommitCertificate(header.height, 0, header.hash, [Seal(0, bytes(64))])
    with pytest.raises(InvariantBroken):
        run.chain.commit(Block(header, []), certificate, [], outcome_of(header.height, []))
    assert list(run.store.iterate(b"")) == rows


def test_parts_that_do_not_belong_together_halt() -> None:
    run = Run(MemoryKV())
    block, certificate = block_after(run.chain.tip, [])
    other = msgspec.structs.replace(certificate, block_hash=bytes(32))
    for given, batches, height in ((other, [], 1), (certificate, [b"batch"], 1), (certificate, [], 2)):
        with pytest.raises(InvariantBroken):
            run.chain.commit(block, given, batches, outcome_of(height, []))
    assert run.chain.tip.height == 0


def test_how_opening_is_refused() -> None:
    store = MemoryKV()
    run = Run(store)
    run.add_many(2)

    def opened_with(key: bytes, value: bytes | None, chain_id: bytes = CHAIN) -> str:
        damaged = store.crash()
        damaged.write([(key, value)], sync=True)
        return refusal(lambda: ChainStore(damaged, chain_id))

    tip = run.chain.tip
    assert opened_with(schema.FORMAT, schema.format_bytes(schema.STORE_FORMAT + 1)) == "store.newer_format"
    assert opened_with(schema.FORMAT, schema.format_bytes(0)) == "store.older_format"
    assert opened_with(schema.FORMAT, None) == "store.corrupt"
    assert opened_with(b"unused", b"", chain_id=bytes(32)) == "store.wrong_chain"
    assert opened_with(schema.TIP, None) == "store.corrupt"
    assert opened_with(schema.TIP, b"\x00") == "store.corrupt"
    assert (
        opened_with(schema.TIP, codec.encode(msgspec.structs.replace(tip, block_hash=bytes(32))))
        == "store.corrupt"
    )
    assert (
        opened_with(schema.TIP, codec.encode(msgspec.structs.replace(tip, state_root=bytes(32))))
        == "store.corrupt"
    )
    assert opened_with(schema.at_height(schema.BLOCK, 2), None) == "store.corrupt"
    assert opened_with(schema.at_height(schema.ROOT, 2), b"") == "store.corrupt"
    assert (
        refusal(lambda: create_chain(store, genesis_block(GENESIS), outcome_of(0, []), VALIDATORS))
        == "store.exists"
    )


def test_damage_below_the_tip_halts_whoever_reads_it() -> None:
    store = MemoryKV()
    run = Run(store)
    run.add_many(3)
    store.write(
        [
            (schema.at_height(schema.BLOCK, 1), None),
            (schema.at_height(schema.CERTIFICATE, 2), b"\x90"),
            *((key, None) for key, _ in list(store.iterate(schema.STATE))),
        ],
        sync=True,
    )
    chain = run.open()
    with pytest.raises(InvariantBroken):
        chain.block(1)
    with pytest.raises(InvariantBroken):
        chain.certificate(2)
    with pytest.raises(InvariantBroken):
        chain.prepare(outcome_of(4, [(b"key 1", b"x")]))


def test_an_empty_state_is_a_state() -> None:
    store = MemoryKV()
    create_chain(store, genesis_block(GENESIS), outcome_of(0, []), VALIDATORS)
    chain = ChainStore(store, CHAIN)
    assert chain.tip.state_root == EMPTY_STATE_ROOT
    value, proof = chain.prove(b"key", 0)
    assert value is None
    assert verify_state(chain.tip.state_root, b"key", None, proof)
