"""What a patient decides about emergencies and the network's policy, once for everybody.

`emergency_deny`: nobody breaks the glass; what asks for an emergency purpose is denied, before all else. `opt_out`:
the network's policy opens nothing of this patient's. `summary_opt_out`: no emergency summary is kept or opened.
Only the patient says so: no manager, delegate or guardian.
"""

from __future__ import annotations

from typing import Final

from consilium.contracts import identity, keys
from consilium.contracts.operation import ID_BYTES, Contract, EventKind, OperationSpec, Rank, Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader


class Preferences(codec.Wire, frozen=True):
    """`preferences.set`, what state holds, and the data of `preferences.changed`."""

    emergency_deny: bool
    opt_out: bool
    summary_opt_out: bool = False


DEFAULTS: Final = Preferences(emergency_deny=False, opt_out=False, summary_opt_out=False)

PREFERENCES: Final = Slot(keys.PREFERENCES, (ID_BYTES,), Preferences, 16)
CHANGED: Final = EventKind("preferences.changed", Preferences)


def preferences_of(state: StateReader, patient: bytes) -> Preferences:
    """The patient's preferences; what was never said is False."""
    return PREFERENCES.get(state, patient) or DEFAULTS


def _set(body: Preferences, context: OperationContext) -> None:
    if identity.require(context.state, context.sender).kind != identity.PATIENT:
        raise Refused("consent.not_the_patient", context.sender.hex())
    PREFERENCES.put(context.state, body, context.sender)
    CHANGED.emit(context, [context.sender], body)


CONTRACT: Final = Contract(
    name="preferences",
    operations=(OperationSpec("preferences.set", Preferences, _set, rank=Rank.TAKES_RIGHTS),),
    slots=(PREFERENCES,),
    events=(CHANGED,),
)
