"""Pseudonyms: others at every institution and network, and found again from the wallet and the chain."""

from __future__ import annotations

from consilium.client.pseudonyms import discover, pseudonym
from consilium.client.wallet import Wallet
from consilium.contracts.identity import KEYS, KeyEntry
from consilium.ledger import codec

CHAIN, OTHER_CHAIN = b"\x01" * 32, b"\x02" * 32
INSTITUTIONS = [bytes([number]) * 16 for number in range(20)]


class Chain:
    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        return self.kept.get(key), 9


def test_nothing_of_two_pseudonyms_is_the_same() -> None:
    wallet = Wallet.create("Ada", "patient")
    derived = [pseudonym(wallet, CHAIN, one) for one in INSTITUTIONS]
    derived += [pseudonym(wallet, OTHER_CHAIN, INSTITUTIONS[0]), wallet]
    for public in (
        lambda one: one.identity,
        lambda one: one.signing.public,
        lambda one: one.encryption_public,
        lambda one: one.point,
        lambda one: one.class_blinding(bytes(16)),
        lambda one: one.root,
    ):
        assert len({public(one) for one in derived}) == len(derived)
    assert pseudonym(wallet, CHAIN, INSTITUTIONS[3]).root == derived[3].root
    assert pseudonym(Wallet.create("Eve"), CHAIN, INSTITUTIONS[3]).identity != derived[3].identity


async def test_they_are_found_again_by_the_root_alone() -> None:
    wallet = Wallet.create("Ada", "patient")
    chain = Chain()
    rotated, plain, gone = INSTITUTIONS[2], INSTITUTIONS[5], INSTITUTIONS[7]
    for institution, identity, revoked in (
        (rotated, b"\xee" * 16, None),
        (plain, None, None),
        (gone, None, 5),
    ):
        derived = pseudonym(wallet, CHAIN, institution)
        entry = KeyEntry(identity or derived.identity, 1, revoked)
        chain.kept[KEYS.key(derived.signing.public)] = codec.encode(entry)
    found = await discover(chain, Wallet.of_root(wallet.root), CHAIN, INSTITUTIONS)  # type: ignore[arg-type]
    assert [one.institution for one in found] == [rotated, plain]
    assert found[0].wallet.identity == b"\xee" * 16
    assert found[1].wallet.identity == pseudonym(wallet, CHAIN, plain).identity
