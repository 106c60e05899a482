"""What must hold, judged apart from the code that must uphold it.

Safety is checked at every vote and every commit of every honest host: agreement on blocks and on the state after them,
validity, certificate soundness, durable before sent, no contradicting votes (over crashes too). One contradiction is
counted, not failed: that of an older copy which nobody could find out. At the end chains are compared and executed
again from genesis. Progress is checked by the schedule, after it healed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from consilium.consensus.context import HeightContext
from consilium.consensus.evidence import Evidence, verify_evidence
from consilium.consensus.limits import CLOCK_BOUND_MS
from consilium.consensus.messages import Commit, Decided, Message, Prepare, PrePrepare, ViewChange
from consilium.consensus.restart import Memory
from consilium.consensus.round import Phase
from consilium.ledger.batch import verify_batch
from consilium.ledger.block import check_certified
from consilium.ledger.errors import Refused
from consilium.node import executor
from consilium.node.holding import BATCH_RETRY_S
from consilium.storage import schema
from tests.simulation.disk import SYNC_MS
from tests.simulation.founding import Founding, replayed
from tests.simulation.model import Model
from tests.simulation.world import WALL_EPOCH_MS, World

if TYPE_CHECKING:
    from tests.simulation.host import Host


ASKED_WITHIN_MS = int(1_500 * BATCH_RETRY_S)
"""Whoever waits for batches asks in such intervals at the most."""


class Violated(Exception):
    """A property failed: `what` names it."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(f"{what}: {detail}")
        self.what = what


@dataclass
class Checkers:
    """Every property, over one schedule."""

    world: World
    founding: Founding
    made: dict[bytes, None]
    agreed: dict[int, bytes] = field(default_factory=dict)
    roots: dict[int, tuple[bytes, bytes, bytes]] = field(default_factory=dict)
    """By height: state and receipts root after it, and the set of the height after next."""
    said: dict[tuple[int, str, int, int], tuple[bytes, int]] = field(default_factory=dict)
    """By host, kind, height and view: what it voted for, and when it said so first."""
    left: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """By host and height: the view that it changed to, and when."""
    restored: dict[int, int] = field(default_factory=dict)
    """By host: when its disk was last set back to an older copy."""
    older_copies: int = 0
    """Votes of older copies against votes that the copy does not know and nobody who answered had heard: what
    docs/consensus.md, "Restart", does not promise. Such a host counts as faulty; there must be no fork all the same."""
    executed: dict[bytes, int] = field(default_factory=dict)
    """Where each transaction was decided: what a client was told."""
    equivocations: int = 0
    peer_faults: int = 0
    view_changes: int = 0
    honest: tuple[bytes, ...] = ()
    model: Model = field(init=False)
    fastest_ms: int = 0
    """How far the clock of an honest host that voted was ever ahead."""

    def __post_init__(self) -> None:
        self.model = Model(self.founding)

    def fail(self, what: str, detail: str) -> NoReturn:
        """End the schedule, whoever swallows the exception."""
        violated = Violated(what, detail)
        if self.world.failure is None:
            self.world.failure = violated
        raise violated

    def broken(self, host: Host, detail: str) -> None:
        """A node found itself in contradiction."""
        if host.honest:
            self.fail("invariant", f"host {host.index}: {detail}")

    def on_send(self, host: Host, message: Message) -> None:
        """An honest host says something: it must be durable, and contradict nothing it ever said."""
        if isinstance(message, Decided):
            return
        self.fastest_ms = max(self.fastest_ms, host.clock().wall_ms - WALL_EPOCH_MS - self.world.now)
        votes = host.disk.promises.durable()
        height, view = message.height, message.view
        if votes is None or votes.height != height:
            self.fail("durable", f"host {host.index} speaks at {height}/{view} without a promise there")
        if isinstance(message, ViewChange):
            content = b"-" if message.prepared is None else message.prepared.certificate.block_hash
            if message.prepared is not None:
                content += message.prepared.certificate.view.to_bytes(8, "big")
            kept = votes.view == view and votes.changed
            kind = "view change"
            if self.said.get((host.index, kind, height, view)) is None:
                self.view_changes += 1
            if view > self.left.get((host.index, height), (0, 0))[0]:
                self.left[host.index, height] = view, self.world.now
        else:
            content = message.block_hash
            kind = "commit" if isinstance(message, Commit) else "prepare"
            named = votes.commit if isinstance(message, Commit) else votes.prepare
            kept = votes.view == view and named == content
            if isinstance(message, PrePrepare | Prepare) and content not in host.disk.promises.kept:
                self.fail("durable", f"host {host.index} prepares a block that its disk does not keep")
            left, when = self.left.get((host.index, height), (0, 0))
            if view < left:
                self._contradicts(host, when, "votes in a view that it has left")
                del self.left[host.index, height]
        if not kept:
            self.fail("durable", f"host {host.index} says {kind} {height}/{view} unsynced")
        name = (host.index, kind, height, view)
        first, when = self.said.setdefault(name, (content, self.world.now))
        if first != content:
            self._contradicts(host, when, f"two {kind}s at {height}/{view}")
            self.said[name] = content, self.world.now

    def on_restored(self, host: Host) -> None:
        """A host's disk is set back to an older copy."""
        self.restored[host.index] = self.world.now

    def _contradicts(self, host: Host, said_ms: int, how: str) -> None:
        """A vote against one of `said_ms`: forgiven to an older copy that does not know it and was not found out."""
        verdict = host.duties.restart.verdict
        found_out = verdict is None or verdict.memory is not Memory.INTACT
        if found_out or said_ms > self.restored.get(host.index, -1):
            self.fail("contradiction", f"host {host.index} {how}")
        self.world.note("-- an older copy contradicts what nobody showed it:", host.index, how)
        self.older_copies += 1

    def on_start(self, host: Host) -> None:
        """What an honest host finds on its disk is what was agreed on."""
        if host.honest:
            self.compare(host)

    def compare(self, host: Host) -> None:
        """The tip: its hash covers all blocks below, its roots the state."""
        tip = host.executor.store.tip
        if tip.height == 0:
            return
        # A node may die after it wrote a block, and before it could say so.
        if self.agreed.setdefault(tip.height, tip.block_hash) != tip.block_hash:
            self.fail("agreement", f"host {host.index} has another block at height {tip.height}")
        roots = (tip.state_root, tip.receipts_root, tip.next_validators_hash)
        if self.roots.setdefault(tip.height, roots) != roots:
            self.fail("state", f"host {host.index} has another state after height {tip.height}")

    def on_commit(self, host: Host, commit: executor.Commit, before: HeightContext) -> None:
        """An honest host commits: what all the others commit, certified, and nothing that nobody submitted."""
        self.compare(host)
        block, chain = commit.block, host.executor.store
        certificate = chain.certificate(block.height)
        if certificate is None or block.height != before.height:
            self.fail("certificate", f"host {host.index} keeps none at height {block.height}")
        try:
            check_certified(block.header, certificate, before.validators)
        except Refused as refusal:
            self.fail("certificate", f"host {host.index} at height {block.height}: {refusal}")
        if not host.disk.chain.is_durable(schema.at_height(schema.BLOCK, block.height)):
            self.fail("durable", f"host {host.index} commits height {block.height} unsynced")
        latest = WALL_EPOCH_MS + self.world.now + self.fastest_ms + CLOCK_BOUND_MS
        if not before.parent.time_ms < block.header.time_ms <= max(latest, before.parent.time_ms + 1):
            self.fail("time", f"host {host.index} commits a block of a time that no honest clock allows")
        for transaction in commit.outcome.transactions:
            if transaction.id not in self.made:
                self.fail("validity", f"host {host.index} executes a transaction that nobody made")
            if self.executed.setdefault(transaction.id, block.height) != block.height:
                self.fail("validity", f"host {host.index} executes a transaction twice")
        if block.header.chain_id != self.founding.chain_id or block.header.state_root != before.state_root:
            self.fail("validity", f"host {host.index} commits a block of another state")
        differs = self.model.follow(chain, commit)
        if differs is not None:
            self.fail("execution", f"host {host.index} has {differs}")
        if not block.batches and not before.may_be_empty(block.header.time_ms):
            self.fail("validity", f"host {host.index} commits an empty block that nothing calls for")

    def on_packet(self, host: Host) -> None:
        """Something arrives: a good moment to see that whoever waits for batches asks for them again and again. What is
        asked once may be lost, and the machine's own repetition comes too late for most views."""
        slow = host.paused or not host.alive or host.sync_ms != SYNC_MS
        if slow or host.replica.phase is not Phase.HOLDING or host.driver._holding._wanted is None:
            host.waiting = None
            return
        place = host.life, host.replica.height, host.replica.view
        if host.waiting is None or host.waiting[0] != place:
            host.waiting = place, self.world.now
        latest = self.world.now - ASKED_WITHIN_MS
        if host.waiting[1] <= latest and host.asked_ms < latest:
            self.fail(
                "asking", f"host {host.index} waits for batches, and has not asked since {host.asked_ms} ms"
            )

    def on_evidence(self, host: Host, evidence: Evidence) -> None:
        """Evidence must be sound, and never against an honest host."""
        if not host.honest:
            return
        self.equivocations += 1
        try:
            verify_evidence(evidence, self.founding.chain_id)
        except Refused as refusal:
            self.fail("evidence", f"host {host.index} has evidence that does not verify: {refusal}")
        if evidence.validator in self.honest:
            self.fail("evidence", f"host {host.index} has evidence against an honest validator")

    def on_peer_fault(self, host: Host, source: int, reason: str) -> None:
        """Only liars send what does not verify."""
        self.peer_faults += 1
        if host.honest and host.cluster.hosts[source].honest:
            self.fail("admission", f"host {host.index} refuses what honest {source} sent: {reason}")

    # At the end -----------------------------------------------------------------------------------------------------

    def nothing_lost(self, host: Host) -> None:
        """Every transaction that a client was told is decided is in the chain of every honest host, there."""
        chain = host.executor.store
        for identifier, height in self.executed.items():
            if height <= chain.tip.height:
                place = chain.place_of(identifier)
                if place is None or place.height != height:
                    self.fail("loss", f"host {host.index} lost a transaction of height {height}")

    def same_again(self, host: Host) -> None:
        """The host's blocks, executed again from genesis on an empty store, end in the same roots."""
        chain = host.executor.store
        batches = [
            verify_batch(raw, self.founding.chain_id)
            for height in range(1, chain.tip.height + 1)
            for raw in chain.batches(height)
        ]
        if replayed(self.founding, chain, batches).store.tip != chain.tip:
            self.fail("replay", f"host {host.index}: its chain, executed again, ends in another state")
