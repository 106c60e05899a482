"""A page of a release: places that lead on, bounds, what is withheld by name, what the journal must know."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.contracts.accounting import RELEASED_RECORDS_MAX, VERDICTS_MAX
from consilium.ledger.errors import Refused
from consilium.node import releasing
from consilium.node.releasing import Page, from_place, place_of
from consilium.storage.releases import ReleaseKey, ReleaseNote

PARTIAL: Any = None


@given(st.integers(0, VERDICTS_MAX - 1), st.integers(0, RELEASED_RECORDS_MAX - 1))
def test_a_place_leads_back_to_its_verdict_and_record(verdict: int, offset: int) -> None:
    assert from_place(place_of(verdict, offset)) == (verdict, offset)


def test_places_are_in_the_order_of_the_decision() -> None:
    places = [place_of(*one) for one in ((0, 0), (0, 9), (0, RELEASED_RECORDS_MAX - 1), (1, 0), (119, 5))]
    assert places == sorted(places)


def test_a_page_has_room_for_one_envelope_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releasing, "PAGE_BYTES_MAX", 10)
    page = Page()
    assert page.has_room(1_000)
    page.add(0, 0, 0, PARTIAL, bytes(8))
    assert page.has_room(2)
    assert not page.has_room(3)
    assert not page.is_full()
    page.add(0, 1, 0, PARTIAL, bytes(2))
    assert page.is_full()


@pytest.mark.parametrize("limit", ["PAGE_PARTIALS_MAX", "PAGE_PLACES_MAX"])
def test_a_page_is_bounded_in_records_and_in_what_it_looks_at(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(releasing, limit, 2)
    page = Page()
    for place in range(2):
        assert not page.is_full()
        page.looked += 1
        page.add(0, place, 0, PARTIAL, b"")
    assert page.is_full()


def test_the_journal_is_told_of_each_verdict_once() -> None:
    page = Page()
    for verdict, place, epoch in ((0, 4, 2), (3, 0, 0), (0, 7, 2)):
        page.add(verdict, place, epoch, PARTIAL, b"")
    decision: Any = SimpleNamespace(verdicts=[SimpleNamespace(valid_until=100 + n) for n in range(4)])
    assert list(page.notes(b"t" * 32, 5, decision, 9)) == [
        ReleaseNote(ReleaseKey(b"t" * 32, 5, 0), 2, (4, 7), 9, 100),
        ReleaseNote(ReleaseKey(b"t" * 32, 5, 3), 0, (0,), 9, 103),
    ]


def withheld(*codes: str) -> Page:
    page = Page()
    for number, code in enumerate(codes):
        page.withhold(number, None, Refused(code, "why"))
    return page


def test_where_nothing_comes_out_for_one_reason_that_is_the_answer() -> None:
    with pytest.raises(Refused, match=r"access\.epoch_ended: why"):
        withheld("access.epoch_ended", "access.epoch_ended").refuse_empty(0)
    foreign = Page(kept={(b"", 0): False, (b"", 1): False})
    with pytest.raises(Refused, match=r"custodian\.not_ours"):
        foreign.refuse_empty(0)


def test_everything_else_is_an_answer() -> None:
    withheld("access.epoch_ended", "vault.unknown").refuse_empty(0)
    withheld("vault.unknown").refuse_empty(7)  # a later page: something may have come before
    more = withheld("vault.unknown")
    more.next = 5
    more.refuse_empty(0)
    partly = withheld("vault.unknown")
    partly.add(1, 0, 0, PARTIAL, b"")
    partly.refuse_empty(0)
    Page().refuse_empty(0)  # all of it is withheld by the patient's conditions, which nobody says
    Page(kept={(b"", 0): False, (b"", 1): True}).refuse_empty(0)
