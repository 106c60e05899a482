"""The first frame each way: hello, and welcome.

TLS has already said who the two are. Hello says what they are about to speak: the version of this protocol,
the chain, and the lane. The node that was dialled answers with its own version and chain, and a verdict; only
after `ACCEPTED` do messages flow. Both are Wire values, each alone in one binary websocket message.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec

from consilium.ledger import codec
from consilium.ledger.errors import PeerFault, Refused
from consilium.p2p.frame import GARBAGE_WEIGHT, Lane
from consilium.p2p.policy import PROTOCOL_VERSION

HELLO_BYTES_MAX: Final = 64
VERDICT_MAX: Final = 255


class Verdict(enum.IntEnum):
    """What the dialled node says to a hello."""

    ACCEPTED = 0
    WRONG_VERSION = 1
    WRONG_CHAIN = 2
    DUPLICATE = 3
    """A better connection for this lane exists: see `peer.Peer.adopt`."""


class Hello(codec.Wire, frozen=True):
    """Sent by the node that dials."""

    version: codec.Uint
    chain_id: codec.Bytes32
    lane: Annotated[int, msgspec.Meta(ge=0, le=len(Lane) - 1)]


class Welcome(codec.Wire, frozen=True):
    """The answer of the node that was dialled."""

    version: codec.Uint
    chain_id: codec.Bytes32
    verdict: Annotated[int, msgspec.Meta(ge=0, le=VERDICT_MAX)]


def hello(chain_id: bytes, lane: Lane) -> bytes:
    """The bytes of this node's hello."""
    return codec.encode(Hello(PROTOCOL_VERSION, chain_id, int(lane)))


def welcome(chain_id: bytes, verdict: Verdict) -> bytes:
    """The bytes of this node's answer."""
    return codec.encode(Welcome(PROTOCOL_VERSION, chain_id, int(verdict)))


def read_hello(raw: bytes) -> Hello:
    """PeerFault when the bytes are no hello. Its version and chain are still to be judged."""
    try:
        return codec.decode(raw, Hello, HELLO_BYTES_MAX)
    except Refused as refusal:
        raise PeerFault(f"no hello: {refusal.code}", GARBAGE_WEIGHT) from None


def read_welcome(raw: bytes) -> Welcome:
    """PeerFault when the bytes are no welcome."""
    try:
        return codec.decode(raw, Welcome, HELLO_BYTES_MAX)
    except Refused as refusal:
        raise PeerFault(f"no welcome: {refusal.code}", GARBAGE_WEIGHT) from None


def judge(greeting: Hello, chain_id: bytes) -> Verdict:
    """Whether a hello speaks of what this node speaks."""
    if greeting.version != PROTOCOL_VERSION:
        return Verdict.WRONG_VERSION
    if greeting.chain_id != chain_id:
        return Verdict.WRONG_CHAIN
    return Verdict.ACCEPTED
