"""Recovery: guardians give a patient who lost every key a new one, unless a live key says no in time."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from consilium.client import recovering, representing
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import settings
from consilium.contracts.calendar import is_quarter_day
from consilium.contracts.recovery import ProposeRecovery
from tests.unit.client.acting import DAY_MS, code_of, later, network, staff
from tests.unit.node.care import Ward

WAIT_MS = 600_000


def quarter_day(care: Ward) -> int:
    """A quarter day that is some months away."""
    today = datetime.fromtimestamp(later(care, 0) / 1000, UTC)
    start = int(today.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)
    return next(
        day for day in range(start + 120 * DAY_MS, start + 300 * DAY_MS, DAY_MS) if is_quarter_day(day)
    )


async def guarded(care: Ward) -> list[Session]:
    """Two guardians of petra's."""
    found = []
    for number, name in enumerate(("gina", "gert")):
        guardian = await staff(care.north, name, "patient")
        body = await representing.appointment(care.patient, guardian.identity, "guardian", quarter_day(care))
        assert body.changes == number
        await representing.appoint(care.patient, body)
        await care.tick()
        found.append(care.session(guardian))
    return found


async def proposed(care: Ward) -> tuple[list[Session], Wallet, ProposeRecovery]:
    guardians, fresh = await guarded(care), Wallet.create("fresh")
    offer = await recovering.offer(guardians[0], care.petra.identity, fresh)
    await recovering.propose(guardians[0], offer)
    await care.tick()
    return guardians, fresh, offer


async def test_guardians_give_a_new_key_after_the_waiting_time(monkeypatch: pytest.MonkeyPatch) -> None:
    short = msgspec.structs.replace(settings.DEFAULTS, recovery_wait_ms=WAIT_MS)
    monkeypatch.setattr(settings, "DEFAULTS", short)
    async with network() as care:
        guardians, fresh, offer = await proposed(care)
        who, key = care.petra.identity, fresh.signing.public
        (open_,) = await recovering.proposals(care.north, who)
        assert (open_.key, open_.ready_ms, open_.approved_by) == (key, None, [guardians[0].identity])
        assert fresh.root not in b"".join((offer.key, offer.encryption_key, offer.proof))
        await recovering.approve(guardians[1], who, key)
        await care.tick()
        (open_,) = await recovering.proposals(care.north, who)
        assert open_.ready_ms is not None
        assert await code_of(recovering.complete(guardians[0], who, key)) == "recovery.not_ready"
        await care.pass_time(WAIT_MS + 60_000)
        await recovering.complete(guardians[0], who, key)
        await care.tick()
        assert (await care.north.identity_of(who)).keys == [key]
        assert await recovering.proposals(care.north, who) == []


async def test_a_live_key_says_no() -> None:
    async with network() as care:
        guardians, fresh, _ = await proposed(care)
        key = fresh.signing.public
        assert await code_of(recovering.veto(care.south, key)) != "ok"
        await recovering.veto(care.patient, key)
        await care.tick()
        assert await recovering.proposals(care.north, care.petra.identity) == []
        late = recovering.approve(guardians[1], care.petra.identity, key)
        assert await code_of(late) != "ok"


async def test_one_guardian_alone_recovers_nothing_and_a_stranger_proposes_nothing() -> None:
    async with network() as care:
        guardians, fresh, offer = await proposed(care)
        alone = recovering.complete(guardians[0], care.petra.identity, fresh.signing.public)
        assert await code_of(alone) != "ok"
        assert await code_of(recovering.propose(care.south, offer)) == "recovery.not_a_guardian"
