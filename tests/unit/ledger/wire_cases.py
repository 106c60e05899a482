"""Values of every wire type of the ledger, and bytes of each that must be refused: the golden files are made of these.

A case without `fields` must be refused, with the code it names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import msgpack
import msgspec
from msgspec.structs import replace

from consilium.ledger import codec
from consilium.ledger.batch import BATCH_BYTES_MAX, Batch, open_batch
from consilium.ledger.block import (
    BLOCK_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    HEADER_BYTES_MAX,
    Block,
    CommitCertificate,
    Header,
    decode_block,
    verify_certificate,
)
from consilium.ledger.errors import Refused
from consilium.ledger.execution import EVENT_BYTES_MAX, LEAF_BYTES_MAX, Event, ReceiptLeaf
from consilium.ledger.genesis import GENESIS_BYTES_MAX, Genesis
from consilium.ledger.transaction import (
    TRANSACTION_BYTES_MAX,
    Operation,
    Transaction,
    transaction_id,
    verify_transaction,
)
from consilium.storage.chain import Place
from tests.unit.ledger.receipts_world import large, quiet, restless
from tests.unit.ledger.world import seals_of

EVENT_WIRE_BYTES_MAX = EVENT_BYTES_MAX + 1024


class Kind(NamedTuple):
    """A wire type; `check` opens bytes as a node does, `digests` are what is hashed over a value."""

    name: str
    type: Any
    bytes_max: int
    check: Callable[[bytes], Any]
    digests: Callable[[Any], dict[str, bytes]]


def _plain_check(kind: Any, bytes_max: int) -> Callable[[bytes], Any]:
    return lambda raw: codec.decode(raw, kind, bytes_max)


def _check_certificate(raw: bytes) -> None:
    certificate = codec.decode(raw, CommitCertificate, CERTIFICATE_BYTES_MAX)
    verify_certificate(certificate, quiet().chain_id, quiet().genesis.validator_set)


KINDS = [
    Kind(
        "Transaction",
        Transaction,
        TRANSACTION_BYTES_MAX,
        lambda raw: verify_transaction(raw, quiet().chain_id),
        lambda value: {"id": transaction_id(value)},
    ),
    Kind(
        "Batch",
        Batch,
        BATCH_BYTES_MAX,
        lambda raw: open_batch(raw, quiet().chain_id),
        lambda value: {"digest": value.digest()},
    ),
    Kind(
        "Header", Header, HEADER_BYTES_MAX, _plain_check(Header, HEADER_BYTES_MAX), lambda v: {"hash": v.hash}
    ),
    Kind("Block", Block, BLOCK_BYTES_MAX, decode_block, lambda value: {"hash": value.hash}),
    Kind("CommitCertificate", CommitCertificate, CERTIFICATE_BYTES_MAX, _check_certificate, lambda value: {}),
    Kind(
        "Genesis",
        Genesis,
        GENESIS_BYTES_MAX,
        _plain_check(Genesis, GENESIS_BYTES_MAX),
        lambda value: {"chain_id": value.chain_id, "validators_hash": value.validator_set.hash},
    ),
    Kind(
        "ReceiptLeaf",
        ReceiptLeaf,
        LEAF_BYTES_MAX,
        _plain_check(ReceiptLeaf, LEAF_BYTES_MAX),
        lambda value: {},
    ),
    Kind("Event", Event, EVENT_WIRE_BYTES_MAX, _plain_check(Event, EVENT_WIRE_BYTES_MAX), lambda value: {}),
]


@cache
def samples(name: str) -> list[Any]:
    """Values that nodes really make."""
    world = quiet()
    store = world.store
    batches = [codec.decode(raw, Batch, BATCH_BYTES_MAX) for raw in store.batches(1)]
    match name:
        case "Transaction":
            raw = [raw for batch in batches for raw in batch.transactions]
            return [codec.decode(one, Transaction, TRANSACTION_BYTES_MAX) for one in raw]
        case "Batch":
            return batches
        case "Header":
            return [store.header(0), store.header(4), restless().store.header(9)]
        case "Block":
            return [store.block(0), store.block(1), store.block(2)]
        case "CommitCertificate":
            return [store.certificate(1), store.certificate(4)]
        case "Genesis":
            return [world.genesis, large().genesis]
        case "ReceiptLeaf":
            raws = [*store.leaves(1), *large().store.leaves(2)]
            return [codec.decode(raw, ReceiptLeaf, LEAF_BYTES_MAX) for raw in raws]
        case _:
            told = [event for _, event in store.events(Place(-1, -1), 10)]
            return [*told, Event("access.decided", [bytes(16), b"\x01" * 16], bytes(32), 255, 0, b"")]


def _one(name: str) -> Any:
    return samples(name)[0]


def _other_bytes(value: Any, **changes: Any) -> bytes:
    return codec.encode(replace(value, **changes))


def _certificate(**changes: Any) -> bytes:
    return _other_bytes(_one("CommitCertificate"), **changes)


def _invalid() -> dict[str, list[tuple[str, bytes]]]:
    transaction, batch, header = _one("Transaction"), _one("Batch"), _one("Header")
    block, genesis, leaf, event = (
        samples("Block")[1],
        _one("Genesis"),
        _one("ReceiptLeaf"),
        samples("Event")[-1],
    )
    seals = _one("CommitCertificate").seals
    more = seals_of(quiet().store.header(1), quiet().genesis.validator_set, skip=1).seals[-1:]
    plain = msgspec.to_builtins(transaction, builtin_types=(bytes,))
    return {
        "Transaction": [
            ("a version to come", _other_bytes(transaction, version=2)),
            ("another chain", _other_bytes(transaction, chain_id=bytes(32))),
            ("another nonce under the same signature", _other_bytes(transaction, nonce=bytes(16))),
            ("another key", _other_bytes(transaction, key=bytes(32))),
            ("no signature", _other_bytes(transaction, signature=bytes(64))),
            ("no operations", msgpack.packb([*plain[:6], [], plain[7]])),
            ("too many operations", _other_bytes(transaction, operations=[Operation("put", b"")] * 257)),
            ("a name without letters", _other_bytes(transaction, operations=[Operation("", b"")])),
            ("a name that is too long", _other_bytes(transaction, operations=[Operation("a" * 49, b"")])),
            ("a negative time", msgpack.packb([*plain[:5], -1, *plain[6:]])),
            ("a short sender", _other_bytes(transaction, sender=bytes(15))),
        ],
        "Batch": [
            ("a version to come", _other_bytes(batch, version=2)),
            ("another chain", _other_bytes(batch, chain_id=bytes(32))),
            ("another author", _other_bytes(batch, author=bytes(32))),
            ("another sequence", _other_bytes(batch, sequence=batch.sequence + 1)),
            ("no transactions", _other_bytes(batch, transactions=[])),
            ("too many transactions", _other_bytes(batch, transactions=[b""] * 513)),
            ("transactions in another order", _other_bytes(batch, transactions=batch.transactions[::-1])),
        ],
        "Header": [
            ("a short parent", _other_bytes(header, parent=bytes(31))),
            ("a height beyond 63 bits", _other_bytes(header, height=2**63)),
        ],
        "Block": [
            ("a version to come", _other_bytes(block, header=replace(block.header, version=2))),
            ("a batch left out", _other_bytes(block, batches=block.batches[:-1])),
            ("batches in another order", _other_bytes(block, batches=block.batches[::-1])),
            ("a batch twice", _other_bytes(block, batches=[block.batches[0]] * 2)),
            ("too many batches", _other_bytes(block, batches=[bytes([n]) * 32 for n in range(65)])),
        ],
        "CommitCertificate": [
            ("no seals", _certificate(seals=[])),
            ("one seal fewer", _certificate(seals=seals[:-1])),
            ("one seal more", _certificate(seals=[*seals, *more])),
            ("a seal twice", _certificate(seals=[seals[0], seals[0], *seals[2:]])),
            ("seals out of order", _certificate(seals=seals[::-1])),
            ("another view", _certificate(view=1)),
            ("another height", _certificate(height=2)),
            ("another block", _certificate(block_hash=bytes(32))),
            ("a sealer beyond the set", _certificate(seals=[*seals[:-1], replace(seals[-1], validator=59)])),
            (
                "a sealer beyond every set",
                _certificate(seals=[*seals[:-1], replace(seals[-1], validator=60)]),
            ),
        ],
        "Genesis": [
            ("no validators", _other_bytes(genesis, validators=[])),
            ("no name", _other_bytes(genesis, network="")),
            ("a long name", _other_bytes(genesis, network="a" * 65)),
            ("too many validators", _other_bytes(genesis, validators=genesis.validators * 16)),
        ],
        "ReceiptLeaf": [
            ("a long code", _other_bytes(leaf, code="a" * 65)),
            ("an operation beyond the last", _other_bytes(leaf, failed=256)),
            ("a long result", _other_bytes(leaf, results=[bytes(16 * 1024 + 1)])),
            ("too many results", _other_bytes(leaf, results=[b""] * 257)),
        ],
        "Event": [
            ("too many subjects", _other_bytes(event, subjects=[bytes(16)] * 9)),
            ("a short subject", _other_bytes(event, subjects=[bytes(15)])),
            ("long data", _other_bytes(event, data=bytes(EVENT_BYTES_MAX + 1))),
        ],
    }


def refusal_of(kind: Kind, raw: bytes) -> str | None:
    """The code that the type's door says, or None where it lets the bytes in."""
    try:
        kind.check(raw)
    except Refused as refusal:
        return refusal.code
    return None


def shown(value: Any) -> Any:
    """Fields as JSON: byte strings in hexadecimal behind 0x."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return [shown(one) for one in value] if isinstance(value, list | tuple) else value


def build() -> dict[str, list[dict[str, Any]]]:
    """Every golden file: type -> cases."""
    return {kind.name: [*_good(kind), *_bad(kind)] for kind in KINDS}


def _good(kind: Kind) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{kind.name} {number}",
            "raw": codec.encode(value).hex(),
            "fields": shown(msgspec.to_builtins(value, builtin_types=(bytes,))),
            **{name: digest.hex() for name, digest in kind.digests(value).items()},
        }
        for number, value in enumerate(samples(kind.name))
    ]


def _bad(kind: Kind) -> list[dict[str, Any]]:
    raw = codec.encode(_one(kind.name))
    every = [
        *_invalid()[kind.name],
        ("cut off", raw[:-1]),
        ("a byte too many", raw + b"\x00"),
        ("a longer head", b"\xdc\x00" + bytes((raw[0] & 15,)) + raw[1:]),
        ("a map", b"\x80"),
    ]
    return [{"name": name, "raw": bad.hex(), "refused": refusal_of(kind, bad)} for name, bad in every]
