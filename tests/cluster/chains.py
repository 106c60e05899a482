"""What must hold between real nodes at any time: one block per height."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from consilium.node.testing import LocalCluster


async def common_chain(cluster: LocalCluster, nodes: Sequence[int] | None = None) -> list[bytes]:
    """The block hashes that all these nodes have, by height; fails where two nodes have different blocks."""
    chosen = list(nodes) if nodes is not None else list(range(cluster.size))
    heights = [await cluster.height(index) for index in chosen]
    chains = await asyncio.gather(*(_chain(cluster, index, min(heights)) for index in chosen))
    for index, chain in zip(chosen, chains, strict=True):
        assert chain == chains[0], f"node-{index} and node-{chosen[0]} have different blocks: a fork"
    return chains[0]


async def _chain(cluster: LocalCluster, index: int, height: int) -> list[bytes]:
    client = cluster.clients[index]
    return [bytes((await client.block(at)).block.header.hash) for at in range(height + 1)]


async def primary_of(cluster: LocalCluster, asked: int = 0) -> int:
    """Which node is primary now, as one of them sees it."""
    key = (await cluster.clients[asked].status())["primary"]
    return [node.card().node_key.hex() for node in cluster.nodes].index(key)
