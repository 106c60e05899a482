"""The last look, at the stores of a cluster that has stopped: no node is asked, everything is read from its disk."""

from __future__ import annotations

from pathlib import Path

from consilium.client.envelope import envelope_digest
from consilium.ledger.errors import Refused
from consilium.node.cluster import NodeFolder
from consilium.node.stores import CHAIN_FOLDER, VAULT_FOLDER
from consilium.storage.chain import ChainStore
from consilium.storage.leveldb import LevelKV
from consilium.storage.vault import Vault
from scripts.crash_matrix.load import Acknowledged
from scripts.crash_matrix.report import Report


def audit(nodes: list[NodeFolder], chain_id: bytes, acknowledged: Acknowledged, report: Report) -> None:
    """Every acknowledged commit on every node, where it was said to be; one block per height; every envelope."""
    report.acknowledged_commits = len(acknowledged.commits)
    report.acknowledged_envelopes = len(acknowledged.envelopes)
    chains: list[list[bytes]] = []
    for node in nodes:
        data = node.config().data_dir
        chains.append(_chain(node.name, data / CHAIN_FOLDER, chain_id, acknowledged, report))
        _vault(node, data / VAULT_FOLDER, acknowledged, report)
    shortest = min(len(chain) for chain in chains)
    report.blocks = shortest
    for node, chain in zip(nodes, chains, strict=True):
        for height in range(shortest):
            if chain[height] != chains[0][height]:
                report.violated(f"{node.name} has another block at height {height}: a fork")
                break


def _chain(
    name: str, folder: Path, chain_id: bytes, acknowledged: Acknowledged, report: Report
) -> list[bytes]:
    level = LevelKV(folder)
    try:
        level.check()
        store = ChainStore(level, chain_id)
        top = max(acknowledged.commits.values(), default=0)
        if store.tip.height < top:
            report.violated(f"{name} ended at height {store.tip.height}, below {top}")
        for transaction, height in acknowledged.commits.items():
            place = store.place_of(transaction)
            if height <= store.tip.height and (place is None or place.height != height):
                report.lost_commits += 1
                report.violated(f"{name} lost {transaction.hex()}, acknowledged at height {height}")
        return [store.header(height).hash for height in range(store.tip.height + 1)]
    except Refused as refusal:
        report.violated(f"{name}: {refusal}")
        return []
    finally:
        level.close()


def _vault(node: NodeFolder, folder: Path, acknowledged: Acknowledged, report: Report) -> None:
    level = LevelKV(folder)
    try:
        vault = Vault(level, envelope_digest)
        for index, digest in acknowledged.envelopes:
            if index == node.index and vault.get(digest) is None:
                report.lost_envelopes += 1
                report.violated(f"{node.name} lost the envelope {digest.hex()}")
    finally:
        level.close()
