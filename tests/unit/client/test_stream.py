"""The padded stream: every length, every cut, and no plaintext but the one that the author made."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from consilium.client import stream
from consilium.ledger.errors import Refused

KEY, ASSOCIATED = bytes(range(32)), b"\x07" * 32
EDGES = [0, 1, 247, 248, 249, 65_527, 65_528, 65_529, 131_064, 200_000]


def sealed(payload: bytes) -> bytes:
    return b"".join(stream.seal_stream(KEY, ASSOCIATED, len(payload), [payload]))


def opened(raw: bytes, associated: bytes = ASSOCIATED) -> bytes:
    return b"".join(stream.open_stream(KEY, associated, [raw]))


def refused(raw: bytes) -> bool:
    with pytest.raises(Refused) as caught:
        opened(raw)
    return caught.value.code == "sealing.damaged"


def twin_padme(length: int) -> int:
    """As the paper's algorithm 1 writes it."""
    e = math.floor(math.log2(length))
    s = math.floor(math.log2(e)) + 1
    last = e - s
    mask = 2**last - 1
    return (length + mask) & ~mask


@given(st.integers(2, 2**40))
def test_padme_equals_the_paper_and_costs_at_most_an_eighth(length: int) -> None:
    assert stream.padme(length) == twin_padme(length)
    assert length <= stream.padme(length) <= length * 1.12 + 1
    assert stream.padme(stream.padme(length)) == stream.padme(length)


def test_few_sizes_show() -> None:
    assert len({stream.sealed_size(size) for size in range(249)}) == 1
    assert len({stream.padded_size(size) for size in range(100_000)}) < 150


@pytest.mark.parametrize("length", EDGES)
def test_every_length_comes_back(length: int) -> None:
    payload = bytes(i % 251 for i in range(length))
    raw = sealed(payload)
    assert len(raw) == stream.sealed_size(length)
    assert opened(raw) == payload


@given(
    st.binary(max_size=700),
    st.lists(st.integers(0, 700), max_size=4),
    st.lists(st.integers(0, 2_000), max_size=4),
)
def test_where_the_pieces_are_cut_does_not_matter(
    payload: bytes, cuts: list[int], later_cuts: list[int]
) -> None:
    raw = b"".join(stream.seal_stream(KEY, ASSOCIATED, len(payload), split(payload, cuts)))
    assert b"".join(stream.open_stream(KEY, ASSOCIATED, split(raw, later_cuts))) == payload


def split(raw: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(raw)]
    return [raw[start:end] for start, end in pairwise(places)]


def test_a_large_payload_passes_in_small_pieces() -> None:
    """Neither side ever holds more than a few chunks: pieces come out while pieces go in."""
    length, held = 1_000_000, 0
    supplied = 0

    def pieces():
        nonlocal supplied
        for _ in range(100):
            supplied += 10_000
            yield b"\xaa" * 10_000

    produced = 0
    for piece in stream.open_stream(KEY, ASSOCIATED, stream.seal_stream(KEY, ASSOCIATED, length, pieces())):
        produced += len(piece)
        held = max(held, supplied - produced)
    assert produced == length
    assert held <= 4 * stream.CHUNK_BYTES


@pytest.mark.parametrize("length", [0, 100, 70_000])
def test_every_truncation_shows(length: int) -> None:
    raw = sealed(bytes(length))
    step = max(1, len(raw) // 400)
    for end in (*range(0, len(raw), step), len(raw) - 1):
        assert refused(raw[:end])


def test_truncation_at_a_chunks_border_shows() -> None:
    raw = sealed(bytes(200_000))
    chunk = stream.CHUNK_BYTES + stream.CHUNK_OVERHEAD_BYTES
    for count in range(4):
        assert refused(raw[: stream.STREAM_HEADER_BYTES + count * chunk])


def test_chunks_out_of_order_repeated_or_appended_show() -> None:
    raw = sealed(bytes(300_000))
    size = stream.CHUNK_BYTES + stream.CHUNK_OVERHEAD_BYTES
    header, body = raw[: stream.STREAM_HEADER_BYTES], raw[stream.STREAM_HEADER_BYTES :]
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    assert opened(header + b"".join(chunks)) == bytes(300_000)
    swapped = [chunks[1], chunks[0], *chunks[2:]]
    doubled = [chunks[0], *chunks]
    dropped = chunks[1:]
    for bad in (swapped, doubled, dropped, [*chunks, chunks[-1]], [*chunks, b"\x00"]):
        assert refused(header + b"".join(bad))


def test_every_flipped_byte_shows() -> None:
    raw = sealed(b"short")
    for place in range(len(raw)):
        assert refused(raw[:place] + bytes((raw[place] ^ 0x40,)) + raw[place + 1 :])


def test_associated_data_and_key_matter() -> None:
    raw = sealed(b"payload")
    for key, associated in ((KEY, bytes(32)), (KEY[::-1], ASSOCIATED)):
        with pytest.raises(Refused):
            b"".join(stream.open_stream(key, associated, [raw]))


def by_hand(plain: bytes, tags: list[int], size: int = stream.CHUNK_BYTES) -> bytes:
    """A stream as only a dishonest author makes it."""
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    out = bindings.crypto_secretstream_xchacha20poly1305_init_push(state, KEY)
    for place, tag in enumerate(tags):
        part = plain[place * size : (place + 1) * size]
        out += bindings.crypto_secretstream_xchacha20poly1305_push(state, part, ASSOCIATED, tag)
    return out


FINAL = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
MESSAGE = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
REKEY = bindings.crypto_secretstream_xchacha20poly1305_TAG_REKEY
PLAIN = (5).to_bytes(8, "big") + b"hello" + bytes(243)


def test_the_plaintext_by_hand_is_the_honest_one() -> None:
    assert opened(by_hand(PLAIN, [FINAL])) == b"hello"


@pytest.mark.parametrize(
    ("plain", "tags", "size"),
    [
        (PLAIN, [MESSAGE], 65_536),
        (PLAIN, [REKEY], 65_536),
        (PLAIN + b"\x00", [FINAL], 65_536),
        (PLAIN[:-1], [FINAL], 65_536),
        (PLAIN[:-1] + b"\x01", [FINAL], 65_536),
        (PLAIN, [MESSAGE, FINAL], 128),
        (PLAIN[:7], [FINAL], 65_536),
        ((2**63).to_bytes(8, "big") + bytes(248), [FINAL], 65_536),
        ((300).to_bytes(8, "big") + bytes(248), [FINAL], 65_536),
        (b"", [FINAL], 65_536),
    ],
    ids=[
        "no final tag", "rekeyed", "longer padding", "shorter padding", "padding not zero", "small chunks",
        "no length", "absurd length", "length beyond the plaintext", "empty",
    ],
)  # fmt: skip
def test_other_plaintexts_than_the_honest_one_are_refused(plain: bytes, tags: list[int], size: int) -> None:
    assert refused(by_hand(plain, tags, size))


def test_a_wrong_length_is_the_callers_error() -> None:
    for length in (4, 6):
        with pytest.raises(ValueError, match="announced"):
            list(stream.seal_stream(KEY, ASSOCIATED, length, [b"hello"]))
    with pytest.raises(Refused) as caught:
        list(stream.seal_stream(KEY, ASSOCIATED, stream.PAYLOAD_BYTES_MAX + 1, []))
    assert caught.value.code == "sealing.too_large"
