"""Every limit and every time of the mesh, by name. What a peer can make this node hold is bounded here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from consilium.p2p.frame import Lane

PROTOCOL_VERSION: Final = 2
"""Of what nodes say to each other, and of what they execute alike: it goes up when either changes, so that nodes that
would not agree do not meet."""
TRANSPORT_BYTES_MAX: Final = 2 * 1024 * 1024
"""What aiohttp, TLS and asyncio may buffer for one websocket, both directions: 512 KiB of unread frames and a
read of 256 KiB beyond them, 256 KiB between two waits for the writer and 512 KiB of TLS behind it.
"""


@dataclass(frozen=True)
class Address:
    """Where a node listens: a host name or IP literal, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class LanePolicy:
    """What one lane of one peer may hold before it is sent (outbox) and before it is handled (inbox)."""

    outbox_messages_max: int
    outbox_bytes_max: int
    inbox_messages_max: int
    inbox_bytes_max: int
    messages_per_s_max: int = 1_000
    """Handed on to the host, beyond a burst: see `pace`. An honest validator says a few things a height."""


@dataclass(frozen=True)
class MeshPolicy:
    """How patient, how generous and how forgiving a node is with its peers."""

    votes: LanePolicy = field(default_factory=lambda: LanePolicy(4_096, 4 << 20, 1_024, 4 << 20))
    bulk: LanePolicy = field(default_factory=lambda: LanePolicy(1_024, 32 << 20, 64, 8 << 20))
    peers_max: int = 256

    # connecting
    dial_timeout_s: float = 5.0
    handshake_timeout_s: float = 5.0
    handshakes_max: int = 128
    """Of callers whose key is not known yet: see `places`."""
    handshakes_per_host_max: int = 48
    handshakes_fair: int = 4
    """A host that holds no more of them is not one that holds many."""
    handshakes_per_peer_max: int = 8
    """Of a member, once TLS has shown its key."""
    backoff_first_s: float = 0.1
    backoff_max_s: float = 8.0
    grace_s: float = 1.0
    stable_s: float = 2.0

    # staying connected
    beat_s: float = 1.0
    silence_timeout_s: float = 6.0
    stall_timeout_s: float = 30.0
    close_timeout_s: float = 1.0

    # misbehaving
    penalty_max: int = 100
    recovery_per_s: float = 1.0
    ban_first_s: float = 10.0
    ban_max_s: float = 600.0
    ban_memory_s: float = 3_600.0

    def lane(self, lane: Lane) -> LanePolicy:
        """The boxes of one lane."""
        return self.votes if lane is Lane.VOTES else self.bulk

    def peer_bytes_max(self, message_bytes_max: int) -> int:
        """The memory that one connected peer can make this node hold, when no message is longer than given.

        Per lane: the outbox and the message being cut; the inbox, one message that found it full, one that is
        being put together and one in the handler; and the transport's own buffers.
        """
        boxes = sum(lane.outbox_bytes_max + lane.inbox_bytes_max for lane in (self.votes, self.bulk))
        return boxes + len(Lane) * (4 * message_bytes_max + TRANSPORT_BYTES_MAX)
