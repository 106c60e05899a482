"""What a custodian does for a record that a decision names, and how it travels to the reader.

The custodian checks the wrap's proof over the record's context, then answers with its *partial* `D = s_i · E` and a
proof that `D` stands to `E` as its public share `Y_i` stands to G. It never sees the data key. The partials of a page
of records that one decision names are sealed once, to the reader's ephemeral key. Sealed boxes are anonymous: each
partial proves itself. Whether a decision allows the release is not known here; `node.custodian` asks the chain first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, NamedTuple

import msgspec

from consilium.client import boxes, group, sharing, wrapping
from consilium.client.envelope import Context, EnvelopeHead
from consilium.client.sharing import CompartmentKey, Index, ShareParcel
from consilium.ledger import codec
from consilium.ledger.codec import Bytes16, Bytes32, Bytes64, Uint
from consilium.ledger.crypto import Tag
from consilium.ledger.errors import Refused

RELEASE_VERSION: Final = 1
RELEASE_PARTIALS_MAX: Final = 4_096
RELEASE_BYTES_MAX: Final = 128 * RELEASE_PARTIALS_MAX + 64

_BINDING: Final = Tag("consilium/partial/1")


class Partial(codec.Wire, frozen=True):
    """Custodian `index`'s part of a record's shared secret, with its proof."""

    index: Index
    point: Bytes32
    proof: Bytes64


class RecordPartial(codec.Wire, frozen=True):
    """A partial, and the record that it helps to open."""

    record: Bytes16
    partial: Partial


class Release(codec.Wire, frozen=True):
    """Partials of one custodian for one decided request (the id of its transaction): a page of them."""

    version: Uint
    request: Bytes32
    partials: Annotated[tuple[RecordPartial, ...], msgspec.Meta(max_length=RELEASE_PARTIALS_MAX)]


class Checked(NamedTuple):
    """Partials that prove themselves, one for each index, and the indexes that lied (sorted)."""

    sound: tuple[Partial, ...]
    liars: tuple[int, ...]


def make_partial(parcel: ShareParcel, head: EnvelopeHead, context: Context) -> Partial:
    """This custodian's partial for the record of `context`.

    Raises Refused: `sealing.wrong_compartment` when the share belongs elsewhere, `sealing.bad_proof` when the wrap was
    not made for this context, `sealing.bad_point` for a point outside the group.
    """
    _same_compartment(parcel.key, context)
    wrapping.verify_wrap(head, wrapping.Recipient.COMPARTMENT, parcel.key.point, context)
    ephemeral, scalar = head.wrap.point, parcel.share.scalar
    public = group.multiply_base(scalar)
    power = group.multiply(scalar, ephemeral)
    proof = group.prove_equality(scalar, public, ephemeral, power, _binding(context, parcel.share.index))
    return Partial(parcel.share.index, power, proof)


def partial_is_sound(partial: Partial, head: EnvelopeHead, context: Context, key: CompartmentKey) -> bool:
    """Whether the partial is what custodian `partial.index`, and nobody else, could make for this record."""
    public = sharing.verification_key(key.commitments, partial.index)
    binding = _binding(context, partial.index)
    return group.verify_equality(public, head.wrap.point, partial.point, binding, partial.proof)


def check_partials(
    partials: Iterable[Partial], head: EnvelopeHead, context: Context, key: CompartmentKey
) -> Checked:
    """Sort partials into sound ones, as many as the threshold and no more, and liars.

    Raises Refused `sealing.wrong_compartment` when key and context do not belong together.
    """
    _same_compartment(key, context)
    sound: dict[int, Partial] = {}
    liars: dict[int, None] = {}
    for partial in partials:
        if partial.index in sound or len(sound) == key.threshold:
            continue
        if partial_is_sound(partial, head, context, key):
            sound[partial.index] = partial
        else:
            liars[partial.index] = None
    return Checked(tuple(sound.values()), tuple(sorted(liars)))


def seal_release(release: Release, ephemeral: bytes) -> bytes:
    """Seal to the X25519 key (32 bytes) in the request. Raises Refused `sealing.bad_recipient`."""
    if len(release.partials) > RELEASE_PARTIALS_MAX:
        raise ValueError(
            f"a release has at most {RELEASE_PARTIALS_MAX} partials, not {len(release.partials)}"
        )
    return boxes.seal_to(ephemeral, codec.encode(release))


def open_release(sealed: bytes, ephemeral: boxes.BoxKey, request: bytes) -> Release:
    """Open a custodian's answer to `request`.

    Raises Refused: `sealing.wrong_key` when it is sealed to another key, `sealing.wrong_request` when it answers
    another request, `sealing.wrong_version`, and the codec's codes.
    """
    if len(sealed) > RELEASE_BYTES_MAX + boxes.BOX_OVERHEAD_BYTES:
        raise Refused("codec.oversized", f"a release has at most {RELEASE_BYTES_MAX} bytes")
    release = codec.decode(boxes.open_sealed(ephemeral, sealed), Release, RELEASE_BYTES_MAX)
    if release.version != RELEASE_VERSION:
        raise Refused("sealing.wrong_version", f"release version {release.version}; this program knows 1")
    if release.request != request:
        raise Refused("sealing.wrong_request", "the custodian answers another request")
    return release


def _same_compartment(key: CompartmentKey, context: Context) -> None:
    if (key.chain_id, key.compartment, key.epoch) != (context.chain_id, context.compartment, context.epoch):
        raise Refused(
            "sealing.wrong_compartment", "the record belongs to another compartment, epoch or network"
        )


def _binding(context: Context, index: int) -> bytes:
    return _BINDING.digest(context.digest(), bytes((index,)))
