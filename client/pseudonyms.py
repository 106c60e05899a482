"""Pseudonyms: one patient, another identity at every institution, all from one wallet.

An institution anchors its records under the patient's identity, in that identity's compartments. Were it the same
everywhere, the chain would show which institutions treat one person. So a wallet derives an identity for each
institution, and the patient is enrolled there under that one. To everybody but the wallet's owner, and those whom the
owner tells, they are strangers to each other.

The root of a pseudonym is a tagged hash of the wallet's root, the network and the institution: nothing more is kept,
and words and chain find all of them again. What still links them is when and by whom they are used: docs/privacy.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from consilium.client.recovery_words import key_entry
from consilium.client.rpc import BEFORE_ALL, RpcClient
from consilium.client.wallet import Wallet
from consilium.contracts.identity import ENROLLED, INSTITUTION, Enrolled
from consilium.ledger import codec
from consilium.ledger.crypto import Tag
from consilium.ledger.execution import EVENT_BYTES_MAX

LOOK_UPS_MAX: Final = 8
"""At a time."""
EVENTS_PER_CALL: Final = 1_000

_TAG: Final = Tag("consilium/wallet-pseudonym/1")


@dataclass(frozen=True, slots=True)
class Pseudonym:
    """Who a patient is at an institution (16 bytes)."""

    institution: bytes
    wallet: Wallet


def pseudonym(wallet: Wallet, chain_id: bytes, institution: bytes) -> Wallet:
    """The wallet of the same person at one institution (16 bytes) of a network. It keeps no compartment secrets yet."""
    return Wallet.of_root(_TAG.digest(wallet.root, chain_id, institution), wallet.label, wallet.role)


async def institutions_of(rpc: RpcClient) -> list[bytes]:
    """Every institution of the network, in the order in which they joined, by the node's word. Reads all enrolments."""
    found: list[bytes] = []
    after = BEFORE_ALL
    while page := await rpc.events(after, EVENTS_PER_CALL, [ENROLLED.name]):
        told = [codec.decode(one.event.data, Enrolled, EVENT_BYTES_MAX) for one in page]
        found += [one.identity for one in told if one.kind == INSTITUTION]
        after = page[-1].cursor
    return found


async def discover(
    rpc: RpcClient, wallet: Wallet, chain_id: bytes, institutions: Iterable[bytes]
) -> list[Pseudonym]:
    """The pseudonyms of a wallet that are enrolled, of the institutions asked for, by the node's word.

    A node that is asked for one pseudonym after the other learns that they are one person's: ask a node of the
    patient's own choice.
    """
    room = asyncio.Semaphore(LOOK_UPS_MAX)

    async def look_up(institution: bytes) -> Pseudonym | None:
        derived = pseudonym(wallet, chain_id, institution)
        async with room:
            entry = await key_entry(rpc, derived.signing.public)
        if entry is None or entry.revoked_ms is not None:
            return None
        return Pseudonym(institution, derived.speaking_for(entry.identity))

    found = await asyncio.gather(*(look_up(institution) for institution in sorted({*institutions})))
    return [one for one in found if one is not None]
