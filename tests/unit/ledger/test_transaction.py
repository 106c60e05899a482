"""The signed envelope: what is signed, what is refused, and when it may be included."""

from __future__ import annotations

import hashlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consilium.ledger import codec
from consilium.ledger.crypto import Digest, SigningKey, verify_claims
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import (
    OPERATION_BODY_BYTES_MAX,
    OPERATION_NAME_CHARS_MAX,
    OPERATIONS_MAX,
    TRANSACTION_BYTES_MAX,
    VALIDITY_MAX_MS,
    Operation,
    Transaction,
    Verified,
    check_time,
    identity_of,
    open_transaction,
    sign_transaction,
    transaction_id,
    verify_found,
    verify_transaction,
)
from tests.unit.ledger.world import some

KEY = SigningKey(some("key"))
CHAIN = some("chain")
SENDER, NONCE = some("sender", 16), some("nonce", 16)


def sign(*operations: Operation, **changes: Any) -> Verified[Transaction]:
    arguments: dict[str, Any] = {
        "chain_id": CHAIN,
        "sender": SENDER,
        "nonce": NONCE,
        "valid_until": 1_000_000,
        "operations": list(operations or (Operation("put", b"body"),)),
    }
    return sign_transaction(KEY, **{**arguments, **changes})


def code_of(raw: bytes, chain_id: bytes = CHAIN) -> str:
    with pytest.raises(Refused) as raised:
        verify_transaction(raw, chain_id)
    return raised.value.code


def tagged(tag: str, data: bytes) -> bytes:
    return hashlib.sha256(bytes([len(tag)]) + tag.encode() + b"\x00" + data).digest()


def test_what_is_signed() -> None:
    signed = sign(Operation("a", b"1"), Operation("b", b""))
    fields = [1, CHAIN, SENDER, KEY.public, NONCE, 1_000_000, [["a", b"1"], ["b", b""]]]
    assert signed.id == tagged("consilium/transaction/1", msgpack.packb(fields))
    assert signed.raw == msgpack.packb([*fields, KEY.sign(signed.id)])


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=48), st.binary(max_size=300)), min_size=1, max_size=40),
    st.integers(0, 2**63 - 1),
)
def test_there_and_back(operations: list[tuple[str, bytes]], valid_until: int) -> None:
    signed = sign(*(Operation(name, body) for name, body in operations), valid_until=valid_until)
    verified = verify_transaction(signed.raw, CHAIN)
    assert (verified.value, verified.raw, verified.id) == (signed.value, signed.raw, signed.id)
    assert transaction_id(verified.value) == signed.id


def test_the_signature_is_not_in_the_id() -> None:
    """Else whoever holds the key could replay a statement under a fresh signature."""
    signed = sign()
    again = replace(signed.value, signature=bytes(64))
    assert transaction_id(again) == signed.id


@pytest.mark.parametrize("place", range(7))
def test_every_other_field_is(place: int) -> None:
    signed = sign()
    others = [
        replace(signed.value, version=2),
        replace(signed.value, chain_id=bytes(32)),
        replace(signed.value, sender=bytes(16)),
        replace(signed.value, key=bytes(32)),
        replace(signed.value, nonce=bytes(16)),
        replace(signed.value, valid_until=999_999),
        replace(signed.value, operations=[Operation("put", b"bodz")]),
    ]
    assert transaction_id(others[place]) != signed.id
    assert code_of(codec.encode(others[place])) == {
        0: "transaction.wrong_version",
        1: "transaction.wrong_chain",
    }.get(place, "transaction.bad_signature")


def test_operations_do_not_run_together() -> None:
    """Bytes moved from a name to a body, or from one operation to the next, are another statement."""
    ids = {
        sign(*operations).id
        for operations in (
            [Operation("ab", b"c")],
            [Operation("a", b"bc")],
            [Operation("a", b"b"), Operation("c", b"")],
            [Operation("a", b""), Operation("b", b"c")],
        )
    }
    assert len(ids) == 4


def test_any_changed_bit_is_refused() -> None:
    raw = sign().raw
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert code_of(bytes(changed)).startswith(("codec.", "transaction."))


@pytest.mark.parametrize("version", [0, 2, 2**63 - 1])
def test_versions_to_come(version: int) -> None:
    assert code_of(codec.encode(replace(sign().value, version=version))) == "transaction.wrong_version"


def test_another_chain() -> None:
    assert code_of(sign().raw, bytes(32)) == "transaction.wrong_chain"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"operations": []}, "transaction.no_operations"),
        ({"operations": [Operation("put", b"")] * (OPERATIONS_MAX + 1)}, "codec.oversized"),
        ({"operations": [Operation("", b"")]}, "codec.malformed"),
        ({"operations": [Operation("a" * (OPERATION_NAME_CHARS_MAX + 1), b"")]}, "codec.malformed"),
        ({"operations": [Operation("a", bytes(OPERATION_BODY_BYTES_MAX + 1))]}, "codec.malformed"),
        ({"operations": [Operation("a", bytes(OPERATION_BODY_BYTES_MAX))] * 8}, "codec.oversized"),
        ({"nonce": bytes(15)}, "codec.malformed"),
        ({"sender": bytes(17)}, "codec.malformed"),
        ({"chain_id": b""}, "codec.malformed"),
        ({"valid_until": -1}, "codec.malformed"),
        ({"valid_until": 2**63}, "codec.malformed"),
    ],
)
def test_nothing_is_signed_that_nodes_would_refuse(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as raised:
        sign(**changes)
    assert raised.value.code == code


def test_the_largest_that_is_signed() -> None:
    most = sign(*[Operation("a" * OPERATION_NAME_CHARS_MAX, b"")] * OPERATIONS_MAX)
    assert verify_transaction(most.raw, CHAIN).id == most.id
    room = TRANSACTION_BYTES_MAX - len(sign(*[Operation("a", bytes(16_000))] * 8).raw)
    sizes = [16_000 + room // 8] * 7 + [16_000 + room // 8 + room % 8]
    full = sign(*(Operation("a", bytes(size)) for size in sizes))
    assert len(full.raw) == TRANSACTION_BYTES_MAX
    assert verify_transaction(full.raw, CHAIN).id == full.id


def test_only_verifying_makes_a_verified_value() -> None:
    signed = sign()
    with pytest.raises(TypeError, match="verify function"):
        Verified(signed.value, signed.raw, Digest(bytes(32)), _proof=object())
    assert signed.id.hex()[:12] in repr(signed)


@pytest.mark.parametrize(
    ("until", "block", "code"),
    [
        (1_000, 999, None),
        (1_000, 1_000, "transaction.expired"),
        (1_000, 1_001, "transaction.expired"),
        (0, 0, "transaction.expired"),
        (1_000 + VALIDITY_MAX_MS, 1_000, None),
        (1_001 + VALIDITY_MAX_MS, 1_000, "transaction.too_far_ahead"),
        (2**63 - 1, 0, "transaction.too_far_ahead"),
    ],
)
def test_the_window(until: int, block: int, code: str | None) -> None:
    transaction = sign(valid_until=until).value
    if code is None:
        check_time(transaction, block)
        return
    with pytest.raises(Refused) as raised:
        check_time(transaction, block)
    assert raised.value.code == code


def test_identities_come_from_keys() -> None:
    assert identity_of(KEY.public) == tagged("consilium/identity/1", KEY.public)[:16]


def test_what_is_opened_and_checked_elsewhere_is_what_is_verified_here() -> None:
    signed = sign(Operation("a", b"1"))
    forged = signed.raw[:-1] + bytes([signed.raw[-1] ^ 1])
    opened, other = open_transaction(signed.raw, CHAIN), open_transaction(forged, CHAIN)
    good, bad = verify_claims(opened.claim + other.claim)
    verified = verify_found(opened, bool(good))
    assert (verified.value, verified.raw, verified.id) == (signed.value, signed.raw, signed.id)
    with pytest.raises(Refused, match=r"transaction\.bad_signature"):
        verify_found(other, bool(bad))


@pytest.mark.parametrize("raw", [b"", b"nonsense", sign(chain_id=some("other chain")).raw])
def test_opening_refuses_all_that_needs_no_signature(raw: bytes) -> None:
    with pytest.raises(Refused) as raised:
        open_transaction(raw, CHAIN)
    assert raised.value.code == code_of(raw)
