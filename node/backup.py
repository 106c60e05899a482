"""Backup of a node, running or not, and restore on an empty disk.

The chain is copied from a snapshot, and the vault and the shares from snapshots taken after it: what an anchor names
was durable before the anchor, so it is in the copy. The promise is never copied: it is this validator's word, and a
disk that brings back an older word could break it. So a restored validator starts as one that knows no word of its
own (docs/consensus.md, "Restart"), on a chain that is older than the network's, and catches up before it speaks.

Restore writes beside the data folder, checks everything, and then renames in one step: it is there whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.genesis import Genesis, genesis_block
from consilium.node import stores
from consilium.node.backup_format import STORES, BackupReader, Head, Summary, write_backup
from consilium.node.config import Config
from consilium.node.config_sections import PORTS_FILE
from consilium.node.files import load_node_key
from consilium.node.promises import promise_owner
from consilium.node.stores import Stores
from consilium.storage import schema, verify
from consilium.storage.chain import ChainStore
from consilium.storage.envelopes import check_all
from consilium.storage.height import TIP_BYTES_MAX, Tip
from consilium.storage.kv import KeyValue, KeyValueReader, Write
from consilium.storage.leveldb import LevelKV
from consilium.storage.promise import PromiseStore
from consilium.storage.shares import SHARES_FORMAT, ShareVault

RESTORING_SUFFIX: Final = ".restoring"
_FORMATS: Final = (schema.STORE_FORMAT, schema.VAULT_FORMAT, SHARES_FORMAT)
_FOLDERS: Final = (stores.CHAIN_FOLDER, stores.VAULT_FOLDER, stores.SHARES_FOLDER)

Progress = Callable[[str, int], None]


def backup(opened: Stores, genesis: Genesis, key: SigningKey, now_ms: int) -> Iterator[bytes]:
    """The pieces of a backup of these stores, which may be written to meanwhile. Blocks: iterate in a thread.

    Raises InvariantBroken where the disk fails. Close the generator to let the snapshots go.
    """
    with ExitStack() as stack:
        chain = stack.enter_context(opened.chain.snapshot())
        others = [stack.enter_context(store.snapshot()) for store in (opened.vault, opened.shares)]
        tip = _tip(chain)
        head = Head(genesis.chain_id, key.public, tip.height, tip.block_hash, now_ms, list(_FORMATS))
        sources = [chain, *others]
        yield from write_backup(
            head, ((place, source.iterate(b"")) for place, source in enumerate(sources)), key
        )


def backup_stopped(config: Config, now_ms: int) -> Iterator[bytes]:
    """As `backup`, of a node that does not run. Raises Refused `store.locked` while it does, `store.*`, `config.*`."""
    genesis, key = stores.read_genesis(config), load_node_key(config.key_path)
    with ExitStack() as stack:
        opened = stores.open_stores(config, promise_owner(genesis.chain_id, key.public), stack)
        yield from backup(opened, genesis, key, now_ms)


def restore(config: Config, source: BinaryIO, progress: Progress = lambda what, done: None) -> Summary:
    """Put a backup of this very node in place of its missing data. Blocks, for long.

    Raises Refused, with nothing left behind: `backup.*`, `store.exists`, `store.corrupt`, `store.newer_format`,
    `store.older_format`, `store.wrong_chain`, `config.*`.
    """
    genesis, key = stores.read_genesis(config), load_node_key(config.key_path)
    _require_vacant(config.data_dir)
    reader = BackupReader(source)
    _check_head(reader.head, genesis, key)
    work = config.data_dir.with_name(config.data_dir.name + RESTORING_SUFFIX)
    shutil.rmtree(work, ignore_errors=True)  # of a restore that was killed
    try:
        summary = _write_stores(work, reader, progress)
        _check_restored(config, work, genesis, summary, progress)
        PromiseStore(
            work / stores.PROMISE_FOLDER, promise_owner(genesis.chain_id, key.public), create=True
        ).close()
        _put_in_place(work, config.data_dir)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return summary


def check_stores(config: Config, progress: Progress = lambda what, done: None) -> dict[str, int | str]:
    """Read and recompute all that a stopped node keeps. Returns height and hash of its last block, which is certified,
    rows of the chain's store, envelopes and shares.

    Raises Refused `store.*`, `promise.*`, `config.*`.
    """
    genesis, key = stores.read_genesis(config), load_node_key(config.key_path)
    with ExitStack() as stack:
        stores.open_stores(config, promise_owner(genesis.chain_id, key.public), stack)
    with ExitStack() as stack:
        levels = [LevelKV(config.data_dir / folder) for folder in _FOLDERS]
        for level in levels:
            stack.callback(level.close)
        rows = [level.check() for level in levels]
        tip = _check_contents(config, levels, genesis, progress)
    return {
        "height": tip.height,
        "tip_hash": tip.block_hash.hex(),
        "rows": rows[0],
        "envelopes": rows[1],
        "shares": rows[2],
    }


def _tip(chain: KeyValueReader) -> Tip:
    raw = chain.get(schema.TIP)
    if raw is None:
        raise InvariantBroken("the store has no tip")
    return codec.decode(raw, Tip, TIP_BYTES_MAX)


def _require_vacant(data_dir: Path) -> None:
    if data_dir.exists():
        found = sorted(path.name for path in data_dir.iterdir() if path.name != PORTS_FILE)
        if found:
            raise Refused("store.exists", f"{data_dir} holds {', '.join(found)}; move it away first")


def _check_head(head: Head, genesis: Genesis, key: SigningKey) -> None:
    if head.chain_id != genesis.chain_id:
        raise Refused("backup.wrong_chain", f"it is of chain {head.chain_id.hex()[:16]}")
    if head.node != key.public:
        raise Refused("backup.wrong_node", f"it is of node {head.node.hex()[:16]}")
    for name, found, known in zip(STORES, head.formats, _FORMATS, strict=True):
        if found != known:
            code = "store.newer_format" if found > known else "store.older_format"
            raise Refused(code, f"its {name} has format {found}; this program has {known}")


def _write_stores(work: Path, reader: BackupReader, progress: Progress) -> Summary:
    with ExitStack() as stack:
        opened: list[KeyValue] = []
        for folder in _FOLDERS:
            level = LevelKV(work / folder, create=True)
            stack.callback(level.close)
            opened.append(level)
        done = 0
        for place, rows in reader.rows():
            writes: list[Write] = list(rows)
            opened[place].write(writes, sync=False)
            done += len(rows)
            progress("rows", done)
        for store in opened:
            store.write([], sync=True)
    if reader.summary is None:
        raise InvariantBroken("a backup was read to its end, and has none")
    return reader.summary


def _check_restored(
    config: Config, work: Path, genesis: Genesis, summary: Summary, progress: Progress
) -> None:
    """Open what was written, and recompute what it is committed to."""
    with ExitStack() as stack:
        levels = [LevelKV(work / folder) for folder in _FOLDERS]
        for level in levels:
            stack.callback(level.close)
        tip = ChainStore(levels[0], genesis.chain_id).tip
        if (tip.height, tip.block_hash) != (summary.head.height, summary.head.tip_hash):
            raise Refused("backup.damaged", "its chain does not end where its head says")
        _check_contents(config, levels, genesis, progress)


def _check_contents(config: Config, levels: Sequence[LevelKV], genesis: Genesis, progress: Progress) -> Tip:
    """Chain, vault and shares, open. Returns the tip."""
    chain = ChainStore(levels[0], genesis.chain_id)
    try:
        verify.check_chain(chain, genesis_block(genesis).header, lambda done, _: progress("headers", done))
    except InvariantBroken as broken:
        raise Refused("store.corrupt", str(broken)) from None
    with ExitStack() as stack:
        envelopes = stores.open_envelopes(config, levels[1], stack)
        damaged = check_all(envelopes, lambda done: progress("envelopes", done))
    if damaged:
        raise Refused("store.corrupt", f"{len(damaged)} envelopes are damaged, {damaged[0].hex()} first")
    ShareVault(levels[2])
    return chain.tip


def _put_in_place(work: Path, data_dir: Path) -> None:
    for folder in (work, *(path for path in work.iterdir() if path.is_dir())):
        _sync_folder(folder)
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / PORTS_FILE).unlink(missing_ok=True)
    data_dir.rmdir()
    work.rename(data_dir)
    _sync_folder(data_dir.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
