"""Which of a patient's compartments is of which class: known to the patient, and to whom the patient tells it.

The chain has a commitment for each compartment: a tagged hash over network, patient, compartment, class, and 32 bytes
that only the patient's wallet can derive. A *class map* opens all of them. Who seals for the patient is given the map,
and checks it against the chain; a map that lies about one compartment is refused whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from consilium.client.wallet import Wallet
from consilium.contracts import records
from consilium.contracts.classes import CLASSES, CLASSES_MAX, NAMES, ClassCode
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag
from consilium.ledger.errors import Refused

CLASS_MAP_VERSION: Final = 1
CLASS_MAP_BYTES_MAX: Final = 4_096

_COMMITMENT: Final = Tag("consilium/class-commitment/1")


class ClassEntry(codec.Wire, frozen=True):
    """The opening of one compartment's commitment."""

    compartment: codec.Bytes16
    class_code: ClassCode
    blinding: codec.Bytes32


class ClassMap(codec.Wire, frozen=True):
    """All of a patient's compartments with their classes. Secret: only whom the patient chose has it."""

    version: codec.Uint
    chain_id: codec.Bytes32
    patient: codec.Bytes16
    entries: Annotated[tuple[ClassEntry, ...], msgspec.Meta(min_length=1, max_length=CLASSES_MAX)]

    def compartment(self, class_code: int) -> bytes:
        """The compartment of a class. Raises Refused `records.unknown_class`."""
        for entry in self.entries:
            if entry.class_code == class_code:
                return entry.compartment
        raise Refused("records.unknown_class", NAMES.get(class_code, str(class_code)))

    def class_of(self, compartment: bytes) -> int | None:
        """The class of a compartment, or None where it is not in the map."""
        for entry in self.entries:
            if entry.compartment == compartment:
                return entry.class_code
        return None

    def __repr__(self) -> str:
        return f"ClassMap({self.patient.hex()})"


def class_commitment(
    chain_id: bytes, patient: bytes, compartment: bytes, class_code: int, blinding: bytes
) -> Digest:
    """What the chain carries of a compartment's class (32 bytes)."""
    return _COMMITMENT.digest(codec.encode((chain_id, patient, compartment, class_code, blinding)))


def committed(chain_id: bytes, wallet: Wallet, compartment: bytes, class_code: int) -> Digest:
    """The commitment for a compartment of the wallet's owner."""
    blinding = wallet.class_blinding(compartment)
    return class_commitment(chain_id, wallet.identity, compartment, class_code, blinding)


def class_map_of(
    chain_id: bytes, wallet: Wallet, compartments: Mapping[bytes, records.Compartment]
) -> ClassMap:
    """The patient's own map, from the wallet and the chain alone.

    Raises Refused `records.class_map_wrong` where a commitment was not made with this wallet.
    """
    entries = []
    for identifier in sorted(compartments):
        known = compartments[identifier].class_commitment
        codes = [code for code in CLASSES if committed(chain_id, wallet, identifier, code) == known]
        if not codes:
            raise Refused("records.class_map_wrong", identifier.hex())
        entries.append(ClassEntry(identifier, codes[0], wallet.class_blinding(identifier)))
    return ClassMap(CLASS_MAP_VERSION, chain_id, wallet.identity, tuple(entries))


def hidden_anew(chain_id: bytes, wallet: Wallet, known: ClassMap) -> list[bytes]:
    """Commitments to the same classes, under what follows from the root of another wallet of the patient, in the order
    of the compartments' ids: with them on the chain, that wallet's words find the map again."""
    entries = sorted(known.entries, key=lambda one: one.compartment)
    return [committed(chain_id, wallet, one.compartment, one.class_code) for one in entries]


def verify_class_map(
    class_map: ClassMap, chain_id: bytes, compartments: Mapping[bytes, records.Compartment]
) -> None:
    """Raises Refused `records.class_map_wrong` unless the map opens exactly the commitments of these compartments."""
    opened = {entry.compartment: entry for entry in class_map.entries}
    codes = {entry.class_code for entry in class_map.entries}
    whole = len(codes) == len(class_map.entries) and sorted(opened) == sorted(compartments)
    if class_map.version != CLASS_MAP_VERSION or class_map.chain_id != chain_id or not whole:
        raise Refused("records.class_map_wrong", class_map.patient.hex())
    for identifier, known in compartments.items():
        entry = opened[identifier]
        commitment = class_commitment(
            chain_id, class_map.patient, identifier, entry.class_code, entry.blinding
        )
        general = entry.class_code == CLASSES[0]
        if known.patient != class_map.patient or known.general != general:
            raise Refused("records.class_map_wrong", identifier.hex())
        if commitment != known.class_commitment:
            raise Refused("records.class_map_wrong", identifier.hex())
