"""Recovery words: the vectors of BIP-39, what is refused, and a wallet from words and a chain."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.client import recovery_words
from consilium.client.wallet import Wallet
from consilium.contracts.identity import IDENTITIES, KEYS, Identity, KeyEntry
from consilium.ledger import codec
from consilium.ledger.errors import Refused

VECTORS = {  # BIP-39's own, for 256 bits
    "00" * 32: " ".join(["abandon"] * 23 + ["art"]),
    "7f" * 32: " ".join(["legal winner thank year wave sausage worth useful"] * 2)
    + " legal winner thank year wave sausage worth title",
    "ff" * 32: " ".join(["zoo"] * 23 + ["vote"]),
}
WHO = b"\x05" * 16


class Chain:
    """What `restore` asks of a node: state by key."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def put(self, key: bytes, value: codec.Wire) -> None:
        self.kept[key] = codec.encode(value)

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        return self.kept.get(key), 9


@pytest.fixture
def chain() -> Any:
    return Chain()


@pytest.mark.parametrize("root", sorted(VECTORS))
def test_the_standards_own_vectors(root: str) -> None:
    wallet = Wallet.of_root(bytes.fromhex(root))
    assert recovery_words.words_of(wallet) == VECTORS[root]
    assert recovery_words.wallet_of(VECTORS[root]).identity == wallet.identity


@given(st.binary(min_size=32, max_size=32))
def test_words_give_the_wallet_back(root: bytes) -> None:
    wallet = Wallet.of_root(root)
    again = recovery_words.wallet_of("  " + recovery_words.words_of(wallet).upper().replace(" ", "\n"))
    assert again.root == root
    assert (again.signing.public, again.encryption_public, again.point) == (
        wallet.signing.public,
        wallet.encryption_public,
        wallet.point,
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "0 words"),
        ("abandon " * 23, "23 words"),
        ("abandon " * 24, "checksum"),
        ("secretword " + "abandon " * 22 + "art", "word 1 is not in the list"),
        ("abandon " * 200, "more than"),
    ],
)
def test_bad_words_are_refused_and_never_repeated(words: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        recovery_words.wallet_of(words)
    assert refused.value.code == "wallet.bad_words"
    assert "secretword" not in str(refused.value)


def test_no_two_words_can_be_swapped_unnoticed_most_of_the_time() -> None:
    words = recovery_words.words_of(Wallet.of_root(bytes(range(32)))).split()
    noticed = 0
    for place in range(23):
        swapped = list(words)
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
        try:
            recovery_words.wallet_of(" ".join(swapped))
        except Refused:
            noticed += 1
    assert noticed >= 22


async def test_the_chain_says_for_whom_the_words_speak(chain: Any) -> None:
    wallet = Wallet.of_root(b"\x01" * 32)
    words = recovery_words.words_of(wallet)
    unknown = await recovery_words.restore(chain, words, "Ada")
    assert not unknown.known
    assert unknown.wallet.identity == wallet.identity
    chain.put(KEYS.key(wallet.signing.public), KeyEntry(WHO, 1, None))
    chain.put(
        IDENTITIES.key(WHO),
        Identity("patient", "active", None, [wallet.signing.public], bytes(32), None, [], 1),
    )
    found = await recovery_words.restore(chain, words, "Ada")
    assert found.known
    assert (found.wallet.identity, found.wallet.role, found.wallet.label) == (WHO, "patient", "Ada")


async def test_words_of_a_revoked_key_are_an_older_wallets(chain: Any) -> None:
    wallet = Wallet.of_root(b"\x01" * 32)
    entry = KeyEntry(WHO, 1, None)
    chain.put(KEYS.key(wallet.signing.public), msgspec.structs.replace(entry, revoked_ms=2))
    with pytest.raises(Refused) as refused:
        await recovery_words.restore(chain, recovery_words.words_of(wallet))
    assert refused.value.code == "identity.key_not_authorised"
