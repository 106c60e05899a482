"""Tallies against a dumb twin that keeps everything, and their bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consilium.consensus.evidence import verify_evidence
from consilium.consensus.limits import VOTES_PER_VALIDATOR_MAX
from consilium.consensus.messages import (
    Commit,
    Prepare,
    ViewChange,
    sign_commit,
    sign_pre_prepare,
    sign_prepare,
    sign_view_change,
)
from consilium.consensus.votes import Tally, VoteBook
from consilium.ledger.block import check_certified
from tests.simulation.keys import HashKey
from tests.unit.consensus.parts import (
    BLOCK,
    CHAIN,
    KEYS,
    OTHER,
    STRANGER,
    VALIDATORS,
    prepared,
    set_of,
)

H = BLOCK.height
MANY = sorted((HashKey(b"%d" % index) for index in range(7)), key=lambda key: key.public)
SEVEN = set_of(list(MANY))
HASHES = [bytes([index]) * 32 for index in range(3)]

votes = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 2)), max_size=60)


@given(votes)
def test_a_tally_counts_as_its_dumb_twin_does(drawn: list[tuple[int, int, int]]) -> None:
    """The twin remembers the first vote of each (validator, view), and counts by hand. Four views all fit."""
    book = VoteBook(SEVEN)
    twin: dict[tuple[int, int], int] = {}
    for who, view, what in drawn:
        vote = Commit(H, view, MANY[who].public, HASHES[what], bytes(64))
        evidence = book.add(vote)
        first = twin.setdefault((who, view), what)
        assert (evidence is not None) == (first != what)
    for view in range(4):
        for what in range(3):
            agreeing = sorted(who for (who, v), w in twin.items() if v == view and w == what)
            certificate = book.committed(H, view, HASHES[what])
            if len(agreeing) < SEVEN.quorum:
                assert certificate is None
            else:
                assert certificate is not None
                assert [seal.validator for seal in certificate.seals] == agreeing[: SEVEN.quorum]


@given(votes, st.integers(1, 7))
def test_the_wanted_view_is_the_twins(drawn: list[tuple[int, int, int]], count: int) -> None:
    book = VoteBook(SEVEN)
    for who, view, _ in drawn:
        book.add(ViewChange(H, view + 1, MANY[who].public, None, bytes(64)))
    highest = {who: max(view + 1 for w, view, _ in drawn if w == who) for who, _, _ in drawn}
    views = [view for view in range(1, 6) if sum(1 for top in highest.values() if top >= view) >= count]
    assert book.wanted(count) == max(views, default=0)


def test_memory_is_bounded_whatever_one_validator_sends() -> None:
    tally: Tally[Prepare] = Tally(VALIDATORS)
    for view in [*range(1_000), 2**63 - 1, 5, 2**40]:
        tally.add(Prepare(H, view, KEYS[0].public, BLOCK.hash, bytes(64)))
    assert len(tally.every()) == VOTES_PER_VALIDATOR_MAX
    assert [vote.view for vote in tally.every()] == [998, 999, 2**63 - 1, 2**40]


def test_one_validators_flood_does_not_touch_anothers_votes() -> None:
    book = VoteBook(VALIDATORS)
    honest = sign_prepare(KEYS[1], CHAIN, H, 0, BLOCK.hash)
    book.add(honest)
    for view in range(500):
        book.add(sign_prepare(KEYS[0], CHAIN, H, view, BLOCK.hash))
    assert book.prepares.of(1, 0) == honest


def test_a_stranger_is_not_counted() -> None:
    book = VoteBook(VALIDATORS)
    assert book.add(sign_prepare(STRANGER, CHAIN, H, 0, BLOCK.hash)) is None
    assert book.prepares.every() == []


def test_a_pre_prepare_counts_as_its_senders_prepare() -> None:
    book = VoteBook(VALIDATORS)
    book.add(sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None))
    book.add(sign_prepare(KEYS[1], CHAIN, H, 0, BLOCK.hash))
    assert book.prepared(0, BLOCK.hash) is None
    book.add(sign_prepare(KEYS[3], CHAIN, H, 0, BLOCK.hash))
    certificate = book.prepared(0, BLOCK.hash)
    assert certificate is not None
    assert [s.validator for s in certificate.signatures] == [0, 1, 3]
    assert book.preparers(BLOCK.hash) == [KEYS[0].public, KEYS[1].public, KEYS[3].public]


def test_votes_of_other_views_do_not_add_up() -> None:
    book = VoteBook(VALIDATORS)
    for view, key in enumerate(KEYS):
        book.add(sign_commit(key, CHAIN, H, view % 2, BLOCK.hash))
    assert book.committed(H, 0, BLOCK.hash) is None
    assert book.committed(H, 1, BLOCK.hash) is None


def test_votes_for_other_blocks_do_not_add_up() -> None:
    book = VoteBook(VALIDATORS)
    for place, key in enumerate(KEYS):
        book.add(sign_commit(key, CHAIN, H, 0, (BLOCK, OTHER)[place % 2].hash))
    assert book.committed(H, 0, BLOCK.hash) is None


def test_a_certificate_from_the_book_is_sound() -> None:
    book = VoteBook(VALIDATORS)
    for key in reversed(KEYS):
        book.add(sign_commit(key, CHAIN, H, 2, BLOCK.hash))
    certificate = book.committed(H, 2, BLOCK.hash)
    assert certificate is not None
    check_certified(BLOCK.header, certificate, VALIDATORS)


def test_the_first_of_two_contradicting_votes_stays_and_both_are_evidence() -> None:
    book = VoteBook(VALIDATORS)
    assert book.add(sign_prepare(KEYS[2], CHAIN, H, 0, BLOCK.hash)) is None
    assert book.add(sign_prepare(KEYS[2], CHAIN, H, 0, BLOCK.hash)) is None
    evidence = book.add(sign_prepare(KEYS[2], CHAIN, H, 0, OTHER.hash))
    assert evidence is not None
    verify_evidence(evidence, CHAIN)
    assert evidence.validator == KEYS[2].public
    kept = book.prepares.of(2, 0)
    assert kept is not None
    assert kept.block_hash == BLOCK.hash


def test_two_view_changes_with_different_claims_are_evidence() -> None:
    book = VoteBook(VALIDATORS)
    book.add(sign_view_change(KEYS[2], CHAIN, H, 2, None))
    evidence = book.add(sign_view_change(KEYS[2], CHAIN, H, 2, prepared(BLOCK, 1)))
    assert evidence is not None
    verify_evidence(evidence, CHAIN)


def test_blocks_are_found_where_they_were_heard() -> None:
    book = VoteBook(VALIDATORS)
    assert book.block(BLOCK.hash) is None
    book.add(sign_view_change(KEYS[2], CHAIN, H, 2, prepared(BLOCK, 1)))
    assert book.block(BLOCK.hash) == BLOCK
    book.add(sign_pre_prepare(KEYS[0], CHAIN, 0, OTHER, None))
    assert book.block(OTHER.hash) == OTHER
    assert book.pre_prepare(0, KEYS[0].public) is not None
    assert book.pre_prepare(0, KEYS[1].public) is None
    assert book.pre_prepare(0, STRANGER.public) is None
