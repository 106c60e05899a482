"""Partials: made for the right record only, checked one by one, and sealed to one request."""

from __future__ import annotations

import msgspec
import pytest

from consilium.client import boxes, envelope, group, release, sharing
from consilium.client.release import Partial, RecordPartial, Release
from consilium.ledger import codec
from consilium.ledger.errors import Refused


def code_of(action, *arguments) -> str:
    with pytest.raises(Refused) as refused:
        action(*arguments)
    return refused.value.code


def test_a_partial_is_the_shares_power_and_proves_it(shared) -> None:
    for parcel, partial in zip(shared.parcels, shared.partials, strict=True):
        assert partial.index == parcel.share.index
        assert partial.point == group.multiply(parcel.share.scalar, shared.head.wrap.point)
        assert release.partial_is_sound(partial, shared.head, shared.context, shared.key)


@pytest.mark.parametrize("field", ["chain_id", "compartment", "epoch"])
def test_a_share_helps_its_own_compartment_only(single, field: str) -> None:
    value = single.context.epoch + 1 if field == "epoch" else bytes(len(getattr(single.context, field)))
    context = msgspec.structs.replace(single.context, **{field: value})
    make = (single.parcels[0], single.head, context)
    assert code_of(release.make_partial, *make) == "sealing.wrong_compartment"
    check = ((), single.head, context, single.key)
    assert code_of(release.check_partials, *check) == "sealing.wrong_compartment"


@pytest.mark.parametrize("field", ["record", "author"])
def test_no_partial_for_a_wrap_of_another_record(single, field: str) -> None:
    context = msgspec.structs.replace(single.context, **{field: b"\x77" * 16})
    assert code_of(release.make_partial, single.parcels[0], single.head, context) == "sealing.bad_proof"


def test_an_insiders_copy_of_a_point_gets_no_partial(single) -> None:
    """The attack that the proof is there for: a stranger's E in one's own record of the same compartment."""
    context, own = single.seal(b"mine", b"\x55" * 16)
    head = envelope.parse(own.envelope).head
    secret = group.random_scalar()
    for wrap in (
        msgspec.structs.replace(head.wrap, point=single.head.wrap.point),
        single.head.wrap,
        msgspec.structs.replace(single.head.wrap, proof=head.wrap.proof),
        msgspec.structs.replace(
            single.head.wrap, proof=group.prove_knowledge(secret, single.head.wrap.point, bytes(32))
        ),
    ):
        stolen = msgspec.structs.replace(head, wrap=wrap)
        assert code_of(release.make_partial, single.parcels[0], stolen, context) == "sealing.bad_proof"


def test_no_partial_for_points_outside_the_group(single, outsiders: tuple[bytes, ...]) -> None:
    for point in outsiders:
        wrap = msgspec.structs.replace(single.head.wrap, point=point)
        head = msgspec.structs.replace(single.head, wrap=wrap)
        assert code_of(release.make_partial, single.parcels[0], head, single.context) == "sealing.bad_proof"


def test_a_liar_is_named(shared) -> None:
    first, second, third, fourth, fifth = shared.partials
    other_point = Partial(1, second.point, first.proof)
    other_index = Partial(2, first.point, first.proof)
    broken = Partial(3, third.point, bytes(64))
    lies = (other_point, other_index, broken)
    checked = release.check_partials((*lies, fourth, fifth), shared.head, shared.context, shared.key)
    assert checked.liars == (1, 2, 3)
    assert checked.sound == (fourth, fifth)


def test_a_lie_does_not_hide_the_truth_of_the_same_index(shared) -> None:
    """Anybody may send a false partial in a custodian's name."""
    first, second, third, *_ = shared.partials
    false = Partial(1, second.point, first.proof)
    checked = release.check_partials((false, first, second, third), shared.head, shared.context, shared.key)
    assert {partial.index for partial in checked.sound} == {1, 2, 3}


def test_repeats_count_once_and_no_more_than_needed_are_taken(shared) -> None:
    repeated = (shared.partials[0],) * 5
    assert len(release.check_partials(repeated, shared.head, shared.context, shared.key).sound) == 1
    assert len(release.check_partials(shared.partials, shared.head, shared.context, shared.key).sound) == 3


def test_partials_of_another_record_are_lies(single) -> None:
    context, other = single.seal(b"other", b"\x66" * 16)
    head = envelope.parse(other.envelope).head
    foreign = release.make_partial(single.parcels[0], head, context)
    assert release.check_partials([foreign], single.head, single.context, single.key).liars == (1,)


def test_a_release_opens_for_its_reader_and_request_only(shared) -> None:
    reader = boxes.new_box_key()
    answer = Release(1, b"\x01" * 32, (RecordPartial(shared.context.record, shared.partials[0]),))
    sealed = release.seal_release(answer, reader.public)
    assert release.open_release(sealed, reader, b"\x01" * 32) == answer
    assert code_of(release.open_release, sealed, boxes.new_box_key(), b"\x01" * 32) == "sealing.wrong_key"
    assert code_of(release.open_release, sealed, reader, b"\x02" * 32) == "sealing.wrong_request"
    assert code_of(release.open_release, sealed[:-1], reader, b"\x01" * 32) == "sealing.wrong_key"
    newer = release.seal_release(msgspec.structs.replace(answer, version=2), reader.public)
    assert code_of(release.open_release, newer, reader, b"\x01" * 32) == "sealing.wrong_version"
    too_long = bytes(release.RELEASE_BYTES_MAX + 100)
    assert code_of(release.open_release, too_long, reader, b"\x01" * 32) == "codec.oversized"


def test_the_largest_release_fits_its_limit(single) -> None:
    entry = RecordPartial(b"\xff" * 16, Partial(16, b"\xff" * 32, b"\xff" * 64))
    full = Release(1, b"\xff" * 32, (entry,) * release.RELEASE_PARTIALS_MAX)
    reader = boxes.new_box_key()
    sealed = release.seal_release(full, reader.public)
    assert len(release.open_release(sealed, reader, b"\xff" * 32).partials) == release.RELEASE_PARTIALS_MAX
    assert len(codec.encode(full)) <= release.RELEASE_BYTES_MAX
    beyond = msgspec.structs.replace(full, partials=(*full.partials, entry))
    with pytest.raises(ValueError, match="at most"):
        release.seal_release(beyond, reader.public)


def test_a_share_of_the_wrong_polynomial_makes_no_sound_partial(shared) -> None:
    false = sharing.ShareParcel(1, shared.key, sharing.Share(1, group.random_scalar()))
    partial = release.make_partial(false, shared.head, shared.context)
    assert not release.partial_is_sound(partial, shared.head, shared.context, shared.key)
