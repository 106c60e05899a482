"""New epochs: a fresh secret for a compartment, with the same custodians or others. What was sealed before stays as
it is.

An epoch ends on compromise or change of custodians. Records that were sealed to the old one are opened by its
custodians.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from consilium.client.recording import current_epoch, deliver_shares
from consilium.client.rpc import Committed, RpcClient
from consilium.client.session import COMMIT_TIMEOUT_S, Session
from consilium.client.sharing import make_compartment
from consilium.client.wallet import KeptCompartment, Wallet
from consilium.contracts import records

_NOBODY: Mapping[bytes, RpcClient] = {}


async def begin_epoch(
    session: Session,
    patient: Wallet,
    compartment: bytes,
    save: Callable[[Wallet], None],
    *,
    custodians: Sequence[bytes] | None = None,
    threshold: int | None = None,
    to: Mapping[bytes, RpcClient] = _NOBODY,
) -> tuple[Wallet, Committed]:
    """Begin a compartment's next epoch, as the patient. `custodians` and `threshold` None leave them as they are.

    `save` makes the wallet durable with the new secret before its point is published. Those of `to` get their shares at
    once, the others by `deliver_shares`. Returns the wallet with the secret.
    """
    number, epoch = await current_epoch(session, compartment)
    chosen = list(custodians) if custodians is not None else list(epoch.custodians)
    secret = make_compartment(threshold or min(epoch.threshold, len(chosen)), len(chosen))
    wallet = patient.keeping(KeptCompartment(compartment, number + 1, secret))
    await asyncio.to_thread(save, wallet)
    body = records.BeginEpoch(compartment, list(secret.commitments), chosen)
    done = await session.act("records.begin_epoch", body, certified=True)
    for custodian in to.values():  # one takes shares of what its own node knows as certified
        await custodian.wait(done.id, COMMIT_TIMEOUT_S, certified=True)
    await deliver_shares(session, wallet, to)
    return wallet, done
