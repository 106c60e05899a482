"""Session keys: an employer lets a fresh wallet speak for a practitioner, for a shift, and no longer."""

from __future__ import annotations

from consilium.client import reading, shifts
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from tests.unit.client.acting import code_of, later, network, staff

HOUR_MS = 3_600_000


async def test_a_shift_speaks_for_its_practitioner_until_it_ends() -> None:
    async with network() as care:
        doctor, shift = await staff(care.south, "dora"), Wallet.create("shift")
        await shifts.begin(care.south, doctor.identity, shift, later(care, 8 * HOUR_MS))
        imported = await care.import_notes(1)

        def speaking() -> Session:
            return Session(
                care.rpc,  # type: ignore[arg-type]
                care.harness.genesis,
                shift,
                sender=doctor.identity,
                clock_ms=care.node.clock.now_ms,
            )

        asked = await reading.request(speaking(), "TREAT", record_ids=imported.records)
        assert [one.allow for one in asked.decision.verdicts] == [False]
        assert asked.decision.reader == doctor.identity
        await shifts.end(care.south, doctor.identity, shift.signing.public)
        await care.tick()
        again = reading.request(speaking(), "TREAT", record_ids=imported.records)
        assert await code_of(again) == "identity.key_not_authorised"


async def test_a_shift_lasts_half_a_day_at_most_and_is_the_employers_to_give() -> None:
    async with network() as care:
        doctor, shift = await staff(care.south, "dora"), Wallet.create("shift")
        for session, ends_ms in (
            (care.south, later(care, 13 * HOUR_MS)),
            (care.north, later(care, HOUR_MS)),
        ):
            assert await code_of(shifts.begin(session, doctor.identity, shift, ends_ms)) != "ok"
        unknown = shifts.end(care.south, doctor.identity, shift.signing.public)
        assert await code_of(unknown) == "session.unknown"
