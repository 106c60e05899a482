"""Backups: what goes in comes out, whole or not at all, and nothing hostile or foreign gets past the reader."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.client.envelope import envelope_digest
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import genesis_block
from consilium.node import cluster, stores
from consilium.node.backup import backup, backup_stopped, check_stores, restore
from consilium.node.backup_format import (
    BACKUP_VERSION,
    FRAME_BYTES_MAX,
    MAGIC,
    STORES,
    BackupReader,
    Head,
    write_backup,
)
from consilium.node.config import Config
from consilium.node.files import load_node_key
from consilium.node.promises import promise_owner
from consilium.node.stores import open_stores, read_genesis
from consilium.storage import schema
from consilium.storage.promise import PromiseStore
from consilium.storage.shares import ShareVault
from consilium.storage.vault import Vault

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "node" / "backup.json"
KEY = SigningKey(b"n" * 32)
HEAD = Head(b"c" * 32, KEY.public, 7, b"t" * 32, 1, [1, 1, 1])
ENVELOPES = [b"sealed %d" % number * 100 for number in range(40)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backup") / "cluster"
    nodes = cluster.create_cluster(folder, 2)
    config = nodes[0].config()
    with ExitStack() as stack:
        opened = open_stores(config, owner_of(config), stack)
        vault = Vault(opened.vault, envelope_digest)
        vault.put_many([(envelope_digest(one), one) for one in ENVELOPES])
        vault.erase([envelope_digest(ENVELOPES[0])])
        ShareVault(opened.shares).put_share(b"c" * 16, 3, b"parcel")
        opened.promises.save(b"a word that was given")
    return folder


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Config:
    shutil.copytree(made, tmp_path / "cluster")
    return cluster.open_cluster(tmp_path / "cluster")[0].config()


def owner_of(config: Config) -> bytes:
    return promise_owner(read_genesis(config).chain_id, load_node_key(config.key_path).public)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        act()
    return refused.value.code


def archive_of(config: Config) -> bytes:
    return b"".join(backup_stopped(config, 5))


def lose(config: Config) -> None:
    shutil.rmtree(config.data_dir)


def test_everything_comes_back_but_the_promise(config: Config) -> None:
    raw = archive_of(config)
    before = check_stores(config)
    assert before["height"] == 0
    assert before["tip_hash"] == genesis_block(read_genesis(config)).hash.hex()
    lose(config)
    (config.data_dir).mkdir()
    (config.data_dir / "ports.json").write_text("{}")
    summary = restore(config, io.BytesIO(raw))
    assert summary.head.height == 0
    assert check_stores(config) == before
    assert before["shares"] == 2  # the share, and the store's format
    with ExitStack() as stack:
        opened = open_stores(config, owner_of(config), stack)
        vault = Vault(opened.vault, envelope_digest)
        assert [vault.get(envelope_digest(one)) for one in ENVELOPES[1:]] == ENVELOPES[1:]
        assert vault.erased(envelope_digest(ENVELOPES[0]))
        assert ShareVault(opened.shares).share(b"c" * 16, 3) == b"parcel"
        assert opened.promises.load().votes is None


def test_a_backup_of_a_store_that_is_written_to_is_of_one_moment(config: Config) -> None:
    with ExitStack() as stack:
        opened = open_stores(config, owner_of(config), stack)
        key = load_node_key(config.key_path)
        pieces = backup(opened, read_genesis(config), key, 5)
        first = next(pieces)
        Vault(opened.vault, envelope_digest).put_many([(envelope_digest(b"late"), b"late")])
        raw = first + b"".join(pieces)
    lose(config)
    restore(config, io.BytesIO(raw))
    with ExitStack() as stack:
        vault = Vault(open_stores(config, owner_of(config), stack).vault, envelope_digest)
        assert not vault.has(envelope_digest(b"late"))
        assert vault.totals().envelopes == len(ENVELOPES) - 1


def test_a_running_node_cannot_be_opened_beside_itself(config: Config) -> None:
    with ExitStack() as stack:
        open_stores(config, owner_of(config), stack)
        assert refusal(lambda: archive_of(config)) == "store.locked"


def test_what_is_there_is_never_overwritten(config: Config) -> None:
    raw = archive_of(config)
    assert refusal(lambda: restore(config, io.BytesIO(raw))) == "store.exists"
    shutil.rmtree(config.data_dir / stores.CHAIN_FOLDER)
    assert refusal(lambda: restore(config, io.BytesIO(raw))) == "store.exists"
    assert PromiseStore(config.data_dir / stores.PROMISE_FOLDER, owner_of(config)).load().votes is not None


def test_every_cut_and_every_flip_is_refused_and_leaves_nothing(config: Config) -> None:
    raw = archive_of(config)
    lose(config)
    siblings = sorted(config.data_dir.parent.iterdir())
    step = max(1, len(raw) // 60)
    for at in [*range(0, len(raw), step), len(raw) - 1]:
        code = refusal(partial(restore, config, io.BytesIO(raw[:at])))
        assert code == "backup.malformed"
        flipped = raw[:at] + bytes((raw[at] ^ 4,)) + raw[at + 1 :]
        code = refusal(partial(restore, config, io.BytesIO(flipped)))
        assert code.startswith(("backup.", "store.newer_format", "store.older_format")), code
        assert sorted(config.data_dir.parent.iterdir()) == siblings
    assert refusal(lambda: restore(config, io.BytesIO(raw + b"\x00"))) == "backup.malformed"
    assert restore(config, io.BytesIO(raw)).head.height == 0


def test_another_node_another_chain_another_program(config: Config, made: Path, tmp_path: Path) -> None:
    raw = archive_of(config)
    lose(config)
    other = cluster.open_cluster(config.folder.parent)[1].config()
    lose(other)
    assert refusal(lambda: restore(other, io.BytesIO(raw))) == "backup.wrong_node"
    foreign = cluster.create_cluster(tmp_path / "foreign", 1)[0].config()
    lose(foreign)
    assert refusal(lambda: restore(foreign, io.BytesIO(raw))) == "backup.wrong_chain"
    future = MAGIC + bytes((BACKUP_VERSION + 1,)) + raw[8:]
    assert refusal(lambda: restore(config, io.BytesIO(future))) == "backup.newer_version"
    assert not config.data_dir.exists()


def test_a_signed_backup_with_altered_contents_is_found_by_recomputing(config: Config) -> None:
    """Not even the node's own key makes a state good that does not give the root."""
    genesis, key = read_genesis(config), load_node_key(config.key_path)
    with ExitStack() as stack:
        opened = open_stores(config, owner_of(config), stack)
        rows = [list(store.iterate(b"")) for store in (opened.chain, opened.vault, opened.shares)]
        tip_hash = BackupReader(io.BytesIO(b"".join(backup(opened, genesis, key, 5)))).head.tip_hash
    lose(config)
    head = Head(genesis.chain_id, key.public, 0, tip_hash, 1, [schema.STORE_FORMAT, schema.VAULT_FORMAT, 1])

    def altered(place: int, kind: bytes, change: Callable[[bytes], bytes]) -> str:
        at = next(n for n, (found, _) in enumerate(rows[place]) if found[:1] == kind)
        copy = [list(part) for part in rows]
        copy[place][at] = (copy[place][at][0], change(copy[place][at][1]))
        raw = b"".join(write_backup(head, enumerate(copy), key))
        return refusal(lambda: restore(config, io.BytesIO(raw)))

    assert altered(0, schema.STATE, lambda value: value + b"!") == "store.corrupt"
    assert altered(0, schema.STATE, lambda value: value[:1] + b"?" + value[2:]) == "store.corrupt"
    assert altered(0, schema.BLOCK, lambda value: value[:-1]) == "store.corrupt"
    assert altered(0, schema.TIP, lambda value: value[::-1]) == "store.corrupt"
    assert altered(1, schema.ENVELOPE, lambda value: value + b"!") == "store.corrupt"
    assert altered(2, schema.FORMAT, lambda value: b"") == "store.corrupt"
    assert altered(0, schema.FORMAT, lambda value: b"\x00\x00\x00\x09") == "store.newer_format"


def test_a_hole_in_the_chain_is_a_refusal_and_no_crash(config: Config) -> None:
    genesis, key = read_genesis(config), load_node_key(config.key_path)
    with ExitStack() as stack:
        opened = open_stores(config, owner_of(config), stack)
        rows = [list(store.iterate(b"")) for store in (opened.chain, opened.vault, opened.shares)]
    lose(config)
    head = Head(genesis.chain_id, key.public, 0, b"t" * 32, 1, [schema.STORE_FORMAT, schema.VAULT_FORMAT, 1])
    for kind in (schema.TIP, schema.BLOCK, schema.ROOT, schema.VALIDATORS, schema.FORMAT):
        copy = [[row for row in part if row[0][:1] != kind] for part in rows]
        raw = b"".join(write_backup(head, enumerate(copy), key))
        assert refusal(partial(restore, config, io.BytesIO(raw))) in (
            "store.corrupt",
            "backup.damaged",
        )


rows_of_store = st.dictionaries(st.binary(min_size=1, max_size=8), st.binary(max_size=40), max_size=12)


@given(st.tuples(rows_of_store, rows_of_store, rows_of_store))
def test_the_format_gives_back_what_went_in(contents: tuple[dict[bytes, bytes], ...]) -> None:
    rows = [sorted(part.items()) for part in contents]
    raw = b"".join(write_backup(HEAD, enumerate(rows), KEY))
    reader = BackupReader(io.BytesIO(raw))
    found: list[list[tuple[bytes, bytes]]] = [[], [], []]
    for place, part in reader.rows():
        found[place] += part
    assert found == rows
    assert reader.summary is not None
    assert reader.summary.rows == dict(zip(STORES, map(len, rows), strict=True))


def test_the_bytes_of_a_backup_are_what_they_were() -> None:
    """`CONSILIUM_REWRITE_GOLDEN=1` writes the golden file anew; whoever does that owes a version."""
    rows: list[list[tuple[bytes, bytes]]] = [[(b"a", b"1"), (b"b", b"")], [], [(b"k", b"parcel")]]
    raw = b"".join(write_backup(HEAD, enumerate(rows), KEY))
    if os.environ.get("CONSILIUM_REWRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps({"backup": raw.hex()}, indent=2) + "\n")
    assert json.loads(GOLDEN.read_text()) == {"backup": raw.hex()}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_crash_the_reader(noise: bytes, begun: bool) -> None:
    raw = MAGIC + bytes((BACKUP_VERSION,)) + noise if begun else noise

    def read() -> None:
        for _ in BackupReader(io.BytesIO(raw)).rows():
            pass

    assert refusal(read).startswith("backup.")


def test_frames_are_bounded_and_rows_in_order() -> None:
    def read(raw: bytes) -> str:
        return refusal(lambda: list(BackupReader(io.BytesIO(raw)).rows()))

    assert read(MAGIC + b"\x01" + (FRAME_BYTES_MAX + 1).to_bytes(4, "big")) == "backup.malformed"
    for rows in ([(b"b", b""), (b"a", b"")], [(b"a", b""), (b"a", b"")]):
        assert read(b"".join(write_backup(HEAD, [(0, rows)], KEY))) == "backup.malformed"
    unordered = [(1, [(b"a", b"")]), (0, [(b"b", b"")])]
    assert read(b"".join(write_backup(HEAD, unordered, KEY))) == "backup.malformed"
    forged = b"".join(write_backup(HEAD, [], SigningKey(b"x" * 32)))
    assert read(forged) == "backup.damaged"
