"""The one way in for an application: a session with a node, and a function for every act on the ledger.

    async with sdk.connect("http://127.0.0.1:7200", wallet, chain_id=known) as session:
        consent, _ = await sdk.consenting.grant(session, reader, ["TREAT"], not_before_ms=now, not_after_ms=end)
        asked = await sdk.reading.request(session, "TREAT", record_ids=[record])
        opened = await sdk.reading.fetch(session, asked, custodian)

The functions stand in modules by subject, all of them here. `OPERATIONS` says which one does each of the ledger's
operations, `NODES` and `FOUNDERS` which are nobody's to call and why; a test holds the three against the registry.
docs/sdk.md is the page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from consilium.client import (
    attesting,
    consenting,
    credentialing,
    disclosures,
    emergency,
    epochs,
    erasing,
    governing,
    history,
    identities,
    mandates,
    preferences,
    reading,
    recording,
    recovering,
    representing,
    shifts,
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
    "attesting",
    "connect",
    "consenting",
    "credentialing",
    "disclosures",
    "emergency",
    "epochs",
    "erasing",
    "governing",
    "history",
    "identities",
    "mandates",
    "preferences",
    "reading",
    "recording",
    "recovering",
    "representing",
    "shifts",
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
