"""The class map: made from wallet and chain alone, opened by nobody else, refused when it lies."""

from __future__ import annotations

import msgspec
import pytest

from consilium.client.classes import (
    CLASS_MAP_BYTES_MAX,
    ClassMap,
    class_map_of,
    committed,
    hidden_anew,
    verify_class_map,
)
from consilium.client.wallet import Wallet
from consilium.contracts.classes import CLASSES, GENERAL, HIV, PSYCHIATRY
from consilium.contracts.records import Compartment
from consilium.ledger import codec
from consilium.ledger.errors import Refused

CHAIN = b"\x01" * 32


@pytest.fixture(scope="module")
def wallet() -> Wallet:
    return Wallet.create("Ada")


@pytest.fixture(scope="module")
def state(wallet: Wallet) -> dict[bytes, Compartment]:
    ids = {code: bytes((code + 1,)) * 16 for code in CLASSES}
    return {
        identifier: Compartment(
            wallet.identity, code == GENERAL, committed(CHAIN, wallet, identifier, code), 0
        )
        for code, identifier in ids.items()
    }


def test_the_wallet_and_the_chain_give_the_map_back(wallet: Wallet, state: dict[bytes, Compartment]) -> None:
    made = class_map_of(CHAIN, wallet, state)
    assert [made.class_of(identifier) for identifier in sorted(state)] == list(CLASSES)
    assert [made.compartment(code) for code in CLASSES] == sorted(state)
    verify_class_map(made, CHAIN, state)
    raw = codec.encode(made)
    assert codec.decode(raw, ClassMap, CLASS_MAP_BYTES_MAX) == made


def test_another_wallet_or_network_makes_no_map(wallet: Wallet, state: dict[bytes, Compartment]) -> None:
    with pytest.raises(Refused, match="class_map_wrong"):
        class_map_of(CHAIN, Wallet.create("Eve"), state)
    with pytest.raises(Refused, match="class_map_wrong"):
        class_map_of(b"\x02" * 32, wallet, state)


def test_classes_that_are_hidden_anew_are_found_by_the_other_wallets_root_alone(
    wallet: Wallet, state: dict[bytes, Compartment]
) -> None:
    """As after a take-over: `of_root` is all that recovery words give."""
    made = class_map_of(CHAIN, wallet, state)
    own = Wallet.create("Ada's own").speaking_for(wallet.identity)
    shuffled = msgspec.structs.replace(made, entries=made.entries[::-1])
    hidden = hidden_anew(CHAIN, own, shuffled)
    later = {
        identifier: msgspec.structs.replace(state[identifier], class_commitment=commitment, epoch=2)
        for identifier, commitment in zip(sorted(state), hidden, strict=True)
    }
    again = class_map_of(CHAIN, Wallet.of_root(own.root).speaking_for(wallet.identity), later)
    assert {one.compartment: one.class_code for one in again.entries} == {
        one.compartment: one.class_code for one in made.entries
    }
    verify_class_map(again, CHAIN, later)
    for older in (wallet, Wallet.of_root(own.root)):  # the one of before, and the right one as somebody else
        with pytest.raises(Refused, match="class_map_wrong"):
            class_map_of(CHAIN, older, later)
    with pytest.raises(Refused, match="class_map_wrong"):
        verify_class_map(made, CHAIN, later)


def test_a_map_that_lies_is_refused(wallet: Wallet, state: dict[bytes, Compartment]) -> None:
    made = class_map_of(CHAIN, wallet, state)
    psychiatry = next(entry for entry in made.entries if entry.class_code == PSYCHIATRY)
    hiv = next(entry for entry in made.entries if entry.class_code == HIV)
    swapped = {
        psychiatry: msgspec.structs.replace(psychiatry, class_code=HIV),
        hiv: msgspec.structs.replace(hiv, class_code=PSYCHIATRY),
    }
    lies = [
        msgspec.structs.replace(made, entries=tuple(swapped.get(entry, entry) for entry in made.entries)),
        msgspec.structs.replace(made, entries=made.entries[1:]),
        msgspec.structs.replace(made, entries=(*made.entries[1:], made.entries[1])),
        msgspec.structs.replace(made, patient=bytes(16)),
        msgspec.structs.replace(made, chain_id=bytes(32)),
        msgspec.structs.replace(made, version=2),
    ]
    for lie in lies:
        with pytest.raises(Refused, match="class_map_wrong"):
            verify_class_map(lie, CHAIN, state)
    with pytest.raises(Refused, match="unknown_class"):
        lies[1].compartment(GENERAL)


def test_a_map_is_not_printed(wallet: Wallet, state: dict[bytes, Compartment]) -> None:
    made = class_map_of(CHAIN, wallet, state)
    assert made.entries[0].blinding.hex() not in repr(made)
    assert "blinding" not in repr(made)
