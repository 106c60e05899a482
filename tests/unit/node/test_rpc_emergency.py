"""Emergencies over the RPC: what goes in and out in JSON, and who may ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from consilium.client import rpc_emergency
from consilium.client.rpc import RpcClient
from consilium.contracts.emergency import OpenReview, Reason
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.node.emergency_api import Alarms, HandedOut, Owed, Signer
from tests.unit.contracts import summarising
from tests.unit.contracts.world import World
from tests.unit.node.fake_node import TOKEN, FakeNode, served

ID, KEY, SIGNATURE = bytes([1]) * 16, bytes([2]) * 32, bytes([3]) * 64
SIGNED = rpc_emergency.Signed(ID, ID, KEY, SIGNATURE)


@dataclass
class Desk:
    """Implements EmergencyDesk: keeps what it is asked."""

    asked: list[object] = field(default_factory=list)

    async def alarms(self) -> Alarms:
        owed = Owed(ID, 3, (OpenReview(KEY[:16], 7),), 1, 1, 2)
        return Alarms(9, (owed,), 4, True, False)

    async def deposit_summary(self, patient: bytes, envelope: bytes) -> None:
        self.asked.append((patient, envelope))

    async def open_summary(
        self, patient: bytes, reason: Reason, opened_ms: int, signers: Sequence[Signer]
    ) -> HandedOut:
        self.asked.append((patient, reason, opened_ms, *signers))
        return HandedOut(b"sealed", summarising.opening(World()), KEY, SIGNATURE)


@pytest.fixture
async def desk() -> AsyncIterator[tuple[Desk, str]]:
    made = Desk()
    async with served(FakeNode(desk=made)) as running:
        yield made, running.url


async def test_alarms_are_public(desk: tuple[Desk, str]) -> None:
    async with RpcClient(desk[1]) as rpc:
        found = await rpc_emergency.alarms(rpc)
    assert (found.time_ms, found.overdue, found.unreported, found.is_overdue) == (9, 1, 4, True)
    (owed,) = found.institutions
    assert (bytes(owed.institution), owed.open, owed.uncounted, owed.told, owed.late) == (ID, 3, 1, 1, 2)


async def test_a_summary_is_handed_over_without_a_token(desk: tuple[Desk, str]) -> None:
    async with RpcClient(desk[1]) as rpc:
        await rpc_emergency.deposit_summary(rpc, ID, b"sealed")
    assert desk[0].asked == [(ID, b"sealed")]


async def test_opening_takes_the_token_and_two(desk: tuple[Desk, str]) -> None:
    async with RpcClient(desk[1]) as stranger:
        with pytest.raises(Refused, match=r"rpc\.unauthorised"):
            await rpc_emergency.open_summary(stranger, ID, "danger-to-life", 5, [SIGNED, SIGNED])
    async with RpcClient(desk[1], TOKEN) as rpc:
        found = await rpc_emergency.open_summary(rpc, ID, "danger-to-life", 5, [SIGNED, SIGNED])
        assert found.envelope == b"sealed"
        assert found.entry == codec.encode(summarising.opening(World()))
        for wrong in ([SIGNED], [SIGNED] * 3):
            with pytest.raises(Refused, match=r"rpc\.invalid_params"):
                await rpc_emergency.open_summary(rpc, ID, "danger-to-life", 5, wrong)
    signer = Signer(ID, ID, KEY, SIGNATURE)
    assert desk[0].asked == [(ID, "danger-to-life", 5, signer, signer)]


async def test_a_node_that_is_starting_says_so() -> None:
    async with served(FakeNode()) as running, RpcClient(running.url, timeout_s=2.0) as rpc:
        with pytest.raises(Refused, match=r"rpc\.(shutting_down|timeout)"):
            await rpc_emergency.alarms(rpc)
