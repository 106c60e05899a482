"""The one way in for an application: a session with a node, and a function for every act on the ledger.

    async with sdk.connect("http://127.0.0.1:7200", wallet, chain_id=known) as session:
        consent, _ = await sdk.consenting.grant(session, reader, ["TREAT"], not_before_ms=now, not_after_ms=end)
        asked = await sdk.reading.request(session, "TREAT", record_ids=[record])
        opened = await sdk.reading.fetch(session, asked, custodian)

The functions stand in modules by subject, all of them here; `SUBJECTS` says what each is for, those too that submit
nothing: charts, studies, pseudonyms, recovery words. `OPERATIONS` says which function does each of the ledger's
operations, `NODES` and `FOUNDERS` which are nobody's to call and why. Tests hold all of it against the registry and the
page, docs/sdk.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from consilium.client import (
    accounting_export,
    attesting,
    charts,
    consenting,
    contradictions,
    credentialing,
    did_document,
    disclosures,
    emergency,
    epochs,
    erasing,
    erasure_certificate,
    governing,
    history,
    identities,
    mandates,
    preferences,
    pseudonyms,
    reading,
    recording,
    recovering,
    recovery_words,
    representing,
    shifts,
    studies,
    summaries,
    teams,
    treatment,
)
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.ledger.errors import Refused

__all__ = [
    "FOUNDERS",
    "NODES",
    "OPERATIONS",
    "SUBJECTS",
    "accounting_export",
    "attesting",
    "charts",
    "connect",
    "consenting",
    "contradictions",
    "credentialing",
    "did_document",
    "disclosures",
    "emergency",
    "epochs",
    "erasing",
    "erasure_certificate",
    "governing",
    "history",
    "identities",
    "mandates",
    "preferences",
    "pseudonyms",
    "reading",
    "recording",
    "recovering",
    "recovery_words",
    "representing",
    "shifts",
    "studies",
    "summaries",
    "teams",
    "treatment",
]

OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "access.request": reading.request,
    "consent.grant": consenting.grant_provisions,
    "consent.revoke": consenting.revoke,
    "credential.issue": credentialing.issue,
    "credential.revoke": credentialing.revoke,
    "delegation.pass_on": consenting.pass_on,
    "disclosure.consult": disclosures.consult,
    "emergency.close": emergency.close,
    "emergency.declare": emergency.declare,
    "emergency.report_overdue": emergency.report_overdue,
    "emergency.review": emergency.review,
    "erasure.carry_out": erasing.carry_out,
    "erasure.contest": erasing.contest,
    "erasure.request": erasing.request,
    "governance.propose": governing.propose,
    "governance.vote": governing.vote,
    "identity.add_key": identities.add_key,
    "identity.enrol": recording.enrol,
    "identity.reinstate": identities.reinstate,
    "identity.revoke_key": identities.revoke_key,
    "identity.suspend": identities.suspend,
    "mandate.issue": mandates.issue,
    "mandate.withdraw": mandates.withdraw,
    "preferences.set": preferences.set_preferences,
    "records.anchor": recording.import_records,
    "records.begin_epoch": epochs.begin_epoch,
    "records.open_compartments": recording.open_compartments,
    "recovery.approve": recovering.approve,
    "recovery.complete": recovering.complete,
    "recovery.propose": recovering.propose,
    "recovery.veto": recovering.veto,
    "representation.appoint": representing.appoint,
    "representation.dismiss": representing.dismiss,
    "retention.hold": erasing.hold,
    "retention.lift": erasing.lift,
    "session.begin": shifts.begin,
    "session.end": shifts.end,
    "summary.place": summaries.place,
    "summary.report": summaries.report,
    "summary.set_key": summaries.make_key,
    "summary.withdraw": summaries.withdraw,
    "takeover.complete": representing.take_over,
    "teams.admit": teams.admit,
    "teams.form": teams.form,
    "teams.join": teams.join,
    "teams.remove": teams.remove,
    "treatment.attest": treatment.attest,
    "treatment.end": treatment.end,
}
"""Operation to function."""

NODES: Final[dict[str, str]] = {
    "disclosure.attest": "a custodian's node says what it released",
    "erasure.attest": "a holder's node says what it destroyed",
    "governance.ready": "a candidate's node says that it has caught up",
    "governance.report_evidence": "a node brings the contradiction that it saw",
    "governance.returned": "a validator's node says that it lost its memory",
}
"""Operations that nodes submit by themselves: there is nothing for an application to say."""

FOUNDERS: Final[dict[str, str]] = {
    "identity.found": "in the genesis document only: `consilium network found`",
    "settings.found": "in the genesis document only; later by vote: `consilium governance propose --settings`",
}
"""Operations of the genesis document."""


SUBJECTS: Final[dict[str, str]] = {
    "accounting_export": "a patient's accounting as a table, each line with its receipt",
    "attesting": "acts that take two, as a draft that goes from one to the other",
    "charts": "reading more than one decision has room for: a patient's chart, a ward round",
    "consenting": "consents, their conditions, and passing on",
    "contradictions": "validators that contradicted themselves, as the ledger proves it",
    "credentialing": "licences and other credentials: issued, bound to a key, taken back",
    "did_document": "identities as other systems read them: DIDs and DID documents",
    "disclosures": "to whom a patient's records went, with proof that no line is missing",
    "emergency": "breaking the glass, reviews, notices",
    "epochs": "new keys for a compartment, the same custodians or others",
    "erasing": "erasure, holds, certificates",
    "erasure_certificate": "verifying a certificate of erasure offline",
    "governing": "proposals and votes of institutions",
    "history": "what happened to somebody: records, accesses, consents",
    "identities": "keys that are added and revoked; staff that is suspended",
    "mandates": "legal mandates, countersigned",
    "preferences": "what a patient decides once for everybody",
    "pseudonyms": "one wallet, another identity at every institution",
    "reading": "asking, and opening what custodians release",
    "recording": "enrolling, compartments, shares, recording",
    "recovering": "a new key for a patient who lost all, by guardians",
    "recovery_words": "a wallet as 24 words, and again from these and the chain",
    "representing": "delegates, guardians, take-over",
    "shifts": "session keys for staff",
    "studies": "files too large for memory, such as imaging: recorded and read by their author",
    "summaries": "emergency summaries, opened without a quorum",
    "teams": "teams of an institution",
    "treatment": "treatment relationships",
}
"""Module to what it is for."""


@asynccontextmanager
async def connect(
    urls: str | Sequence[str],
    wallet: Wallet,
    *,
    chain_id: bytes | None = None,
    token: str | None = None,
    sender: bytes | None = None,
) -> AsyncIterator[Session]:
    """A session of a wallet with a node, or with the first of several that answers.

    `chain_id` (32 bytes) is the network that is meant: whoever does not trust the node must give it. `token` opens the
    node's privileged methods. `sender` is whom the key speaks for, as in `Session`. Raises Refused
    `genesis.wrong_network`, `rpc.*`.
    """
    async with RpcClient(urls, token) as rpc:
        genesis = await rpc.genesis()
        if chain_id is not None and genesis.chain_id != chain_id:
            raise Refused("genesis.wrong_network", f"the node's is {genesis.chain_id.hex()}")
        yield Session(rpc, genesis, wallet, sender=sender)
