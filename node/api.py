"""What a running node answers: the port between the RPC (and any other face) and the node itself.

`node/rpc.py` turns JSON into these calls and their answers into JSON; `node/service.py` implements them. Every method
raises Refused with a catalogue code where it cannot answer. Values are bytes and Wire structs here, mostly those that
the client gives to applications; their JSON form (hexadecimal ids, base64 blobs) is the RPC's business alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from consilium.client.rpc_answers import AccountingRow, Committed, EventAt, Released, StoredBlock, Submission
from consilium.client.rpc_values import Cursor
from consilium.ledger.genesis import Genesis
from consilium.node.emergency_api import EmergencyDesk


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one transaction that was handed in to be waited for. `committed` is None where it was refused at
    the door, or is still undecided when the time is up."""

    submission: Submission
    committed: Committed | None


@dataclass(frozen=True, slots=True)
class AccountingPage:
    """Some lines, the cursor to go on from, and whether these are the last."""

    rows: tuple[AccountingRow, ...]
    next: Cursor
    is_last: bool


class NodeApi(Protocol):
    """The node, as its faces see it."""

    @property
    def genesis(self) -> Genesis:
        """The network's genesis document."""
        ...

    @property
    def desk(self) -> EmergencyDesk | None:
        """What answers about emergencies; None until the node has built it."""
        ...

    def status(self) -> dict[str, Any]:
        """A snapshot for people and monitors, of JSON values only: `node_id`, `name`, `role`, `institution`, `network`,
        `chain_id`, `version`, `height`, `tip_hash`, `tip_time_ms`, `certified_height`, `view`, `phase`, `primary`,
        `validators`, `peers`, `mempool`, `vault`, `storage`, `custodian`, `emergencies`, `evidence`, `voting`,
        `uptime_s`, `healthy`, `reason`."""
        ...

    def healthy(self) -> tuple[bool, str]:
        """Whether the node serves and follows the chain, and a reason where not."""
        ...

    async def submit(self, transactions: Sequence[bytes]) -> list[Submission]:
        """Admit raw transactions to the mempool. One refusal does not affect the others."""
        ...

    async def wait(self, transaction: bytes, timeout_s: float, certified: bool) -> Committed:
        """Wait until a transaction is committed (and, if asked, certified by the next header).

        Raises Refused `rpc.timeout`, or `transaction.expired` once it can no longer be included."""
        ...

    async def settle(self, transactions: Sequence[bytes], timeout_s: float) -> list[Settled]:
        """Admit raw transactions; wait until each that was admitted is decided or expires, or the time is up.

        One that was admitted before is waited for like the others."""
        ...

    async def transaction(self, transaction: bytes) -> Committed:
        """A committed transaction. Raises Refused `transaction.unknown`, or `chain.before_snapshot` where the chain
        here began with a snapshot, so that nobody can say."""
        ...

    async def block(self, height: int) -> StoredBlock:
        """Raises Refused `block.unknown`."""
        ...

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        """The value under a state key at the newest certified height, and that height."""
        ...

    async def state_receipt(self, key: bytes, height: int | None, since: int | None = None) -> bytes:
        """A receipt (encoded) that a key held its value, or none, as of `height` (default: the newest certified).

        `since`, here and below: the height of a header that the verifier trusts, on which the receipt then rests in
        place of genesis."""
        ...

    async def verdict_receipt(self, transaction: bytes, since: int | None = None) -> bytes:
        """A receipt of what became of a transaction. Raises Refused `transaction.unknown`, `receipt.not_certified`."""
        ...

    async def transaction_receipt(self, transaction: bytes, since: int | None = None) -> bytes:
        """A receipt that a transaction is in a block."""
        ...

    async def extend_receipt(self, receipt: bytes, to_height: int | None, since: int | None = None) -> bytes:
        """The same fact, hung from the header at `to_height` (default: from the trusted one, else from the tip).

        Raises Refused `receipt.*`, `chain.*`, `codec.*`."""
        ...

    async def events(
        self, after: Cursor, limit: int, kinds: frozenset[str] | None, subject: bytes | None
    ) -> list[EventAt]:
        """Events of committed blocks after the cursor, in order, at most `limit`."""
        ...

    def subscribe(
        self, after: Cursor, kinds: frozenset[str] | None, subject: bytes | None
    ) -> AsyncIterator[EventAt]:
        """All events after the cursor, those of the past first, then new ones as they are committed: none missed, none
        twice. The iterator pulls from the store, so a slow reader holds no memory here."""
        ...

    async def put_envelopes(self, envelopes: Sequence[bytes]) -> list[bytes]:
        """Store envelopes durably; returns their digests. For the node's own institution only."""
        ...

    async def get_envelope(self, digest: bytes) -> bytes:
        """An envelope by digest, for the node's own institution only. Raises Refused `vault.unknown`."""
        ...

    async def deposit_share(self, parcel: bytes) -> None:
        """Take over a custodian's share of a compartment's secret, sealed to this institution's encryption key."""
        ...

    async def release(self, transaction: bytes, operation: int, signature: bytes, start: int = 0) -> Released:
        """Obey a committed *allow*, from a place on. `signature` is the reader's, over the decision, with the key that
        signed the request. Raises Refused with the reason where nothing of it can be released (any more)."""
        ...

    async def accounting(
        self, transaction: bytes, operation: int, signature: bytes, after: Cursor, limit: int
    ) -> AccountingPage:
        """Answer a committed consultation of a patient's accounting. `signature` is over the consultation, with the key
        that signed it. Raises Refused `accounting.*`, `access.window_closed`, `identity.*`."""
        ...
