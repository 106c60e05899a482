"""The restart rule in a simulated host, as node/restart.py hosts it: ask all, at each start, till a quorum answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consilium.consensus.io import VoteFloor
from consilium.consensus.restart import (
    SHOWN_HEIGHTS,
    Answer,
    Memory,
    Said,
    Status,
    Verdict,
    judge,
    latest,
    said_in,
    said_in_prepared,
    said_in_seals,
    verify_status,
)
from consilium.ledger.errors import PeerFault
from consilium.ledger.validators import ValidatorSet
from tests.simulation.chain import CHAIN_ID

if TYPE_CHECKING:
    from tests.simulation.host import Host

ASK_EVERY_MS = 250
RETURN_PAUSE_MS = 1_000
NONCE = bytes(16)


class Recall:
    """One start of one host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.promise = host.disk.promise
        self.answers: dict[bytes, Answer] = {}
        self.verdict: Verdict | None = None

    def ask(self) -> None:
        """Ask whoever has not answered; again, until the verdict."""
        if self.verdict is not None:
            return
        host = self.host
        for target, key in enumerate(host.cluster.keys):
            if target != host.index and key.public not in self.answers:
                host.cluster.network.send(host.index, target, ("status?",))
        self.judge()
        host.later(ASK_EVERY_MS, self.ask)

    def take(self, peer: bytes, status: Status) -> None:
        """An answer came."""
        if self.verdict is not None:
            return
        ring, sets = self.host.cluster.ring, self.sets()
        try:
            answer = verify_status(status, self.host.key.public, CHAIN_ID, sets, ring.verify)
        except PeerFault as fault:
            self.host.cluster.checkers.on_peer_fault(self.host, self.host.cluster.index_of[peer], str(fault))
            return
        if answer is not None:
            self.answers[peer] = answer
            self.judge()

    def judge(self) -> None:
        host = self.host
        own = self.status(host.key.public, [])
        self.answers[host.key.public] = Answer(own.header.height, tuple(own.said))
        self.verdict = judge(self.promise, self.answers, self.sets())
        if self.verdict is None:
            return
        host.note(f"remembers: {self.verdict.memory.value}, speaks from {self.verdict.floor}")
        host.feed(VoteFloor(self.verdict.floor))
        if self.verdict.memory in (Memory.STALE, Memory.LOST):
            self.end_silence(self.verdict.floor)

    def end_silence(self, floor: int) -> None:
        """Say so on the ledger, which makes the blocks that the silence waits for."""
        host = self.host
        if host.disk.chain.tip + 1 < floor:
            if not host.uncommitted() and host.honest:
                host.cluster.admit(host, b"returned %d %d" % (host.index, host.world.now))
            host.later(RETURN_PAUSE_MS, lambda: self.end_silence(floor))

    def sets(self) -> tuple[ValidatorSet, ValidatorSet]:
        """Those of the height it is at, and of the next."""
        chain = self.host.disk.chain
        return chain.sets[chain.tip + 1], chain.sets[chain.tip + 2]

    def answer(self, source: int) -> None:
        """Show a peer the tip, and what is known of its votes."""
        host = self.host
        key = host.cluster.keys[source].public
        heard = [said_in(message) for message in host.replica.heard_from(key)]
        host.cluster.network.send(host.index, source, ("status", self.status(key, heard)))

    def status(self, of: bytes, heard: list[Said]) -> Status:
        chain = self.host.disk.chain
        said = list(heard)
        if self.promise is not None and self.promise.votes.prepared is not None:
            height = self.promise.height
            place = chain.sets[height].index(of) if height < len(chain.sets) else None
            said += said_in_prepared(self.promise.votes.prepared, height, place)
        for height in range(max(1, chain.tip - SHOWN_HEIGHTS + 1), chain.tip + 1):
            certificate = chain.entries[height].certificate
            if certificate is not None:
                said += said_in_seals(certificate, chain.sets[height].index(of))
        tip = chain.entries[-1]
        return Status(NONCE, tip.header, tip.certificate, latest(said))
