"""Building receipts: what is asked for, what cannot be had, and extending what comes from elsewhere."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from consilium.ledger.errors import Refused
from consilium.ledger.receipt import verify_receipt
from consilium.ledger.receipt_format import decode_receipt, encode_receipt
from consilium.node import receipts
from tests.unit.ledger.receipts_world import ABSENT, KEY, builder, header_hash, quiet, restless
from tests.unit.ledger.world import council, found, put


def code_of(raised: pytest.ExceptionInfo[Refused]) -> str:
    return raised.value.code


def test_an_unknown_transaction() -> None:
    for ask in (builder(quiet()).transaction, builder(quiet()).verdict):
        with pytest.raises(Refused) as raised:
            ask(bytes(32))
        assert code_of(raised) == "transaction.unknown"


def test_what_the_next_header_has_not_certified() -> None:
    world = found(council(1))
    world.block([world.sign("only", put((KEY, b"v")))])
    only = world.store.transactions(1).ids[0]
    for ask in (lambda: builder(world).verdict(only), lambda: builder(world).state(KEY, 1)):
        with pytest.raises(Refused) as raised:
            ask()
        assert code_of(raised) == "receipt.not_certified"
    assert verify_receipt(builder(world).transaction(only), world.genesis).height == 1
    world.idle()
    assert verify_receipt(builder(world).verdict(only), world.genesis).height == 1
    assert verify_receipt(builder(world).state(KEY, None), world.genesis).height == 1


@pytest.mark.parametrize("height", [-1, 7, 8, 10**9])
def test_heights_that_cannot_be_proved(height: int) -> None:
    with pytest.raises(Refused) as raised:
        builder(quiet()).state(KEY, height)
    assert code_of(raised) == "receipt.not_certified"


def test_state_after_genesis() -> None:
    world = found(council(4), operations=[put((KEY, b"founded"))])
    world.idle()
    proved = verify_receipt(builder(world).state(KEY, 0), world.genesis)
    assert (proved.value, proved.height, proved.certified_height) == (b"founded", 0, 1)


def test_extended_to_every_later_height() -> None:
    world = restless()
    build = builder(world)
    raw = build.state(KEY, 1)
    for height in range(2, world.store.tip.height + 1):
        proved = verify_receipt(build.extend(raw, height), world.genesis)
        assert (proved.value, proved.height, proved.top_height) == (b"granted", 1, height)


def test_extending_is_the_same_from_whatever_form() -> None:
    """A receipt from a trusted start, one under a trusted top and a plain one extend to the same bytes."""
    world = restless()
    build = builder(world)
    tip = world.store.tip.height
    plain = build.state(KEY, 5)
    forms = [plain, build.state(KEY, 5, since=2), build.state(KEY, 5, since=6), build.extend(plain, 9)]
    assert len({build.extend(raw) for raw in forms}) == 1
    assert verify_receipt(build.extend(plain), world.genesis).top_height == tip
    assert build.extend(build.extend(plain), 6) == plain


def test_extended_to_the_header_that_the_verifier_trusts() -> None:
    world = restless()
    build = builder(world)
    raw = build.state(ABSENT, 3)
    under = build.extend(raw, since=9)
    proved = verify_receipt(under, world.genesis, header_hash(world, 9))
    assert (proved.top_height, proved.trusted_height, proved.set_changes) == (9, 9, 0)
    assert decode_receipt(under).sealing is None
    beyond = build.extend(raw, 12, since=9)
    proved = verify_receipt(beyond, world.genesis, header_hash(world, 9))
    assert (proved.top_height, proved.trusted_height) == (12, 9)
    below = build.extend(raw, since=1)  # trusted below the receipt's own header: it starts there
    assert verify_receipt(below, world.genesis, header_hash(world, 1)).top_height == 4


@pytest.mark.parametrize(
    ("to_height", "since", "code"),
    [
        (3, None, "receipt.cannot_extend"),
        (5, 6, "receipt.cannot_extend"),
        (8, None, "chain.unknown_height"),
        (None, 8, "chain.unknown_height"),
        (-1, None, "receipt.cannot_extend"),
        (None, -1, "chain.unknown_height"),
    ],
)
def test_heights_that_it_cannot_be_extended_to(to_height: int | None, since: int | None, code: str) -> None:
    build = builder(quiet())
    with pytest.raises(Refused) as raised:
        build.extend(build.state(KEY, 3), to_height, since)
    assert code_of(raised) == code


def test_what_comes_from_elsewhere_is_checked() -> None:
    world = quiet()
    build = builder(world)
    raw = build.state(KEY, 3)
    good = decode_receipt(raw)
    elsewhere = found(council(4), network="elsewhere")
    elsewhere.idle(2)
    lying = replace(good, statement=replace(good.statement, value=b"never"))
    other_header = replace(good, header=replace(good.header, time_ms=0))
    ahead = replace(good, header=replace(good.header, height=10**6))
    for hostile, code in (
        (b"", "codec.malformed"),
        (raw[:-1], "codec.malformed"),
        (raw[:1] + b"\x07" + raw[2:], "receipt.wrong_version"),
        (builder(elsewhere).state(KEY, 1), "receipt.wrong_chain"),
        (encode_receipt(lying), "receipt.invalid"),
        (encode_receipt(other_header), "receipt.invalid"),
        (encode_receipt(ahead), "receipt.invalid"),
    ):
        with pytest.raises(Refused) as raised:
            build.extend(hostile)
        assert code_of(raised) == code


def test_more_changes_than_a_receipt_may_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "SET_CHANGES_MAX", 3)
    world = restless()
    build = builder(world)
    with pytest.raises(Refused) as raised:
        build.state(KEY, None)
    assert code_of(raised) == "receipt.too_many_changes"
    late = world.store.set_changes(0, 100)[0]
    assert (
        verify_receipt(
            build.state(KEY, None, since=late), world.genesis, header_hash(world, late)
        ).set_changes
        == 3
    )


def test_the_founders_set_that_came_back_is_no_excuse() -> None:
    """While another set sealed, its change must be in the receipt, though the founders seal again today."""
    world = restless()
    assert world.sets[-1] == world.genesis.validator_set
    height = world.store.set_changes(0, 100)[2] + 1
    receipt = decode_receipt(builder(world).state(KEY, height))
    assert len(receipt.changes) == 3
    assert verify_receipt(encode_receipt(receipt), world.genesis).set_changes == 3


def test_a_batch_that_holds_a_transaction_twice() -> None:
    world = found(council(1))
    twice = world.sign("twice", put((KEY, b"v")))
    other = world.sign("other", put((KEY, b"w")))
    world.block([twice, twice, other], [other, twice])
    world.idle()
    for transaction in (twice, other):
        for ask in (builder(world).transaction, builder(world).verdict):
            assert verify_receipt(ask(transaction.id), world.genesis).transaction_id == transaction.id
