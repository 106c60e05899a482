"""A node's stores: opened whole, begun anew beside what was damaged; envelopes where the configuration says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from consilium.ledger.errors import Refused
from consilium.node import cluster, stores
from consilium.node.config import Config, load_config
from consilium.node.files import create_secret, load_node_key
from consilium.node.founding import CONFIG_FILE
from consilium.node.promises import promise_owner
from consilium.node.stores import (
    CHAIN_FOLDER,
    PROMISE_FOLDER,
    SYNCED_FOLDER,
    SYNCING_FOLDER,
    open_envelopes,
    open_stores,
    read_genesis,
    renew_stores,
)
from consilium.storage import schema
from consilium.storage.chain import ChainStore
from consilium.storage.leveldb import LevelKV
from consilium.storage.object_store import BucketAddress
from consilium.storage.s3 import S3Vault
from consilium.storage.vault import Vault
from tests.unit.storage.test_migration import as_format_1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "cluster"
    config = cluster.create_cluster(folder, 1)[0].config()
    with ExitStack() as stack:
        open_stores(config, owner_of(config), stack).promises.save(b"a word that was given")
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


def word_of(config: Config) -> bytes | None:
    with ExitStack() as stack:
        opened = open_stores(config, owner_of(config), stack)
        assert ChainStore(opened.chain, read_genesis(config).chain_id).tip.height == 0
        return opened.promises.load().votes


def test_a_damaged_chain_is_set_aside_and_the_word_stays(config: Config) -> None:
    chain = config.data_dir / CHAIN_FOLDER
    (chain / "CURRENT").write_bytes(b"nonsense\n")
    with ExitStack() as stack:
        assert refusal(lambda: open_stores(config, owner_of(config), stack)) == "store.corrupt"
    assert [path.name for path in renew_stores(config)] == ["chain.damaged-1"]
    assert (config.data_dir / "chain.damaged-1" / "CURRENT").read_bytes() == b"nonsense\n"
    assert word_of(config) == b"a word that was given"
    assert [path.name for path in renew_stores(config)] == ["chain.damaged-2"]


def test_a_missing_chain_is_made(config: Config) -> None:
    shutil.rmtree(config.data_dir / CHAIN_FOLDER)
    assert renew_stores(config) == []
    assert word_of(config) == b"a word that was given"


def test_a_damaged_word_is_set_aside_too_and_none_is_known(config: Config) -> None:
    votes = config.data_dir / PROMISE_FOLDER / "votes"
    votes.write_bytes(votes.read_bytes()[:-1])
    assert [path.name for path in renew_stores(config)] == ["promise.damaged-1", "chain.damaged-1"]
    assert word_of(config) is None


def test_a_running_nodes_stores_are_left_alone(config: Config) -> None:
    with ExitStack() as stack:
        open_stores(config, owner_of(config), stack)
        assert refusal(lambda: renew_stores(config)) == "store.locked"
    assert word_of(config) == b"a word that was given"


def test_the_copies_are_bounded(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "ASIDE_MAX", 2)
    for _ in range(2):
        renew_stores(config)
    assert refusal(lambda: renew_stores(config)) == "store.exists"
    assert word_of(config) == b"a word that was given"


def test_envelopes_are_where_the_configuration_says(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[BucketAddress] = []

    class NoBucket:
        def __init__(self, address: BucketAddress) -> None:
            asked.append(address)

        def abort_all(self) -> int:
            return 0

        def delete(self, names: list[str]) -> None:
            assert names == []

        def close(self) -> None:
            asked.append(asked[0])

    monkeypatch.setattr(stores, "Bucket", NoBucket)
    path = config.folder / CONFIG_FILE
    with ExitStack() as stack:
        opened = open_stores(config, owner_of(config), stack)
        assert isinstance(open_envelopes(config, opened.vault, stack), Vault)
        text = path.read_text("utf-8").replace(
            "[s3]", '[s3]\nbucket = "b"\nendpoint = "http://127.0.0.1:9"\nprefix = "p/"\naccess_key_id = "k"'
        )
        path.write_text(text, "utf-8")
        changed = load_config(path)
        assert refusal(lambda: open_envelopes(changed, opened.vault, stack)).startswith("config.")
        create_secret(config.folder / "s3.secret", "very secret")
        assert isinstance(open_envelopes(changed, opened.vault, stack), S3Vault)
        assert asked == [BucketAddress("http://127.0.0.1:9", "us-east-1", "b", "p/", "k", "very secret")]
    assert len(asked) == 2  # and closed


# --- a chain that comes as a snapshot -------------------------------------------------------------------------------


def write_row(folder: Path, key: bytes, value: bytes) -> None:
    store = LevelKV(folder)
    store.write([(key, value)], sync=True)
    store.close()


def mark_of(config: Config) -> bytes | None:
    """A row that tells one store from another."""
    store = LevelKV(config.data_dir / CHAIN_FOLDER)
    try:
        return store.get(b"mark")
    finally:
        store.close()


def staged(config: Config) -> None:
    """A store in the making that could be put in the chain's place."""
    shutil.copytree(config.data_dir / CHAIN_FOLDER, config.data_dir / SYNCING_FOLDER)
    write_row(config.data_dir / SYNCING_FOLDER, b"mark", b"synced")


def folders(config: Config) -> set[str]:
    return {path.name for path in config.data_dir.iterdir() if path.name.startswith("chain")}


def test_a_complete_one_takes_the_place_of_a_short_chain(config: Config) -> None:
    staged(config)
    assert stores.is_staging(config)
    stores.complete_staging(config)
    assert not stores.is_staging(config)
    assert folders(config) == {CHAIN_FOLDER, SYNCED_FOLDER}
    with ExitStack() as stack:
        assert open_stores(config, owner_of(config), stack).chain.get(b"mark") == b"synced"
    assert folders(config) == {CHAIN_FOLDER}


@pytest.mark.parametrize("old", ["long", "damaged", "gone"])
def test_a_chain_that_somebody_may_miss_is_set_aside(config: Config, old: str) -> None:
    chain = config.data_dir / CHAIN_FOLDER
    staged(config)
    if old == "long":
        write_row(chain, schema.at_height(schema.BLOCK, stores.LITTLE_HEIGHTS), b"a block")
    elif old == "damaged":
        (chain / "CURRENT").write_bytes(b"nonsense\n")
    else:  # the crash came between the two renamings
        shutil.rmtree(chain)
    stores.complete_staging(config)
    stores.install_synced(config)
    stores.install_synced(config)
    assert mark_of(config) == b"synced"
    assert folders(config) == {CHAIN_FOLDER} | ({"chain.before-snapshot-1"} if old != "gone" else set())


def test_what_is_half_fetched_never_takes_its_place(config: Config) -> None:
    staged(config)
    stores.install_synced(config)
    assert mark_of(config) is None
    stores.drop_staging(config)
    assert folders(config) == {CHAIN_FOLDER}


def test_a_running_nodes_chain_is_not_replaced(config: Config) -> None:
    staged(config)
    stores.complete_staging(config)
    with LockedChain(config):
        assert refusal(lambda: stores.install_synced(config)) == "store.locked"
    assert folders(config) == {CHAIN_FOLDER, SYNCED_FOLDER}


def test_a_request_is_kept_until_it_is_fulfilled(config: Config) -> None:
    stores.request_staging(config)
    stores.request_staging(config)
    assert stores.is_staging(config)
    store = stores.open_staging(config)
    store.write(
        [(schema.SYNC_FORMAT, schema.format_bytes(schema.STORE_FORMAT)), (b"mark", b"part")], sync=True
    )
    store.close()
    again = stores.open_staging(config)
    assert again.get(b"mark") == b"part"
    again.close()


@pytest.mark.parametrize("harm", ["another format", "damage"])
def test_what_cannot_be_gone_on_with_is_begun_anew(config: Config, harm: str) -> None:
    folder = config.data_dir / SYNCING_FOLDER
    stores.request_staging(config)
    if harm == "damage":
        (folder / "CURRENT").write_bytes(b"nonsense\n")
    else:
        write_row(folder, schema.SYNC_FORMAT, schema.format_bytes(schema.STORE_FORMAT + 1))
    store = stores.open_staging(config)
    assert next(iter(store.iterate(b"")), None) is None
    store.close()


class LockedChain:
    """The chain's store, open elsewhere."""

    def __init__(self, config: Config) -> None:
        self._store = LevelKV(config.data_dir / CHAIN_FOLDER)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        self._store.close()


def test_a_chain_of_an_older_format_is_brought_up(config: Config) -> None:
    chain_id = read_genesis(config).chain_id
    store = LevelKV(config.data_dir / CHAIN_FOLDER)
    good = dict(store.iterate(b""))
    old = as_format_1(store, chain_id)
    store.write([*((key, None) for key in good), *old.items()], sync=True)
    store.close()
    with ExitStack() as stack:
        opened = open_stores(config, owner_of(config), stack)
        assert refusal(lambda: ChainStore(opened.chain, chain_id)) == "store.older_format"
    assert stores.migrate_stores(config, lambda done, total: None) == [1, 2]
    assert stores.migrate_stores(config, lambda done, total: None) == []
    assert word_of(config) == b"a word that was given"
    store = LevelKV(config.data_dir / CHAIN_FOLDER)
    assert dict(store.iterate(b"")) == good
    store.close()
