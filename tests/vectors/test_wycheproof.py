"""Project Wycheproof's cases against exactly the functions that the product calls, and the RFCs' own vectors."""

from __future__ import annotations

from typing import Any

import pytest
from nacl import bindings
from nacl.exceptions import RuntimeError as SodiumError

from consilium.client import boxes
from consilium.ledger import crypto
from consilium.ledger.crypto import Digest
from consilium.ledger.errors import Refused


def cases(document: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    found = [(group, case) for group in document["testGroups"] for case in group["tests"]]
    assert len(found) == document["numberOfTests"]
    return found


def test_wycheproof_ed25519(vectors) -> None:
    for group, case in cases(vectors("wycheproof/ed25519_test.json")):
        key, message, signature = (
            bytes.fromhex(text) for text in (group["publicKey"]["pk"], case["msg"], case["sig"])
        )
        expected = case["result"] == "valid"
        assert crypto.verify(key, Digest(message), signature) is expected, (
            f"case {case['tcId']}: {case['comment']}"
        )


# RFC 8032 section 7.1, tests 1 to 3: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("seed", "key", "message", "signature"), RFC_8032)
def test_rfc_8032(seed: str, key: str, message: str, signature: str) -> None:
    signing = crypto.SigningKey(bytes.fromhex(seed))
    digest = Digest(bytes.fromhex(message))
    assert signing.public.hex() == key
    assert signing.sign(digest).hex() == signature
    assert crypto.sign(signing.seed, digest).hex() == signature
    assert crypto.verify(signing.public, digest, bytes.fromhex(signature))
    order = 2**252 + 27742317777372353535851937790883648493
    malleable = int.from_bytes(bytes.fromhex(signature)[32:], "little") + order
    forged = bytes.fromhex(signature)[:32] + malleable.to_bytes(32, "little")
    assert not crypto.verify(signing.public, digest, forged)
    assert not crypto.verify(signing.public, Digest(digest + b"\x00"), bytes.fromhex(signature))


@pytest.mark.parametrize("key", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f"])
def test_keys_of_small_order_sign_nothing(key: str) -> None:
    """With such a key, R = identity and S = 0 satisfy the equation for many messages."""
    signature = (1).to_bytes(32, "little") + bytes(32)
    assert not any(crypto.verify(bytes.fromhex(key), Digest(bytes((n,)) * 32), signature) for n in range(16))


def exchange(private: bytes, public: bytes) -> bytes | None:
    """X25519 as sealed boxes use it; None where libsodium refuses."""
    try:
        return bindings.crypto_scalarmult(private, public)
    except SodiumError:
        return None


def test_wycheproof_x25519(vectors) -> None:
    for _, case in cases(vectors("wycheproof/x25519_test.json")):
        private, public, shared = (bytes.fromhex(case[name]) for name in ("private", "public", "shared"))
        name = f"case {case['tcId']}: {case['comment']}"
        if any(shared):
            assert exchange(private, public) == shared, name
            continue
        # a public key that makes every shared secret zero: nothing may be sealed to it
        assert exchange(private, public) is None, name
        with pytest.raises(Refused) as refused:
            boxes.seal_to(public, b"data")
        assert refused.value.code == "sealing.bad_recipient", name


# RFC 7748 section 5.2: scalar, u-coordinate, result; and the first and the thousandth step of its iteration.
RFC_7748 = [
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
]
STEPS = {
    1: "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
    1_000: "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
}


@pytest.mark.parametrize(("scalar", "coordinate", "result"), RFC_7748)
def test_rfc_7748(scalar: str, coordinate: str, result: str) -> None:
    assert bindings.crypto_scalarmult(bytes.fromhex(scalar), bytes.fromhex(coordinate)).hex() == result


def test_rfc_7748_iterated() -> None:
    scalar = coordinate = (9).to_bytes(32, "little")
    for step in range(1, 1_001):
        scalar, coordinate = bindings.crypto_scalarmult(scalar, coordinate), scalar
        if step in STEPS:
            assert scalar.hex() == STEPS[step]
    assert boxes.box_key_of(scalar).public == bindings.crypto_scalarmult(scalar, (9).to_bytes(32, "little"))


def test_wycheproof_xchacha20_poly1305(vectors) -> None:
    for group, case in cases(vectors("wycheproof/xchacha20_poly1305_test.json")):
        if group["ivSize"] != 8 * boxes.CIPHER_NONCE_BYTES:
            continue  # no function here takes a nonce of another size
        names = ("key", "iv", "aad", "msg", "ct", "tag")
        key, nonce, associated, message, ciphertext, tag = (bytes.fromhex(case[name]) for name in names)
        name = f"case {case['tcId']}: {case['comment']}"
        if case["result"] == "valid":
            assert boxes.encrypt(key, nonce, message, associated) == ciphertext + tag, name
            assert boxes.decrypt(key, nonce, ciphertext + tag, associated) == message, name
            continue
        with pytest.raises(Refused) as refused:
            boxes.decrypt(key, nonce, ciphertext + tag, associated)
        assert refused.value.code == "sealing.damaged", name


def test_xchacha_draft() -> None:
    """draft-irtf-cfrg-xchacha-03 appendix A.3.1."""
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    message = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealed = boxes.encrypt(key, nonce, message, associated)
    assert sealed[:16].hex() == "bd6d179d3e83d43b9576579493c0e939"
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"
    assert boxes.decrypt(key, nonce, sealed, associated) == message
