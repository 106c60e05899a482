"""A node's stores on disk: where they lie, how they are made, opened, and begun anew.

Four folders below the node's data folder, which fail apart from each other (docs/storage.md). Nothing here knows what
runs on them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consilium.client.envelope import envelope_digest, envelope_hasher
from consilium.contracts.registry import default_registry
from consilium.ledger.errors import Refused
from consilium.ledger.execution import execute_genesis
from consilium.ledger.genesis import GENESIS_BYTES_MAX, Genesis, genesis_block, genesis_from_json
from consilium.ledger.state import MemoryState
from consilium.node.config import Config
from consilium.node.files import load_node_key, read_bounded, read_secret, sync_folder
from consilium.node.promises import promise_owner
from consilium.storage import schema
from consilium.storage.chain import create_chain
from consilium.storage.envelopes import EnvelopeStore
from consilium.storage.kv import KeyValue
from consilium.storage.leveldb import LevelKV, folder_lock
from consilium.storage.migration import Progress, migrate
from consilium.storage.object_store import Bucket, BucketAddress
from consilium.storage.promise import Promises, PromiseStore
from consilium.storage.s3 import S3Vault
from consilium.storage.shares import ShareVault
from consilium.storage.vault import Vault

CHAIN_FOLDER: Final = "chain"
PROMISE_FOLDER: Final = "promise"
VAULT_FOLDER: Final = "vault"
SHARES_FOLDER: Final = "shares"
SYNCING_FOLDER: Final = "chain.syncing"
"""A chain's store in the making. Its presence says that one is wanted."""
SYNCED_FOLDER: Final = "chain.synced"
"""The same when it is complete: to be put in the chain's place."""
VAULT_BUFFER_BYTES: Final = 16 * 1024 * 1024
SHARES_BUFFER_BYTES: Final = 1024 * 1024
ASIDE_MAX: Final = 64
LITTLE_HEIGHTS: Final = 1_000


def read_genesis(config: Config) -> Genesis:
    """The network's genesis document. Raises Refused `config.*`, `genesis.malformed`."""
    return genesis_from_json(read_bounded(config.genesis_path, GENESIS_BYTES_MAX))


def init_stores(config: Config) -> None:
    """Make the stores of a new node: the chain with its genesis block executed, promise, vault and shares.

    Raises Refused `store.exists` where there is something already, `genesis.malformed`, `config.*`.
    """
    genesis = read_genesis(config)
    key = load_node_key(config.key_path)
    outcome = execute_genesis(genesis, MemoryState(), default_registry())
    folder = config.data_dir
    with ExitStack() as stack:
        chain = LevelKV(folder / CHAIN_FOLDER, create=True)
        stack.callback(chain.close)
        create_chain(chain, genesis_block(genesis), outcome, genesis.validator_set)
        vault = LevelKV(folder / VAULT_FOLDER, create=True, write_buffer_bytes=VAULT_BUFFER_BYTES)
        stack.callback(vault.close)
        Vault(vault, envelope_digest, create=True)
        shares = LevelKV(folder / SHARES_FOLDER, create=True, write_buffer_bytes=SHARES_BUFFER_BYTES)
        stack.callback(shares.close)
        ShareVault(shares, create=True)
        owner = promise_owner(genesis.chain_id, key.public)
        stack.callback(PromiseStore(folder / PROMISE_FOLDER, owner, create=True).close)


@dataclass(frozen=True, slots=True)
class Stores:
    """What a node keeps on disk, open."""

    chain: KeyValue
    promises: Promises
    vault: KeyValue
    shares: KeyValue


def open_stores(config: Config, owner: bytes, stack: ExitStack) -> Stores:
    """Open a node's stores; `stack` closes them. `owner` is `promise_owner`'s.

    Raises Refused `store.*`, `promise.*`.
    """
    folder = config.data_dir
    section = config.storage
    install_synced(config)
    chain = LevelKV(
        folder / CHAIN_FOLDER,
        write_buffer_bytes=section.write_buffer_bytes,
        cache_bytes=section.cache_bytes,
    )
    stack.callback(chain.close)
    vault = LevelKV(folder / VAULT_FOLDER, write_buffer_bytes=VAULT_BUFFER_BYTES)
    stack.callback(vault.close)
    shares = LevelKV(folder / SHARES_FOLDER, write_buffer_bytes=SHARES_BUFFER_BYTES)
    stack.callback(shares.close)
    promises = PromiseStore(folder / PROMISE_FOLDER, owner)
    stack.callback(promises.close)
    return Stores(chain, promises, vault, shares)


def open_envelopes(config: Config, store: KeyValue, stack: ExitStack) -> EnvelopeStore:
    """The institution's envelopes: in the vault's own store, or in an object store with that as its index.

    Raises Refused `store.*`, `vault.no_client`, `vault.unavailable`, `config.*`.
    """
    section = config.s3
    if not section.bucket:
        return Vault(store, envelope_digest, hasher=envelope_hasher)
    address = BucketAddress(
        endpoint=section.endpoint,
        region=section.region,
        bucket=section.bucket,
        prefix=section.prefix,
        access_key_id=section.access_key_id,
        secret_access_key=read_secret(config.folder / section.secret_file),
    )
    bucket = Bucket(address)
    stack.callback(bucket.close)
    return S3Vault(store, bucket, envelope_hasher)


OpenStores = Callable[[Config, bytes, ExitStack], Stores]


def renew_stores(config: Config) -> list[Path]:
    """Begin the chain anew from genesis, in place of a damaged store; the node synchronises from its peers afterwards.

    The old store is set aside, not deleted: it may be evidence. The promise stays, since it is this validator's word,
    unless it is damaged too: then it is set aside as well, and the node is one that knows of no word it gave (the
    restart rule of consensus, docs/consensus.md). Vault and shares stay: nobody can be asked for them. Returns what
    was set aside. Raises Refused `store.locked` while the node runs, `genesis.malformed`, `config.*`.
    """
    genesis = read_genesis(config)
    owner = promise_owner(genesis.chain_id, load_node_key(config.key_path).public)
    outcome = execute_genesis(genesis, MemoryState(), default_registry())
    aside: list[Path] = []
    promise = config.data_dir / PROMISE_FOLDER
    try:
        PromiseStore(promise, owner).close()
    except Refused as refusal:
        if refusal.code not in ("promise.corrupt", "promise.missing"):
            raise
        aside += _set_aside(promise)
        PromiseStore(promise, owner, create=True).close()
    chain = config.data_dir / CHAIN_FOLDER
    with folder_lock(chain):
        aside += _set_aside(chain)
    store = LevelKV(chain, create=True)
    try:
        create_chain(store, genesis_block(genesis), outcome, genesis.validator_set)
    finally:
        store.close()
    return aside


def migrate_stores(config: Config, progress: Progress) -> list[int]:
    """Bring a stopped node's chain to the present format. Returns the formats that it had.

    Raises Refused `store.*`: `store.locked` while the node runs, `store.newer_format`, `store.older_format`.
    """
    install_synced(config)
    store = LevelKV(config.data_dir / CHAIN_FOLDER)
    try:
        return migrate(store, progress)
    finally:
        store.close()


def request_staging(config: Config) -> None:
    """See that the node begins with a snapshot at its next start, or goes on fetching one."""
    if not is_staging(config):
        LevelKV(config.data_dir / SYNCING_FOLDER, create=True).close()


def is_staging(config: Config) -> bool:
    """Whether a snapshot is wanted, or half fetched."""
    return (config.data_dir / SYNCING_FOLDER).exists()


def open_staging(config: Config) -> KeyValue:
    """The chain's store in the making, as far as it is; one that another program began, or that a crash damaged, is
    begun anew. Raises Refused `store.*`."""
    folder = config.data_dir / SYNCING_FOLDER
    if folder.exists():
        try:
            store = LevelKV(folder, write_buffer_bytes=config.storage.write_buffer_bytes)
        except Refused as refusal:
            if refusal.code not in ("store.corrupt", "store.missing"):
                raise
        else:
            try:
                if store.get(schema.SYNC_FORMAT) is not None:
                    schema.check_format(store, schema.STORE_FORMAT, schema.SYNC_FORMAT)
                return store
            except Refused:
                store.close()
        shutil.rmtree(folder)
    return LevelKV(folder, create=True, write_buffer_bytes=config.storage.write_buffer_bytes)


def drop_staging(config: Config) -> None:
    """Forget what was fetched of a snapshot: it is not wanted any more."""
    shutil.rmtree(config.data_dir / SYNCING_FOLDER)


def complete_staging(config: Config) -> None:
    """The store in the making is whole, synced and closed: say so by its name, durably."""
    (config.data_dir / SYNCING_FOLDER).rename(config.data_dir / SYNCED_FOLDER)
    sync_folder(config.data_dir)


def install_synced(config: Config) -> None:
    """Put a chain that came as a snapshot in the place of the old one, where there is such a one: after a crash, too.

    The old one is set aside, unless it is shorter than LITTLE_HEIGHTS. Raises Refused `store.locked`.
    """
    synced, chain = config.data_dir / SYNCED_FOLDER, config.data_dir / CHAIN_FOLDER
    if not synced.exists():
        return
    if _holds_little(chain):
        shutil.rmtree(chain)
    with folder_lock(chain):
        _set_aside(chain, "before-snapshot")
    synced.rename(chain)
    sync_folder(config.data_dir)


def _holds_little(folder: Path) -> bool:
    """Whether a sound chain is so short that nobody misses it: a newcomer's that began before it knew better."""
    try:
        store = LevelKV(folder)
    except Refused as refusal:
        if refusal.code == "store.locked":
            raise
        return False
    try:
        long = store.get(schema.at_height(schema.BLOCK, LITTLE_HEIGHTS)) is not None
        return store.get(schema.TIP) is not None and not long
    finally:
        store.close()


def _set_aside(folder: Path, why: str = "damaged") -> list[Path]:
    """Rename a folder to the first free name after its own."""
    if not folder.exists():
        return []
    numbers = range(1, ASIDE_MAX + 1)
    free = next(
        (p for n in numbers if not (p := folder.with_name(f"{folder.name}.{why}-{n}")).exists()), None
    )
    if free is None:
        raise Refused("store.exists", f"{ASIDE_MAX} copies of {folder} are kept already; move them away")
    folder.rename(free)
    return [free]
