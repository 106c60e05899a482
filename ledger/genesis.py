"""The genesis document: what the institutions sign up to before the first block.

It names the first validators and the operations that found the network (who the institutions are). Its digest is the
chain id, which every transaction and vote signs, so that nothing from one network means anything on another. The
genesis block (height 0) is derived from it and is never voted on; the header at height 1 certifies its execution.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from consilium.ledger import codec
from consilium.ledger.block import BLOCK_VERSION, ZERO_DIGEST, Block, Header, batches_root
from consilium.ledger.crypto import Digest, Tag
from consilium.ledger.errors import Refused
from consilium.ledger.merkle import merkle_root
from consilium.ledger.transaction import Operation
from consilium.ledger.validators import VALIDATORS_MAX, Validator, ValidatorSet

GENESIS_VERSION: Final = 1
GENESIS_FORMAT: Final = "consilium-genesis/1"
GENESIS_BYTES_MAX: Final = 1024 * 1024
GENESIS_OPERATIONS_MAX: Final = 1_000
FOUNDER: Final = bytes(16)
"""The sender of the genesis operations: an identity that nobody can hold a key of."""

_GENESIS_TAG: Final = Tag("consilium/genesis/1")


class Genesis(codec.Wire, frozen=True):
    """`network` is a label for people; `time_ms` is the block time of height 0."""

    version: codec.Uint
    network: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    time_ms: codec.Uint
    validators: Annotated[list[Validator], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)]
    operations: Annotated[list[Operation], msgspec.Meta(max_length=GENESIS_OPERATIONS_MAX)]

    @property
    def chain_id(self) -> Digest:
        """32 bytes that name the network."""
        return _GENESIS_TAG.digest(codec.encode(self))

    @property
    def validator_set(self) -> ValidatorSet:
        """The validators of height 1."""
        return ValidatorSet(self.validators)


def genesis_block(genesis: Genesis) -> Block:
    """The block of height 0. Its parent's roots are those of nothing: zero digests."""
    validators = genesis.validator_set
    header = Header(
        version=BLOCK_VERSION,
        chain_id=genesis.chain_id,
        height=0,
        parent=ZERO_DIGEST,
        time_ms=genesis.time_ms,
        primary=validators.keys[0],
        lost=0,
        batches_root=batches_root([]),
        state_root=ZERO_DIGEST,
        receipts_root=ZERO_DIGEST,
        validators_hash=validators.hash,
        next_validators_hash=validators.hash,
        history_root=merkle_root([]),
    )
    return Block(header, [])


def genesis_to_json(genesis: Genesis) -> bytes:
    """The file form: JSON with hexadecimal bytes, readable and diffable by the people who sign up to it."""
    return msgspec.json.format(_compact(genesis), indent=2) + b"\n"


def genesis_from_json(raw: bytes) -> Genesis:
    """Read the file form and check it against the chain id that it states. Raises Refused `genesis.malformed`.

    The file has one reading: but for white space it is what `genesis_to_json` writes. A member that is there twice,
    or that only people read, would have founders agree to something else than what nodes run.
    """
    if len(raw) > GENESIS_BYTES_MAX:
        raise Refused("genesis.malformed", f"{len(raw)} bytes; the limit is {GENESIS_BYTES_MAX}")
    try:
        document: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
        if document.get("format") != GENESIS_FORMAT:
            raise Refused("genesis.malformed", f"the format is not {GENESIS_FORMAT!r}")
        genesis = _of(document)
        stated = document["chain_id"]
        is_as_written = msgspec.json.format(raw, indent=-1) == _compact(genesis)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Refused("genesis.malformed", f"{type(error).__name__}: {error}") from None
    except Refused as refusal:
        raise Refused("genesis.malformed", refusal.detail) from None
    if stated != genesis.chain_id.hex():
        raise Refused("genesis.malformed", "the chain id does not match the contents: the file was changed")
    if not is_as_written:
        raise Refused(
            "genesis.malformed", "it has members that do not belong there, or values written in another way"
        )
    return genesis


def _of(document: dict[str, Any]) -> Genesis:
    genesis = Genesis(
        GENESIS_VERSION,
        document["network"],
        document["time_ms"],
        [Validator(bytes.fromhex(v["key"]), bytes.fromhex(v["institution"])) for v in document["validators"]],
        [Operation(o["name"], bytes.fromhex(o["body"])) for o in document["operations"]],
    )
    # The round trip holds the values to their declared bounds.
    genesis = codec.decode(codec.encode(genesis), Genesis, GENESIS_BYTES_MAX)
    _ = genesis.validator_set
    return genesis


def _compact(genesis: Genesis) -> bytes:
    """The file without white space."""
    return msgspec.json.encode(
        {
            "format": GENESIS_FORMAT,
            "network": genesis.network,
            "chain_id": genesis.chain_id.hex(),
            "time_ms": genesis.time_ms,
            "validators": [
                {"key": v.key.hex(), "institution": v.institution.hex()} for v in genesis.validators
            ],
            "operations": [{"name": o.name, "body": o.body.hex()} for o in genesis.operations],
        }
    )
