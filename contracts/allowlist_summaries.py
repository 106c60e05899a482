"""The part of the allow-list that belongs to emergency summaries; as `allowlist`, which merges it."""

from __future__ import annotations

from typing import Final

_PATIENT = "a pseudonym: whose right it is, without saying who"
_ID = "a random id: says nothing, and is needed to name the thing again"
_WHO = "who is answerable: institutions and staff act under their own ids"
_HOLDERS = "who opens together: the log is held against them"
_SHARING = "public points: shares and partials are checked against them"
_KEY = "verifies signatures; random-looking, belongs to one identity"
_SIGNED = "both persons and the institution answer for the opening"
_REASON = "one of three words that name no illness: the review needs it"
_WHEN = "an opening without its time could not be reviewed"
_BLOCK = "block time, or a time that follows from it"
_CHAINED = "a tagged hash: a missing entry must be seen"
_COUNT = "its place in the log: a missing entry must be seen"
_CIPHER = "a tagged hash over ciphertext and its context, never over plaintext"
_JUDGED = "what every node found: abuse must be visible"
_VERSION = "an entry is read for as long as the chain is"

SUMMARIES: Final[dict[str, dict[str, str]]] = {
    "CurrentKey": {"key": _ID},
    "Openings": {"count": _COUNT, "last": _CHAINED, "late": _JUDGED},
    "PlaceSummary": {
        "summary": _ID,
        "patient": _PATIENT,
        "key": _ID,
        "anchor": _CIPHER,
        "envelope": _CIPHER,
    },
    "ReportOpening": {
        "entry": "the entry itself, as it was written when it was opened",
        "institution_key": _KEY,
        "signature": _SIGNED,
        "returned_ms": _WHEN,
    },
    "SetSummaryKey": {"key": _ID, "commitments": _SHARING, "holders": _HOLDERS},
    "Summary": {
        "summary": _ID,
        "key": _ID,
        "author": _WHO,
        "anchor": _CIPHER,
        "envelope": _CIPHER,
        "placed_ms": _BLOCK,
    },
    "SummaryKey": {
        "institution": _WHO,
        "commitments": _SHARING,
        "holders": _HOLDERS,
        "since_ms": _BLOCK,
    },
    "SummaryKeySet": {"key": _ID},
    "SummaryOpened": {
        "glass": _ID,
        "sequence": _COUNT,
        "reason": _REASON,
        "opened_ms": _WHEN,
        "returned_ms": _WHEN,
        "review_due_ms": _BLOCK,
        "is_late": _JUDGED,
        "is_sound": _JUDGED,
    },
    "SummaryOpening": {
        "version": _VERSION,
        "institution": _WHO,
        "sequence": _COUNT,
        "previous": _CHAINED,
        "summary": _ID,
        "patient": _PATIENT,
        "key": _ID,
        "reason": _REASON,
        "opened_ms": _WHEN,
        "height": "the newest block that its node knew: how long it was cut off can be seen",
        "opener": _WHO,
        "opener_credential": _ID,
        "opener_key": _KEY,
        "opener_signature": _SIGNED,
        "second": _WHO,
        "second_credential": _ID,
        "second_key": _KEY,
        "second_signature": _SIGNED,
    },
    "SummaryPlaced": {"summary": _ID, "key": _ID},
    "WithdrawSummary": {"patient": _PATIENT, "institution": _WHO},
}
"""Type, field and reason, as `allowlist.ALLOWED`."""
