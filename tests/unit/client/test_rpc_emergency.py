"""Emergencies over the RPC: which methods are asked, with what, and which of them need the node's token."""

from __future__ import annotations

from typing import Any

import msgspec

from consilium.client import rpc_emergency
from consilium.client.rpc_emergency import AlarmsValue, OpenedValue, Signed
from consilium.client.rpc_values import decode_json


class Asked:
    """An RPC client that remembers, and answers with this JSON."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.calls: list[tuple[str, dict[str, Any], bool]] = []

    async def ask(self, method: str, params: dict[str, Any], kind: Any, *, privileged: bool = False) -> Any:
        self.calls.append((method, params, privileged))
        return decode_json(msgspec.json.encode(self.answer), kind)


async def test_alarms_are_public_and_counted_over_all_institutions() -> None:
    owed = {"open": 2, "uncounted": 0, "told": 1, "late": 0}
    overdue = [{"glass": "0a" * 16, "due_ms": 5}]
    institutions = [
        {"institution": "01" * 16, "overdue": overdue * 2, **owed},
        {"institution": "02" * 16, "overdue": overdue, **owed},
    ]
    rpc: Any = Asked(
        {"time_ms": 9, "institutions": institutions, "unreported": 0, "is_overdue": True, "is_damaged": False}
    )
    found = await rpc_emergency.alarms(rpc)
    assert isinstance(found, AlarmsValue)
    assert found.overdue == 3
    assert rpc.calls == [("emergency.alarms", {}, False)]


async def test_a_summary_is_opened_by_two_with_the_token() -> None:
    rpc: Any = Asked(
        {"envelope": "ZW52", "entry": "ZW50cnk=", "institution_key": "03" * 32, "signature": "04" * 64}
    )
    persons = [Signed(bytes([n]) * 16, bytes([n]) * 16, bytes([n]) * 32, bytes([n]) * 64) for n in (1, 2)]
    found = await rpc_emergency.open_summary(rpc, b"p" * 16, "danger-to-life", 77, persons)
    assert isinstance(found, OpenedValue)
    assert (found.envelope, found.entry) == (b"env", b"entry")
    ((method, params, privileged),) = rpc.calls
    assert (method, privileged) == ("summary.open", True)
    assert (params["patient"], params["opened_ms"]) == ((b"p" * 16).hex(), 77)
    assert [one["identity"] for one in params["persons"]] == ["01" * 16, "02" * 16]
    assert set(params["persons"][0]) == {"identity", "credential", "key", "signature"}


async def test_a_summary_is_handed_over_to_the_institutions_own_node() -> None:
    rpc: Any = Asked({})
    await rpc_emergency.deposit_summary(rpc, b"p" * 16, b"sealed")
    assert rpc.calls == [("summary.deposit", {"patient": (b"p" * 16).hex(), "envelope": b"sealed"}, True)]
