"""The nodes of the state trie as bytes: what is cut out of them is what went in."""

from __future__ import annotations

import pytest

from consilium.ledger import trie_nodes
from consilium.ledger.errors import InvariantBroken


def test_a_child_is_found_by_its_slot() -> None:
    children = [(slot, trie_nodes.NodeRef(bytes([slot]) * 32, slot % 2 == 0)) for slot in (0, 3, 9, 15)]
    node = trie_nodes.branch_of(children)
    for slot in range(16):
        assert trie_nodes.child_hash(node, slot) == dict(children).get(slot, (b"",))[0]
    with pytest.raises(InvariantBroken):
        trie_nodes.child_hash(node[:-1], 0)
