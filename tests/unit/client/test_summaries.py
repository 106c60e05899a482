"""Opening a summary: what the two persons' computer checks, whatever the node hands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from consilium.client import sealing, summaries
from consilium.client.envelope import Context
from consilium.client.rpc_emergency import OpenedValue
from consilium.client.rpc_values import Hex32, Hex64
from consilium.client.sharing import CompartmentKey, CompartmentSecret, make_compartment, seal_parcels
from consilium.client.summaries import Person
from consilium.client.wallet import Wallet
from consilium.contracts import summaries as contract
from consilium.ledger import codec
from consilium.ledger.errors import Refused

CHAIN, WARD, OTHER = bytes([1]) * 32, bytes([2]) * 16, bytes([3]) * 16
KEY, SUMMARY, LICENCE = bytes([4]) * 16, bytes([5]) * 16, bytes([6]) * 16
TEXT = b'{"resourceType":"Bundle"}'
ADA, LEE, KIM, EVE = (Wallet.create(name) for name in ("ada", "lee", "kim", "eve"))
SECRET = make_compartment(2, 2)


def parcels(secret: CompartmentSecret = SECRET, key: bytes = KEY) -> tuple[bytes, ...]:
    public = CompartmentKey(CHAIN, key, 0, secret.commitments)
    return seal_parcels(secret, public, (LEE.encryption_public, KIM.encryption_public))


SHARES = parcels()


def person(wallet: Wallet, share: bytes) -> Person:
    return Person(wallet, wallet.identity, LICENCE, share)


@dataclass
class Node:
    """As much of a node as an opening asks: state by key, and `summary.open`."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    envelope: bytes = b""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        return self.values.get(key), 7

    async def ask(self, method: str, params: dict[str, Any], kind: Any, *, privileged: bool) -> Any:
        assert privileged
        self.asked.append((method, params))
        return OpenedValue(self.envelope, codec.encode(_entry()), Hex32(bytes(32)), Hex64(bytes(64)))


def _entry() -> contract.SummaryOpening:
    signed = (bytes(16), bytes(16), bytes(32), bytes(64))
    return contract.SummaryOpening(
        1, WARD, 1, contract.FIRST, SUMMARY, ADA.identity, KEY, "danger-to-life", 5, 7, *signed, *signed
    )


def node(text: bytes = TEXT) -> Node:
    """A summary of Ada's at the ward, whose key Lee and Kim hold."""
    context = Context(CHAIN, SUMMARY, KEY, 0, ADA.identity)
    sealed = sealing.seal(text, context, SECRET.point, ADA.author_keys, (), summaries.HEADER)
    made = Node(envelope=sealed.envelope)
    placed = contract.Summary(SUMMARY, KEY, ADA.identity, sealed.anchor, sealed.digest, 1)
    key = contract.SummaryKey(WARD, list(SECRET.commitments), [LEE.identity, KIM.identity], 1)
    made.values[contract.SUMMARIES.key(ADA.identity, WARD)] = codec.encode(placed)
    made.values[contract.SUMMARY_KEYS.key(KEY)] = codec.encode(key)
    return made


async def opened(at: Node, *persons: Person, institution: bytes = WARD) -> summaries.OpenedSummary:
    two = persons or (person(LEE, SHARES[0]), person(KIM, SHARES[1]))
    return await summaries.open_offline(
        at,  # type: ignore[arg-type]
        CHAIN,
        institution,
        ADA.identity,
        "danger-to-life",
        (two[0], two[1]),
        5,
    )


async def test_two_holders_open_what_was_sealed() -> None:
    at = node()
    found = await opened(at)
    assert (found.payload, found.given.entry) == (TEXT, _entry())
    ((method, params),) = at.asked
    assert (method, params["patient"], len(params["persons"])) == ("summary.open", ADA.identity.hex(), 2)


async def test_none_that_is_not_for_this_institution() -> None:
    with pytest.raises(Refused, match=r"summary\.unknown"):
        await opened(node(), institution=OTHER)
    # And another institution's two persons have shares of another key.
    foreign = parcels(make_compartment(2, 2))
    with pytest.raises(Refused, match=r"sealing\.bad_share"):
        await opened(node(), person(LEE, foreign[0]), person(KIM, foreign[1]))
    elsewhere = parcels(SECRET, bytes([9]) * 16)
    with pytest.raises(Refused, match=r"sealing\.bad_share"):
        await opened(node(), person(LEE, elsewhere[0]), person(KIM, elsewhere[1]))


async def test_one_person_twice_is_one_share() -> None:
    lee = person(LEE, SHARES[0])
    with pytest.raises(Refused, match=r"sealing\.too_few_partials"):
        await opened(node(), lee, lee)
    with pytest.raises(Refused, match=r"sealing\.wrong_key"):
        await opened(node(), lee, replace(person(KIM, SHARES[0])))


async def test_who_holds_nothing_is_refused_before_anything_is_asked() -> None:
    at = node()
    with pytest.raises(Refused, match=r"summary\.not_a_holder"):
        await opened(at, person(LEE, SHARES[0]), person(EVE, SHARES[1]))
    assert at.asked == []


async def test_another_envelope_is_refused() -> None:
    at = node()
    at.envelope = node(b"another").envelope
    with pytest.raises(Refused, match=r"sealing\."):
        await opened(at)


async def test_shares_are_kept_before_their_key_is_registered() -> None:
    """Whoever cannot write the shares down registers no key: nobody could open what is sealed to it."""
    told: list[str] = []

    class Ward:
        chain_id = bytes(32)

        async def identity_of(self, who: bytes) -> SimpleNamespace:
            return SimpleNamespace(encryption_key=Wallet.create("holder").encryption_public)

        async def act(self, name: str, body: object, *, certified: bool = False) -> str:
            told.append(name)
            return "done"

    def full(key: bytes, parcels: Mapping[bytes, bytes]) -> None:
        told.append(f"kept {len(parcels)}")
        raise OSError(28, "No space left on device")

    holders = [b"\x01" * 16, b"\x02" * 16]
    with pytest.raises(OSError, match="No space"):
        await summaries.make_key(Ward(), holders, full)  # type: ignore[arg-type]
    assert told == ["kept 2"]
    key, parcels, _ = await summaries.make_key(Ward(), holders)  # type: ignore[arg-type]
    assert (sorted(parcels), len(key), told) == (holders, 16, ["kept 2", "summary.set_key"])
