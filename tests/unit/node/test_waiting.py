from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from consilium.client.rpc_answers import Committed
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import POSTPONED, ReceiptLeaf
from consilium.node import waiting
from consilium.node.waiting import Gathering, Waiting

ONE, TWO, THREE = b"1" * 32, b"2" * 32, b"3" * 32


def commit(
    *ids: bytes,
    time_ms: int = 5,
    skipped: tuple[tuple[bytes, str], ...] = (),
    said: tuple[tuple[bytes, str], ...] = (),
) -> Any:
    leaves = tuple(codec.encode(ReceiptLeaf(identifier, "ok", None, [b"r"])) for identifier in ids)
    outcome = SimpleNamespace(
        transactions=tuple(SimpleNamespace(id=identifier) for identifier in ids),
        leaves=leaves,
        skipped=skipped,
        refusals=tuple((identifier, Refused("consent.unknown", words)) for identifier, words in said),
    )
    block = SimpleNamespace(height=3, header=SimpleNamespace(time_ms=time_ms))
    return SimpleNamespace(block=block, outcome=outcome)


class Told:
    def __init__(self) -> None:
        self.calls: list[tuple[bytes, Committed | str]] = []

    def __call__(self, transaction: bytes, became: Committed | str) -> None:
        self.calls.append((transaction, became))


def test_a_taker_is_told_once_where_its_transaction_is() -> None:
    held, told = Waiting(), Told()
    held.add(TWO, None, told)
    held.committed(commit(ONE, TWO))
    held.committed(commit(TWO))
    ((transaction, became),) = told.calls
    assert transaction == TWO
    assert isinstance(became, Committed)
    assert (became.height, became.index, became.leaf.results, became.certified) == (3, 1, [b"r"], False)
    assert len(held) == 0


def test_a_taker_hears_why_its_transaction_was_skipped_but_a_duplicate_is_still_awaited() -> None:
    held, told = Waiting(), Told()
    held.add(ONE, None, told)
    held.add(TWO, None, told)
    held.add(THREE, None, told)
    skipped = ((ONE, "transaction.duplicate"), (TWO, "transaction.too_far_ahead"), (THREE, POSTPONED))
    held.committed(commit(skipped=skipped))
    assert told.calls == [(TWO, "transaction.too_far_ahead")]
    assert len(held) == 2


def test_what_a_contract_said_is_told_and_known_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SAID_MAX", 1)
    held, told = Waiting(), Told()
    held.add(ONE, None, told)
    held.committed(commit(ONE, said=((ONE, "at most 2"),)))
    ((_, became),) = told.calls
    assert isinstance(became, Committed)
    assert became.detail == "at most 2"
    assert (held.said(ONE), held.said(TWO)) == ("at most 2", "")
    held.committed(commit(TWO, said=((TWO, "at most 3"),)))
    assert (held.said(ONE), held.said(TWO)) == ("", "at most 3")


def test_what_expired_is_told_by_the_time_of_a_block() -> None:
    held, told = Waiting(), Told()
    held.add(ONE, 10_000, told)
    held.committed(commit(time_ms=9_999))
    assert told.calls == []
    held.committed(commit(time_ms=11_500))
    assert told.calls == [(ONE, "transaction.expired")]


def test_who_gave_up_is_told_nothing_and_the_others_are() -> None:
    held, gone, stays = Waiting(), Told(), Told()
    held.add(ONE, None, gone)
    held.add(ONE, None, stays)
    held.drop(ONE, gone)
    held.committed(commit(ONE))
    assert gone.calls == []
    assert len(stays.calls) == 1
    held.add(TWO, None, stays)
    held.drop(TWO, stays)
    assert len(held) == 0


def test_more_than_may_wait_are_refused_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "WAITING_MAX", 1)
    held, told = Waiting(), Told()
    held.add(ONE, None, told)
    held.add(ONE, None, told)
    with pytest.raises(Refused) as refused:
        held.add(TWO, None, told)
    assert refused.value.code == "rpc.busy"


async def test_a_gathering_is_done_with_the_last_of_its_transactions() -> None:
    held, gathering = Waiting(), Gathering()
    for transaction in (ONE, TWO):
        gathering.missing[transaction] = None
        held.add(transaction, 10, gathering.take)
    held.committed(commit(ONE))
    assert not gathering.done.is_set()
    held.committed(commit(time_ms=2_000))
    assert gathering.done.is_set()
    assert list(gathering.found) == [ONE]
