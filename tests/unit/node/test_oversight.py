"""Oversight: what is overdue is seen, told once and by others; openings are reported when blocks come again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consilium.contracts import emergency, settings, summaries
from consilium.contracts.classes import PSYCHIATRY
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey
from consilium.ledger.transaction import Operation
from consilium.ledger.validators import Validator, ValidatorSet
from consilium.node.emergency_api import Alarms
from consilium.node.oversight import FORGET_LOOKS, TURN_MS, Oversight
from consilium.storage.kv import MemoryKV
from consilium.storage.shares import ShareVault
from tests.unit.contracts import care, summarising
from tests.unit.contracts import world as w
from tests.unit.contracts.world import DORA, NORTH, PETRA, SOUTH, WEST, Actor
from tests.unit.node.summarised import Tip, Ward

KEYS = [SigningKey(bytes([number]) * 32) for number in range(4)]
VALIDATORS = ValidatorSet(
    [Validator(key.public, who.id) for key, who in zip(KEYS, (NORTH, SOUTH, WEST, NORTH), strict=True)]
)


class Clerk:
    """Says things in the world, as an institution."""

    def __init__(self, ward: Ward, who: Actor) -> None:
        self.ward = ward
        self.who = who
        self.said: list[str] = []
        self.deaf = False

    @property
    def institution(self) -> bytes:
        return self.who.id

    async def say(self, operation: Operation) -> str:
        self.said.append(operation.name)
        if self.deaf:
            return "rpc.timeout"
        world = self.ward.world
        body = world.registry.operations[operation.name].body
        return world.leaf(self.who, codec.decode(operation.body, body, 1 << 16)).code


def oversight(
    ward: Ward, clerk: Clerk | None, key: SigningKey = KEYS[0], shares: ShareVault | None = None
) -> Oversight:
    given: dict[str, Any] = {
        "tip": lambda: Tip(ward.world.height, ward.world.time_ms),
        "clerk": clerk,
        "counted": ward.__dict__.setdefault("seen", []).append,
    }
    return Oversight(
        key=key.public,
        state=lambda: ward.world.state,
        validators=lambda: VALIDATORS,
        reaches_quorum=lambda: False,
        desk=ward.desk,
        shares=shares,
        look_s=0.0,
        **given,
    )


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    made = Ward(tmp_path)
    made.desk.deposit(PETRA.id, made.sealed.envelope)
    return made


async def look(watching: Oversight) -> Alarms:
    """A look, and another one that sees what came of it."""
    await watching.look()
    await watching.look()
    return await watching.alarms()


async def test_an_overdue_review_is_seen_and_told_by_another_institution(ward: Ward) -> None:
    world = ward.world
    world.ok(DORA, care.declaring(world))
    own, other = Clerk(ward, SOUTH), Clerk(ward, NORTH)
    watching = oversight(ward, other)
    assert (await look(watching)).institutions[0].open == 1
    assert other.said == []
    world.time_ms += settings.DEFAULTS.review_ms + len(VALIDATORS.validators) * TURN_MS
    await look(oversight(ward, own, KEYS[1]))
    assert own.said == []  # who owes it does not report itself
    alarms = await look(watching)
    assert other.said == ["emergency.report_overdue"]
    (owed,) = alarms.institutions
    assert (owed.institution, [one.glass for one in owed.overdue], owed.told) == (
        SOUTH.id,
        [care.glass()],
        1,
    )
    assert watching.status()["emergencies"]["alarm"] is True
    await look(watching)
    assert other.said == ["emergency.report_overdue"]
    world.ok(WEST, emergency.ReviewEmergency(care.glass(), "justified"))
    assert (await look(watching)).institutions == ()
    assert watching.status()["emergencies"]["alarm"] is False


async def test_they_take_turns(ward: Ward) -> None:
    world = ward.world
    world.ok(DORA, care.declaring(world))
    world.time_ms += settings.DEFAULTS.review_ms
    clerks = [(Clerk(ward, who), key) for who, key in ((NORTH, KEYS[0]), (WEST, KEYS[2]), (NORTH, KEYS[3]))]
    turns = [oversight(ward, clerk, key)._turn(care.glass(), SOUTH.id) for clerk, key in clerks]
    assert sorted(turns) == [0, 1, 2]
    for clerk, key in clerks:
        await look(oversight(ward, clerk, key))
    assert [said for clerk, _ in clerks for said in clerk.said] == ["emergency.report_overdue"]


async def test_what_could_not_be_told_is_told_later(ward: Ward) -> None:
    world = ward.world
    world.ok(DORA, care.declaring(world))
    world.time_ms += settings.DEFAULTS.review_ms + len(VALIDATORS.validators) * TURN_MS
    clerk = Clerk(ward, NORTH)
    clerk.deaf = True
    watching = oversight(ward, clerk)
    await look(watching)
    assert (await look(watching)).institutions[0].told == 0
    clerk.deaf = False
    assert (await look(watching)).institutions[0].told == 1


async def test_openings_are_reported_once_a_block_is_newer(ward: Ward) -> None:
    clerk = Clerk(ward, SOUTH)
    watching = oversight(ward, clerk, KEYS[1])
    entries = [ward.open().entry for _ in range(2)]
    assert (await look(watching)).unreported == 2
    assert clerk.said == []
    ward.world.time_ms = entries[-1].opened_ms + 1_000
    ward.world.block([])
    alarms = await look(watching)
    assert clerk.said == ["summary.report"] * 2
    assert (alarms.unreported, alarms.is_overdue) == (0, False)
    assert summaries.openings_of(ward.world.state, SOUTH.id).last == entries[-1].hash


async def test_a_log_that_nobody_takes_raises_an_alarm_in_time(ward: Ward) -> None:
    clerk = Clerk(ward, SOUTH)
    clerk.deaf = True
    watching = oversight(ward, clerk, KEYS[1])
    entry = ward.open().entry
    ward.world.time_ms = entry.opened_ms + 1_000
    ward.world.block([])
    assert not (await look(watching)).is_overdue
    ward.world.time_ms += settings.DEFAULTS.summary_report_ms
    assert (await look(watching)).is_overdue
    assert watching.status()["emergencies"]["alarm"] is True


async def test_a_damaged_log_raises_an_alarm(ward: Ward, tmp_path: Path) -> None:
    ward.open()
    (file,) = (tmp_path / "log").iterdir()
    file.write_bytes(b"nonsense")
    ward.desk = ward.opened()
    assert (await look(oversight(ward, Clerk(ward, SOUTH), KEYS[1]))).is_damaged


async def test_what_one_custodian_opens_alone_is_counted(ward: Ward) -> None:
    shares = ShareVault(MemoryKV(), create=True)
    watching = oversight(ward, None, shares=shares)
    await watching.look()
    assert watching.status()["alone"] == 0
    general, sensitive = w.compartment_of(PETRA), w.compartment_of(PETRA, PSYCHIATRY)
    for compartment in (general, sensitive):  # the general one is kept by one of one, the other by two of two
        shares.put_share(compartment, 0, b"parcel")
    await watching.look()
    assert watching.status()["alone"] == 1


async def test_what_is_withdrawn_is_removed_before_long(ward: Ward, tmp_path: Path) -> None:
    watching = oversight(ward, None)
    ward.world.ok(PETRA, summarising.WITHDRAWAL)
    for _ in range(FORGET_LOOKS + 1):
        await watching.look()
    assert list((tmp_path / "summaries").iterdir()) == []
