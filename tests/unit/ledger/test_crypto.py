"""Tags and signatures, against hashlib and a second implementation of Ed25519; what libsodium must not accept."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger import crypto
from consilium.ledger.crypto import SigningKey, Tag
from tests.architecture.rules import product_files

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
SEED = bytes(range(32))
DIGEST = Tag("test/1").digest(b"something")


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    st.lists(st.binary()),
)
def test_a_tag_comes_first(name: str, parts: list[bytes]) -> None:
    preimage = bytes([len(name)]) + name.encode() + b"\x00" + b"".join(parts)
    assert Tag(name).digest(*parts) == hashlib.sha256(preimage).digest()


@pytest.mark.parametrize("name", ["", "a" * 41, "ä"])
def test_what_is_no_tag(name: str) -> None:
    with pytest.raises(ValueError, match=r"tag has|ordinal"):
        Tag(name)


def test_no_two_purposes_share_a_tag() -> None:
    names = [
        name
        for path in product_files()
        for name in re.findall(r'\bTag\(\s*"([^"]+)"', path.read_text(encoding="utf-8"))
    ]
    assert len(names) > 15
    assert [name for name, times in Counter(names).items() if times > 1] == []


@given(st.binary(min_size=32, max_size=32), st.binary())
def test_two_implementations_sign_alike(seed: bytes, data: bytes) -> None:
    digest = Tag("test/1").digest(data)
    other = Ed25519PrivateKey.from_private_bytes(seed)
    key = SigningKey(seed)
    assert key.public == other.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert key.public == crypto.public_key(seed)
    signature = key.sign(digest)
    assert signature == other.sign(digest) == crypto.sign(seed, digest)
    assert crypto.verify(key.public, digest, signature)


def test_any_changed_bit_is_noticed() -> None:
    key = SigningKey(SEED)
    signature = key.sign(DIGEST)
    for bit in range(512):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        assert not crypto.verify(key.public, DIGEST, bytes(changed))
    for bit in range(256):
        changed = bytearray(DIGEST)
        changed[bit // 8] ^= 1 << bit % 8
        assert not crypto.verify(key.public, crypto.Digest(bytes(changed)), signature)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_sizes_of_keys(size: int) -> None:
    assert not crypto.verify(bytes(size), DIGEST, bytes(64))
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey(bytes(size))
    with pytest.raises(ValueError, match="32 bytes"):
        crypto.public_key(bytes(size))


@pytest.mark.parametrize("size", [0, 63, 65, 96])
def test_sizes_of_signatures(size: int) -> None:
    assert not crypto.verify(crypto.public_key(SEED), DIGEST, bytes(size))


def test_a_second_signature_cannot_be_made_of_a_first() -> None:
    """S and S + L sign the same: only the smaller is accepted (RFC 8032, 5.1.7)."""
    key = SigningKey(SEED)
    signature = key.sign(DIGEST)
    larger = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    assert not crypto.verify(key.public, DIGEST, signature[:32] + larger.to_bytes(32, "little"))


SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
]


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_keys_that_anybody_could_sign_for(key: str) -> None:
    """With a key of small order a signature of zeros would be good for many messages."""
    for number in range(16):
        digest = Tag("test/1").digest(bytes([number]))
        for point in SMALL_ORDER:
            assert not crypto.verify(bytes.fromhex(key), digest, bytes.fromhex(point) + bytes(32))


def test_a_key_does_not_show_its_secret() -> None:
    key = SigningKey(SEED)
    assert SEED.hex() not in repr(key)
    assert repr(SEED) not in repr(key)
    assert key.public.hex()[:16] in repr(key)


@given(st.lists(st.booleans(), max_size=9))
def test_claims_are_answered_one_by_one_as_verify_does(good: list[bool]) -> None:
    key = SigningKey(SEED)
    digests = [Tag("test/1").digest(bytes([number])) for number in range(len(good))]
    parts = [
        (key.public, digest, key.sign(digest if fine else DIGEST))
        for digest, fine in zip(digests, good, strict=True)
    ]
    claims = b"".join(b"".join(part) for part in parts)
    assert len(claims) == len(good) * crypto.CLAIM_BYTES
    assert list(crypto.verify_claims(claims)) == [crypto.verify(*part) for part in parts] == good


@pytest.mark.parametrize("size", [1, crypto.CLAIM_BYTES - 1, crypto.CLAIM_BYTES + 1])
def test_what_is_no_whole_claim_is_not_answered(size: int) -> None:
    with pytest.raises(ValueError, match="claims have 128 bytes each"):
        crypto.verify_claims(bytes(size))
