"""What a node opens from disk before it runs: genesis, keys, stores, and the objects that live directly on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consilium.client.wallet import Wallet, load
from consilium.consensus.promise import Promise
from consilium.contracts.registry import default_registry
from consilium.ledger.batch import VerifiedBatch
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import Genesis
from consilium.ledger.weight import BATCH_WEIGHT_MAX
from consilium.node.config import Config
from consilium.node.executor import Executor
from consilium.node.files import load_node_key, load_token, read_secret
from consilium.node.mempool import Mempool, is_spent
from consilium.node.promises import promise_owner, recall
from consilium.node.stores import OpenStores, Stores, open_envelopes, read_genesis
from consilium.storage.chain import ChainStore
from consilium.storage.envelopes import EnvelopeStore
from consilium.storage.releases import ReleaseJournal
from consilium.storage.shares import ShareVault

PASSPHRASE_VARIABLE: Final = "CONSILIUM_WALLET_PASSPHRASE"


@dataclass(frozen=True, slots=True)
class Parts:
    """What is opened from disk, in a thread, before the loop's objects are built."""

    genesis: Genesis
    key: SigningKey
    token: str
    wallet: Wallet | None
    stores: Stores
    executor: Executor
    promise: Promise | None
    promised: list[VerifiedBatch]
    """The batches of the promise's proposals."""
    vault: EnvelopeStore
    shares: ShareVault
    releases: ReleaseJournal


def open_parts(config: Config, open_them: OpenStores, stack: ExitStack) -> Parts:
    """Open a node's files; `stack` closes them. Raises Refused `config.*`, `store.*`, `promise.*`, `wallet.*`."""
    genesis = read_genesis(config)
    key = load_node_key(config.key_path)
    wallet = _wallet(config)
    stores = open_them(config, promise_owner(genesis.chain_id, key.public), stack)
    promise, promised = recall(stores.promises, genesis.chain_id)
    return Parts(
        genesis=genesis,
        key=key,
        token=load_token(config.token_path),
        wallet=wallet,
        stores=stores,
        executor=Executor(
            ChainStore(stores.chain, genesis.chain_id, node_cache_bytes=config.storage.trie_cache_bytes),
            default_registry(),
        ),
        promise=promise,
        promised=promised,
        vault=open_envelopes(config, stores.vault, stack),
        shares=ShareVault(stores.shares),
        releases=ReleaseJournal(stores.shares),
    )


def refill(
    pool: Mempool, executor: Executor, promise: Promise | None, promised: Sequence[VerifiedBatch]
) -> None:
    """Put the batches of the promised proposals at hand in a new pool: whoever missed them will ask this node."""
    context = executor.context
    if promise is None or promise.height < context.height:
        return
    pool.pin(promised, promise.height)
    for batch in promised:
        spent = is_spent(batch, context.parent.time_ms, executor.seen)
        light = pool.weight(batch) <= BATCH_WEIGHT_MAX
        if light and not spent and pool.may_add(batch.author, len(batch.raw)):
            pool.add_batch(batch, context.height)


def _wallet(config: Config) -> Wallet | None:
    section = config.custodian
    if not section.wallet_file:
        return None
    if section.passphrase_file:
        passphrase = read_secret(config.folder / section.passphrase_file)
    else:
        passphrase = os.environ.get(PASSPHRASE_VARIABLE, "")
        if not passphrase:
            raise Refused(
                "config.missing", f"[custodian] names a wallet, but neither a file nor {PASSPHRASE_VARIABLE}"
            )
    return load(Path(config.folder / section.wallet_file), passphrase)
