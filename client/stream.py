"""A payload of any length as libsodium's secretstream, in chunks, with its length hidden up to Padmé's grain.

Plaintext: `length:u64be || payload || zeros`, as long as Padmé makes `8 + length`, and never below PADDED_BYTES_MIN.
It is cut into chunks of CHUNK_BYTES, the last one shorter or equal; each is sealed with the same associated data. The
secretstream's own chaining refuses chunks that are dropped, repeated or out of order; its final tag, on the last
chunk and nowhere else, refuses truncation. Opening is strict: one payload has one plaintext.

Both directions are iterators over pieces of any size, so that an imaging study need not sit in memory. What the
opening iterator has yielded is **provisional** until it is exhausted: only then has the final tag been seen.

Sources: libsodium's documentation of secretstream; Nikitin et al., "Reducing Metadata Leakage from Encrypted Files
and Communication with PURBs", PoPETs 2019, algorithm 1 (Padmé).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from nacl import bindings
from nacl import exceptions as nacl_errors

from consilium.ledger.errors import Refused

CHUNK_BYTES: Final = 64 * 1024
CHUNK_OVERHEAD_BYTES: Final = bindings.crypto_secretstream_xchacha20poly1305_ABYTES
STREAM_HEADER_BYTES: Final = bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES
LENGTH_BYTES: Final = 8
PADDED_BYTES_MIN: Final = 256
PAYLOAD_BYTES_MAX: Final = 2**48

_SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + CHUNK_OVERHEAD_BYTES
_FINAL: Final = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_MESSAGE: Final = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE


def padme(length: int) -> int:
    """The padded size of `length` (at least 2) bytes: at most 12 % more, and O(log log length) bits of it show."""
    exponent = length.bit_length() - 1
    free_bits = exponent - exponent.bit_length()
    mask = (1 << free_bits) - 1
    return (length + mask) & ~mask


def padded_size(payload_bytes: int) -> int:
    """How long the plaintext of a payload is."""
    return max(PADDED_BYTES_MIN, padme(LENGTH_BYTES + payload_bytes))


def sealed_size(payload_bytes: int) -> int:
    """How long the sealed stream of a payload is, its header included."""
    padded = padded_size(payload_bytes)
    chunks = -(-padded // CHUNK_BYTES)
    return STREAM_HEADER_BYTES + padded + chunks * CHUNK_OVERHEAD_BYTES


def seal_stream(key: bytes, associated: bytes, length: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the stream's header (24 bytes), then its sealed chunks.

    `key` (32 bytes) seals this one stream in its life. Raises ValueError when the pieces together are not `length`
    bytes, Refused `sealing.too_large` beyond PAYLOAD_BYTES_MAX.
    """
    if length > PAYLOAD_BYTES_MAX:
        raise Refused("sealing.too_large", f"{length} bytes; the limit is {PAYLOAD_BYTES_MAX}")
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    yield bindings.crypto_secretstream_xchacha20poly1305_init_push(state, key)
    for chunk, last in _cut(_plaintext(length, pieces), CHUNK_BYTES):
        tag = _FINAL if last else _MESSAGE
        yield bindings.crypto_secretstream_xchacha20poly1305_push(state, chunk, associated, tag)


def open_stream(key: bytes, associated: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the payload in pieces, provisional until the iterator ends without raising.

    Raises Refused `sealing.damaged`: wrong key or associated data, a flipped byte, truncation, trailing bytes, or a
    plaintext that no honest author makes.
    """
    received = _Unpadded()
    state: bindings.crypto_secretstream_xchacha20poly1305_state | None = None
    for chunk, last in _cut(pieces, _SEALED_CHUNK_BYTES, STREAM_HEADER_BYTES):
        if state is None:
            state = bindings.crypto_secretstream_xchacha20poly1305_state()
            if len(chunk) < STREAM_HEADER_BYTES:
                break
            bindings.crypto_secretstream_xchacha20poly1305_init_pull(state, chunk, key)
            if last:
                break
            continue
        if len(chunk) < CHUNK_OVERHEAD_BYTES:
            break
        try:
            plain, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(state, chunk, associated)
        except nacl_errors.RuntimeError:
            raise Refused("sealing.damaged", "a chunk's authentication tag does not match") from None
        if tag != (_FINAL if last else _MESSAGE):
            break
        payload = received.take(plain)
        if last:
            received.finish()
        if payload:
            yield payload
        if last:
            return
    raise Refused("sealing.damaged", "the stream is truncated, or goes on after its end")


class _Unpadded:
    """What has come of the plaintext: strips the length and the padding, and checks both."""

    def __init__(self) -> None:
        self._prefix = b""
        self._length = 0
        self._seen = 0

    def take(self, plain: bytes) -> bytes:
        if not self._prefix:
            # the first chunk holds the whole length: it is the last one, or CHUNK_BYTES long
            if len(plain) < LENGTH_BYTES:
                raise Refused("sealing.damaged", "the plaintext is shorter than its length field")
            self._prefix, plain = plain[:LENGTH_BYTES], plain[LENGTH_BYTES:]
            self._length = int.from_bytes(self._prefix, "big")
        wanted = max(0, self._length - self._seen)
        self._seen += len(plain)
        if any(plain[wanted:]):
            raise Refused("sealing.damaged", "the padding is not zero")
        return plain[:wanted]

    def finish(self) -> None:
        if self._length > PAYLOAD_BYTES_MAX or LENGTH_BYTES + self._seen != padded_size(self._length):
            raise Refused("sealing.damaged", "the plaintext is not padded as its length demands")


def _plaintext(length: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield length.to_bytes(LENGTH_BYTES, "big")
    seen = 0
    for piece in pieces:
        seen += len(piece)
        yield piece
    if seen != length:
        raise ValueError(f"{seen} bytes came where {length} were announced")
    missing = padded_size(length) - LENGTH_BYTES - length
    while missing:
        yield bytes(min(missing, CHUNK_BYTES))
        missing -= min(missing, CHUNK_BYTES)


def _cut(pieces: Iterable[bytes], size: int, first_size: int | None = None) -> Iterator[tuple[bytes, bool]]:
    """Cut into chunks of `size` bytes (the first of `first_size`), each with whether it is the last."""
    pending = bytearray()
    wanted = size if first_size is None else first_size
    for piece in pieces:
        pending += piece
        # a chunk leaves only when more follows it, so that the last one is known, and never empty
        while len(pending) > wanted:
            yield bytes(memoryview(pending)[:wanted]), False
            del pending[:wanted]
            wanted = size
    yield bytes(pending), True
