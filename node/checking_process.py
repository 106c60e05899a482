"""The process that checks signatures for a node, and knows nothing else of it: see `node.checking`.

It reads from standard input, which is a socket of the node's, and writes there too. Standard output is not heard:
whatever a library prints where it is imported is no answer.

    asked      count (2 bytes, big endian, 1 to CLAIMS_MAX), then so many claims of 128 bytes
    answered   a byte for each, 1 where the signature is good, in the order in which was asked

It ends where its input ends: with the node, however that ended.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import BinaryIO, Final

from consilium.ledger.crypto import CLAIM_BYTES, verify_claims

COUNT_BYTES: Final = 2
CLAIMS_MAX: Final = 64
"""What is asked at once: some 3 ms of work. Several processes share a large batch, and what is urgent waits little."""


def answer_all(asked: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the input ends. Raises ValueError where it is no question."""
    while len(head := asked.read(COUNT_BYTES)) == COUNT_BYTES:
        count = int.from_bytes(head, "big")
        if not 1 <= count <= CLAIMS_MAX:
            raise ValueError(f"{count} claims; 1 to {CLAIMS_MAX} are asked at once")
        claims = asked.read(count * CLAIM_BYTES)
        if len(claims) < count * CLAIM_BYTES:
            return
        answers.write(verify_claims(claims))
        answers.flush()


def main() -> None:
    """Run until the node is gone. Signals that a whole group gets are for the node, which ends this."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(ConnectionError), open(sys.stdin.fileno(), "wb", 0, closefd=False) as answers:
        answer_all(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
