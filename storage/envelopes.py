"""The port behind which a custodian keeps envelopes: in `storage.vault`, on its own disk, or in an object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from consilium.ledger.errors import Refused

ENVELOPE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of an envelope that is handled as one value; a larger one is a stream."""
STREAM_BYTES_MAX: Final = 64 * 1024 * 1024 * 1024
PUT_BYTES_MAX: Final = 256 * 1024 * 1024
"""Of all envelopes of one call: they are written as one batch, in memory until then."""
PIECE_BYTES: Final = 1024 * 1024
LIST_DIGESTS_MAX: Final = 10_000


class Totals(NamedTuple):
    """How many envelopes there are, and how many bytes they have together."""

    envelopes: int
    bytes: int


class Incoming(Protocol):
    """An envelope on its way in. A context manager: what is not finished at its end is forgotten."""

    def write(self, piece: bytes) -> None:
        """Take the next piece, of any size. Raises Refused `vault.oversized`."""
        ...

    def finish(self) -> int:
        """Keep the envelope, durably. Returns its length. Raises Refused `vault.damaged`, `vault.deleted`."""
        ...

    def __enter__(self) -> Incoming: ...

    def __exit__(self, *exception: object) -> None: ...


class EnvelopeStore(Protocol):
    """Where a custodian keeps envelopes. Calls may block for a disk: make them from a thread."""

    @property
    def remote(self) -> bool:
        """Whether somebody else keeps the bytes whole, and reading all of them over and over would cost."""
        ...

    def put_many(self, envelopes: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep envelopes, given as (digest, envelope): all or none, and durable on return. Repeating is harmless.

        Raises Refused, with nothing kept: `vault.damaged` where a digest does not match, `vault.deleted` where it
        was erased, `vault.oversized`.
        """
        ...

    def receive(self, digest: bytes) -> Incoming:
        """Take in an envelope of any length, in pieces. Raises Refused `vault.deleted`."""
        ...

    def get(self, digest: bytes) -> bytes | None:
        """The envelope, or None where it is not here, or erased. Raises Refused `vault.damaged`, `vault.oversized`."""
        ...

    def read(self, digest: bytes) -> Iterator[bytes] | None:
        """The envelope in pieces of at most PIECE_BYTES or so, or None where it is not here, or erased.

        The last piece comes only after the digest of all was right: else Refused `vault.damaged`.
        """
        ...

    def piece(self, digest: bytes, number: int) -> bytes | None:
        """The piece from `number * PIECE_BYTES` on, unchecked: whoever joins the pieces checks the digest.

        None where the envelope is not here, or is not that long.
        """
        ...

    def size(self, digest: bytes) -> int | None:
        """How long the envelope is, where it is here."""
        ...

    def has(self, digest: bytes) -> bool:
        """Whether the envelope is here."""
        ...

    def erase(self, digests: Sequence[bytes]) -> int:
        """Delete envelopes for good, here or not, durable on return. Returns how many were here."""
        ...

    def forget(self, digests: Sequence[bytes]) -> int:
        """Delete envelopes that nobody needs, without a tombstone. Returns how many were here."""
        ...

    def erased(self, digest: bytes) -> bool:
        """Whether the digest was erased here."""
        ...

    def scrub(self) -> bool:
        """See that the bytes of deleted envelopes are on no disk any more. Takes long. False: not yet, call again."""
        ...

    def digests(self, after: bytes = b"", limit: int = LIST_DIGESTS_MAX) -> list[tuple[bytes, int]]:
        """Digests above `after`, in order, each with its envelope's length in bytes."""
        ...

    def came_ms(self, digest: bytes) -> int | None:
        """When the envelope came (milliseconds since 1970), where it is here."""
        ...

    def totals(self) -> Totals:
        """Number and bytes of all envelopes here."""
        ...


def checked_envelopes(
    envelopes: Sequence[tuple[bytes, bytes]], digest_of: Callable[[bytes], bytes]
) -> dict[bytes, bytes]:
    """What one `put_many` may keep, by digest. Raises Refused `vault.oversized`, `vault.damaged`."""
    given = dict(envelopes)
    if sum(map(len, given.values())) > PUT_BYTES_MAX:
        raise Refused("vault.oversized", f"one call keeps at most {PUT_BYTES_MAX} bytes")
    for digest, envelope in envelopes:
        if len(envelope) > ENVELOPE_BYTES_MAX:
            raise Refused("vault.oversized", f"an envelope of {len(envelope)} bytes")
        if digest_of(envelope) != digest:
            raise Refused("vault.damaged", f"the bytes given for {digest.hex()[:16]} have another digest")
    return given


def is_whole(store: EnvelopeStore, digest: bytes) -> bool:
    """Whether an envelope is here and undamaged: reads all of it. Raises Refused `vault.unavailable`."""
    try:
        pieces = store.read(digest)
        if pieces is None:
            return False
        for _ in pieces:
            pass
    except Refused as refusal:
        if refusal.code not in ("vault.damaged", "vault.deleted"):
            raise
        return False
    return True


def check_all(store: EnvelopeStore, progress: Callable[[int], None] = lambda done: None) -> list[bytes]:
    """Read every envelope. Returns the digests of those that are damaged. Takes long."""
    bad: list[bytes] = []
    after, done = b"", 0
    while page := store.digests(after):
        after = page[-1][0]
        bad += [digest for digest, _ in page if not is_whole(store, digest)]
        done += len(page)
        progress(done)
    return bad
