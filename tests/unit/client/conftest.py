"""A sealed record with everybody who has to do with it: author, custodians, reader."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pytest
from nacl.utils import random

from consilium.client import boxes, envelope, group, release, sealing, sharing
from consilium.client.envelope import Context, EnvelopeHead, HeaderFields
from consilium.client.release import Partial
from consilium.ledger.crypto import SigningKey

FIELDS = HeaderFields("Observation", "weight-1", "application/fhir+json", "urn:uuid:1", 0, 86_400_000)


@dataclass(frozen=True)
class Scene:
    """One record of `payload`, sealed to a compartment of `threshold` of `custodians`."""

    threshold: int
    custodians: int
    payload: bytes
    secret: sharing.CompartmentSecret
    key: sharing.CompartmentKey
    boxes: tuple[boxes.BoxKey, ...]
    context: Context
    author: sealing.AuthorKeys
    author_secret: bytes
    fields: HeaderFields
    record: sealing.SealedRecord

    @cached_property
    def head(self) -> EnvelopeHead:
        return envelope.parse(self.record.envelope).head

    @cached_property
    def parcels(self) -> tuple[sharing.ShareParcel, ...]:
        return tuple(sharing.ShareParcel(1, self.key, share) for share in self.secret.shares)

    @cached_property
    def partials(self) -> tuple[Partial, ...]:
        return tuple(release.make_partial(parcel, self.head, self.context) for parcel in self.parcels)

    def open(self, partials=None, raw=None, context=None) -> sealing.Opened:
        return sealing.open_with_partials(
            self.record.envelope if raw is None else raw,
            context or self.context,
            self.key,
            self.partials if partials is None else partials,
        )

    def seal(self, payload: bytes, record: bytes) -> tuple[Context, sealing.SealedRecord]:
        """Another record by the same author in the same compartment."""
        context = Context(
            self.key.chain_id, record, self.key.compartment, self.key.epoch, self.context.author
        )
        recipients = tuple(box.public for box in self.boxes)
        sealed = sealing.seal(payload, context, self.key.point, self.author, recipients, self.fields)
        return context, sealed


def build(threshold: int, custodians: int, payload: bytes = b'{"resourceType":"Observation"}') -> Scene:
    secret = sharing.make_compartment(threshold, custodians)
    key = sharing.CompartmentKey(random(32), random(16), 3, secret.commitments)
    pairs = tuple(boxes.new_box_key() for _ in range(custodians))
    context = Context(key.chain_id, random(16), key.compartment, key.epoch, random(16))
    author_secret = group.random_scalar()
    author = sealing.AuthorKeys(SigningKey(random(32)), group.multiply_base(author_secret))
    recipients = tuple(pair.public for pair in pairs)
    record = sealing.seal(payload, context, key.point, author, recipients, FIELDS)
    return Scene(
        threshold, custodians, payload, secret, key, pairs, context, author, author_secret, FIELDS, record
    )


@pytest.fixture(scope="session")
def single() -> Scene:
    """One of one: today's network."""
    return build(1, 1)


@pytest.fixture(scope="session")
def shared() -> Scene:
    """Three of five."""
    return build(3, 5)


# Points outside the prime-order group, by their order: canonical encodings on the curve.
SMALL_ORDER = {
    1: "0100000000000000000000000000000000000000000000000000000000000000",
    2: "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    4: "0000000000000000000000000000000000000000000000000000000000000000",
    8: "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
}


@pytest.fixture(scope="session")
def outsiders() -> tuple[bytes, ...]:
    """Points of small order, points of mixed order, an encoding beyond the field's prime, and a y with no x."""
    small = tuple(bytes.fromhex(text) for text in SMALL_ORDER.values())
    inside = group.multiply_base(group.random_scalar())
    mixed = tuple(group.add(inside, point) for point in small[1:])
    beyond = (2**255 - 19 + 3).to_bytes(32, "little")
    off_curve = (2).to_bytes(32, "little")
    return (*small, *mixed, beyond, off_curve, bytes(31))
