"""Recovery words: a wallet's root as 24 words on paper, and the wallet again from these words and the chain.

A word stands for 11 bits of the root, the last one also for a checksum of 8, so that a word that was misread is noticed
with a chance of 255 in 256. The words are the root itself, not a password to it: whoever has them is the owner.

From the root follow all keys, and what hides the classes of the compartments that this wallet opened, or took over:
then they are hidden anew. What does not follow, because a secret that can be
derived can never be forgotten, are the secrets of compartments; they are needed to hand out shares, never to read, so
that a wallet from words reads everything and ends an epoch by beginning the next. Which identity the keys speak for,
where keys were rotated since, is asked of the chain.

Source: BIP-39, "Mnemonic code for generating deterministic keys", section "Generating the mnemonic", for 256 bits.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Final

from mnemonic import Mnemonic

from consilium.client.rpc import RpcClient
from consilium.client.wallet import ROOT_BYTES, Wallet
from consilium.contracts.identity import IDENTITIES, KEYS, KeyEntry
from consilium.ledger.errors import Refused

WORDS: Final = 24
WORDS_CHARS_MAX: Final = 1_024
_LANGUAGE: Final = "english"


@dataclass(frozen=True, slots=True)
class Restored:
    """A wallet from words, and what the chain says of it. `known` is whether its key is registered there."""

    wallet: Wallet
    known: bool


def words_of(wallet: Wallet) -> str:
    """The 24 words of a wallet's root, a space between them. As secret as the wallet itself."""
    return _english().to_mnemonic(wallet.root)


def wallet_of(words: str, label: str = "", role: str = "") -> Wallet:
    """The wallet whose root the words are. Raises Refused `wallet.bad_words`, which never repeats a word."""
    if len(words) > WORDS_CHARS_MAX:
        raise Refused("wallet.bad_words", f"more than {WORDS_CHARS_MAX} characters")
    given = unicodedata.normalize("NFKD", words).lower().split()
    if len(given) != WORDS:
        raise Refused("wallet.bad_words", f"{len(given)} words; there are {WORDS}")
    known = frozenset(_english().wordlist)
    for place, word in enumerate(given, 1):
        if word not in known:
            raise Refused("wallet.bad_words", f"word {place} is not in the list of BIP-39")
    try:
        root = bytes(_english().to_entropy(given))
    except ValueError:
        raise Refused(
            "wallet.bad_words", "the checksum does not match: a word is wrong, or two are swapped"
        ) from None
    if len(root) != ROOT_BYTES:
        raise Refused("wallet.bad_words", f"{len(root)} bytes; a root has {ROOT_BYTES}")
    return Wallet.of_root(root, label, role)


async def restore(rpc: RpcClient, words: str, label: str = "") -> Restored:
    """The wallet from its words and the chain: it speaks for the identity that its key belongs to there.

    Raises Refused `wallet.bad_words`, and `identity.key_not_authorised` where the key was revoked: then the words are
    those of an older wallet.
    """
    wallet = wallet_of(words, label)
    entry = await key_entry(rpc, wallet.signing.public)
    if entry is None:
        return Restored(wallet, known=False)
    if entry.revoked_ms is not None:
        raise Refused(
            "identity.key_not_authorised", "the key of these words was revoked: they are an older wallet's"
        )
    raw, _ = await rpc.state(IDENTITIES.key(entry.identity))
    role = "" if raw is None else IDENTITIES.decode(raw).kind
    return Restored(wallet_of(words, label, role).speaking_for(entry.identity), known=True)


async def key_entry(rpc: RpcClient, key: bytes) -> KeyEntry | None:
    """Whose a signing key is, by the node's word."""
    raw, _ = await rpc.state(KEYS.key(key))
    return None if raw is None else KEYS.decode(raw)


@cache
def _english() -> Mnemonic:
    return Mnemonic(_LANGUAGE)
