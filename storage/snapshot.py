"""The state after one height, held still while the chain goes on: what other nodes are given snapshots from.

A LevelDB snapshot costs nothing to take and a little disk for what later heights overwrite, until it is closed. So
there are few at a time (node/shelf.py), and each is closed when its last reader is through.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from consilium.ledger.errors import Refused
from consilium.ledger.snapshot import (
    PART_ROWS_BYTES,
    PART_ROWS_MAX,
    BranchPart,
    Part,
    RowsPart,
    StateRow,
)
from consilium.ledger.trie_nodes import NodeRef, children_of, node_key
from consilium.ledger.trie_parts import find, packed, starts_with
from consilium.storage import schema
from consilium.storage.kv import Snapshot
from consilium.storage.trie import TrieAt


class StateSnapshot:
    """See the module. Any thread may read; whoever reads while it is closed is refused (`snapshot.unknown`)."""

    def __init__(self, snapshot: Snapshot, height: int, root: NodeRef | None, nodes: TrieAt) -> None:
        """`root` and `nodes` are of the trie as of this height, read from the same snapshot."""
        self.height = height
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._readers = 0
        self._closed = False
        self._root = root
        self._nodes = nodes

    def part(self, prefix: bytes) -> Part | None:
        """What a peer is given for a prefix: all rows below it where they fit, else the branch there. None where the
        state has nothing there. Raises Refused `snapshot.unknown` once it is closed."""
        with self._reading():
            if self._root is None:
                return None if prefix else RowsPart([])
            ref = find(self._nodes, self._root, prefix)
            if ref is None:
                return None
            rows = self._rows(prefix, whole=not ref.branch)
            if rows is not None:
                return RowsPart(rows)
            children = children_of(self._nodes.branch(node_key(len(prefix), packed(prefix))))
            bitmap = sum(1 << slot for slot, _ in children)
            return BranchPart(bitmap, b"".join([child.hash for _, child in children]))

    def close(self) -> None:
        """Let go of it, as soon as nobody reads."""
        with self._lock:
            self._closed = True
            if self._readers:
                return
        self._snapshot.close()

    def _rows(self, prefix: bytes, *, whole: bool) -> list[StateRow] | None:
        """Every row below a prefix; None where they are too many for a part, unless they are `whole`, a bucket."""
        start = schema.STATE + packed(prefix)
        found: list[StateRow] = []
        size = 0
        for key, row in self._snapshot.iterate(start[: 1 + len(prefix) // 2], start=start):
            if not starts_with(key[1:], prefix):
                break
            size += len(row)
            if not whole and (len(found) == PART_ROWS_MAX or size > PART_ROWS_BYTES):
                return None
            found.append(StateRow(*schema.state_of(row)))
        return found

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise Refused("snapshot.unknown", f"the one of height {self.height} was let go")
            self._readers += 1
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._readers -= 1
            last = self._closed and not self._readers
        if last:
            self._snapshot.close()
