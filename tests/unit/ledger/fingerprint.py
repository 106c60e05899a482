"""One block with a bit of everything, and all that executing it gives: for processes that were started otherwise."""

from __future__ import annotations

import msgpack

from consilium.ledger import codec
from consilium.ledger.state import MemoryState
from consilium.ledger.transaction import Operation, Transaction, Verified, identity_of, sign_transaction
from tests.unit.ledger.world import START_MS, STEP_MS, council, key_of, new_council, put, run_block, some

CHAIN = some("chain")
NOW = START_MS + STEP_MS


def sign(
    label: str, *operations: Operation, sender: str = "ann", valid_ms: int = NOW + 1
) -> Verified[Transaction]:
    key = key_of(sender)
    return sign_transaction(
        key,
        chain_id=CHAIN,
        sender=identity_of(key.public),
        nonce=some(f"nonce/{label}", 16),
        valid_until=valid_ms,
        operations=list(operations),
    )


def fingerprint() -> str:
    """Everything that a block with a bit of everything gives."""
    transactions = [
        sign("1", put((b"z", b"1"), (b"y", b"2"), (b"x", None)), put((b"x", b"3"), name="tell")),
        sign("2", put((b"m", b"1"), name="refuse"), sender="bob"),
        sign("3", put((b"n", b"1"), (b"m", b"2"), name="early"), sender="eve"),
        sign("4", new_council(council(9, "next"))),
        sign("5", put(), valid_ms=NOW),
    ]
    state = MemoryState({b"x": b"0", b"k": b"0"})
    outcome = run_block([*transactions, transactions[0]], state, chain_id=CHAIN)
    packed: bytes = msgpack.packb(
        [
            outcome.leaves,
            [t.id for t in outcome.transactions],
            outcome.skipped,
            outcome.receipts_root,
            outcome.changes,
            [codec.encode(event) for event in outcome.events],
            outcome.next_validators.hash,
        ]
    )
    return packed.hex()
