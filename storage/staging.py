"""A chain's store in the making, from a snapshot: everything that was checked is written at once, so nothing is fetched
twice after a crash; and nobody can take it for a chain before `finish`, which writes its format and its tip last.

Parts of the state are kept with the hash that they have. When the snapshot that was begun with is no longer to be had,
the parts that a later one shares with it are known by their hashes and stay; the others are replaced. Blocks come from
the top down, each known by its successor's `parent`, in *runs* that are joined where they meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from consilium.ledger import codec, merkle
from consilium.ledger.block import BLOCK_BYTES_MAX, Block
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.execution import Outcome
from consilium.ledger.merkle import MountainRange
from consilium.ledger.snapshot import Certified, CheckedRows, certificate_below
from consilium.ledger.transaction import VALIDITY_MAX_MS
from consilium.ledger.trie import TrieUpdate
from consilium.ledger.trie_nodes import BRANCH_HEAD, NodeRef
from consilium.ledger.trie_parts import Node, build, join, packed, starts_with
from consilium.ledger.trie_proof import EMPTY_STATE_ROOT, value_hash
from consilium.storage import schema
from consilium.storage.height import Tip, height_writes
from consilium.storage.kv import KeyValue, Write
from consilium.storage.pruning import lowest_writes

HISTORY_BATCH: Final = 4_096

_runs_decoder = msgspec.msgpack.Decoder(list[tuple[int, int]])


class Wanted(NamedTuple):
    """The next block that is missing: its height and hash."""

    height: int
    hash: bytes


class Progress(NamedTuple):
    """What is here: parts of the state, the keys in them, and blocks."""

    parts: int
    keys: int
    blocks: int


class Staging:
    """See the module. One thread at a time."""

    def __init__(self, store: KeyValue, genesis: Block, outcome: Outcome) -> None:
        """Open what was begun, or begin. `outcome` is that of executing genesis.

        Raises Refused `store.older_format`, `store.newer_format` where another program began it.
        """
        self._store = store
        self._genesis = genesis
        self._outcome = outcome
        if store.get(schema.SYNC_FORMAT) is None:
            store.write([(schema.SYNC_FORMAT, schema.format_bytes(schema.STORE_FORMAT))], sync=True)
        schema.check_format(store, schema.STORE_FORMAT, schema.SYNC_FORMAT)
        raw = store.get(schema.SYNC_RUNS)
        self._runs: list[tuple[int, int]] = [] if raw is None else _runs_decoder.decode(raw)
        rows = [schema.part_of(row) for _, row in store.iterate(schema.SYNC_PART)]
        self._parts = len(rows)
        self._keys = sum(row.keys for row in rows)

    @property
    def progress(self) -> Progress:
        """How far this is."""
        return Progress(self._parts, self._keys, sum(high - low + 1 for low, high in self._runs))

    # ---- the state

    def has_part(self, prefix: bytes, expected: bytes) -> bool:
        """Whether all rows below a prefix are here already, with this hash."""
        row = self._store.get(schema.SYNC_PART + prefix)
        return row is not None and schema.part_of(row).subtree.hash == expected

    def put_branch(self, prefix: bytes, slots: Sequence[int]) -> None:
        """A checked branch stands at a prefix: forget what an earlier snapshot had in its place."""
        own = schema.SYNC_PART + prefix
        if self._store.get(own) is not None:
            self._forget(own)
        for slot in range(16):
            if slot not in slots:
                self._clear(prefix + bytes((slot,)))

    def put_rows(self, prefix: bytes, checked: CheckedRows) -> None:
        """All rows below a prefix, checked."""
        self._clear(prefix)
        writes: list[Write] = [
            (schema.STATE + path, schema.state_row(row.key, row.value))
            for path, row in zip(checked.paths, checked.rows, strict=True)
        ]
        writes += [_branch_row(node) for node in checked.nodes]
        row = schema.PartRow(checked.subtree, len(checked.rows))
        writes.append((schema.SYNC_PART + prefix, schema.part_row(row)))
        self._store.write(writes, sync=False)
        self._parts += 1
        self._keys += row.keys

    def _clear(self, prefix: bytes) -> None:
        for key, _ in list(self._store.iterate(schema.SYNC_PART + prefix)):
            self._forget(key)

    def _forget(self, key: bytes) -> None:
        """Delete a part's rows and branches. Its branches are known by building them again."""
        raw = self._store.get(key)
        if raw is None:
            return
        prefix, part = key[1:], schema.part_of(raw)
        pairs = []
        writes: list[Write] = [(key, None)]
        start = schema.STATE + packed(prefix)
        for stored, row in self._store.iterate(start[: 1 + len(prefix) // 2], start=start):
            if not starts_with(stored[1:], prefix):
                break
            pairs.append((stored[1:], value_hash(schema.state_of(row)[1])))
            writes.append((stored, None))
        if pairs:
            _, nodes = build(pairs, prefix)
            writes += [(schema.BRANCH + key, None) for key, _ in nodes]
        self._store.write(writes, sync=False)
        self._parts -= 1
        self._keys -= part.keys

    # ---- the blocks

    def wanted_block(self, certified: Certified) -> Wanted | None:
        """The highest block that is missing below the certified header; None where they lead down to genesis.

        Raises Refused `snapshot.wrong_chain` where they lead to another genesis.
        """
        height, expected = certified.height, certified.header.parent
        while height > 0:
            low = next((low for low, high in self._runs if low <= height <= high), None)
            if low is None or self.block(height).hash != expected:
                return Wanted(height, expected)
            height, expected = low - 1, self.block(low).header.parent
        if expected != self._genesis.hash:
            raise Refused("snapshot.wrong_chain", "its blocks lead to another genesis")
        return None

    def put_run(self, blocks: Sequence[Block]) -> None:
        """A checked run of blocks, ascending, that ends with the wanted one."""
        writes: list[Write] = []
        for block in blocks:
            header = block.header
            height = header.height.to_bytes(8, "big")
            writes += [(schema.BLOCK + height, codec.encode(block)), (schema.HEIGHT_OF + block.hash, height)]
            if header.next_validators_hash != header.validators_hash:
                writes.append((schema.SET_CHANGE + height, b""))
        low, high = blocks[0].height, blocks[-1].height
        above = next((run for run in self._runs if run[0] == high + 1), None)
        kept = [run for run in self._runs if run != above and not low <= run[0] <= run[1] <= high]
        self._runs = sorted([*kept, (low, high if above is None else above[1])])
        writes.append((schema.SYNC_RUNS, msgspec.msgpack.encode(self._runs)))
        self._store.write(writes, sync=False)

    def block(self, height: int) -> Block:
        """A block that is here."""
        if height == 0:
            return self._genesis
        raw = self._store.get(schema.at_height(schema.BLOCK, height))
        if raw is None:
            raise InvariantBroken(f"block {height} is not in the store that is being made")
        return codec.decode(raw, Block, BLOCK_BYTES_MAX)

    def contains(self, block_hash: bytes, certified: Certified) -> bool:
        """Whether a header is the certified one or below it."""
        known = self._store.get(schema.HEIGHT_OF + block_hash) is not None
        return known or block_hash in (certified.header.hash, self._genesis.hash)

    # ---- the window of repetition

    def wanted_leaves(self, certified: Certified) -> Iterator[tuple[int, bytes]]:
        """(height, receipts root) of the heights in the window whose receipts are missing, newest first.

        All blocks must be here."""
        following = certified.header
        since_ms = self.block(certified.height).header.time_ms - VALIDITY_MAX_MS
        for height in range(certified.height, 0, -1):
            header = self.block(height).header
            if header.time_ms <= since_ms:
                return
            if self._store.get(schema.at_height(schema.SEEN, height)) is None:
                yield height, following.receipts_root
            following = header

    def put_leaves(self, heights: Sequence[tuple[int, Sequence[bytes], Sequence[bytes]]]) -> None:
        """The checked receipt leaves of heights, each with the ids that they name."""
        writes: list[Write] = []
        for height, leaves, ids in heights:
            place = height.to_bytes(8, "big")
            time_ms = self.block(height).header.time_ms
            writes.append((schema.LEAVES + place, codec.encode(list(leaves))))
            writes.append((schema.SEEN + place, time_ms.to_bytes(8, "big") + b"".join(ids)))
            for index, identifier in enumerate(ids):
                writes.append((schema.TRANSACTION + identifier, place + index.to_bytes(4, "big")))
        self._store.write(writes, sync=False)

    # ---- the end

    def finish(self, certified: Certified) -> Tip:
        """Make it a chain's store: all else follows from what is here, and is compared with the header once more.

        Durable on return. Raises Refused `snapshot.invalid` where a part of it is missing.
        """
        if self.wanted_block(certified) is not None or next(self.wanted_leaves(certified), None) is not None:
            raise Refused("snapshot.invalid", "it is not complete")
        height, header = certified.height, certified.header
        own = self.block(height)
        writes: list[Write] = []
        root = self._root(writes)
        if (EMPTY_STATE_ROOT if root is None else root.hash) != header.state_root:
            raise Refused("snapshot.invalid", "its parts do not have the certified state root")
        update = TrieUpdate(None, EMPTY_STATE_ROOT, {}, {}, {})
        genesis, _ = height_writes(self._genesis, [], self._outcome, update, MountainRange())
        writes = [row for row in genesis if row[0] != schema.TIP] + writes
        history = self._history(height)
        if history.root() != header.history_root:
            raise Refused("snapshot.invalid", "its blocks do not have the certified history root")
        tip = Tip(
            height=height,
            block_hash=own.hash,
            time_ms=own.header.time_ms,
            state_root=header.state_root,
            receipts_root=header.receipts_root,
            next_validators_hash=header.next_validators_hash,
            history=history,
        )
        writes.append((schema.at_height(schema.ROOT, height), schema.root_row(root)))
        for validators in certified.sets:
            writes.append((schema.VALIDATORS + validators.hash, codec.encode(list(validators.validators))))
        for certificate in (*certified.certificates, certificate_below(certified, own.header)):
            if certificate.height <= height:
                key = schema.at_height(schema.CERTIFICATE, certificate.height)
                writes.append((key, codec.encode(certificate)))
        writes += lowest_writes(height + 1)
        writes.append((schema.BASE, height.to_bytes(8, "big")))
        writes += [(key, None) for key, _ in self._store.iterate(schema.SYNC_PART)]
        writes += [(schema.SYNC_RUNS, None), (schema.SYNC_FORMAT, None)]
        writes += [
            (schema.TIP, codec.encode(tip)),
            (schema.FORMAT, schema.format_bytes(schema.STORE_FORMAT)),
        ]
        self._store.write(writes, sync=True)
        return tip

    def _root(self, writes: list[Write]) -> NodeRef | None:
        """Join the parts to the whole trie: the branches above them are written by this."""
        level: dict[bytes, NodeRef] = {}
        for key, row in self._store.iterate(schema.SYNC_PART):
            level[key[1:]] = schema.part_of(row).subtree
        if not level or (b"" in level and level[b""].hash == EMPTY_STATE_ROOT):
            return None
        for depth in range(max(map(len, level)), 0, -1):
            above: dict[bytes, list[tuple[int, NodeRef]]] = {}
            for prefix in sorted(prefix for prefix in level if len(prefix) == depth):
                above.setdefault(prefix[:-1], []).append((prefix[-1], level.pop(prefix)))
            for prefix, children in above.items():
                if prefix in level:
                    raise InvariantBroken("two parts of the state overlap")
                level[prefix], node = join(children, prefix)
                writes.append(_branch_row(node))
        return level[b""]

    def _history(self, height: int) -> MountainRange:
        """Grow the mountain range over all headers up to `height`, and keep its nodes."""
        history = MountainRange()
        writes: list[Write] = []
        for below in range(height + 1):
            history, completed = history.grow(merkle.leaf_hash(self.block(below).hash))
            writes += [(schema.history_key(position), node) for position, node in completed]
            if len(writes) >= HISTORY_BATCH:
                self._store.write(writes, sync=False)
                writes = []
        self._store.write(writes, sync=False)
        return history


def _branch_row(node: Node) -> Write:
    place, branch = node
    return schema.BRANCH + place, branch[len(BRANCH_HEAD) :]
