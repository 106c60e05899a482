"""What the key of a compartment's epoch must be, and who may give a compartment a new one.

Whoever makes a key knows its secret, and reads what is sealed to it without asking anybody. So where the patient has
made a compartment's key, nobody who represents the patient puts another in its place. And whoever represents a patient
begins few epochs: their number is bounded for ever, a take-over takes one of each compartment, and an erasure looks at
all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from consilium.contracts import identity, keys, settings
from consilium.contracts.calendar import DAY_MS
from consilium.contracts.operation import ID_BYTES, Slot
from consilium.ledger import codec
from consilium.ledger.crypto import is_group_point
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext

EPOCHS_OF_OTHERS_MAX: Final = 8
"""So many epochs of a compartment within `EPOCHS_OF_OTHERS_MS` are enough for who represents the patient."""
EPOCHS_OF_OTHERS_MS: Final = 30 * DAY_MS


class OwnKey(codec.Wire, frozen=True):
    """That the patient made a compartment's key, and since when (block time)."""

    since_ms: codec.Uint


OWN_KEYS: Final = Slot(keys.OWN_KEY, (ID_BYTES,), OwnKey, 16)


def note_own_key(compartment: bytes, patient: bytes, context: OperationContext) -> None:
    """The sender makes the compartment's key: it is noted where that is the patient."""
    if context.sender == patient and OWN_KEYS.get(context.state, compartment) is None:
        OWN_KEYS.put(context.state, OwnKey(context.time_ms), compartment)


def require_may_rekey(
    compartment: bytes, patient: bytes, epoch: int, begun_ms: Callable[[int], int], context: OperationContext
) -> None:
    """Whether the sender, who speaks for the patient, may end the compartment's current epoch now.

    `begun_ms` says when an epoch began. Raises Refused `records.patients_own_key`, `records.too_many_epochs`.
    """
    if context.sender == patient:
        return
    if OWN_KEYS.get(context.state, compartment) is not None:
        raise Refused("records.patients_own_key", compartment.hex())
    if epoch >= EPOCHS_OF_OTHERS_MAX:
        first = begun_ms(epoch + 1 - EPOCHS_OF_OTHERS_MAX)
        if context.time_ms < first + EPOCHS_OF_OTHERS_MS:
            raise Refused("records.too_many_epochs", f"the limit is {EPOCHS_OF_OTHERS_MAX} in 30 days")


def require_sharing(
    commitments: Sequence[bytes], custodians: Sequence[bytes], general: bool, context: OperationContext
) -> None:
    """k of n with 1 <= k <= n, by different institutions that are custodians; commitments are points of the group.

    For a sensitive class k is what the network demands at least: nobody opens it alone. Raises Refused `records.*`,
    `identity.*`.
    """
    if len(commitments) > len(custodians) or len({*custodians}) != len(custodians):
        raise Refused("records.bad_sharing", f"{len(commitments)} of {len(custodians)}")
    if not all(is_group_point(commitment) for commitment in commitments):
        raise Refused("records.bad_sharing", "a commitment is no point of the group")
    least = 1 if general else settings.current(context.state).sensitive_threshold_min
    if len(commitments) < least:
        raise Refused("records.too_few_custodians", f"{len(commitments)}, and the network demands {least}")
    for custodian in custodians:
        identity.require_role(context.state, custodian, identity.CUSTODIAN)
