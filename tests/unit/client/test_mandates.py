"""Mandates: issued by an authority with another's countersignature; withdrawn, they open nothing."""

from __future__ import annotations

from consilium.client import mandates, reading
from tests.unit.client.acting import DAY_MS, code_of, later, network


async def test_a_mandate_opens_what_it_names_until_it_is_withdrawn() -> None:
    async with network() as care:
        (record,) = (await care.import_notes(1)).records

        async def basis() -> str:
            asked = await reading.request(care.south, "HLEGAL", record_ids=[record])
            return asked.decision.verdicts[0].basis

        body = mandates.mandate(
            care.petra.identity,
            care.south.identity,
            ["HLEGAL"],
            not_before_ms=later(care, -1_000),
            not_after_ms=later(care, DAY_MS),
        )
        assert await basis() == "no-basis"
        north = care.harness.wallets[0]
        await mandates.issue(care.west, body, north)
        assert await basis() == "legal-mandate"
        assert await code_of(mandates.withdraw(care.north, body.mandate)) != "ok"
        await mandates.withdraw(care.west, body.mandate)
        assert await basis() == "no-basis"


async def test_neither_the_reader_nor_the_authority_itself_countersigns() -> None:
    async with network() as care:
        for countersigner in (care.harness.wallets[1], care.harness.wallets[2], care.petra):
            body = mandates.mandate(
                care.petra.identity,
                care.south.identity,
                ["HLEGAL"],
                not_before_ms=later(care, -1_000),
                not_after_ms=later(care, DAY_MS),
            )
            assert await code_of(mandates.issue(care.west, body, countersigner)) != "ok"
