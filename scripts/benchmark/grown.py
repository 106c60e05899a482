"""A network whose state is large from the start: written to the stores of its founders, instead of decided by them.

Blocks are made here with the founders' own keys, so that they are certified as any other; only what they do to the
state is made up. Everything that follows is the product's own work.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Final

from consilium.consensus.context import make_block
from consilium.consensus.promise import no_promise
from consilium.contracts.registry import default_registry
from consilium.ledger import codec
from consilium.ledger.block import CommitCertificate, Seal, sign_seal
from consilium.ledger.crypto import SigningKey
from consilium.ledger.execution import Outcome
from consilium.ledger.merkle import EMPTY_ROOT
from consilium.ledger.state import Change
from consilium.node.executor import Executor
from consilium.node.files import load_node_key
from consilium.node.promises import promise_owner
from consilium.node.stores import CHAIN_FOLDER, PROMISE_FOLDER
from consilium.node.testing import LocalCluster
from consilium.storage.chain import ChainStore
from consilium.storage.leveldb import LevelKV
from consilium.storage.promise import PromiseStore

KEYS_PER_BLOCK: Final = 20_000
VALUE_BYTES: Final = 120
PREFIX: Final = b"\xff"
"""No contract's keys begin with it."""


def key_of(number: int) -> bytes:
    """A key that was made up: 33 bytes, as the contracts' keys are about."""
    return PREFIX + hashlib.sha256(b"key %d" % number).digest()


def value_of(number: int) -> bytes:
    """The value under `key_of`."""
    return (hashlib.sha256(b"value %d" % number).digest() * 4)[:VALUE_BYTES]


def grow(cluster: LocalCluster, keys: int, progress: Callable[[str], None]) -> None:
    """Write a state of so many keys to the stores of all founders."""
    first = cluster.nodes[0].config()
    folder = first.data_dir / CHAIN_FOLDER
    kv = LevelKV(folder)
    try:
        executor = Executor(ChainStore(kv, cluster.genesis.chain_id), default_registry())
        signing = {key.public: key for key in (load_node_key(n.config().key_path) for n in cluster.nodes)}
        blocks = -(-keys // KEYS_PER_BLOCK) + 1
        # Past, so that block time goes on from here; and out of the window of repetition.
        at_ms = max(cluster.genesis.time_ms + 1, time.time_ns() // 1_000_000 - blocks)
        for number in range(blocks):
            low, high = number * KEYS_PER_BLOCK, min(keys, (number + 1) * KEYS_PER_BLOCK)
            changes: list[Change] = [(key_of(n), value_of(n)) for n in range(low, high)]
            _decide(executor, signing, at_ms + number, changes)
            progress(f"{high:,} of {keys:,} keys")
        nothing_said = no_promise(executor.context.height)
    finally:
        kv.close()
    for node in cluster.nodes:
        config = node.config()
        owner = promise_owner(cluster.genesis.chain_id, load_node_key(config.key_path).public)
        promises = PromiseStore(config.data_dir / PROMISE_FOLDER, owner)
        promises.save(codec.encode(nothing_said.votes), [])
        promises.close()
    for node in cluster.nodes[1:]:
        target = node.config().data_dir / CHAIN_FOLDER
        shutil.rmtree(target)
        shutil.copytree(folder, target)


def _decide(
    executor: Executor, signing: Mapping[bytes, SigningKey], at_ms: int, changes: list[Change]
) -> None:
    context = executor.context
    block = make_block(context, [], at_ms, context.primary(0))
    seals = [
        Seal(place, sign_seal(signing[key], context.chain_id, block.height, 0, block.hash))
        for place, key in enumerate(context.validators.keys[: context.validators.quorum])
    ]
    outcome = Outcome(
        height=block.height,
        leaves=(),
        transactions=(),
        skipped=(),
        receipts_root=EMPTY_ROOT,
        changes=sorted(changes),
        events=(),
        next_validators=context.validators,
    )
    certificate = CommitCertificate(block.height, 0, block.hash, seals)
    tip = executor.store.commit(block, certificate, [], outcome)
    executor._heights = executor._follow(tip)
