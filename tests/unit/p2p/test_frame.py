"""Frames against a dumb twin that looks at the whole history each time, and golden vectors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.ledger.errors import PeerFault
from consilium.p2p.frame import (
    CHUNK_BYTES_MAX,
    FRAME_BYTES_MAX,
    GARBAGE_WEIGHT,
    HEADER_BYTES,
    LAST,
    MESSAGE_BYTES_MAX,
    Chunker,
    Message,
    Reassembler,
    check_limits,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "p2p" / "frames.json"
LIMITS = {0: 0, 1: 100, 2: CHUNK_BYTES_MAX, 3: 3 * CHUNK_BYTES_MAX + 5, 255: 10 * CHUNK_BYTES_MAX}


def twin_frames(kind: int, body: bytes, number: int) -> list[bytes]:
    """The one way to cut a message, said with arithmetic on bytes."""
    frames = []
    index = 0
    while True:
        chunk, body = body[:65_528], body[65_528:]
        last = not body
        frames.append(
            bytes([kind, 1 if last else 0]) + index.to_bytes(2, "big") + number.to_bytes(4, "big") + chunk
        )
        index += 1
        if last:
            return frames


def twin_reads(history: list[bytes]) -> list[Message] | None:
    """The messages of a history of frames; None when no honest sender has such a history."""
    messages: list[Message] = []
    rest = history
    while rest:
        group = []
        for frame in rest:
            group.append(frame)
            if len(frame) > 1 and frame[1] == 1:
                break
        rest = rest[len(group) :]
        kind = group[0][0] if group[0] else -1
        body = b"".join(frame[8:] for frame in group)
        complete = group[-1][1:2] == b"\x01"
        if kind not in LIMITS or len(body) + (not complete) > LIMITS[kind]:
            return None
        honest = twin_frames(kind, body if complete else body + b"?", len(messages))
        if honest[: len(group)] != group:
            return None
        if complete:
            messages.append(Message(kind, body))
    return messages


sizes = st.one_of(
    st.integers(0, 120),
    st.sampled_from([n * CHUNK_BYTES_MAX + d for n in (1, 2, 3) for d in (-1, 0, 1, 5, 6)]),
)
messages = st.builds(
    lambda kind, size, fill: Message(kind, bytes([fill]) * size),
    st.sampled_from([0, 1, 2, 3, 7, 255]),
    sizes,
    st.integers(0, 255),
)


@st.composite
def histories(draw: st.DrawFn) -> list[bytes]:
    """What an honest sender sends, mostly: then some of it is dropped, repeated, swapped or bent."""
    chunker = Chunker()
    frames = [
        frame for kind, body in draw(st.lists(messages, max_size=4)) for frame in chunker.frames(kind, body)
    ]
    for _ in range(draw(st.integers(0, 2))):
        if not frames:
            break
        at = draw(st.integers(0, len(frames) - 1))
        match draw(st.sampled_from(["drop", "repeat", "swap", "bend", "cut", "grow"])):
            case "drop":
                del frames[at]
            case "repeat":
                frames.insert(at, frames[at])
            case "swap":
                frames[at], frames[-1] = frames[-1], frames[at]
            case "bend":
                where = draw(st.integers(0, HEADER_BYTES - 1))
                bent = bytearray(frames[at].ljust(HEADER_BYTES, b"\0"))
                bent[where] ^= draw(st.integers(1, 255))
                frames[at] = bytes(bent)
            case "cut":
                frames[at] = frames[at][: draw(st.integers(0, len(frames[at])))]
            case "grow":
                frames[at] += b"\0"
    return frames


@settings(deadline=None)
@given(st.lists(messages.filter(lambda m: len(m.body) <= LIMITS.get(m.kind, -1)), max_size=4))
def test_what_is_cut_is_put_together_again(sent: list[Message]) -> None:
    chunker, reassembler = Chunker(), Reassembler(LIMITS)
    got = []
    for number, (kind, body) in enumerate(sent):
        frames = list(chunker.frames(kind, body))
        assert frames == twin_frames(kind, body, number)
        assert all(len(frame) <= FRAME_BYTES_MAX for frame in frames)
        got += [message for frame in frames if (message := reassembler.feed(frame)) is not None]
    assert got == sent
    assert reassembler.held_bytes == 0


@settings(deadline=None, max_examples=300)
@given(histories())
def test_the_first_impossible_frame_is_a_fault_and_no_other(frames: list[bytes]) -> None:
    reassembler = Reassembler(LIMITS)
    got: list[Message] = []
    for count, frame in enumerate(frames, start=1):
        expected = twin_reads(frames[:count])
        if expected is None:
            with pytest.raises(PeerFault) as caught:
                reassembler.feed(frame)
            assert caught.value.weight == GARBAGE_WEIGHT
            return
        message = reassembler.feed(frame)
        got += [message] if message else []
        assert got == expected
        assert reassembler.held_bytes <= max(LIMITS.values())


@given(st.binary(max_size=40))
def test_random_bytes_are_a_message_or_a_fault(raw: bytes) -> None:
    expected = twin_reads([raw])
    try:
        message = Reassembler(LIMITS).feed(raw)
    except PeerFault:
        assert expected is None
    else:
        assert expected == ([message] if message else [])


def test_the_number_wraps() -> None:
    chunker, reassembler = Chunker(), Reassembler({1: 1})
    chunker._number = reassembler._number = 2**32 - 1
    for body in (b"a", b"b"):
        assert reassembler.feed(next(chunker.frames(1, body))) == Message(1, body)


@pytest.mark.parametrize("size", [0, 1, *(CHUNK_BYTES_MAX + d for d in (-1, 0, 1)), 3 * CHUNK_BYTES_MAX])
def test_a_limit_is_exact(size: int) -> None:
    def read(limit: int) -> Message | None:
        reassembler = Reassembler({1: limit})
        return [reassembler.feed(frame) for frame in Chunker().frames(1, bytes(size))][-1]

    assert read(size) == Message(1, bytes(size))
    if size:
        with pytest.raises(PeerFault, match=f"limit of {size - 1} bytes"):
            read(size - 1)


def test_a_promise_beyond_the_limit_is_refused_before_it_is_kept() -> None:
    reassembler = Reassembler({1: CHUNK_BYTES_MAX})
    first = next(Chunker().frames(1, bytes(CHUNK_BYTES_MAX + 1)))
    with pytest.raises(PeerFault, match="beyond its limit"):
        reassembler.feed(first)
    assert reassembler.held_bytes == 0


@pytest.mark.parametrize(
    ("limits", "wrong"),
    [
        ({256: 1}, "a kind is"),
        ({-1: 1}, "a kind is"),
        ({1: -1}, "limit of kind 1"),
        ({1: MESSAGE_BYTES_MAX + 1}, "limit"),
    ],
)
def test_limits_that_cannot_be_kept(limits: dict[int, int], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        check_limits(limits)
    assert check_limits({0: 0, 255: MESSAGE_BYTES_MAX}) == {0: 0, 255: MESSAGE_BYTES_MAX}


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text()), ids=lambda case: case["name"])
def test_golden(case: dict[str, object]) -> None:
    """`messages` is missing where the frames must be refused."""
    frames = [bytes.fromhex(frame) for frame in case["frames"]]  # type: ignore[attr-defined]
    reassembler = Reassembler({1: 100, 2: 0})
    if "messages" not in case:
        for frame in frames[:-1]:
            reassembler.feed(frame)
        with pytest.raises(PeerFault):
            reassembler.feed(frames[-1])
        return
    sent = [Message(kind, bytes.fromhex(body)) for kind, body in case["messages"]]  # type: ignore[attr-defined]
    chunker = Chunker()
    assert [frame for kind, body in sent for frame in chunker.frames(kind, body)] == frames
    assert [message for frame in frames if (message := reassembler.feed(frame))] == sent


def test_the_last_flag_is_the_only_flag() -> None:
    assert LAST == 1
    with pytest.raises(PeerFault, match="flags 0x03"):
        Reassembler({1: 9}).feed(bytes((1, 3, 0, 0, 0, 0, 0, 0)))


@pytest.mark.parametrize(
    ("second", "wrong"),
    [
        pytest.param(bytes((1, 1, 0, 1, 0, 0, 0, 0)), "empty chunk", id="nothing at the end"),
        pytest.param(bytes((2, 1, 0, 1, 0, 0, 0, 0, 9)), "out of place", id="another kind"),
        pytest.param(bytes((1, 1, 0, 2, 0, 0, 0, 0, 9)), "out of place", id="another index"),
        pytest.param(bytes((1, 1, 0, 1, 0, 0, 0, 1, 9)), "out of place", id="another message"),
    ],
)
def test_what_may_not_follow_a_full_chunk(second: bytes, wrong: str) -> None:
    limits = {1: 2 * CHUNK_BYTES_MAX, 2: 2 * CHUNK_BYTES_MAX}
    first = bytes((1, 0, 0, 0, 0, 0, 0, 0)) + bytes(CHUNK_BYTES_MAX)
    reassembler = Reassembler(limits)
    assert reassembler.feed(first) is None
    assert reassembler.held_bytes == CHUNK_BYTES_MAX
    with pytest.raises(PeerFault, match=wrong):
        reassembler.feed(second)
