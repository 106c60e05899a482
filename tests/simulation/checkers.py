"""What must hold, judged apart from the code that must uphold it.

Safety is checked at every vote and every commit of every honest host: agreement, validity, certificate soundness,
durable before sent, no contradicting votes (over crashes too). Progress is checked by the schedule, after it healed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consilium.consensus.evidence import verify_evidence
from consilium.consensus.io import Equivocation, Misbehaviour
from consilium.consensus.limits import CLOCK_BOUND_MS
from consilium.consensus.messages import Commit, Decided, Message, Prepare, PrePrepare, ViewChange
from consilium.ledger.block import Block, CommitCertificate, check_certified
from consilium.ledger.errors import Refused
from tests.simulation.chain import CHAIN_ID
from tests.simulation.world import WALL_EPOCH_MS

if TYPE_CHECKING:
    from tests.simulation.host import Host


class Violated(Exception):
    """A property failed: `what` names it."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(f"{what}: {detail}")
        self.what = what


@dataclass
class Checkers:
    """Every property, over one schedule."""

    agreed: dict[int, bytes] = field(default_factory=dict)
    said: dict[tuple[int, str, int, int], bytes] = field(default_factory=dict)
    admitted: dict[bytes, None] = field(default_factory=dict)
    left: dict[tuple[int, int], int] = field(default_factory=dict)
    equivocations: int = 0
    accusations: int = 0
    peer_faults: int = 0
    view_changes: int = 0
    honest: tuple[bytes, ...] = ()
    fastest_ms: int = 0
    """How far the clock of an honest host that voted was ever ahead."""

    def fail(self, what: str, detail: str) -> None:
        """Stop the schedule."""
        raise Violated(what, detail)

    def broken(self, host: Host, detail: str) -> None:
        """A replica found itself in contradiction."""
        if host.honest:
            self.fail("invariant", f"host {host.index}: {detail}")

    def on_send(self, host: Host, message: Message) -> None:
        """An honest host says something: it must be durable, and contradict nothing it ever said."""
        if isinstance(message, Decided):
            return
        self.fastest_ms = max(self.fastest_ms, host.clock_ms)
        promise = host.disk.durable(message.height)
        votes = promise.votes
        if isinstance(message, ViewChange):
            content = b"-" if message.prepared is None else message.prepared.certificate.block_hash
            if message.prepared is not None:
                content += message.prepared.certificate.view.to_bytes(8, "big")
            kept = votes.view == message.view and votes.changed
            kind = "view change"
            if self.said.get((host.index, kind, message.height, message.view)) is None:
                self.view_changes += 1
            self.left[host.index, message.height] = max(
                message.view, self.left.get((host.index, message.height), 0)
            )
        else:
            content = message.block_hash
            kind = "commit" if isinstance(message, Commit) else "prepare"
            named = votes.commit if isinstance(message, Commit) else votes.prepare
            kept = votes.view == message.view and named == content
            if isinstance(message, PrePrepare | Prepare) and promise.proposal(content) is None:
                self.fail("durable", f"host {host.index} prepares a block that its disk does not keep")
            if message.view < self.left.get((host.index, message.height), 0):
                self.fail("contradiction", f"host {host.index} votes in a view that it has left")
        if not kept:
            self.fail("durable", f"host {host.index} says {kind} {message.height}/{message.view} unsynced")
        name = (host.index, kind, message.height, message.view)
        if self.said.setdefault(name, content) != content:
            self.fail("contradiction", f"host {host.index}: two {kind}s at {message.height}/{message.view}")

    def on_commit(self, host: Host, block: Block, certificate: CommitCertificate) -> None:
        """An honest host commits: what all the others commit, certified, and nothing that nobody submitted."""
        known = self.agreed.setdefault(block.height, block.hash)
        if known != block.hash:
            self.fail("agreement", f"host {host.index} commits another block at height {block.height}")
        chain = host.disk.chain
        try:
            check_certified(block.header, certificate, chain.sets[block.height], host.cluster.ring.verify)
        except Refused as refusal:
            self.fail("certificate", f"host {host.index} at height {block.height}: {refusal}")
        context = chain.context()
        latest = WALL_EPOCH_MS + host.world.now + self.fastest_ms + CLOCK_BOUND_MS
        if not context.parent.time_ms < block.header.time_ms <= max(latest, context.parent.time_ms + 1):
            self.fail("time", f"host {host.index} commits a block of a time that no honest clock allows")
        for digest in block.batches:
            if digest not in self.admitted:
                self.fail("validity", f"host {host.index} commits a batch that nobody admitted")
            if digest in chain.committed:
                self.fail("validity", f"host {host.index} commits a batch twice")
        if block.header.chain_id != CHAIN_ID or block.header.state_root != context.state_root:
            self.fail("validity", f"host {host.index} commits a block of another state")
        if not block.batches and not context.may_be_empty(block.header.time_ms):
            self.fail("validity", f"host {host.index} commits an empty block that nothing calls for")

    def on_report(self, host: Host, fault: Equivocation | Misbehaviour) -> None:
        """Evidence must be sound, and never against an honest host."""
        if not host.honest:
            return
        if isinstance(fault, Misbehaviour):
            self.accusations += 1
            return
        self.equivocations += 1
        verify_evidence(fault.evidence, CHAIN_ID, host.cluster.ring.verify)
        if fault.evidence.validator in self.honest:
            self.fail("evidence", f"host {host.index} has evidence against an honest validator")

    def on_peer_fault(self, host: Host, source: int, reason: str) -> None:
        """Only liars send what does not verify."""
        self.peer_faults += 1
        if host.honest and host.cluster.hosts[source].honest:
            self.fail("admission", f"host {host.index} refuses what honest {source} sent: {reason}")
