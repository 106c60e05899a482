"""The part of the allow-list that belongs to erasure and retention. See `allowlist`, which joins them."""

from __future__ import annotations

from typing import Final

_ID = "a random id: says nothing, and is needed to name the thing again"
_PATIENT = "a pseudonym: whose right it is, without saying who"
_WHO = "institutions and staff act under their own ids, and answer for it"
_NAMED = "random ids: what is erased, and nothing else"
_PLACE = "a random id of a compartment: how far it reaches, without saying of what class"
_EPOCH = "how far it reaches: records of later epochs stay"
_BASIS = "one word of a short list: a refusal must say its reason, an order its ground"
_OUTCOME = "one word of a short list: what came of it"
_WHEN = "block time of the block that did it: in its header already"
_PERIOD = "holds and the time to contest end by block time, on every node alike"
_KEPT = "what a law keeps: the patient has a right to know by whom, why, until when"
_HOLDERS = "who must destroy, and attest it: whoever relies on it must be able to see who has not"
_COUNT = "a number"
_ENVELOPE = "tagged hashes of encrypted bytes that are gone: vaults refuse them for ever by these names"

ERASURE: Final[dict[str, dict[str, str]]] = {
    "AttestErasure": {"erasure": _ID},
    "Attested": {"erasure": _ID, "holder": _WHO, "complete": _OUTCOME, "missing": _COUNT},
    "CarryOutErasure": {"erasure": _ID},
    "ContestErasure": {"erasure": _ID},
    "Erased": {
        "erasure": _ID,
        "patient": _PATIENT,
        "records": _NAMED,
        "envelopes": _ENVELOPE,
        "compartment": _PLACE,
        "epoch": _EPOCH,
    },
    "Erasure": {
        "patient": _PATIENT,
        "requested_by": _WHO,
        "records": _NAMED,
        "compartment": _PLACE,
        "epoch": _EPOCH,
        "basis": _BASIS,
        "outcome": _OUTCOME,
        "requested_ms": _WHEN,
        "due_ms": _PERIOD,
        "carried_out_ms": _WHEN,
        "kept": _KEPT,
        "holders": _HOLDERS,
        "attested": _HOLDERS,
    },
    "ErasureAsked": {"erasure": _ID, "outcome": _OUTCOME, "due_ms": _PERIOD},
    "ErasureVerdict": {
        "erasure": _ID,
        "outcome": _OUTCOME,
        "due_ms": _PERIOD,
        "kept": _KEPT,
        "holders": _HOLDERS,
    },
    "Hold": {
        "patient": _PATIENT,
        "holder": _WHO,
        "compartment": _PLACE,
        "everything": _OUTCOME,
        "basis": _BASIS,
        "placed_ms": _WHEN,
        "not_after": _PERIOD,
        "lifted_ms": _WHEN,
    },
    "HoldsOf": {"holds": _ID},
    "Keepers": {"institutions": _HOLDERS},
    "KeptBack": {"record": _NAMED, "hold": _ID, "holder": _WHO, "basis": _BASIS, "not_after": _PERIOD},
    "LiftHold": {"hold": _ID},
    "PlaceHold": {
        "hold": _ID,
        "patient": _PATIENT,
        "compartment": _PLACE,
        "everything": _OUTCOME,
        "basis": _BASIS,
        "not_after": _PERIOD,
    },
    "RequestErasure": {
        "erasure": _ID,
        "patient": _PATIENT,
        "records": _NAMED,
        "compartment": _PLACE,
        "epoch": _EPOCH,
        "basis": _BASIS,
    },
    "Tombstone": {"erasure": _ID, "epoch": _EPOCH, "until_ms": _WHEN, "spared": _KEPT},
    "Tombstones": {"stones": "what may not come back, on every node alike"},
}
"""Type, field and reason, as `allowlist.ALLOWED`."""
