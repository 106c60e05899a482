"""Receipts that must be refused: each is a good one with one thing wrong, and its checksum put right again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec.structs import replace

from consilium.ledger import codec
from consilium.ledger.genesis import Genesis
from consilium.ledger.receipt_format import (
    MerklePath,
    Receipt,
    SetChange,
    StateStatement,
    TransactionStatement,
    VerdictStatement,
    decode_receipt,
    encode_receipt,
)
from consilium.node.receipts import sealing_of
from tests.unit.ledger.receipts_attacks import attacks
from tests.unit.ledger.receipts_world import KEY, Case, builder, cases, header_hash, quiet, restless
from tests.unit.ledger.world import council, found, put, seals_of, validator


class Forged(NamedTuple):
    """`code` is what the product says; every verifier must refuse."""

    name: str
    genesis: Genesis
    trusted: bytes | None
    receipt: bytes
    code: str


def case(name: str) -> Case:
    return next(one for one in cases() if one.name == name)


Change = Callable[[Receipt], Receipt]


def _statement(**changes: Any) -> Change:
    return lambda receipt: replace(receipt, statement=replace(receipt.statement, **changes))


def _sealing(change: Callable[[Any], Any]) -> Change:
    return lambda receipt: replace(receipt, sealing=change(receipt.sealing))


def _change(number: int, change: Callable[[SetChange], SetChange]) -> Change:
    def changed(receipt: Receipt) -> Receipt:
        changes = list(receipt.changes)
        changes[number] = change(changes[number])
        return replace(receipt, changes=changes)

    return changed


def _sealed_by(places: list[int], view: int = 0) -> Change:
    """Good seals by these places of the founders' set."""

    def changed(receipt: Receipt) -> Receipt:
        world, header = quiet(), receipt.top
        voting = world.genesis.validator_set
        every = {
            seal.validator: seal for skip in (0, 1) for seal in seals_of(header, voting, view, skip).seals
        }
        certificate = replace(seals_of(header, voting, view), seals=[every[place] for place in places])
        return replace(receipt, sealing=sealing_of(certificate))

    return changed


def _left_beyond(receipt: Receipt) -> Receipt:
    assert isinstance(receipt.statement, VerdictStatement)
    path = receipt.statement.in_block
    return _statement(in_block=MerklePath(path.left | 1 << len(path.siblings), path.siblings))(receipt)


def _header_of(height: int) -> Change:
    header = quiet().store.header(height)
    return lambda receipt: replace(receipt, header=header)


def _part(name: str, field: str) -> Any:
    """A field of another receipt's statement."""
    return getattr(decode_receipt(case(name).receipt).statement, field)


def _twice(change: SetChange) -> SetChange:
    return replace(change, removed=change.removed * 2)


VERDICT = [
    ("one seal fewer", _sealed_by([0, 1]), "receipt.invalid"),
    ("one seal more", _sealed_by([0, 1, 2, 3]), "receipt.invalid"),
    (
        "a sealer beyond the set",
        _sealing(lambda s: replace(s, sealers=0b10011)),
        "receipt.invalid",
    ),
    ("a sealer beyond every set", _sealing(lambda s: replace(s, sealers=0b11 | 1 << 62)), "receipt.invalid"),
    ("another sealer's signature", _sealing(lambda s: replace(s, sealers=0b1011)), "receipt.invalid"),
    ("seals of another view", _sealing(lambda s: replace(s, view=s.view + 1)), "receipt.invalid"),
    ("a signature cut off", _sealing(lambda s: replace(s, signatures=s.signatures[:-1])), "receipt.invalid"),
    ("no sealers", _sealing(lambda s: replace(s, sealers=0, signatures=b"")), "receipt.invalid"),
    ("no seals, no trust", lambda r: replace(r, sealing=None), "receipt.untrusted"),
    ("a path's side beyond its end", _left_beyond, "receipt.invalid"),
    ("another header", _header_of(5), "receipt.invalid"),
    (
        "the verdict on another transaction",
        lambda r: replace(
            r,
            statement=replace(r.statement, leaf=_part("verdict refused", "leaf")),
        ),
        "receipt.invalid",
    ),
    (
        "another transaction",
        lambda r: replace(
            r,
            statement=replace(r.statement, transaction=_part("transaction", "transaction")),
        ),
        "receipt.invalid",
    ),
    ("an empty transaction", _statement(transaction=b""), "receipt.invalid"),
    ("an empty leaf", _statement(leaf=b""), "receipt.invalid"),
    (
        "a transaction's signature of nothing",
        lambda r: _statement(transaction=r.statement.transaction[:-64] + bytes(64))(r),
        "receipt.invalid",
    ),
    (
        "a header of another version",
        lambda r: replace(r, header=replace(r.header, version=2)),
        "receipt.invalid",
    ),
    (
        "a header of another chain",
        lambda r: replace(r, header=replace(r.header, chain_id=bytes(32))),
        "receipt.wrong_chain",
    ),
]

STATE = [
    ("another value", _statement(value=b"granted?"), "receipt.invalid"),
    ("no value", _statement(value=None), "receipt.invalid"),
    ("another key", _statement(key=b"consent/3"), "receipt.invalid"),
    (
        "no proof",
        lambda r: _statement(proof=replace(r.statement.proof, bucket=b""), value=None)(r),
        "receipt.invalid",
    ),
]

CHANGES = [
    ("a change left out", lambda r: replace(r, changes=r.changes[1:]), "receipt.invalid"),
    ("the last change left out", lambda r: replace(r, changes=r.changes[:-1]), "receipt.invalid"),
    (
        "no changes at all, and another set's seals",
        lambda r: replace(r, changes=r.changes[:-2]),
        "receipt.invalid",
    ),
    ("changes in another order", lambda r: replace(r, changes=r.changes[::-1]), "receipt.invalid"),
    ("a change twice", lambda r: replace(r, changes=[r.changes[0], *r.changes]), "receipt.invalid"),
    ("removed twice", _change(1, _twice), "receipt.invalid"),
    ("removed beyond the set", _change(0, lambda c: replace(c, removed=[59])), "receipt.invalid"),
    ("nothing changed", _change(0, lambda c: replace(c, removed=[], added=[])), "receipt.invalid"),
    ("nobody added", _change(0, lambda c: replace(c, added=[], removed=[0])), "receipt.invalid"),
    (
        "everybody removed",
        _change(0, lambda c: replace(c, removed=[0, 1, 2, 3], added=[])),
        "receipt.invalid",
    ),
    (
        "added who was there",
        _change(0, lambda c: replace(c, removed=[0], added=_with_first_founder(c))),
        "receipt.invalid",
    ),
    ("added out of order", _change(2, lambda c: replace(c, added=c.added[::-1])), "receipt.invalid"),
    ("added twice", _change(2, lambda c: replace(c, added=[c.added[0], *c.added])), "receipt.invalid"),
    ("added under a kept key", _change(0, lambda c: replace(c, added=_kept_key_again(c))), "receipt.invalid"),
    (
        "a stranger added",
        _change(0, lambda c: replace(c, added=[validator("stranger")])),
        "receipt.invalid",
    ),
    (
        "too many added",
        _change(0, lambda c: replace(c, added=sorted(council(59, "many"), key=lambda v: v.key))),
        "receipt.invalid",
    ),
    (
        "a change without its quorum",
        _change(
            0,
            lambda c: replace(c, sealing=replace(c.sealing, sealers=1, signatures=c.sealing.signatures[:64])),
        ),
        "receipt.invalid",
    ),
]

START = [
    (
        "a start with another set",
        lambda r: replace(r, start=replace(r.start, validators=r.start.validators[1:])),
        "receipt.invalid",
    ),
    (
        "a start out of order",
        lambda r: replace(r, start=replace(r.start, validators=r.start.validators[::-1])),
        "receipt.invalid",
    ),
    ("a start left out", lambda r: replace(r, start=None), "receipt.untrusted"),
    ("a start without seals", lambda r: replace(r, sealing=None), "receipt.invalid"),
]

EXTENDED = [
    ("an extension left out", lambda r: replace(r, extension=None), "receipt.invalid"),
    (
        "an extension to itself",
        lambda r: replace(r, extension=replace(r.extension, header=r.header)),
        "receipt.invalid",
    ),
    (
        "a history that ends early",
        lambda r: replace(
            r,
            extension=replace(
                r.extension,
                in_history=replace(r.extension.in_history, siblings=r.extension.in_history.siblings[:-1]),
            ),
        ),
        "receipt.invalid",
    ),
]


def _with_first_founder(change: SetChange) -> list[Any]:
    founder = restless().genesis.validator_set.validators[0]
    return sorted([*change.added, founder], key=lambda one: one.key)


def _kept_key_again(change: SetChange) -> list[Any]:
    founder = restless().genesis.validator_set.validators[0]
    return sorted([*change.added, replace(founder, institution=bytes(16))], key=lambda one: one.key)


def _one_wrong(base: str, table: list[tuple[str, Change, str]]) -> list[Forged]:
    good = case(base)
    return [
        Forged(name, good.genesis, good.trusted, encode_receipt(change(decode_receipt(good.receipt))), code)
        for name, change, code in table
    ]


def _start_at_top() -> Forged:
    """The start is the top itself, and the top is sealed."""
    world = restless()
    good = decode_receipt(case("state after changes").receipt)
    trusted = decode_receipt(case("state from a trusted start").receipt)
    assert trusted.start is not None
    header = good.top
    validators = list(world.store.validators(header.next_validators_hash).validators)
    receipt = replace(good, start=replace(trusted.start, header=header, validators=validators), changes=[])
    return Forged(
        "a start at the top", world.genesis, header.hash, encode_receipt(receipt), "receipt.invalid"
    )


def _genesis_header() -> Forged:
    """The genesis header, trusted, with an empty proof: its roots are zeros, which prove nothing."""
    world = quiet()
    good = decode_receipt(case("state absent").receipt)
    genesis = world.store.header(0)
    assert isinstance(good.statement, StateStatement)
    proof = replace(good.statement.proof, steps=(), bucket=b"")
    receipt = replace(good, statement=replace(good.statement, proof=proof), header=genesis, sealing=None)
    return Forged(
        "the genesis header", world.genesis, genesis.hash, encode_receipt(receipt), "receipt.invalid"
    )


def _equal_halves() -> Forged:
    """A transaction that is in its batch twice: its path may not claim the right half."""
    world = found(council(1))
    twice = world.sign("twice", put((KEY, b"v")))
    world.block([twice, twice])
    good = decode_receipt(builder(world).transaction(twice.id))
    assert isinstance(good.statement, TransactionStatement)
    path = good.statement.in_batch
    assert path.left == 0
    receipt = replace(good, statement=replace(good.statement, in_batch=replace(path, left=1)))
    return Forged(
        "the right of equal halves", world.genesis, None, encode_receipt(receipt), "receipt.invalid"
    )


def forked_receipt(world: Any) -> bytes:
    """A quorum of the founders' keys, leaked later, seals a past that never was."""
    copied = found(list(world.genesis.validators))
    copied.block([copied.sign("never", put((KEY, b"never happened")))])
    copied.idle(1)
    assert copied.chain_id == world.chain_id
    return builder(copied).state(KEY, 1)


def _bytes_wrong() -> list[Forged]:
    good = case("verdict ok")
    raw = good.receipt
    checksum_off = raw[:-1] + bytes([raw[-1] ^ 1])
    longer = raw[:1] + b"\xcc\x01" + raw[2:]
    table = [
        ("nothing", b"", "codec.malformed"),
        ("one byte", raw[:1], "codec.malformed"),
        ("cut off", raw[:-1], "codec.malformed"),
        ("a byte too many", raw + b"\x00", "codec.malformed"),
        ("not canonical", longer, "codec.not_canonical"),
        ("the checksum of another file", checksum_off, "receipt.invalid"),
        ("a later version", raw[:1] + b"\x02" + raw[2:], "receipt.wrong_version"),
        ("a later version of another shape", b"\x92\x02\xc0", "receipt.wrong_version"),
        ("a much later version", raw[:1] + b"\xcd\x01\x00" + raw[2:], "receipt.wrong_version"),
        ("a map that starts with a version", b"\x81\x02\xc0", "codec.malformed"),
        ("a map for a version", raw[:1] + b"\x80" + raw[2:], "codec.malformed"),
        ("version none", raw[:1] + b"\xc0" + raw[2:], "codec.malformed"),
        ("a map", codec.encode({"version": 1}), "codec.malformed"),
        ("a very long array", b"\xdd\xff\xff\xff\xff", "codec.malformed"),
    ]
    return [Forged(name, good.genesis, None, changed, code) for name, changed, code in table]


def forged() -> list[Forged]:
    """All of them."""
    quiet_world, wild = quiet(), restless()
    direct, from_start = case("state after changes"), case("state from a trusted start")
    under_top = case("state under a trusted top")
    elsewhere = header_hash(wild, 1)
    foreign = found(council(4), network="another")
    return [
        *_one_wrong("verdict ok", VERDICT),
        *_one_wrong("state present", STATE),
        *_one_wrong("state after changes", CHANGES),
        *_one_wrong("state from a trusted start", START),
        *_one_wrong("verdict extended", EXTENDED),
        *_bytes_wrong(),
        *(Forged(*attack) for attack in attacks()),
        _start_at_top(),
        _genesis_header(),
        _equal_halves(),
        Forged("another network", foreign.genesis, None, case("verdict ok").receipt, "receipt.wrong_chain"),
        Forged("not on the way", wild.genesis, elsewhere, direct.receipt, "receipt.untrusted"),
        Forged("another start is trusted", wild.genesis, elsewhere, from_start.receipt, "receipt.untrusted"),
        Forged("a start that nobody trusts", wild.genesis, None, from_start.receipt, "receipt.untrusted"),
        Forged("another top is trusted", wild.genesis, elsewhere, under_top.receipt, "receipt.untrusted"),
        Forged("a top that nobody trusts", wild.genesis, None, under_top.receipt, "receipt.untrusted"),
        Forged(
            "a forged past, beside a trusted header",
            quiet_world.genesis,
            header_hash(quiet_world, 2),
            forked_receipt(quiet_world),
            "receipt.untrusted",
        ),
    ]
