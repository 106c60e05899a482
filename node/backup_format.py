"""The form of a backup: one file of frames, written and read as a stream, signed by the node it is of.

    magic (7 bytes), version (u8), then frames: length (u32, big-endian), a canonical Wire value

The first frame says what it is of; frames of rows follow, store after store, keys ascending; the last one has the
digest of everything before it and the node's signature. There are no file names in it, so none can point anywhere,
and nothing is compressed, so nothing can swell. Reading checks order, bounds, digest and signature as it goes; what
was read before the last frame is to be believed only after it. docs/backup.md is its page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Final, TypeAlias

import msgspec

from consilium.ledger import codec
from consilium.ledger.codec import Bytes32, Bytes64, Uint
from consilium.ledger.crypto import Digest, SigningKey, Tag, verify
from consilium.ledger.errors import Refused

MAGIC: Final = b"cnslbak"
BACKUP_VERSION: Final = 1
STORES: Final = ("chain", "vault", "shares")
"""In the order of the frames. The promise is never among them: a copied word could be given twice."""
KEY_BYTES_MAX: Final = 1024
VALUE_BYTES_MAX: Final = 65 * 1024 * 1024
ROWS_BYTES: Final = 1024 * 1024
"""A frame of rows is closed when it has passed this; one large value may take it to FRAME_BYTES_MAX."""
ROWS_MAX: Final = 65_536
FRAME_BYTES_MAX: Final = ROWS_BYTES + VALUE_BYTES_MAX + KEY_BYTES_MAX + 1024
_LENGTH_BYTES: Final = 4
_TAG: Final = Tag("consilium/backup/1")


class Head(codec.Wire, frozen=True, tag=1):
    """What the backup is of. `formats` are the numbers of the stores' formats, in the order of STORES."""

    chain_id: Bytes32
    node: Bytes32
    height: Uint
    tip_hash: Bytes32
    time_ms: Uint
    formats: Annotated[list[Uint], msgspec.Meta(min_length=len(STORES), max_length=len(STORES))]


class Rows(codec.Wire, frozen=True, tag=2):
    """Rows of the store with this place in STORES."""

    store: Annotated[int, msgspec.Meta(ge=0, lt=len(STORES))]
    rows: Annotated[
        list[
            tuple[
                Annotated[bytes, msgspec.Meta(min_length=1, max_length=KEY_BYTES_MAX)],
                Annotated[bytes, msgspec.Meta(max_length=VALUE_BYTES_MAX)],
            ]
        ],
        msgspec.Meta(min_length=1, max_length=ROWS_MAX),
    ]


class End(codec.Wire, frozen=True, tag=3):
    """How many rows each store has, the SHA-256 of every byte before this frame, and the node's signature over both."""

    rows: Annotated[list[Uint], msgspec.Meta(min_length=len(STORES), max_length=len(STORES))]
    digest: Bytes32
    signature: Bytes64


Content: TypeAlias = Head | Rows | End


class _Frame(codec.Wire, frozen=True):
    content: Content


@dataclass(frozen=True, slots=True)
class Summary:
    """What a whole, verified backup held."""

    head: Head
    rows: dict[str, int]


def write_backup(
    head: Head, stores: Iterable[tuple[int, Iterable[tuple[bytes, bytes]]]], key: SigningKey
) -> Iterator[bytes]:
    """The pieces of a backup; `stores` are (place in STORES, its rows in order), each place once, ascending."""
    digest = hashlib.sha256()
    counts = [0] * len(STORES)

    def framed(content: Content) -> bytes:
        raw = codec.encode(_Frame(content))
        piece = len(raw).to_bytes(_LENGTH_BYTES, "big") + raw
        digest.update(piece)
        return piece

    opening = MAGIC + bytes((BACKUP_VERSION,))
    digest.update(opening)
    yield opening + framed(head)
    for store, rows in stores:
        for part in _parts(rows):
            counts[store] += len(part)
            yield framed(Rows(store, part))
    total = digest.digest()
    yield framed(End(counts, total, key.sign(_signed(head, counts, total))))


class BackupReader:
    """Reads one backup. `head` is there from the start; `rows` yields the rest once; `summary` is there after it."""

    def __init__(self, source: BinaryIO) -> None:
        """Raises Refused `backup.malformed`, `backup.newer_version`."""
        self._source = source
        self._digest = hashlib.sha256()
        opening = source.read(len(MAGIC) + 1)
        if len(opening) != len(MAGIC) + 1 or opening[:-1] != MAGIC:
            raise Refused("backup.malformed", "the file is not a backup of a node")
        if opening[-1] > BACKUP_VERSION:
            raise Refused(
                "backup.newer_version", f"it has version {opening[-1]}; this program knows {BACKUP_VERSION}"
            )
        if opening[-1] != BACKUP_VERSION:
            raise Refused("backup.malformed", f"there is no version {opening[-1]}")
        self._digest.update(opening)
        head = self._next()
        if not isinstance(head, Head):
            raise Refused("backup.malformed", "it does not begin with its head")
        self.head = head
        self.summary: Summary | None = None

    def rows(self) -> Iterator[tuple[int, list[tuple[bytes, bytes]]]]:
        """(place in STORES, rows) in order. Raises Refused `backup.malformed`, `backup.damaged`."""
        counts = [0] * len(STORES)
        last = (0, b"")
        while True:
            before = self._digest.digest()
            content = self._next()
            if isinstance(content, End):
                break
            if not isinstance(content, Rows):
                raise Refused("backup.malformed", "a second head")
            for key, _ in content.rows:
                if (content.store, key) <= last:
                    raise Refused("backup.malformed", "its rows are not in order")
                last = (content.store, key)
            counts[content.store] += len(content.rows)
            yield content.store, content.rows
        if self._source.read(1):
            raise Refused("backup.malformed", "something follows its end")
        if content.digest != before or content.rows != counts:
            raise Refused("backup.damaged", "its digest does not fit its contents")
        if not verify(self.head.node, _signed(self.head, counts, before), content.signature):
            raise Refused("backup.damaged", "its signature is not by the node that it names")
        self.summary = Summary(self.head, dict(zip(STORES, counts, strict=True)))

    def _next(self) -> Content:
        prefix = self._source.read(_LENGTH_BYTES)
        length = int.from_bytes(prefix, "big")
        if len(prefix) != _LENGTH_BYTES:
            raise Refused("backup.malformed", "it ends too early")
        if length > FRAME_BYTES_MAX:
            raise Refused("backup.malformed", f"a frame of {length} bytes")
        raw = self._source.read(length)
        if len(raw) != length:
            raise Refused("backup.malformed", "it ends too early")
        self._digest.update(prefix)
        self._digest.update(raw)
        try:
            return codec.decode(raw, _Frame, FRAME_BYTES_MAX).content
        except Refused as refusal:
            raise Refused("backup.malformed", str(refusal)) from None


def _parts(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    part: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in rows:
        part.append((key, value))
        size += len(key) + len(value)
        if size >= ROWS_BYTES or len(part) == ROWS_MAX:
            yield part
            part, size = [], 0
    if part:
        yield part


def _signed(head: Head, counts: list[int], digest: bytes) -> Digest:
    numbers = b"".join(count.to_bytes(8, "big") for count in counts)
    return _TAG.digest(head.chain_id, head.node, numbers, digest)
