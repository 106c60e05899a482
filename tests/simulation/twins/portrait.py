"""When two joint states are the same state: whatever is said to both from now on, they do the same.

A host's portrait is all of its state, but for what follows from the rest, with three things left open: hashes of blocks
are named in the order in which they appear, heights are told from the host's tip, and verified proofs are left out.
The machine compares hashes for equality and never orders by
them, and it looks at differences of heights only (below `PRIMARY_HEIGHTS`): so joint states with equal portraits behave
alike, though one may stand on another past. What all hosts have committed is nowhere asked for again, and left out too.

Portraits are complete: equal ones mean equal states. They need not find every two states that are equal.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from consilium.consensus.context import HeightContext
from consilium.consensus.limits import ReplicaConfig
from consilium.consensus.messages import VerifiedMessage
from consilium.consensus.neighbours import Neighbours
from consilium.ledger.block import Block, CommitCertificate, Header
from consilium.ledger.crypto import SigningKey
from consilium.ledger.validators import ValidatorSet
from tests.simulation.twins.snapshot import LIVING, fields, is_frozen

_encode = msgspec.msgpack.Encoder().encode

Told = tuple[bytes, tuple[bytes, ...]]
"""A shape, and the hashes in it in the order of their first appearance."""

_LEFT_OUT: Final = ("signature", "signatures", "claims", "seals", "validators_hash")
"""Proofs that were verified: who made them decides only who is asked for batches, which everybody has here."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """One host. `above`: of each committed height, its header and certificate, told."""

    shape: bytes
    hashes: tuple[bytes, ...]
    tip: int
    above: tuple[Told, ...]

    @property
    def name(self) -> bytes:
        """32 bytes for the very state, with its very hashes."""
        told = [self.shape, self.tip, self.hashes, self.above]
        return hashlib.sha256(_encode(told)).digest()


class Painter:
    """Makes portraits. What was told once of a message is kept until `forget`."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._places = {key: place for place, key in enumerate(validators.keys)}
        self._kept: dict[tuple[int, int], tuple[Any, Told]] = {}

    def forget(self) -> None:
        """Other messages are coming."""
        self._kept.clear()

    def portrait(self, state: Any, entries: list[tuple[Header, CommitCertificate]], tip: int) -> Portrait:
        """Of everything in `state`, on a chain of `entries` (height 1 first)."""
        names: dict[bytes, int] = {}
        told = _encode(self._tell(state, tip, names))
        above = tuple(
            self._told([header, certificate], height)
            for height, (header, certificate) in enumerate(entries, 1)
        )
        return Portrait(hashlib.sha256(told).digest(), tuple(names), tip, above)

    def _told(self, value: Any, tip: int) -> Told:
        names: dict[bytes, int] = {}
        return hashlib.sha256(_encode(self._tell(value, tip, names))).digest(), tuple(names)

    def _tell(self, value: Any, tip: int, names: dict[bytes, int]) -> Any:
        kind = type(value)
        if kind is int or value is None or kind is bool or kind is str:
            return value
        if kind is bytes:
            place = self._places.get(value)
            return [names.setdefault(value, len(names))] if place is None else [-1, place]
        if kind is dict:
            return self._tell_dict(value, tip, names) if value else 0
        if kind is list or kind is tuple:
            return [self._tell(item, tip, names) for item in value]
        if issubclass(kind, msgspec.Struct):
            return self._tell_struct(value, tip, names)
        if kind is Neighbours:
            ahead = {peer: height - tip for peer, height in value._ahead.items()}
            rest = [getattr(value, name) for name in fields(value) if name != "_ahead"]
            return [self._tell(ahead, tip, names), *(self._tell(item, tip, names) for item in rest)]
        if kind in LIVING:
            return [self._tell(getattr(value, name), tip, names) for name in fields(value)]
        return self._tell_still(value, tip, names)

    def _tell_still(self, value: Any, tip: int, names: dict[bytes, int]) -> Any:
        kind = type(value)
        if isinstance(value, Enum):
            return value.value
        if kind is VerifiedMessage:
            return self._tell(value.message, tip, names)
        if kind is HeightContext:
            return [value.height - tip, self._tell(value.parent, tip, names)]
        if isinstance(value, SigningKey):
            return self._places[value.public]
        if kind in (ReplicaConfig, ValidatorSet):
            return None  # The same for all.
        if is_frozen(kind):
            return [self._tell(getattr(value, name), tip, names) for name in value.__dataclass_fields__]
        raise TypeError(f"a replica holds a {kind.__name__}: how is it told?")

    def _tell_dict(self, value: dict[Any, Any], tip: int, names: dict[bytes, int]) -> Any:
        """Orders of arrival mean nothing. Hashes are sorted by their names, where they have some."""
        keys = list(value)
        if len(keys) > 1:
            keys.sort(key=lambda key: self._place(key, names))
        return [[self._tell(key, tip, names), self._tell(value[key], tip, names)] for key in keys]

    def _place(self, key: Any, names: dict[bytes, int]) -> Any:
        if isinstance(key, Enum):
            return key.value
        if isinstance(key, bytes) and key not in self._places:
            return (names.get(key, len(names)), key)
        return key if not isinstance(key, bytes) else (-1, key)

    def _tell_struct(self, value: msgspec.Struct, tip: int, names: dict[bytes, int]) -> Any:
        known = self._kept.get((id(value), tip))
        if known is None:
            own: dict[bytes, int] = {}
            parts = self._parts(value, tip, own)
            told = (hashlib.sha256(_encode(parts)).digest(), tuple(own))
            self._kept[id(value), tip] = (value, told)
        else:
            told = known[1]
        shape, hashes = told
        return [shape, [names.setdefault(one, len(names)) for one in hashes]]

    def _parts(self, value: Any, tip: int, names: dict[bytes, int]) -> Any:
        if isinstance(value, Header):
            # The rest of a header follows from its parent and its batches; a batch is in one block only.
            primary, lost, height = value.primary, value.lost, value.height - tip
            return [
                "Header",
                *(self._tell(one, tip, names) for one in (value.hash, value.parent, primary)),
                lost,
                height,
            ]
        if isinstance(value, Block):
            return ["Block", self._tell(value.header, tip, names), len(value.batches)]
        parts: list[Any] = [type(value).__name__]
        for name in value.__struct_fields__:
            if name == "height":
                parts.append(value.height - tip)
            elif name not in _LEFT_OUT:
                parts.append(self._tell(getattr(value, name), tip, names))
        return parts


def joint_portrait(portraits: list[Portrait]) -> bytes:
    """32 bytes that name the joint state."""
    low = min(portrait.tip for portrait in portraits)
    names: dict[bytes, int] = {}
    told: list[Any] = []
    for portrait in portraits:
        told.append(portrait.shape)
        told.append(portrait.tip - low)
        told.append([names.setdefault(one, len(names)) for one in portrait.hashes])
        for shape, hashes in portrait.above[low:]:
            told.append([shape, [names.setdefault(one, len(names)) for one in hashes]])
    return hashlib.sha256(_encode(told)).digest()
