"""Messages over frames: sans-IO, no sockets, no clock.

A message is a kind (0 to 255) and a body. It travels as one or more frames of at most FRAME_BYTES_MAX, each
the binary payload of one websocket message: small frames keep a lane responsive, and large websocket messages
are slower.

    frame = kind:u8 | flags:u8 | index:u16be | number:u32be | chunk

`number` counts the messages of a lane since it opened, `index` the chunks of a message; bit 0 of `flags`
marks the last chunk. There is exactly one way to cut a message: every chunk but the last is full, and the
last is empty only when the whole body is. So frames cannot come in dribbles, and out-of-place means: anything
but the one frame that may come next.

A lane carries one message at a time; what is held for a peer is at most one incomplete message per lane, no
longer than the limit of its kind, and it grows only by bytes that have arrived.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from consilium.ledger.errors import PeerFault

FRAME_BYTES_MAX: Final = 64 * 1024
KIND_MAX: Final = 255
LAST: Final = 0x01
GARBAGE_WEIGHT: Final = 30
"""What a frame that no honest peer sends costs its sender's score: the lane is closed as well."""

_HEADER: Final = struct.Struct(">BBHI")
HEADER_BYTES: Final = _HEADER.size
CHUNK_BYTES_MAX: Final = FRAME_BYTES_MAX - HEADER_BYTES
CHUNKS_MAX: Final = 1 << 16
MESSAGE_BYTES_MAX: Final = CHUNKS_MAX * CHUNK_BYTES_MAX
"""No kind may have a higher limit: `index` could not count its chunks."""
_NUMBERS: Final = 1 << 32


class Lane(enum.IntEnum):
    """Each peer is reached over two websockets, so that votes never wait behind bulk."""

    VOTES = 0
    BULK = 1


class Message(NamedTuple):
    """One whole message."""

    kind: int
    body: bytes


class Chunker:
    """Cuts messages into frames; one per lane and connection, since messages are numbered."""

    def __init__(self) -> None:
        self._number = 0

    def frames(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The frames of one message, in order. Consume them all before the next message."""
        number = self._number
        self._number = (number + 1) % _NUMBERS
        view = memoryview(body)
        chunks = max(1, -(-len(body) // CHUNK_BYTES_MAX))
        for index in range(chunks):
            flags = LAST if index == chunks - 1 else 0
            start = index * CHUNK_BYTES_MAX
            yield b"".join((_HEADER.pack(kind, flags, index, number), view[start : start + CHUNK_BYTES_MAX]))


class Reassembler:
    """Puts frames together again; one per lane and connection. A PeerFault leaves it unusable: close the
    lane.
    """

    def __init__(self, limits: Mapping[int, int]) -> None:
        self._limits = limits
        self._number = 0
        self._kind = 0
        self._chunks: list[bytes] = []
        self._bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of the message that is still incomplete."""
        return self._bytes

    def feed(self, frame: bytes) -> Message | None:
        """Take one frame; return the message that it completes. PeerFault when it is not the frame that may
        come.
        """
        if not HEADER_BYTES <= len(frame) <= FRAME_BYTES_MAX:
            raise _garbage(f"a frame of {len(frame)} bytes; allowed are {HEADER_BYTES} to {FRAME_BYTES_MAX}")
        kind, flags, index, number = _HEADER.unpack_from(frame)
        limit = self._limits.get(kind)
        if limit is None:
            raise _garbage(f"a frame of unknown kind {kind}")
        if flags & ~LAST:
            raise _garbage(f"a frame with unknown flags {flags:#04x}")
        if number != self._number or index != len(self._chunks) or (index and kind != self._kind):
            raise _garbage(
                f"a frame out of place: message {number} chunk {index} of kind {kind}, "
                f"where message {self._number} chunk {len(self._chunks)} was due"
            )
        chunk = frame[HEADER_BYTES:]
        last = bool(flags & LAST)
        if not last and len(chunk) != CHUNK_BYTES_MAX:
            raise _garbage(f"a chunk of {len(chunk)} bytes, not the last and not full")
        if index and not chunk:
            raise _garbage("an empty chunk that ends a message")
        # a chunk that is not the last promises at least one byte more
        if self._bytes + len(chunk) + (not last) > limit:
            raise _garbage(f"a message of kind {kind} beyond its limit of {limit} bytes")
        if not last:
            self._kind = kind
            self._chunks.append(chunk)
            self._bytes += len(chunk)
            return None
        body = b"".join((*self._chunks, chunk)) if self._chunks else chunk
        self._chunks.clear()
        self._bytes = 0
        self._number = (number + 1) % _NUMBERS
        return Message(kind, body)


def check_limits(limits: Mapping[int, int]) -> dict[int, int]:
    """The host's limits (kind -> bytes of body, at most), copied. ValueError when one cannot be kept."""
    for kind, limit in limits.items():
        if not 0 <= kind <= KIND_MAX:
            raise ValueError(f"a kind is 0 to {KIND_MAX}, not {kind}")
        if not 0 <= limit <= MESSAGE_BYTES_MAX:
            raise ValueError(
                f"the limit of kind {kind} is {limit} bytes; possible are 0 to {MESSAGE_BYTES_MAX}"
            )
    return dict(limits)


def _garbage(reason: str) -> PeerFault:
    return PeerFault(reason, GARBAGE_WEIGHT)
