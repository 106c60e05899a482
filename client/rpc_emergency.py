"""Emergencies over the RPC: what stands in JSON, and the calls. Alarms are public; opening a summary is privileged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from consilium.client.rpc import RpcClient
from consilium.client.rpc_values import Hex16, Hex32, Hex64
from consilium.contracts.emergency import Reason


class OverdueValue(msgspec.Struct, frozen=True):
    """A review whose time is over."""

    glass: Hex16
    due_ms: int


class OwedValue(msgspec.Struct, frozen=True):
    """What an institution owes: see `node.emergency_api.Owed`."""

    institution: Hex16
    open: int
    overdue: list[OverdueValue]
    uncounted: int
    told: int
    late: int


class AlarmsValue(msgspec.Struct, frozen=True):
    """The result of `emergency.alarms`."""

    time_ms: int
    institutions: list[OwedValue]
    unreported: int
    is_overdue: bool
    is_damaged: bool

    @property
    def overdue(self) -> int:
        """How many reviews are overdue in the whole network."""
        return sum(len(owed.overdue) for owed in self.institutions)


class SignerValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the two who open."""

    identity: Hex16
    credential: Hex16
    key: Hex32
    signature: Hex64


class OpenedValue(msgspec.Struct, frozen=True):
    """The result of `summary.open`: the envelope; the entry of the log (canonical bytes), signed by the institution."""

    envelope: bytes
    entry: Annotated[bytes, msgspec.Meta(max_length=2_048)]
    institution_key: Hex32
    signature: Hex64


@dataclass(frozen=True, slots=True)
class Signed:
    """A person's signature of an opening, with the licence that the key is bound to."""

    identity: bytes
    credential: bytes
    key: bytes
    signature: bytes


async def alarms(rpc: RpcClient) -> AlarmsValue:
    """Overdue reviews of the network, and unreported openings of the node that is asked."""
    return await rpc.ask("emergency.alarms", {}, AlarmsValue)


async def deposit_summary(rpc: RpcClient, patient: bytes, envelope: bytes) -> None:
    """Hand a sealed summary to the institution's node: the first URL's. It needs no token: the chain says it is due."""
    params = {"patient": patient.hex(), "envelope": envelope}
    await rpc.ask("summary.deposit", params, dict[str, object], privileged=True)


async def open_summary(
    rpc: RpcClient, patient: bytes, reason: Reason, opened_ms: int, persons: Sequence[Signed]
) -> OpenedValue:
    """Have the node write its log and hand out a summary. Privileged."""
    signers = [
        {
            "identity": one.identity.hex(),
            "credential": one.credential.hex(),
            "key": one.key.hex(),
            "signature": one.signature.hex(),
        }
        for one in persons
    ]
    params = {"patient": patient.hex(), "reason": reason, "opened_ms": opened_ms, "persons": signers}
    return await rpc.ask("summary.open", params, OpenedValue, privileged=True)
