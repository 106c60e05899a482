"""A local cluster's files: whole or not at all, ports that fit together, addresses for containers."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from consilium.ledger.errors import Refused
from consilium.node import cluster, founding
from consilium.node.ports import LOOPBACK

COMPOSE = Path(__file__).resolve().parents[3] / "compose.yaml"


def test_every_node_knows_the_others(tmp_path: Path) -> None:
    nodes = cluster.create_cluster(tmp_path / "demo", 3, settings={"consensus": {"view_timeout_ms": 700}})
    configs = [node.config() for node in nodes]
    addresses = {f"{LOOPBACK}:{config.p2p.port}" for config in configs}
    assert len(addresses) == 3
    for config in configs:
        own = f"{LOOPBACK}:{config.p2p.port}"
        assert {peer.address for peer in config.p2p.peers} == addresses - {own}
        assert config.consensus.view_timeout_ms == 700
        assert (config.data_dir / "chain").is_dir()
    genesis = cluster.cluster_genesis(tmp_path / "demo")
    assert {v.institution for v in genesis.validators} == {node.card().institution for node in nodes}
    assert cluster.open_cluster(tmp_path / "demo") == nodes


def test_a_cluster_is_whole_or_not_there(tmp_path: Path) -> None:
    def fail(step: str) -> None:
        if step == "node-1: stores":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster.create_cluster(tmp_path / "demo", 2, progress=fail)
    assert list((tmp_path / "demo").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    cluster.create_cluster(tmp_path / "demo", 1)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "file").write_text("mine")
    with pytest.raises(Refused) as refused:
        cluster.create_cluster(tmp_path / "demo", 1)
    assert refused.value.code == "founding.folder_taken"
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["file"]


@pytest.mark.parametrize("nodes", [0, 61])
def test_the_number_of_nodes_is_bounded(tmp_path: Path, nodes: int) -> None:
    with pytest.raises(Refused) as refused:
        cluster.create_cluster(tmp_path / "demo", nodes)
    assert refused.value.code == "founding.bad_cards"


def test_for_containers_each_node_is_a_host(tmp_path: Path) -> None:
    command = re.search(r"consilium cluster create \S+ --nodes (\d+) --hosts '([^']+)'", COMPOSE.read_text())
    assert command is not None
    count, hosts = int(command[1]), command[2]
    nodes = cluster.create_cluster(tmp_path / "demo", count, hosts=hosts)
    services = re.findall(r"^  (node-\d+):$", COMPOSE.read_text(), flags=re.MULTILINE)
    assert services == [hosts.format(index) for index in range(count)]
    for index, node in enumerate(nodes):
        config = node.config()
        assert (config.p2p.host, config.p2p.port, config.rpc.port) == ("0.0.0.0", 7100, 7200)
        expected = [f"{name}:7100" for place, name in enumerate(services) if place != index]
        assert [peer.address for peer in config.p2p.peers] == expected
    with pytest.raises(Refused) as refused:
        cluster.create_cluster(tmp_path / "other", 2, hosts="node")
    assert refused.value.code == "founding.bad_address"


def test_taken_ports_are_left_and_everybody_is_told(tmp_path: Path) -> None:
    nodes = cluster.create_cluster(tmp_path / "demo", 2)
    before = [node.config() for node in nodes]
    path = nodes[0].path / founding.CONFIG_FILE
    path.write_text(path.read_text() + "\n# a line of mine\n")
    with socket.create_server((LOOPBACK, before[0].p2p.port)):
        with pytest.raises(Refused) as refused:
            cluster._settle_ports(nodes, [nodes[0]])
        assert refused.value.code == "cluster.port_taken"
        cluster._settle_ports(nodes, nodes)
    after = [node.config() for node in nodes]
    assert after[0].p2p.port != before[0].p2p.port
    assert (after[1].p2p.port, after[1].rpc.port) == (before[1].p2p.port, before[1].rpc.port)
    (known,) = after[1].p2p.peers
    assert known.address == f"{LOOPBACK}:{after[0].p2p.port}"
    assert "# a line of mine" in path.read_text()


def test_free_ports_are_kept(tmp_path: Path) -> None:
    nodes = cluster.create_cluster(tmp_path / "demo", 2)
    before = [(node.path / founding.CONFIG_FILE).read_bytes() for node in nodes]
    cluster._settle_ports(nodes, nodes)
    assert [(node.path / founding.CONFIG_FILE).read_bytes() for node in nodes] == before


@pytest.mark.parametrize("missing", ["genesis.json", "node-0/consilium.toml"])
def test_half_a_cluster_is_none(tmp_path: Path, missing: str) -> None:
    cluster.create_cluster(tmp_path / "demo", 2)
    (tmp_path / "demo" / missing).unlink()
    with pytest.raises(Refused) as refused:
        cluster.open_cluster(tmp_path / "demo")
    assert refused.value.code == "cluster.missing"
