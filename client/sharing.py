"""A compartment's secret, split so that k of its n custodians act for it together and k - 1 learn nothing.

Shamir's polynomial over the group's order has the secret `c` at zero and custodian i's share at i. Feldman's
commitments to its coefficients are public: the first is the compartment's point `C = c · G`, their number is the
threshold k, and custodian i's own public share `Y_i` follows from them, so that a bad share, or later a bad partial,
has a name. `c` is never put together again: what is combined are points (`combine`). One of one is the same code.

Sources: Shamir, "How to Share a Secret", CACM 1979; Feldman, "A Practical Scheme for Non-interactive Verifiable
Secret Sharing", FOCS 1987.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from consilium.client import boxes, group
from consilium.ledger import codec
from consilium.ledger.codec import Bytes16, Bytes32, Uint
from consilium.ledger.errors import Refused

CUSTODIANS_MAX: Final = 16
PARCEL_VERSION: Final = 1
PARCEL_BYTES_MAX: Final = 1_024

Index = Annotated[int, msgspec.Meta(ge=1, le=CUSTODIANS_MAX)]
"""A custodian's place in one compartment, from 1: the abscissa of its share."""
Commitments = Annotated[tuple[Bytes32, ...], msgspec.Meta(min_length=1, max_length=CUSTODIANS_MAX)]
"""Feldman's commitments, the compartment's point first; as many as partials are needed."""


class CompartmentKey(codec.Wire, frozen=True):
    """What everybody may know of one epoch of a compartment."""

    chain_id: Bytes32
    compartment: Bytes16
    epoch: Uint
    commitments: Commitments

    @property
    def point(self) -> bytes:
        """What records are sealed to: `C = c · G`."""
        return self.commitments[0]

    @property
    def threshold(self) -> int:
        """How many partials open a record."""
        return len(self.commitments)


class Share(codec.Wire, frozen=True):
    """Custodian `index`'s secret scalar."""

    index: Index
    scalar: Bytes32

    def __repr__(self) -> str:
        return f"Share(index={self.index})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("index", self.index)]


class CompartmentSecret(codec.Wire, frozen=True):
    """The polynomial's coefficients, `c` first, and how many custodians it is evaluated for.

    Whoever made the compartment holds it: a patient keeps it, to share it anew with other custodians; an institution
    delivers the shares and forgets it.
    """

    coefficients: Commitments
    custodians: Index

    @property
    def point(self) -> bytes:
        """`C = c · G`."""
        return group.multiply_base(self.coefficients[0])

    @property
    def commitments(self) -> tuple[bytes, ...]:
        """Public: the coefficients times G."""
        return tuple(group.multiply_base(coefficient) for coefficient in self.coefficients)

    @property
    def shares(self) -> tuple[Share, ...]:
        """A share for each custodian, from index 1."""
        return tuple(self._share(index) for index in range(1, self.custodians + 1))

    def _share(self, index: int) -> Share:
        abscissa = group.public_scalar(index)
        value = self.coefficients[-1]
        for coefficient in reversed(self.coefficients[:-1]):
            value = group.scalar_multiply_add(value, abscissa, coefficient)
        return Share(index, value)

    def __repr__(self) -> str:
        return f"CompartmentSecret({len(self.coefficients)} of {self.custodians})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("custodians", self.custodians)]


class ShareParcel(codec.Wire, frozen=True):
    """A share with all that it belongs to: what is sealed to a custodian, and what the custodian keeps."""

    version: Uint
    key: CompartmentKey
    share: Share


def make_compartment(threshold: int, custodians: int) -> CompartmentSecret:
    """A fresh secret for `threshold` of `custodians`, both 1 to CUSTODIANS_MAX; ValueError outside."""
    if not 1 <= threshold <= custodians <= CUSTODIANS_MAX:
        raise ValueError(
            f"a threshold of {threshold} of {custodians} custodians (at most {CUSTODIANS_MAX}) is impossible"
        )
    while True:
        secret = CompartmentSecret(tuple(group.random_scalar() for _ in range(threshold)), custodians)
        # a share of zero (probability n / 2^252) has no public point; the group functions refuse it
        if all(group.is_scalar(share.scalar) for share in secret.shares):
            return secret


def verification_key(commitments: tuple[bytes, ...], index: int) -> bytes:
    """Custodian `index`'s public share `Y_i`, by Horner's rule. Raises Refused `sealing.bad_point`."""
    if not 1 <= index <= CUSTODIANS_MAX:
        raise ValueError(f"a custodian's index is 1 to {CUSTODIANS_MAX}, not {index}")
    abscissa = group.public_scalar(index)
    value = commitments[-1]
    for commitment in reversed(commitments[:-1]):
        value = group.add(group.multiply(abscissa, value), commitment)
    # an identity as first commitment would hide in the sum
    if not group.is_point(value) or not group.is_point(commitments[0]):
        raise Refused("sealing.bad_point", f"the commitments give custodian {index} no public share")
    return value


def share_matches(share: Share, commitments: tuple[bytes, ...]) -> bool:
    """Whether the share lies on the committed polynomial."""
    if not group.is_scalar(share.scalar):
        return False
    try:
        return group.multiply_base(share.scalar) == verification_key(commitments, share.index)
    except Refused:
        return False


def lagrange_at_zero(indexes: tuple[int, ...]) -> tuple[bytes, ...]:
    """The weight of each index when the polynomial through all of them is evaluated at zero. Indexes are distinct."""
    if len(frozenset(indexes)) != len(indexes):
        raise ValueError("the indexes must be distinct")
    weights = []
    for index in indexes:
        numerator = denominator = 1
        for other in indexes:
            if other != index:
                numerator = numerator * other % group.ORDER
                denominator = denominator * (other - index) % group.ORDER
        weights.append(group.public_scalar(numerator * pow(denominator, -1, group.ORDER)))
    return tuple(weights)


def combine(powers: Mapping[int, bytes]) -> bytes:
    """`c · E` from `s_i · E` by index. The caller has checked each of them, and that there are k."""
    indexes = tuple(sorted(powers))
    if not indexes:
        raise ValueError("there is nothing to combine")
    total: bytes | None = None
    for index, weight in zip(indexes, lagrange_at_zero(indexes), strict=True):
        term = powers[index] if len(indexes) == 1 else group.multiply(weight, powers[index])
        total = term if total is None else group.add(total, term)
    if total is None or not group.is_point(total):
        raise Refused("sealing.bad_point", "the partials combine to no point of the group")
    return total


def seal_parcels(
    secret: CompartmentSecret, key: CompartmentKey, recipients: tuple[bytes, ...]
) -> tuple[bytes, ...]:
    """A parcel for each custodian's X25519 public key, in the order of their indexes.

    Raises ValueError when the key or the number of recipients does not belong to the secret, Refused
    `sealing.bad_recipient` for a key that nothing can be sealed to.
    """
    if key.commitments != secret.commitments or len(recipients) != secret.custodians:
        raise ValueError("key and recipients must belong to the secret")
    return tuple(
        boxes.seal_to(recipient, codec.encode(ShareParcel(PARCEL_VERSION, key, share)))
        for recipient, share in zip(recipients, secret.shares, strict=True)
    )


def open_parcel(sealed: bytes, recipient: boxes.BoxKey, key: CompartmentKey, index: int) -> ShareParcel:
    """The custodian's share of `key`; key and index come from committed state, never from the sender.

    Raises Refused: `sealing.wrong_key` when it is sealed to another, `sealing.bad_share` when it is a share of
    something else, of another version, or not on the committed polynomial, and the codec's codes.
    """
    if len(sealed) > PARCEL_BYTES_MAX + boxes.BOX_OVERHEAD_BYTES:
        raise Refused("codec.oversized", f"a parcel has at most {PARCEL_BYTES_MAX} bytes")
    parcel = codec.decode(boxes.open_sealed(recipient, sealed), ShareParcel, PARCEL_BYTES_MAX)
    if parcel.version != PARCEL_VERSION or parcel.key != key:
        raise Refused(
            "sealing.bad_share", "the parcel belongs to another compartment, epoch, network or version"
        )
    if parcel.share.index != index or not share_matches(parcel.share, key.commitments):
        raise Refused("sealing.bad_share", f"the share for custodian {index} is not the committed one")
    return parcel
