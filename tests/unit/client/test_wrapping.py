"""Wraps: whose they are, for which record, and how an insider's copy fails."""

from __future__ import annotations

import msgspec
import pytest

from consilium.client import envelope, group, wrapping
from consilium.client.wrapping import Recipient
from consilium.ledger.errors import Refused


def code_of(action, *arguments) -> str:
    with pytest.raises(Refused) as refused:
        action(*arguments)
    return refused.value.code


def test_a_wrap_opens_with_the_recipients_secret_only(single) -> None:
    secret = single.secret.coefficients[0]
    wrapping.verify_wrap(single.head, Recipient.COMPARTMENT, single.key.point, single.context)
    shared = group.multiply(secret, single.head.wrap.point)
    arguments = (single.head, Recipient.COMPARTMENT, single.key.point)
    data_key = wrapping.unwrap_key(*arguments, shared, single.context)
    assert envelope.key_commitment(data_key, single.context) == single.head.key_commitment
    wrong = group.multiply(group.random_scalar(), single.head.wrap.point)
    assert code_of(wrapping.unwrap_key, *arguments, wrong, single.context) == "sealing.damaged"


def test_both_wraps_hold_the_same_key(single) -> None:
    as_author = group.multiply(single.author_secret, single.head.author_wrap.point)
    as_compartment = group.multiply(single.secret.coefficients[0], single.head.wrap.point)
    first = wrapping.unwrap_key(single.head, Recipient.AUTHOR, single.author.point, as_author, single.context)
    second = wrapping.unwrap_key(
        single.head, Recipient.COMPARTMENT, single.key.point, as_compartment, single.context
    )
    assert first == second


def test_the_two_kinds_never_pass_for_each_other() -> None:
    secret = group.random_scalar()
    point = group.multiply_base(secret)
    context = envelope.Context(bytes(32), bytes(16), bytes(16), 0, bytes(16))
    header = envelope.SealedHeader((), bytes(32), b"")
    data_key = bytes(range(32))
    commitment = envelope.key_commitment(data_key, context)
    wrap = wrapping.wrap_key(data_key, Recipient.AUTHOR, point, context, header)
    head = envelope.EnvelopeHead(1, header, wrap, wrap, commitment)
    shared = group.multiply(secret, wrap.point)
    wrapping.verify_wrap(head, Recipient.AUTHOR, point, context)
    assert wrapping.unwrap_key(head, Recipient.AUTHOR, point, shared, context) == data_key
    assert code_of(wrapping.verify_wrap, head, Recipient.COMPARTMENT, point, context) == "sealing.bad_proof"
    unwrap = (head, Recipient.COMPARTMENT, point, shared, context)
    assert code_of(wrapping.unwrap_key, *unwrap) == "sealing.damaged"


@pytest.mark.parametrize("field", ["chain_id", "record", "compartment", "epoch", "author"])
def test_a_wrap_copied_into_another_record_is_refused(single, field: str) -> None:
    value = single.context.epoch + 1 if field == "epoch" else bytes(len(getattr(single.context, field)))
    other = msgspec.structs.replace(single.context, **{field: value})
    arguments = (single.head, Recipient.COMPARTMENT, single.key.point, other)
    assert code_of(wrapping.verify_wrap, *arguments) == "sealing.bad_proof"


def test_a_wrap_in_another_head_is_refused(single) -> None:
    """Same author, same compartment, even the same context: the header and the key commitment are part of the proof."""
    _, other = single.seal(b"other", single.context.record)
    own = envelope.parse(other.envelope).head
    for stolen in (
        msgspec.structs.replace(own, wrap=single.head.wrap),
        msgspec.structs.replace(single.head, header=own.header),
        msgspec.structs.replace(single.head, key_commitment=own.key_commitment),
        msgspec.structs.replace(
            single.head, wrap=msgspec.structs.replace(single.head.wrap, sealed_key=own.wrap.sealed_key)
        ),
    ):
        arguments = (stolen, Recipient.COMPARTMENT, single.key.point, single.context)
        assert code_of(wrapping.verify_wrap, *arguments) == "sealing.bad_proof"


def test_a_wrap_for_another_compartments_point_is_refused(single) -> None:
    stranger = group.multiply_base(group.random_scalar())
    arguments = (single.head, Recipient.COMPARTMENT, stranger, single.context)
    assert code_of(wrapping.verify_wrap, *arguments) == "sealing.bad_proof"


def test_points_outside_the_group_are_refused(single, outsiders: tuple[bytes, ...]) -> None:
    header = single.head.header
    for point in outsiders:
        wrap = (bytes(32), Recipient.COMPARTMENT, point, single.context, header)
        assert code_of(wrapping.wrap_key, *wrap) == "sealing.bad_point"
        head = msgspec.structs.replace(
            single.head, wrap=msgspec.structs.replace(single.head.wrap, point=point)
        )
        arguments = (head, Recipient.COMPARTMENT, single.key.point, single.context)
        assert code_of(wrapping.verify_wrap, *arguments) == "sealing.bad_proof"


def test_a_key_that_is_not_the_committed_one_is_refused(single) -> None:
    """Whoever wraps one key and commits to another can prove it, but not have it opened."""
    secret = group.random_scalar()
    point = group.multiply_base(secret)
    header = single.head.header
    wrap = wrapping.wrap_key(b"\x01" * 32, Recipient.AUTHOR, point, single.context, header)
    head = msgspec.structs.replace(single.head, author_wrap=wrap)
    shared = group.multiply(secret, wrap.point)
    unwrap = (head, Recipient.AUTHOR, point, shared, single.context)
    assert code_of(wrapping.unwrap_key, *unwrap) == "sealing.damaged"
