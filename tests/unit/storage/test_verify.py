"""The slow way to the state's root agrees with the trie, and a chain that was altered is found out."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger import trie
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import genesis_block
from consilium.storage import schema
from consilium.storage.kv import MemoryKV
from consilium.storage.verify import check_chain, state_root
from tests.unit.storage.test_chain import GENESIS, Run

FIRST = genesis_block(GENESIS).header


class NoNodes:
    def branch(self, key: bytes) -> bytes:
        raise AssertionError(key)

    bucket = branch


def sha(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


@given(
    count=st.sampled_from([0, 1, 2, 23, 24, 25, 26, 100, 400, 1_000]),
    crowded=st.integers(0, 60),
    depth=st.integers(1, 20),
)
def test_the_root_is_the_tries(count: int, crowded: int, depth: int) -> None:
    """Also where many keys share their first nibbles."""
    pairs = {sha(number): sha(-number) for number in range(count)}
    pairs |= {bytes(depth) + sha(number)[depth:]: sha(number) for number in range(crowded)}
    expected = trie.apply_hashes(NoNodes(), None, list(pairs.items())).root_hash
    assert state_root(key + pairs[key] for key in sorted(pairs)) == expected


def test_a_sound_chain_passes_and_an_altered_one_does_not() -> None:
    run = Run(MemoryKV())
    run.add_many(20)
    seen: list[tuple[int, int]] = []
    check_chain(run.open(), FIRST, lambda done, total: seen.append((done, total)))

    def refused(key: bytes, value: bytes | None) -> str:
        broken = run.store.snapshot()
        values = dict(broken.iterate(b""))
        if value is None:
            del values[key]
        else:
            values[key] = value
        with pytest.raises(Refused) as caught:
            check_chain(run.open(MemoryKV(values)), FIRST)
        return caught.value.code

    block = schema.at_height(schema.BLOCK, 7)
    other = run.store.get(schema.at_height(schema.BLOCK, 8))
    assert refused(block, other) == "store.corrupt"
    key, value = next(iter(run.store.iterate(schema.STATE)))
    assert refused(key, value + b"!") == "store.corrupt"
    assert refused(key, None) == "store.corrupt"
    assert refused(schema.STATE + bytes(32), b"\x01a") == "store.corrupt"
    certificate = schema.at_height(schema.CERTIFICATE, 20)
    raw = run.store.get(certificate)
    assert raw is not None
    assert refused(certificate, raw[:-1] + bytes((raw[-1] ^ 1,))) == "store.corrupt"


def test_another_networks_chain_is_named() -> None:
    run = Run(MemoryKV())
    run.add([])
    with pytest.raises(Refused) as caught:
        check_chain(run.open(), run.chain.header(1))
    assert caught.value.code == "store.wrong_chain"
