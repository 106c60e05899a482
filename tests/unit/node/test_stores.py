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
    open_envelopes,
    open_stores,
    read_genesis,
    renew_stores,
)
from consilium.storage.chain import ChainStore
from consilium.storage.object_store import BucketAddress
from consilium.storage.s3 import S3Vault
from consilium.storage.vault import Vault


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
