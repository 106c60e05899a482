"""A node answers a consultation that was decided and certified, to who asked, with this patient's lines alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from consilium.client import reading
from consilium.client.disclosures import accounting_digest
from consilium.client.rpc_values import Cursor
from consilium.client.session import Session
from consilium.contracts import accounting
from consilium.contracts.accounting import Consulted, Decided, Line
from consilium.contracts.disclosures import ConsultAccounting
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.node.accountant import Accountant
from consilium.node.api import AccountingPage
from tests.unit.node.care import Ward, ward

BEFORE_ALL = Cursor(-1, -1)


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with ward() as made:
        await made.admit_petra()
        yield made


async def consulted(care: Ward, who: Session) -> tuple[bytes, bytes]:
    """The transaction, and the signature to ask a node with."""
    body = ConsultAccounting(care.petra.identity, None)
    committed = await who.submit([operation("disclosure.consult", body)], certified=True)
    digest = accounting_digest(care.harness.chain_id, committed.id, 0)
    return committed.id, who.wallet.signing.sign(digest)


def accountant(care: Ward) -> Accountant:
    return Accountant(care.harness.chain_id, care.node.executor.store, care.node.clock.now_ms)


def lines(page: AccountingPage) -> list[Line]:
    return [codec.decode(row.line, Line, accounting.LINE_BYTES_MAX) for row in page.rows if row.line]


async def test_lines_come_after_a_cursor_and_are_this_patients(care: Ward) -> None:
    imported = await care.import_notes(1)
    for _ in range(2):
        await reading.request(care.south, "TREAT", record_ids=imported.records)
    asked = await consulted(care, care.patient)
    found = accountant(care).page(asked[0], 0, asked[1], BEFORE_ALL, 1_000)
    assert found.is_last
    assert [row.number for row in found.rows] == [1, 2, 3]
    assert [type(line.content) for line in lines(found)] == [Decided, Decided, Consulted]
    assert all(
        accounting.line_digest(one) == row.digest for one, row in zip(lines(found), found.rows, strict=True)
    )
    again = accountant(care).page(asked[0], 0, asked[1], found.next, 1_000)
    assert (again.rows, again.next, again.is_last) == ((), found.next, True)
    after, numbers, steps = BEFORE_ALL, [], 0
    while True:
        one = accountant(care).page(asked[0], 0, asked[1], after, 1)
        numbers += [row.number for row in one.rows]
        after, steps = one.next, steps + 1
        if one.is_last:
            break
    assert numbers == [1, 2, 3]
    assert steps > 3  # events of other kinds are looked at as well


async def test_what_it_refuses(care: Ward) -> None:
    transaction, signature = await consulted(care, care.patient)
    souths, denied = await consulted(care, care.south)
    book = accountant(care)
    for arguments, code in (
        ((bytes(32), 0, signature), "accounting.unknown"),
        ((transaction, 1, signature), "accounting.unknown"),
        ((transaction, 0, bytes(64)), "accounting.bad_signature"),
        ((transaction, 0, denied), "accounting.bad_signature"),
        ((souths, 0, denied), "accounting.denied"),
    ):
        with pytest.raises(Refused) as refused:
            book.page(*arguments, BEFORE_ALL, 10)
        assert refused.value.code == code
    end_ms = care.node.executor.store.tip.time_ms + 15 * 60_000
    late = Accountant(care.harness.chain_id, care.node.executor.store, lambda: end_ms)
    with pytest.raises(Refused, match=r"access\.window_closed"):
        late.page(transaction, 0, signature, BEFORE_ALL, 10)
