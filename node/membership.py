"""Who may connect: validators of the next heights, candidates, and configured peers that no decision has retired.

It follows from the configuration and the ledger alone, so that every node comes to the same view of who is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consilium.contracts import ballot
from consilium.ledger.validators import VALIDATORS_MAX
from consilium.node.config_sections import PEERS_MAX, Peer
from consilium.node.executor import Commit, Executor
from consilium.p2p.mesh import Address

GOVERNANCE: Final = "governance."
MEMBERS_MAX: Final = PEERS_MAX + 2 * VALIDATORS_MAX + ballot.CANDIDATES_MAX
"""Configured peers, two sets of validators, candidates: no decision makes more of them than the mesh has room for."""


def members(executor: Executor, configured: Sequence[Peer]) -> dict[bytes, Address | None]:
    """Keys, each with the address to dial where the configuration has one. Reads state: call it from a thread."""
    context, state = executor.context, executor.store.state
    known: dict[bytes, Address | None] = dict.fromkeys(context.validators.keys)
    following = executor.validators_at(context.height + 1)
    if following is not None:
        known.update(dict.fromkeys(following.keys))
    tip_ms = executor.store.tip.time_ms
    known.update({one.key: None for one in ballot.candidates(state) if tip_ms < one.expires_ms})
    for peer in configured:
        key = bytes(peer.key)
        if key in known or ballot.RETIRED.get(state, key) is None:
            known[key] = Address(peer.host, peer.port)
    return known


def may_change_members(commit: Commit) -> bool:
    """Whether a committed block may have changed who the members are: by a decision, or by one that takes effect."""
    header = commit.block.header
    if header.validators_hash != header.next_validators_hash:
        return True
    return any(event.kind.startswith(GOVERNANCE) for event in commit.outcome.events)
