"""How a node stands: what it tells people and monitors of itself. Read from memory alone, on the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from consilium.consensus.replica import Replica
from consilium.ledger.genesis import Genesis
from consilium.node.custodian import Custodian
from consilium.node.driver import Driver
from consilium.node.executor import Executor
from consilium.node.mempool import Mempool
from consilium.p2p.mesh import Mesh
from consilium.storage.vault import EnvelopeStore

STALE_TIP_MS: Final = 120_000
"""A node whose newest block is older than this does not follow the chain, and says so to monitors."""
UNTOLD_LONG_MS: Final = 60_000
"""The ledger is told of a release within seconds; one that waits so long is for somebody to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Everything that a status is made of. `key` is the node's; times are milliseconds since 1970 (UTC)."""

    name: str
    role: str
    key: bytes
    genesis: Genesis
    executor: Executor
    driver: Driver
    replica: Replica
    mempool: Mempool
    mesh: Mesh
    vault: EnvelopeStore
    custodian: Custodian | None
    clock_ms: Callable[[], int]
    storage: Callable[[], Mapping[str, Any]]
    sync: Callable[[], Mapping[str, Any]]
    """What `snapshots.Snapshots.status` says."""
    voting: Callable[[], Mapping[str, Any]]
    """What a validator says of its memory and silence: `duties.Duties.status`."""
    oversight: Callable[[], Mapping[str, Any]] = dict
    """What is overdue or unreported, and what is read alone: `oversight.Oversight.status`."""
    unattested: Callable[[], int] = lambda: 0
    """How many erasures are applied and still to be attested: `keeping.Keeping.unattested`."""
    version: str = field(default_factory=lambda: version("consilium"))
    started_s: float = field(default_factory=time.monotonic)

    def status(self) -> dict[str, Any]:
        """See `NodeApi.status`."""
        tip = self.executor.store.tip
        healthy, reason = self.healthy()
        totals = self.vault.totals()
        return {
            "node_id": self.key.hex(),
            "name": self.name,
            "role": self.role,
            "institution": self._institution(),
            "network": self.genesis.network,
            "chain_id": self.genesis.chain_id.hex(),
            "version": self.version,
            "height": tip.height,
            "tip_hash": tip.block_hash.hex(),
            "tip_time_ms": tip.time_ms,
            "certified_height": max(0, tip.height - 1),
            "view": self.replica.view,
            "phase": self.replica.phase.value,
            "primary": self.replica.primary.hex(),
            "validators": self._validators(),
            "peers": [{"key": peer.key.hex(), "connected": peer.connected} for peer in self.mesh.peers()],
            "mempool": {
                "pending": self.mempool.pending_count,
                "batches": self.mempool.batch_count,
                "transactions": self.mempool.transaction_count,
            },
            "vault": {"envelopes": totals.envelopes, "bytes": totals.bytes},
            "storage": dict(self.storage()),
            "sync": dict(self.sync()),
            "custodian": self._custody(),
            "emergencies": self.oversight().get("emergencies", {}),
            "evidence": len(self.driver.evidence),
            "voting": dict(self.voting()),
            "uptime_s": int(time.monotonic() - self.started_s),
            "healthy": healthy,
            "reason": reason,
        }

    def healthy(self) -> tuple[bool, str]:
        """Whether the node serves and follows the chain, and a reason where not."""
        context, synchroniser = self.executor.context, self.driver.synchroniser
        if synchroniser is not None and synchroniser.catching_up:
            return False, f"catching up: at {context.height - 1} of {synchroniser.best_known}"
        reached = {*self.mesh.connected(), self.key}
        reachable = len([key for key in context.validators.keys if key in reached])
        if reachable < context.validators.quorum:
            return False, f"{reachable} validators are reachable; a quorum is {context.validators.quorum}"
        if silent := self.voting().get("silent"):
            return False, str(silent)
        tip = self.executor.store.tip
        if tip.height and self.clock_ms() - tip.time_ms > STALE_TIP_MS:
            return False, "the newest block is old: the chain stands still, or this node does not follow it"
        return True, ""

    def _validators(self) -> list[dict[str, Any]]:
        reached = {*self.mesh.connected(), self.key}
        return [
            {
                "key": validator.key.hex(),
                "institution": validator.institution.hex(),
                "connected": validator.key in reached,
            }
            for validator in self.executor.context.validators.validators
        ]

    def _custody(self) -> dict[str, Any]:
        if self.custodian is None:
            return {"enabled": False}
        count = self.custodian.compartments
        alone = self.oversight().get("alone", 0)
        since_ms = self.custodian.untold_since_ms
        age_ms = None if since_ms is None else max(0, self.clock_ms() - since_ms)
        notes = ["this custodian can read alone"] if alone else []
        if age_ms is not None and age_ms >= UNTOLD_LONG_MS:
            notes.append("releases wait to be attested")
        return {
            "enabled": True,
            "compartments": count,
            "alone": alone,
            "untold": self.custodian.untold,
            "untold_age_ms": age_ms,
            "unattested": self.unattested(),
            "note": "; ".join(notes),
        }

    def _institution(self) -> str | None:
        for validator in self.executor.context.validators.validators:
            if validator.key == self.key:
                return validator.institution.hex()
        return None
