"""Observers of a local cluster: nodes of institutions that are no founders, which follow and serve and have no vote.

Their folders stand beside the founders', and every node knows every other one, so that an observer may follow other
observers. A founder lets in whom its configuration names: an observer is added before the founders start.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consilium.node import files, founding
from consilium.node.cluster import PASSPHRASE_BYTES, PASSPHRASE_FILE, NodeFolder, cluster_genesis
from consilium.node.config import read_peers, write_peers
from consilium.node.founding import Place
from consilium.node.ports import LOOPBACK


def add_observers(
    folder: Path,
    nodes: Sequence[NodeFolder],
    ports: Sequence[int],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[NodeFolder]:
    """Make an observer's folder for each two of `ports` (the node's, its RPC's), and tell every node of them.

    `settings` are further keys of their configurations. Returns the observers alone.
    """
    from consilium.node.stores import init_stores

    genesis = cluster_genesis(folder)
    made = []
    for number in range(len(ports) // 2):
        node = NodeFolder(len(nodes) + number, folder / f"node-{len(nodes) + number}")
        p2p, rpc = ports[2 * number : 2 * number + 2]
        place = Place(
            f"{LOOPBACK}:{p2p}", (LOOPBACK, p2p), (LOOPBACK, rpc), role="observer", settings=settings or {}
        )
        passphrase = secrets.token_hex(PASSPHRASE_BYTES)
        founding.make_folder(
            node.path,
            node.name,
            place,
            passphrase,
            passphrase_file=PASSPHRASE_FILE,
            cost=founding.LOCAL_COST,
        )
        files.create_secret(node.path / PASSPHRASE_FILE, passphrase)
        made.append(node)
    cards = [node.card() for node in (*nodes, *made)]
    for node in made:
        init_stores(founding.join(node.path, genesis, cards, {}))
    for node in nodes:
        path = node.config().peers_path
        known = read_peers(path)
        write_peers(path, [*known, *(card.peer for card in cards[len(nodes) :])])
    return made
