"""What a process that checks answers, however the stream cuts it: each piece gets its own bytes, in order."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger.crypto import CLAIM_BYTES
from consilium.node.checking import ASKED_AHEAD, _Piece, _Process
from consilium.node.checking_process import CLAIMS_MAX


class Wire:
    """The transport: what was asked, and whether the process is still heard."""

    def __init__(self) -> None:
        self.asked = b""
        self.aborted = False

    def write(self, raw: bytes) -> None:
        self.asked += raw

    def abort(self) -> None:
        self.aborted = True


def asked(sizes: list[int]) -> tuple[_Process, Any, list[_Piece]]:
    process, wire = _Process(lambda: None), Wire()
    process.connection_made(wire)  # type: ignore[arg-type]
    pieces = [_Piece(bytes(size * CLAIM_BYTES), asyncio.get_running_loop().create_future()) for size in sizes]
    for piece in pieces:
        process.ask(piece)
    return process, wire, pieces


@given(
    st.lists(
        st.lists(st.sampled_from(b"\x00\x01"), min_size=1, max_size=6).map(bytes), min_size=1, max_size=5
    ),
    st.lists(st.integers(1, 7), max_size=30),
    st.integers(0, 4),
)
def test_answers_come_cut_anyhow(answers: list[bytes], cuts: list[int], gone: int) -> None:
    async def run() -> None:
        process, wire, pieces = asked([len(answer) for answer in answers])
        if gone < len(pieces):
            pieces[gone].answer.cancel()  # whoever asked does not wait any more
        stream = b"".join(answers)
        for cut in [*cuts, len(stream)]:
            if stream:
                process.data_received(stream[:cut])
            stream = stream[cut:]
        assert not wire.aborted
        assert [None if piece.answer.cancelled() else piece.answer.result() for piece in pieces] == [
            None if number == gone else answer for number, answer in enumerate(answers)
        ]
        assert process.has_room
        assert process.silent_s == 0.0

    asyncio.run(run())


async def test_an_answer_too_long_is_heard_no_more() -> None:
    process, wire, (piece,) = asked([2])
    process.data_received(b"\x01")
    assert (piece.answer.done(), wire.aborted) == (False, False)
    process.data_received(b"\x00\x01")
    assert (piece.answer.result(), wire.aborted) == (b"\x01\x00", True)


async def test_what_was_answered_makes_room() -> None:
    process, _, pieces = asked([CLAIMS_MAX, ASKED_AHEAD - CLAIMS_MAX])
    assert not process.has_room
    process.data_received(b"\x01" * (CLAIMS_MAX - 1))
    assert not process.has_room
    process.data_received(b"\x01")
    assert process.has_room
    assert [piece.answer.done() for piece in pieces] == [True, False]
