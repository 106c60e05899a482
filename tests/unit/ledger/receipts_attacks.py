"""Receipts with good seals on what is not so: what a forger with keys of its own, or a careless quorum, could try.

`receipts_forged` breaks one thing in a good receipt. Here everything fits but one link, so that only the check of that
link stands between the forger and the verifier.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from consilium.ledger.block import Header
from consilium.ledger.genesis import Genesis
from consilium.ledger.merkle import inclusion_proof, merkle_root
from consilium.ledger.receipt_format import (
    Extension,
    MerklePath,
    Receipt,
    Start,
    decode_receipt,
    encode_receipt,
)
from consilium.ledger.validators import ValidatorSet
from consilium.node.receipts import merkle_path, sealing_of, set_change
from tests.unit.ledger.receipts_world import cases, header_hash, quiet, restless
from tests.unit.ledger.world import council, seals_of

FORGERS = ValidatorSet(council(4, "forger"))
Attack = tuple[str, Genesis, bytes | None, bytes, str]


def _good(name: str) -> Receipt:
    return decode_receipt(next(case.receipt for case in cases() if case.name == name))


def _sealed(header: Header, validators: ValidatorSet) -> Any:
    return sealing_of(seals_of(header, validators))


def _under(receipt: Receipt, header: Header, validators: ValidatorSet) -> Receipt:
    """The statement under a header of the forger's making, sealed by a set."""
    return replace(receipt, header=header, sealing=_sealed(header, validators))


def attacks() -> list[Attack]:
    """(name, genesis, trusted, receipt, code): none may verify."""
    world, wild = quiet(), restless()
    founders = world.genesis.validator_set
    good, top = _good("state present"), _good("state under a trusted top")
    header = good.header
    theirs = replace(header, height=9, validators_hash=FORGERS.hash)
    real = world.store.header(2)
    handed = set_change(real, _sealed(real, founders), founders, FORGERS)
    nothing = set_change(real, _sealed(real, founders), founders, founders)
    backwards = replace(real, height=9, next_validators_hash=FORGERS.hash)
    turned = set_change(backwards, _sealed(backwards, founders), founders, FORGERS)
    later = replace(header, version=2)
    start = Start(real, list(FORGERS.validators))
    change = _good("state after changes").changes[0]
    assert good.sealing is not None
    longer = replace(good.sealing, signatures=good.sealing.signatures + bytes(64))
    attempts: list[tuple[str, bool, bytes | None, Receipt]] = [
        ("strangers seal", False, None, _under(good, replace(header, validators_hash=FORGERS.hash), FORGERS)),
        ("strangers seal for the founders", False, None, replace(good, sealing=_sealed_as(header, founders))),
        (
            "a header that did not hand over",
            False,
            None,
            replace(_under(good, theirs, FORGERS), changes=[handed]),
        ),
        (
            "a start that did not hand over",
            False,
            real.hash,
            replace(_under(good, theirs, FORGERS), start=start),
        ),
        ("a change of nothing", False, None, replace(good, changes=[nothing])),
        (
            "a change above the top",
            False,
            None,
            replace(_under(good, replace(theirs, height=5), FORGERS), changes=[turned]),
        ),
        ("a sealed header of a version to come", False, None, _under(good, later, founders)),
        ("a signature too many", False, None, replace(good, sealing=longer)),
        ("a trusted top, and a start", True, top.top.hash, replace(top, start=_start_of(wild))),
        ("a trusted top, and changes", True, top.top.hash, replace(top, changes=[change])),
        ("an extension to an earlier height", False, None, _extended(good, founders, -1)),
        ("an extension to the same height", False, None, _extended(good, founders, 0)),
    ]
    return [
        (name, (wild if is_wild else world).genesis, trusted, encode_receipt(receipt), "receipt.invalid")
        for name, is_wild, trusted, receipt in attempts
    ]


def _sealed_as(header: Header, validators: ValidatorSet) -> Any:
    """The forgers' seals, in the founders' places."""
    return sealing_of(seals_of(replace(header, validators_hash=validators.hash), FORGERS))


def _start_of(world: Any) -> Start:
    header = world.store.header(1)
    assert header.hash == header_hash(world, 1)
    return Start(header, list(world.store.validators(header.next_validators_hash).validators))


def _extended(good: Receipt, founders: ValidatorSet, up: int) -> Receipt:
    """A sealed header, no later than the receipt's, whose history contains it all the same."""
    leaves = [bytes(32), good.header.hash]
    path: MerklePath = merkle_path(leaves[1], inclusion_proof(leaves, 1))
    header = replace(good.header, height=good.header.height + up, history_root=merkle_root(leaves))
    return replace(good, extension=Extension(header, path), sealing=_sealed(header, founders))
