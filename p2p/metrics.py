"""What the mesh counts, and what it says of a peer. Plain numbers: the node exports them."""

from __future__ import annotations

from dataclasses import dataclass, field

from consilium.p2p.frame import Lane
from consilium.p2p.policy import Address


@dataclass
class LaneMetrics:
    """Counted since the mesh was made. Bytes are those of frames, without websocket and TLS."""

    bytes_in: int = 0
    bytes_out: int = 0
    frames_in: int = 0
    frames_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    dropped: int = 0
    """Messages that were queued, and left the outbox unsent: too old for a full votes lane, or the peer went.
    """
    refused: int = 0
    """Messages that `send` refused: the bulk outbox was full."""


@dataclass
class MeshMetrics:
    """Counted since the mesh was made."""

    votes: LaneMetrics = field(default_factory=LaneMetrics)
    bulk: LaneMetrics = field(default_factory=LaneMetrics)
    connects: int = 0
    reconnects: int = 0
    disconnects: int = 0
    dial_failures: int = 0
    handshakes_refused: int = 0
    handshake_failures: int = 0
    handshakes_displaced: int = 0
    """Callers whose key was not known yet, and whose places newcomers were given."""
    faults: int = 0
    bans: int = 0

    def lane(self, lane: Lane) -> LaneMetrics:
        """The counters of one lane."""
        return self.votes if lane is Lane.VOTES else self.bulk


@dataclass(frozen=True)
class PeerStatus:
    """One peer, as this node sees it now."""

    key: bytes
    address: Address | None
    connected: bool
    """Both lanes are open."""
    connected_s: float
    """Seconds since the peer became connected; 0 when it is not."""
    score: float
    """0 is spotless; faults lower it, time restores it; at -penalty_max the peer is banned."""
    banned_s: float
    """Seconds until the peer may connect again; 0 when it may."""
    bytes_in: int
    bytes_out: int
    outbox_bytes: int
    reconnects: int
