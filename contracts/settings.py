"""What a network decided for itself: the numbers and switches that the contracts ask for.

The genesis document may state them (`settings.found`); where it does not, `DEFAULTS` hold. They are one entry of
state, read by whoever needs one of them, so that a later decision of the network (`ballot.ChangeSettings`) changes
them for all contracts at once.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.contracts import keys
from consilium.contracts.operation import Contract, EventKind, OperationSpec, Slot
from consilium.contracts.purposes import Purpose, covers, require_purpose
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext
from consilium.ledger.state import StateReader

HOUR_MS: Final = 60 * 60 * 1000
DAY_MS: Final = 24 * HOUR_MS
POLICY_PURPOSES_MAX: Final = 16
THRESHOLD_MAX: Final = 16
PERIOD_MS_MAX: Final = 3_660 * DAY_MS
ALARM_COUNT_MAX: Final = 64

ALWAYS_CONSENT: Final = ("HMARKT", "HRESCH")
"""Purposes that no policy opens: marketing and research always need consent."""

Period = Annotated[int, msgspec.Meta(ge=1, le=PERIOD_MS_MAX)]


class Settings(codec.Wire, frozen=True):
    """`settings.found`, and what state holds.

    `sensitive_threshold_min`: how many custodians it takes at least to open a record of a sensitive class; 1 lets a
    custodian read alone. `policy_purposes`: for what an attested treatment relationship opens the general class
    without consent; none switches the policy off. `witness_required`: whether somebody outside the institution must
    sign an attestation. `second_person`: whether break-glass needs one. `glass_ms_max`, `review_ms`: how long an
    emergency opens, and when its review is due. More than `glass_alarm_count` emergencies of one clinician within
    `glass_alarm_ms` raise an alarm. `managed_consent_ms_max`: how far ahead a manager or delegate consents alone.
    `recovery_wait_ms`: how long guardians wait for a veto. `emergency_summaries`: whether sealed summaries may be
    opened with the quorum cut off; `summary_report_ms`: how soon after its return that must be on the chain.
    """

    sensitive_threshold_min: Annotated[int, msgspec.Meta(ge=1, le=THRESHOLD_MAX)]
    policy_purposes: Annotated[list[Purpose], msgspec.Meta(max_length=POLICY_PURPOSES_MAX)]
    witness_required: bool
    second_person: bool
    glass_ms_max: Period
    review_ms: Period
    glass_alarm_count: Annotated[int, msgspec.Meta(ge=1, le=ALARM_COUNT_MAX)]
    glass_alarm_ms: Period
    managed_consent_ms_max: Period
    recovery_wait_ms: Period
    emergency_summaries: bool
    summary_report_ms: Period


DEFAULTS: Final = Settings(
    sensitive_threshold_min=2,
    policy_purposes=["TREAT"],
    witness_required=True,
    second_person=True,
    glass_ms_max=4 * HOUR_MS,
    review_ms=3 * DAY_MS,
    glass_alarm_count=3,
    glass_alarm_ms=7 * DAY_MS,
    managed_consent_ms_max=90 * DAY_MS,
    recovery_wait_ms=3 * DAY_MS,
    emergency_summaries=False,
    summary_report_ms=24 * HOUR_MS,
)

SETTINGS: Final = Slot(keys.SETTINGS, (), Settings, 1_024)
CHANGED: Final = EventKind("settings.changed", Settings)


def current(state: StateReader) -> Settings:
    """The network's settings."""
    return SETTINGS.get(state) or DEFAULTS


def require_sound(settings: Settings) -> None:
    """Raises Refused `settings.bad_policy`, `consent.unknown_purpose`."""
    for purpose in settings.policy_purposes:
        require_purpose(purpose)
        for kept in ALWAYS_CONSENT:
            if covers(kept, purpose) or covers(purpose, kept):
                raise Refused("settings.bad_policy", purpose)


def _found(body: Settings, context: OperationContext) -> None:
    require_sound(body)
    if SETTINGS.get(context.state) is not None:
        raise Refused("settings.already_founded")
    SETTINGS.put(context.state, body)


def change(settled: Settings, context: OperationContext) -> None:
    """Put new settings in place of all: who may do so is for the caller to ask. Raises Refused as `require_sound`."""
    require_sound(settled)
    SETTINGS.put(context.state, settled)
    CHANGED.emit(context, [context.sender], settled)


CONTRACT: Final = Contract(
    name="settings",
    operations=(OperationSpec("settings.found", Settings, _found, founding=True),),
    slots=(SETTINGS,),
    events=(CHANGED,),
)
