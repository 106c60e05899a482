"""A wallet that talks to the network through a node: reading state, submitting, waiting for what was decided.

Everything that an application does on the ledger is one or more signed transactions of this session's identity.
`submit` returns when the ledger has decided; a refusal on the chain comes back as the same `Refused`, with the same
code, as a refusal at the door.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from nacl.utils import random

from consilium.client.rpc import Committed, RpcClient
from consilium.client.wallet import Wallet
from consilium.contracts import identity as identities
from consilium.contracts import registry
from consilium.contracts.operation import ID_BYTES, Slot
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OK
from consilium.ledger.genesis import Genesis
from consilium.ledger.transaction import (
    OPERATIONS_MAX,
    TRANSACTION_BYTES_MAX,
    VALIDITY_MAX_MS,
    Operation,
    Transaction,
    Verified,
    sign_transaction,
)

VALIDITY_MS: Final = VALIDITY_MAX_MS // 2
"""Half of what is allowed: leaves room for a clock that is fast, or a chain that was idle."""
COMMIT_TIMEOUT_S: Final = 60.0
SUBMIT_RETRIES_MAX: Final = 60
OPERATION_OVERHEAD_BYTES: Final = 64
TRANSACTION_OVERHEAD_BYTES: Final = 512

_W = TypeVar("_W", bound=codec.Wire)


def new_id() -> bytes:
    """A fresh random id (16 bytes) for a record, bundle, compartment or consent."""
    return random(ID_BYTES)


class Session:
    """See the module. `clock_ms` gives the wall time in milliseconds.

    `sender` is whom the wallet's key speaks for, where that is not the identity that was founded with it: a key that
    was added later, a clinician's key of a shift, a patient's new key after a take-over or recovery.
    """

    def __init__(
        self,
        rpc: RpcClient,
        genesis: Genesis,
        wallet: Wallet,
        *,
        clock_ms: Callable[[], int] = lambda: int(time.time() * 1000),
        sender: bytes | None = None,
    ) -> None:
        self.rpc = rpc
        self.genesis = genesis
        self.wallet = wallet
        self.chain_id: bytes = genesis.chain_id
        self._clock_ms = clock_ms
        self._sender = sender or wallet.identity

    @property
    def identity(self) -> bytes:
        """Who this session speaks for (16 bytes)."""
        return self._sender

    @property
    def clock_ms(self) -> int:
        """This computer's wall time, in milliseconds since 1970."""
        return self._clock_ms()

    async def act(self, name: str, body: codec.Wire, *, certified: bool = False) -> Committed:
        """Submit one operation by itself, as `submit` does."""
        return await self.submit([registry.operation(name, body)], certified=certified)

    async def tip_ms(self) -> int:
        """Block time of the node's newest block: what periods are held against."""
        return int((await self.rpc.status())["tip_time_ms"])

    async def submit(
        self,
        operations: Sequence[Operation],
        *,
        certified: bool = False,
        keep: Callable[[Verified[Transaction]], Awaitable[None]] | None = None,
    ) -> Committed:
        """Sign the operations as one atomic transaction, and wait until it is decided.

        With `certified`, wait until the next header certifies the outcome too: then receipts and releases can follow.
        `keep` is awaited with what was signed before it leaves, so that it can be sent once more after a crash.
        Raises Refused with the ledger's own code where it was refused.
        """
        signed = sign_transaction(
            self.wallet.signing,
            chain_id=self.chain_id,
            sender=self.identity,
            nonce=random(ID_BYTES),
            valid_until=await self._valid_until(),
            operations=list(operations),
        )
        if keep is not None:
            await keep(signed)
        decided = await self.send(signed, certified=certified)
        if decided.leaf.code != OK:
            failed = decided.leaf.failed
            name = operations[failed].name if failed is not None else "the transaction"
            why = Refused(decided.leaf.code, decided.detail).words
            raise Refused(decided.leaf.code, f"the ledger refused {name}: {why}")
        return decided

    async def send(self, signed: Verified[Transaction], *, certified: bool = False) -> Committed:
        """Hand in what was signed, and wait until it is decided: what became of it, refused or not.

        The same transaction may be sent any number of times: the ledger counts it once. Raises Refused where it is not
        admitted (`transaction.expired` once it can no longer be included), or not decided in time.
        """
        await self._admit(signed.raw)
        return await self.rpc.wait(signed.id, timeout_s=COMMIT_TIMEOUT_S, certified=certified)

    async def state(self, slot: Slot[_W], *parts: bytes) -> _W | None:
        """A value of certified state, decoded; None where there is none."""
        raw, _ = await self.rpc.state(slot.key(*parts))
        return None if raw is None else slot.decode(raw)

    async def identity_of(self, identity: bytes) -> identities.Identity:
        """An identity's entry. Raises Refused `identity.unknown`."""
        known = await self.state(identities.IDENTITIES, identity)
        if known is None:
            raise Refused("identity.unknown", identity.hex())
        return known

    async def _valid_until(self) -> int:
        tip_ms = await self.tip_ms()
        return min(max(self._clock_ms(), tip_ms) + VALIDITY_MS, tip_ms + VALIDITY_MAX_MS)

    async def _admit(self, raw: bytes) -> None:
        for _ in range(SUBMIT_RETRIES_MAX):
            (answer,) = await self.rpc.submit([raw])
            if answer.code is None or answer.code == "transaction.duplicate":
                return
            if answer.retry_after_ms is None:
                raise Refused(answer.code, answer.detail)
            await asyncio.sleep(answer.retry_after_ms / 1000)
        raise Refused("mempool.full", "the node was still full after many tries")


def slices(operations: Sequence[Operation]) -> list[list[Operation]]:
    """Cut a list of operations into transactions that keep the limits, in order."""
    parts: list[list[Operation]] = []
    room = 0
    for operation in operations:
        size = len(operation.name) + len(operation.body) + OPERATION_OVERHEAD_BYTES
        if not parts or len(parts[-1]) == OPERATIONS_MAX or size > room:
            parts.append([])
            room = TRANSACTION_BYTES_MAX - TRANSACTION_OVERHEAD_BYTES
        parts[-1].append(operation)
        room -= size
    return parts
