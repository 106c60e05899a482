"""What the checking process reads and writes, without a process."""

from __future__ import annotations

import io
import socket
import subprocess

import pytest

from consilium.ledger.crypto import Digest, SigningKey
from consilium.node.checking import PROGRAM
from consilium.node.checking_process import CLAIMS_MAX, COUNT_BYTES, answer_all

KEY = SigningKey(b"k" * 32)
DIGEST = Digest(bytes(range(32)))
GOOD = KEY.public + DIGEST + KEY.sign(DIGEST)
BAD = GOOD[:-1] + bytes((GOOD[-1] ^ 1,))


def asked(*claims: bytes) -> bytes:
    return len(claims).to_bytes(COUNT_BYTES, "big") + b"".join(claims)


def answers(question: bytes) -> bytes:
    found = io.BytesIO()
    answer_all(io.BytesIO(question), found)
    return found.getvalue()


def test_every_claim_has_its_byte_in_order() -> None:
    assert answers(b"") == b""
    assert answers(asked(GOOD)) == b"\x01"
    assert answers(asked(GOOD, BAD, GOOD) + asked(BAD)) == b"\x01\x00\x01\x00"


def test_a_question_that_is_cut_off_ends_it() -> None:
    assert answers(asked(GOOD) + asked(GOOD, GOOD)[:-1]) == b"\x01"
    assert answers(asked(GOOD) + b"\xff") == b"\x01"


def test_it_ends_without_a_word_where_nobody_hears_the_answer() -> None:
    """The node is gone, and its log is no place to say so."""
    own, other = socket.socketpair()
    with own, other:
        other.sendall(asked(GOOD) * 10)
        own.shutdown(socket.SHUT_RDWR)
        end = subprocess.run(PROGRAM, stdin=other.fileno(), capture_output=True, timeout=60.0, check=False)
    assert (end.returncode, end.stdout, end.stderr) == (0, b"", b"")


@pytest.mark.parametrize("count", [0, CLAIMS_MAX + 1])
def test_what_is_no_question_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="are asked at once"):
        answers(count.to_bytes(COUNT_BYTES, "big") + GOOD * count)
