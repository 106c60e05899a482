"""The RPC's methods about emergencies; as `rpc_methods`, whose table they are a part of."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from consilium.client import rpc_emergency as values
from consilium.client.rpc_values import Hex16, Hex32, Hex64
from consilium.contracts.emergency import Reason
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.node.dispatch import Context, Empty, Method
from consilium.node.emergency_api import EmergencyDesk, Signer
from consilium.node.summaries import SUMMARY_BYTES_MAX

PERSONS: Final = 2


class DepositParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`summary.deposit`."""

    patient: Hex16
    envelope: Annotated[bytes, msgspec.Meta(max_length=SUMMARY_BYTES_MAX)]


class OpenParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`summary.open`."""

    patient: Hex16
    reason: Reason
    opened_ms: Annotated[int, msgspec.Meta(ge=0, le=codec.UINT_MAX)]
    persons: Annotated[list[values.SignerValue], msgspec.Meta(min_length=PERSONS, max_length=PERSONS)]


async def alarms(context: Context, _: Empty) -> Any:
    found = await _desk(context).alarms()
    return values.AlarmsValue(
        time_ms=found.time_ms,
        institutions=[
            values.OwedValue(
                institution=Hex16(owed.institution),
                open=owed.open,
                overdue=[values.OverdueValue(Hex16(one.glass), one.due_ms) for one in owed.overdue],
                uncounted=owed.uncounted,
                told=owed.told,
                late=owed.late,
            )
            for owed in found.institutions
        ],
        unreported=found.unreported,
        is_overdue=found.is_overdue,
        is_damaged=found.is_damaged,
    )


async def deposit(context: Context, params: DepositParams) -> Any:
    await _desk(context).deposit_summary(bytes(params.patient), params.envelope)
    return {}


async def open_(context: Context, params: OpenParams) -> Any:
    signers = [
        Signer(bytes(one.identity), bytes(one.credential), bytes(one.key), bytes(one.signature))
        for one in params.persons
    ]
    handed = await _desk(context).open_summary(
        bytes(params.patient), params.reason, params.opened_ms, signers
    )
    return values.OpenedValue(
        handed.envelope, codec.encode(handed.entry), Hex32(handed.institution_key), Hex64(handed.signature)
    )


def _desk(context: Context) -> EmergencyDesk:
    desk = context.api.desk
    if desk is None:
        raise Refused("rpc.shutting_down", "the node is starting")
    return desk


ROWS: Final = (
    Method("emergency.alarms", "Overdue reviews, and openings that the chain does not know.", Empty, alarms),
    Method("summary.deposit", "Hand over a sealed emergency summary.", DepositParams, deposit),
    Method(
        "summary.open",
        "Open a summary while no quorum answers: the log first.",
        OpenParams,
        open_,
        privileged=True,
    ),
)
"""Rows of `rpc_methods.METHODS`."""
