"""The chain on disk: a height is one synced batch of everything it decided, or it is not there at all.

`commit` is the only way to write, and `tip` the last thing that it did. A block's execution is certified by the next
header only; the tip therefore carries what that header must say. A header that says otherwise means that this node's
state is not the network's: that is InvariantBroken, and the node halts before anything is written.

Everything read from here was written here, so bytes that do not decode are damage: InvariantBroken too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from consilium.ledger import codec, merkle
from consilium.ledger.block import BLOCK_BYTES_MAX, CERTIFICATE_BYTES_MAX, Block, CommitCertificate, Header
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.execution import Event, Outcome
from consilium.ledger.merkle import InclusionProof, MountainRange, NodePosition
from consilium.ledger.state import StateReader
from consilium.ledger.transaction import VALIDITY_MAX_MS
from consilium.ledger.trie import TrieUpdate, root_hash_of
from consilium.ledger.trie_proof import TrieProof
from consilium.ledger.validators import Validator, ValidatorSet
from consilium.storage import pruning, schema
from consilium.storage.events import (
    EVENT_INDEX_LAST,
    Place,
    read_events,
    read_events_of,
    read_events_of_kinds,
)
from consilium.storage.height import TIP_BYTES_MAX, SeenAt, Tip, height_writes, place_in, seen_in
from consilium.storage.kv import KeyValue, Write
from consilium.storage.snapshot import StateSnapshot
from consilium.storage.state import NODE_CACHE_BYTES, VALUE_CACHE_BYTES, StateAt, StateStore

__all__ = ["ChainStore", "Place", "SeenAt", "Tip", "create_chain"]

_T = TypeVar("_T")
_leaves_decoder = msgspec.msgpack.Decoder(list[bytes])
_validators_decoder = msgspec.msgpack.Decoder(list[Validator])


class ChainStore:
    """One writer; any number of readers in other threads. Calls block for the disk: make them from a thread."""

    def __init__(
        self,
        store: KeyValue,
        chain_id: bytes,
        *,
        proof_heights: int = schema.PROOF_HEIGHTS,
        node_cache_bytes: int = NODE_CACHE_BYTES,
        value_cache_bytes: int = VALUE_CACHE_BYTES,
    ) -> None:
        """Open a store that `create_chain` made.

        Raises Refused: `store.newer_format`, `store.older_format`, `store.wrong_chain`, and `store.corrupt` where
        the tip does not fit the blocks and the state below it.
        """
        self._store = store
        self.chain_id = chain_id
        schema.check_format(store, schema.STORE_FORMAT)
        try:
            self._state = StateStore(
                store,
                proof_heights=proof_heights,
                node_cache_bytes=node_cache_bytes,
                value_cache_bytes=value_cache_bytes,
            )
            self._tip = self._checked_tip()
        except InvariantBroken as broken:
            raise Refused("store.corrupt", str(broken)) from broken
        except Refused as refusal:
            if refusal.code.startswith("chain."):  # a row of the tip is missing
                raise Refused("store.corrupt", str(refusal)) from None
            raise
        self._lowest = pruning.lowest_kept(store)
        self._base = pruning.base_of(store)

    # ---- writing

    def prepare(self, outcome: Outcome) -> TrieUpdate:
        """What an outcome does to the state trie on top of the tip: to be given to `commit`, or dropped."""
        return self._state.prepare(outcome.changes)

    def commit(
        self,
        block: Block,
        certificate: CommitCertificate,
        batches: Sequence[bytes],
        outcome: Outcome,
        update: TrieUpdate | None = None,
        sync: bool = True,
    ) -> Tip:
        """Write a decided block and its outcome, and prune what is out of reach. Returns the new tip. Without `sync` it
        is durable with the next commit that has it.

        `batches` are the signed batches' bytes in the block's order; `update` is what `prepare` gave for this outcome.
        Raises InvariantBroken, with nothing written, where the block does not continue this chain.
        """
        self._check_continues(block, certificate, batches, outcome)
        if update is None:
            update = self.prepare(outcome)
        writes, tip = height_writes(block, batches, outcome, update, self._tip.history)
        writes.append((schema.at_height(schema.CERTIFICATE, block.height), codec.encode(certificate)))
        writes += self._state.writes(block.height, outcome.changes, update)
        self._store.write(writes, sync=sync)
        self._state.committed(outcome.changes, update)
        self._tip = tip
        return tip

    def prune(self, keep_blocks: int, heights_max: int = pruning.PRUNE_HEIGHTS_MAX) -> int:
        """Forget the payload of heights more than `keep_blocks` below the tip, and out of the window of repetition.

        Returns how many heights this call forgot, at most `heights_max`; 0 when there is nothing more to do now.
        May run beside `commit`, but not beside itself. See `storage.pruning`.
        """
        tip, first = self._tip, self._lowest
        writes: list[Write] = []
        height = first
        while height <= min(tip.height - keep_blocks, first + heights_max - 1):
            block = self.block(height)
            if block.header.time_ms + VALIDITY_MAX_MS >= tip.time_ms:
                break
            writes += pruning.prune_writes(self._store, block)
            height += 1
        if writes:
            # Readers are refused first, so that nobody takes half of a height for all of it.
            self._lowest = height
            self._store.write([*writes, *pruning.lowest_writes(height)], sync=False)
        return height - first

    # ---- reading the chain

    @property
    def lowest_whole(self) -> int:
        """The lowest height above genesis whose batches and receipts are kept."""
        return self._lowest

    @property
    def base(self) -> int:
        """The height of the snapshot that this store began with; 0 where it began with genesis. What happened up to it
        is known by its headers and its state alone."""
        return self._base

    @property
    def tip(self) -> Tip:
        """The last committed height."""
        return self._tip

    def block(self, height: int) -> Block:
        """Raises Refused `chain.unknown_height`."""
        raw = self._at(schema.BLOCK, height)
        return _stored(raw, Block, BLOCK_BYTES_MAX)

    def header(self, height: int) -> Header:
        """Raises Refused `chain.unknown_height`."""
        return self.block(height).header

    def certificate(self, height: int) -> CommitCertificate | None:
        """The commit certificate; None for genesis. Raises Refused `chain.unknown_height`, `chain.height_pruned`."""
        if height == 0:
            return None
        return _stored(self._at(schema.CERTIFICATE, height), CommitCertificate, CERTIFICATE_BYTES_MAX)

    def batches(self, height: int) -> list[bytes]:
        """The block's signed batches, in its order, as bytes.

        Raises Refused `chain.unknown_height`, `chain.height_pruned`.
        """
        self._at(schema.BLOCK, height)
        prefix = schema.at_height(schema.BATCH, height)
        found = [raw for _, raw in self._store.iterate(prefix)]
        if 0 < height < self._lowest:
            raise self._pruned(height)
        return found

    def batch(self, digest: bytes) -> bytes | None:
        """A committed batch by its digest."""
        place = self._store.get(schema.BATCH_PLACE + digest)
        return None if place is None else self._store.get(schema.BATCH + place)

    def leaves(self, height: int) -> list[bytes]:
        """The encoded receipt leaves of the block's execution.

        Raises Refused `chain.unknown_height`, `chain.height_pruned`.
        """
        leaves: list[bytes] = _leaves_decoder.decode(self._at(schema.LEAVES, height))
        return leaves

    def transactions(self, height: int) -> SeenAt:
        """What the block executed. Raises Refused `chain.unknown_height`, `chain.height_pruned`."""
        return seen_in(schema.at_height(schema.SEEN, height), self._at(schema.SEEN, height))

    def height_of(self, block_hash: bytes) -> int | None:
        """The height of a committed block."""
        raw = self._store.get(schema.HEIGHT_OF + block_hash)
        return None if raw is None else int.from_bytes(raw, "big")

    def place_of(self, transaction: bytes) -> Place | None:
        """Where a transaction was executed; the index is its receipt leaf's. None where it was not, or not since the
        window of repetition before `base`."""
        raw = self._store.get(schema.TRANSACTION + transaction)
        return None if raw is None else place_in(raw)

    def seen_since(self, time_ms: int) -> Iterator[SeenAt]:
        """What blocks with a time after `time_ms` executed, newest first: to fill the window of ids at start."""
        for key, row in self._store.iterate(schema.SEEN, reverse=True):
            seen = seen_in(key, row)
            if seen.time_ms <= time_ms:
                return
            yield seen

    def validators(self, validators_hash: bytes) -> ValidatorSet:
        """A validator set that a header of this chain named. Raises InvariantBroken for another."""
        raw = self._store.get(schema.VALIDATORS + validators_hash)
        if raw is None:
            raise InvariantBroken(f"the validator set {validators_hash.hex()[:16]} is not in the store")
        return ValidatorSet(_validators_decoder.decode(raw))

    def set_changes(self, after: int, before: int) -> list[int]:
        """The heights strictly between whose headers hand over to another validator set, ascending."""
        start = schema.at_height(schema.SET_CHANGE, after + 1)
        heights = (schema.height_in(key) for key, _ in self._store.iterate(schema.SET_CHANGE, start=start))
        return list(itertools.takewhile(lambda height: height < before, heights))

    def history_proof(self, height: int, size: int) -> InclusionProof:
        """That the header at `height` is in the history root over the first `size` headers (the one at height `size`).

        Raises Refused `chain.unknown_height`.
        """
        if not 0 <= height < size <= self._tip.history.count:
            raise Refused(
                "chain.unknown_height", f"header {height} of {size}; {self._tip.history.count} are here"
            )
        return merkle.history_proof(self._history_node, height, size)

    # ---- reading state

    @property
    def state(self) -> StateReader:
        """State after the tip, whatever the tip is at each call."""
        return self._state

    def state_at(self, height: int) -> StateAt:
        """State after a height. Raises Refused `chain.height_pruned`, `chain.unknown_height`."""
        return self._state.at(height)

    def prove(self, key: bytes, height: int) -> tuple[bytes | None, TrieProof]:
        """The value of a key after a height, or None, and the proof of it against that height's state root, which the
        header at `height + 1` carries. Raises Refused `chain.height_pruned`, `chain.unknown_height`."""
        return self._state.prove(key, height)

    def state_rows(
        self, after: bytes = b"", limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes, bytes]]:
        """(key hash, key, value) after the tip, in the trie's order, above the hash `after`."""
        return self._state.rows(after, limit)

    # ---- reading events

    def events(self, after: Place, limit: int) -> list[tuple[Place, Event]]:
        """Events after a cursor, in order. `Place(height, -1)` is before every event of that height.

        Raises Refused `chain.before_snapshot` for what came before `base`: an answer would not be complete.
        """
        self._check_after_base(after)
        return read_events(self._store, after, limit)

    def events_of_kinds(
        self, after: Place, limit: int, kinds: Iterable[str]
    ) -> tuple[list[tuple[Place, Event]], Place]:
        """Of the next `limit` events those of some kinds, and the place of the last of all. Raises as `events`."""
        self._check_after_base(after)
        return read_events_of_kinds(self._store, after, limit, kinds)

    def events_of(self, subject: bytes, after: Place, limit: int) -> list[tuple[Place, Event]]:
        """As `events`, of one subject (16 bytes)."""
        self._check_after_base(after)
        return read_events_of(self._store, subject, after, limit)

    def close(self) -> None:
        """Close the store below."""
        self._store.close()

    # ---- inside

    def _at(self, kind: bytes, height: int) -> bytes:
        raw = self._store.get(schema.at_height(kind, height)) if height >= 0 else None
        if raw is None:
            if 0 < height < self._lowest and kind != schema.BLOCK:
                raise self._pruned(height)
            if 0 <= height <= self._tip.height:
                raise InvariantBroken(f"a part of height {height} is not in the store")
            raise Refused("chain.unknown_height", f"height {height}; the tip is {self._tip.height}")
        return raw

    def _check_after_base(self, after: Place) -> None:
        if self._base and after < Place(self._base, EVENT_INDEX_LAST):
            raise Refused("chain.before_snapshot", f"events are kept after height {self._base}")

    def snapshot(self) -> StateSnapshot:
        """The state after the tip, held still. To be taken between two commits, and closed."""
        return self._state.snapshot(self._tip.height)

    def _pruned(self, height: int) -> Refused:
        return Refused("chain.height_pruned", f"height {height}; blocks are kept from {self._lowest} on")

    def _history_node(self, position: NodePosition) -> bytes:
        raw = self._store.get(schema.history_key(position))
        if raw is None:
            raise InvariantBroken(f"the history's node {position} is not in the store")
        return raw

    def _check_continues(
        self, block: Block, certificate: CommitCertificate, batches: Sequence[bytes], outcome: Outcome
    ) -> None:
        tip, header = self._tip, block.header
        block_hash = header.hash
        if (header.height, header.parent) != (
            tip.height + 1,
            tip.block_hash,
        ) or header.chain_id != self.chain_id:
            raise InvariantBroken(f"block {header.height} does not continue the chain at {tip.height}")
        if (certificate.height, certificate.block_hash) != (header.height, block_hash):
            raise InvariantBroken(f"the certificate given for block {header.height} is for another")
        if outcome.height != header.height or len(batches) != len(block.batches):
            raise InvariantBroken(
                f"the outcome or the batches given for block {header.height} are not its own"
            )
        own = (tip.state_root, tip.receipts_root, tip.history.root(), tip.next_validators_hash)
        certified = (
            header.state_root,
            header.receipts_root,
            header.history_root,
            header.next_validators_hash,
        )
        for name, mine, theirs in zip(
            ("state", "receipts", "history", "validators"), own, certified, strict=True
        ):
            if mine != theirs:
                raise InvariantBroken(
                    f"the certified header {header.height} has the {name} root {theirs.hex()}, and this node has "
                    f"{mine.hex()} after height {tip.height}: its state is not the network's"
                )

    def _checked_tip(self) -> Tip:
        raw = self._store.get(schema.TIP)
        if raw is None:
            raise InvariantBroken("the store has no tip")
        tip = _stored(raw, Tip, TIP_BYTES_MAX)
        raw_block = self._store.get(schema.at_height(schema.BLOCK, tip.height))
        if raw_block is None:
            raise InvariantBroken(f"the store has no block at its tip {tip.height}")
        header = _stored(raw_block, Block, BLOCK_BYTES_MAX).header
        if header.chain_id != self.chain_id:
            raise Refused("store.wrong_chain", f"the store is of chain {header.chain_id.hex()[:16]}")
        if (
            header.hash != tip.block_hash
            or tip.history.count != tip.height + 1
            or not tip.history.well_formed()
        ):
            raise InvariantBroken("the tip does not fit its block")
        if (
            root_hash_of(self._state.root_at(tip.height)) != tip.state_root
            or self._state.height != tip.height
        ):
            raise InvariantBroken("the tip does not fit the state")
        return tip


def create_chain(store: KeyValue, block: Block, outcome: Outcome, validators: ValidatorSet) -> Tip:
    """Write the genesis block and its outcome into an empty store; `validators` vote at heights 1 and 2.

    Raises Refused `store.exists` where the store has anything in it.
    """
    if next(iter(store.iterate(b"", limit=1)), None) is not None:
        raise Refused("store.exists", "the store is not empty")
    state = StateStore(store)
    update = state.prepare(outcome.changes)
    writes, tip = height_writes(block, [], outcome, update, MountainRange())
    writes += state.writes(block.height, outcome.changes, update)
    writes.append((schema.FORMAT, schema.format_bytes(schema.STORE_FORMAT)))
    writes.append((schema.VALIDATORS + validators.hash, codec.encode(list(validators.validators))))
    store.write(writes, sync=True)
    return tip


def _stored(raw: bytes, kind: type[_T], bytes_max: int) -> _T:
    """Decode what this node wrote."""
    try:
        return codec.decode(raw, kind, bytes_max)
    except Refused as refusal:
        raise InvariantBroken(f"a stored {kind.__name__} is damaged: {refusal}") from refusal
