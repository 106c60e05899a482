"""What a node itself has to say to the ledger: signed with its institution's wallet, submitted to its own pool.

Nothing here decides anything; whether a statement is right is the contracts' affair, on every node alike.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from consilium.client.session import VALIDITY_MS
from consilium.client.wallet import Wallet
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import VALIDITY_MAX_MS, Operation, sign_transaction
from consilium.node.service import Service

SAY_TIMEOUT_S: Final = 30.0
NONCE_BYTES: Final = 16


class Clerk:
    """Speaks for `wallet` by way of this node's own service."""

    def __init__(
        self,
        wallet: Wallet,
        chain_id: bytes,
        service: Service,
        tip_ms: Callable[[], int],
        clock_ms: Callable[[], int],
    ) -> None:
        self._wallet = wallet
        self._chain_id = chain_id
        self._service = service
        self._tip_ms = tip_ms
        self._clock_ms = clock_ms

    @property
    def institution(self) -> bytes:
        """In whose name (16 bytes)."""
        return self._wallet.identity

    async def say(self, operation: Operation) -> str:
        """Submit one operation, and wait until it is decided. Returns "ok", or the code of the refusal.

        `rpc.timeout`: not decided in time; it may still be.
        """
        tip_ms = self._tip_ms()
        signed = sign_transaction(
            self._wallet.signing,
            chain_id=self._chain_id,
            sender=self._wallet.identity,
            nonce=secrets.token_bytes(NONCE_BYTES),
            valid_until=min(max(self._clock_ms(), tip_ms) + VALIDITY_MS, tip_ms + VALIDITY_MAX_MS),
            operations=[operation],
        )
        (answer,) = await self._service.submit([signed.raw])
        if answer.code is not None:
            return answer.code
        try:
            committed = await self._service.wait(signed.id, SAY_TIMEOUT_S, certified=False)
        except Refused as refusal:
            return refusal.code
        return committed.leaf.code
