"""Which nodes `--custodian` means, and what import says when it stops."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from consilium.ledger.errors import Refused
from consilium.node.cli import custody, taking
from consilium.node.cli.consent import _classes
from consilium.node.cli.inputs import Target, target
from consilium.node.cli.main import app
from consilium.node.cluster import open_cluster
from consilium.node.config import write_ports


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    assert CliRunner().invoke(app, ["cluster", "create", str(folder), "--nodes", "3"]).exit_code == 0
    for node in open_cluster(folder)[:2]:  # the third never ran
        write_ports(node.config(), {"p2p": 1, "rpc": 7000 + node.index})
    return folder


URLS = ["http://127.0.0.1:7000", "http://127.0.0.1:7001"]


def test_a_clusters_folder_means_its_running_nodes(cluster: Path) -> None:
    node = Target("http://elsewhere")
    found = custody.custodian_targets([str(cluster)], node)
    assert [one.url for one in found] == URLS
    assert all(one.token for one in found)


def test_without_a_name_the_nodes_beside_are_meant(cluster: Path) -> None:
    beside = custody.custodian_targets(None, target(str(cluster / "node-0")))
    assert [one.url for one in beside] == URLS
    assert custody.custodian_targets(None, Target("http://elsewhere")) == []


def test_custodians_are_named_one_by_one_and_counted_once(cluster: Path) -> None:
    named = ["https://a.example", str(cluster / "node-1"), "https://a.example"]
    found = custody.custodian_targets(named, target(str(cluster / "node-0")))
    assert [(one.url, one.token is not None) for one in found] == [
        ("https://a.example", False),
        (URLS[1], True),
    ]
    with pytest.raises(Refused):  # who is named must be there
        custody.custodian_targets([str(cluster / "node-2")], Target("http://elsewhere"))
    with pytest.raises(Refused, match=r"cli\.bad_value"):
        custody.custodian_targets([f"http://{n}" for n in range(65)], Target("http://elsewhere"))


def test_what_is_said_ends_as_a_sentence() -> None:
    assert taking.said(Refused("bundle.empty", "no entries")) == "no entries."
    assert taking.said(Refused("bundle.empty", "no entries.")) == "no entries."
    assert taking.said(Refused("bundle.empty")).endswith(".")


def test_classes_are_named_by_the_network() -> None:
    assert _classes(["hiv", "general", "hiv"]) == [0, 3]
    assert _classes(["general", "all"]) is None
    with pytest.raises(Refused, match=r"cli\.bad_value"):
        _classes(["secret"])
