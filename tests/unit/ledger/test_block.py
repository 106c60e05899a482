"""Headers, blocks, certificates: a certificate is exactly a quorum of good seals of one view, sorted, or nothing."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import msgpack
import msgspec
import pytest
from msgspec.structs import replace

from consilium.ledger import codec
from consilium.ledger.block import (
    BLOCK_BATCHES_MAX,
    BLOCK_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    HEADER_BYTES_MAX,
    Block,
    CommitCertificate,
    Header,
    Seal,
    batches_root,
    check_block_form,
    check_certified,
    decode_block,
    seal_digest,
    sign_seal,
    verify_certificate,
    verify_seal,
)
from consilium.ledger.errors import Refused
from consilium.ledger.validators import VALIDATORS_MAX, ValidatorSet
from tests.unit.ledger.world import SIGNERS, council, some

CHAIN = some("chain")
SET = ValidatorSet(council(7))


def header(**changes: Any) -> Header:
    made = Header(
        version=1,
        chain_id=CHAIN,
        height=5,
        parent=some("parent"),
        time_ms=1_000,
        primary=SET.keys[0],
        lost=0,
        batches_root=batches_root([]),
        state_root=some("state"),
        receipts_root=some("receipts"),
        validators_hash=SET.hash,
        next_validators_hash=SET.hash,
        history_root=some("history"),
    )
    return replace(made, **changes)


def block(*digests: bytes, **changes: Any) -> Block:
    return Block(header(batches_root=batches_root(list(digests)), **changes), list(digests))


def seal(place: int, of: Header, view: int = 2) -> Seal:
    return Seal(place, sign_seal(SIGNERS[SET.keys[place]], CHAIN, of.height, view, of.hash))


def certificate(of: Header, places: tuple[int, ...] = (0, 1, 2, 3, 4), view: int = 2) -> CommitCertificate:
    return CommitCertificate(of.height, view, of.hash, [seal(place, of, view) for place in places])


def code_of(raised: pytest.ExceptionInfo[Refused]) -> str:
    return raised.value.code


# ---- blocks


def test_the_hash_is_over_the_header_alone() -> None:
    made = block(some("one"))
    tag = b"consilium/header/1"
    fields = msgspec.to_builtins(made.header, builtin_types=(bytes,))
    assert made.hash == hashlib.sha256(bytes([len(tag)]) + tag + b"\x00" + msgpack.packb(fields)).digest()
    assert made.hash == made.header.hash
    assert made.height == 5


@pytest.mark.parametrize("field", Header.__struct_fields__)
def test_every_field_is_in_the_hash(field: str) -> None:
    made = header()
    value = getattr(made, field)
    other = value + 1 if isinstance(value, int) else some(f"another {field}")
    assert replace(made, **{field: other}).hash != made.hash


@pytest.mark.parametrize("count", [0, 1, 2, BLOCK_BATCHES_MAX])
def test_there_and_back(count: int) -> None:
    made = block(*(some(f"batch {number}") for number in range(count)))
    assert decode_block(codec.encode(made)) == made


@pytest.mark.parametrize(
    "made",
    [
        block(version=2),
        block(version=0),
        Block(header(), [some("one")]),
        Block(header(batches_root=batches_root([some("one")])), []),
        replace(block(some("one"), some("two")), batches=[some("two"), some("one")]),
        block(some("one"), some("one")),
        Block(header(batches_root=bytes(32)), []),
    ],
    ids=["later", "none", "more", "fewer", "order", "twice", "root"],
)
def test_parts_that_do_not_match(made: Block) -> None:
    with pytest.raises(Refused) as raised:
        decode_block(codec.encode(made))
    assert code_of(raised) == "block.malformed"
    with pytest.raises(Refused):
        check_block_form(made)


def test_too_many_batches() -> None:
    made = block(*(some(f"batch {number}") for number in range(BLOCK_BATCHES_MAX + 1)))
    with pytest.raises(Refused) as raised:
        decode_block(codec.encode(made))
    assert code_of(raised) == "codec.malformed"


def test_the_limits_hold_the_largest() -> None:
    """What the types allow fits into what is read."""
    most = 2**63 - 1
    large = header(height=most, time_ms=most, lost=most)
    assert len(codec.encode(large)) <= HEADER_BYTES_MAX
    batches = [some(f"batch {number}") for number in range(BLOCK_BATCHES_MAX)]
    assert len(codec.encode(Block(large, batches))) <= BLOCK_BYTES_MAX
    seals = [Seal(place, bytes(64)) for place in range(VALIDATORS_MAX)]
    assert len(codec.encode(CommitCertificate(most, most, bytes(32), seals))) <= CERTIFICATE_BYTES_MAX


# ---- seals


def test_what_a_seal_signs() -> None:
    tag = b"consilium/seal/1"
    preimage = (
        bytes([len(tag)])
        + tag
        + b"\x00"
        + CHAIN
        + (5).to_bytes(8, "big")
        + (2).to_bytes(8, "big")
        + bytes(32)
    )
    assert seal_digest(CHAIN, 5, 2, bytes(32)) == hashlib.sha256(preimage).digest()


def test_a_seal_is_of_one_chain_height_view_and_block() -> None:
    key = SIGNERS[SET.keys[0]]
    good = (CHAIN, 5, 2, some("block"))
    signature = sign_seal(key, *good)
    assert verify_seal(key.public, *good, signature)
    for other in (
        (bytes(32), *good[1:]),
        (CHAIN, 6, *good[2:]),
        (CHAIN, 5, 3, good[3]),
        (*good[:3], bytes(32)),
    ):
        assert not verify_seal(key.public, *other, signature)
    assert not verify_seal(SET.keys[1], *good, signature)


# ---- certificates


@pytest.mark.parametrize("places", list(itertools.combinations(range(7), 5)))
def test_any_quorum_will_do(places: tuple[int, ...]) -> None:
    made = header()
    check_certified(made, certificate(made, places), SET)


@pytest.mark.parametrize(
    "places",
    [
        (),
        (0,),
        (0, 1, 2, 3),
        (0, 1, 2, 3, 4, 5),
        (0, 1, 2, 3, 4, 5, 6),
        (0, 1, 2, 4, 3),
        (4, 3, 2, 1, 0),
        (0, 0, 1, 2, 3),
        (0, 1, 2, 3, 3),
    ],
)
def test_what_is_not_exactly_a_sorted_quorum(places: tuple[int, ...]) -> None:
    made = header()
    with pytest.raises(Refused) as raised:
        check_certified(made, certificate(made, places), SET)
    assert code_of(raised) == "certificate.invalid"


def test_certificates_that_do_not_fit() -> None:
    made, other = header(), header(time_ms=2_000)
    good = certificate(made)
    moved = header(height=6)
    for of, bad in (
        (other, good),
        (made, replace(good, height=6)),
        (made, replace(good, view=3)),
        (made, replace(good, block_hash=other.hash)),
        (made, certificate(other)),
        (moved, replace(certificate(moved), height=5)),
        (made, replace(good, seals=[*good.seals[:4], Seal(7, good.seals[4].signature)])),
        (made, replace(good, seals=[*good.seals[:4], Seal(5, good.seals[4].signature)])),
        (made, replace(good, seals=[*good.seals[:4], Seal(4, bytes(64))])),
        (made, replace(good, seals=[*good.seals[:4], seal(4, made, view=1)])),
    ):
        with pytest.raises(Refused) as raised:
            check_certified(of, bad, SET)
        assert code_of(raised) == "certificate.invalid"


def test_seals_over_another_height_than_the_headers() -> None:
    """Good seals, each over the certificate's own numbers: they say nothing of a header at another height."""
    made = header(height=6)
    digest = seal_digest(CHAIN, 5, 2, made.hash)
    seals = [Seal(place, SIGNERS[SET.keys[place]].sign(digest)) for place in range(5)]
    tried = CommitCertificate(5, 2, made.hash, seals)
    verify_certificate(tried, CHAIN, SET)
    with pytest.raises(Refused, match="another block"):
        check_certified(made, tried, SET)


def test_views_do_not_add_up() -> None:
    """Seals of two views make no certificate, however they are counted: else two blocks could be certified."""
    made = header()
    mixed = [seal(0, made, 1), seal(1, made, 1), seal(2, made, 2), seal(3, made, 2), seal(4, made, 2)]
    for view in (1, 2):
        with pytest.raises(Refused):
            verify_certificate(CommitCertificate(5, view, made.hash, mixed), CHAIN, SET)


def test_the_set_is_the_headers() -> None:
    made = header()
    wider = ValidatorSet(council(8))
    with pytest.raises(Refused, match="another validator set"):
        check_certified(made, certificate(made), wider)
    renamed = header(validators_hash=wider.hash)
    with pytest.raises(Refused, match="another validator set"):
        check_certified(renamed, certificate(renamed), SET)


@pytest.mark.parametrize("n", range(1, 11))
def test_every_size_of_set(n: int) -> None:
    validators = ValidatorSet(council(n))
    made = header(validators_hash=validators.hash)
    digest = seal_digest(CHAIN, 5, 0, made.hash)
    seals = [Seal(place, SIGNERS[key].sign(digest)) for place, key in enumerate(validators.keys)]
    for count in range(1, n + 1):
        tried = CommitCertificate(5, 0, made.hash, seals[:count])
        if count == validators.quorum:
            check_certified(made, tried, validators)
        else:
            with pytest.raises(Refused):
                check_certified(made, tried, validators)
