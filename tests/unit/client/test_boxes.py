"""Sealed boxes and the cipher: what opens, what must not, and which refusal it gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.client import boxes
from consilium.ledger.errors import Refused

KEY = bytes(range(32))


@given(st.binary(max_size=300))
def test_a_box_opens_for_its_recipient_only(message: bytes) -> None:
    mine, theirs = boxes.new_box_key(), boxes.new_box_key()
    sealed = boxes.seal_to(mine.public, message)
    assert len(sealed) == len(message) + boxes.BOX_OVERHEAD_BYTES
    assert boxes.open_sealed(mine, sealed) == message
    assert boxes.open_sealed(boxes.box_key_of(mine.secret), sealed) == message
    with pytest.raises(Refused) as refused:
        boxes.open_sealed(theirs, sealed)
    assert refused.value.code == "sealing.wrong_key"


def test_every_flipped_or_missing_byte_of_a_box_shows() -> None:
    mine = boxes.new_box_key()
    sealed = boxes.seal_to(mine.public, b"partial")
    changed = [sealed[:i] + bytes((sealed[i] ^ 1,)) + sealed[i + 1 :] for i in range(len(sealed))]
    for bad in [*changed, *(sealed[:i] for i in range(len(sealed))), sealed + b"\x00"]:
        with pytest.raises(Refused) as refused:
            boxes.open_sealed(mine, bad)
        assert refused.value.code == "sealing.wrong_key"


@pytest.mark.parametrize(
    "public",
    [bytes(32), (1).to_bytes(32, "little"), (2**255 - 20).to_bytes(32, "little"), b"short"],
    ids=["zero", "one", "minus one", "short"],
)
def test_nothing_is_sealed_to_a_key_of_small_order(public: bytes) -> None:
    with pytest.raises(Refused) as refused:
        boxes.seal_to(public, b"secret")
    assert refused.value.code == "sealing.bad_recipient"


@given(st.binary(max_size=100), st.binary(max_size=40), st.binary(min_size=24, max_size=24))
def test_the_cipher_opens_with_everything_right_only(message: bytes, associated: bytes, nonce: bytes) -> None:
    sealed = boxes.encrypt(KEY, nonce, message, associated)
    assert boxes.decrypt(KEY, nonce, sealed, associated) == message
    other_nonce = bytes((nonce[0] ^ 1,)) + nonce[1:]
    wrong = [
        (KEY[::-1], nonce, sealed, associated),
        (KEY, other_nonce, sealed, associated),
        (KEY, nonce, sealed, associated + b"\x00"),
        (KEY, nonce, sealed[:-1], associated),
        (KEY, nonce, bytes((sealed[0] ^ 1,)) + sealed[1:], associated),
        (KEY, nonce, b"", associated),
    ]
    for arguments in wrong:
        with pytest.raises(Refused) as refused:
            boxes.decrypt(*arguments)
        assert refused.value.code == "sealing.damaged"


def test_a_pair_shows_no_secret() -> None:
    pair = boxes.new_box_key()
    assert pair.secret.hex()[:12] not in repr(pair)
    assert repr(pair.secret) not in repr(pair)
