"""The client of a node's RPC: one async class, over HTTP for calls and over WebSocket for events.

    async with RpcClient(["http://127.0.0.1:8080", "http://127.0.0.1:8081"]) as rpc:
        (answer,) = await rpc.submit([raw])
        committed = await rpc.wait(answer.id, certified=True)

Several URLs may be given: calls go to the first that answers and stay there. Every call of the RPC can be sent again
without harm (submitting knows transactions by their id, storing envelopes by their digest), so a lost connection is
retried within the call's time. Privileged calls are different: the token, and what it opens, belong to one
institution, so they go to the first URL only and the token is sent nowhere else.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, TypeVar

import aiohttp

from consilium.client import rpc_values as values
from consilium.client.rpc_answers import (
    AccountingRow,
    Committed,
    EventAt,
    Released,
    StoredBlock,
    Submission,
    Withheld,
    committed_of,
    released_of,
    submission_of,
)
from consilium.client.rpc_transport import (
    ConnectionLost,
    RemoteRefusal,
    RpcSocket,
    decode_answer,
    open_session,
    post,
    request,
    result_of,
    rpc_url,
)
from consilium.client.rpc_values import BEFORE_ALL, NOW, Cursor, Hex
from consilium.client.subscription import follow
from consilium.ledger import codec
from consilium.ledger.block import (
    BLOCK_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    Block,
    CommitCertificate,
    decode_block,
)
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import GENESIS_BYTES_MAX, Genesis

__all__ = [
    "BEFORE_ALL",
    "NOW",
    "AccountingRow",
    "Committed",
    "ConnectionLost",
    "Cursor",
    "EventAt",
    "Released",
    "RemoteRefusal",
    "RpcClient",
    "RpcSocket",
    "StoredBlock",
    "Submission",
    "Withheld",
]

CALL_TIMEOUT_S: Final = 30.0
WAIT_SLICE_S: Final = 20.0
"""A longer wait is asked for in slices: each may be answered by another node."""
WAIT_SPARE_S: Final = 5.0
ATTEMPTS_MAX: Final = 8
RETRY_MIN_S: Final = 0.05
RETRY_MAX_S: Final = 1.0
GIVE_UP_S: Final = 60.0
NOT_RUN: Final = frozenset({"rpc.busy", "rpc.shutting_down"})
"""The node did not even start: the call may be tried again, or elsewhere."""
PUT_BYTES_MAX: Final = 8 * 1024 * 1024
"""Envelopes of one request, before base64; a single larger one goes alone."""
PUT_ENVELOPES_MAX: Final = 512

_T = TypeVar("_T")


class RpcClient:
    """An async context manager. `token` is for the first URL; `tls` checks certificates of https URLs.

    Every method raises Refused: the node's own codes (RemoteRefusal, with `retry_after_ms`), `rpc.unreachable`,
    `rpc.timeout`, `rpc.remote_error`.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        token: str | None = None,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        given = [urls] if isinstance(urls, str) else list(urls)
        self.urls: tuple[str, ...] = tuple(rpc_url(url) for url in given)
        if not self.urls:
            raise Refused("rpc.unreachable", "no address was given")
        self._token = token
        self._timeout_s = timeout_s
        self._tls = tls
        self._current = 0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> RpcClient:
        self._session = open_session(self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, method: str, /, **params: Any) -> Any:
        """Any method by name, with JSON values; bytes must be in their JSON form already. Public methods only."""
        return await self._call(method, params, Any)

    async def ask(
        self, method: str, params: dict[str, Any], kind: type[_T], *, privileged: bool = False
    ) -> _T:
        """Any method by name, with its result as a `kind` of `rpc_values`; a privileged one goes to the first URL."""
        return await self._call(method, params, kind, privileged=privileged)

    async def status(self) -> dict[str, Any]:
        """What the node is and how far it has come: `NodeApi.status`."""
        return await self._call("node.status", {}, dict[str, Any])

    async def genesis(self) -> Genesis:
        """The network's genesis document. Who does not trust the node compares its chain id."""
        found = await self._call("node.genesis", {}, values.GenesisValue)
        return codec.decode(found.genesis, Genesis, GENESIS_BYTES_MAX)

    async def submit(self, transactions: Sequence[bytes]) -> list[Submission]:
        """Hand in raw transactions. After a lost answer, one that was admitted is `transaction.duplicate`."""
        answer = await self._call(
            "transaction.submit", {"transactions": list(transactions)}, values.SubmitResult
        )
        if len(answer.results) != len(transactions):
            raise Refused(
                "rpc.remote_error", f"{len(answer.results)} answers to {len(transactions)} transactions"
            )
        return [submission_of(one) for one in answer.results]

    async def wait(
        self, transaction: bytes, timeout_s: float = CALL_TIMEOUT_S, certified: bool = False
    ) -> Committed:
        """Wait until a transaction is committed, or also certified. Raises Refused `rpc.timeout`."""
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, min(WAIT_SLICE_S, deadline - time.monotonic()))
            params = {
                "id": transaction.hex(),
                "timeout_ms": int(left_s * 1_000),
                "certified": certified,
            }
            try:
                found = await self._call(
                    "transaction.wait", params, values.CommittedValue, timeout_s=left_s + WAIT_SPARE_S
                )
                return committed_of(found)
            except Refused as refusal:
                if refusal.code != "rpc.timeout" or time.monotonic() >= deadline:
                    raise

    async def transaction(self, transaction: bytes) -> Committed:
        """A committed transaction. Raises Refused `transaction.unknown`."""
        return committed_of(
            await self._call("transaction.get", {"id": transaction.hex()}, values.CommittedValue)
        )

    async def block(self, height: int) -> StoredBlock:
        """A block with its certificate, decoded from the canonical bytes."""
        found = await self._call("block.get", {"height": height}, values.BlockValue)
        certificate = None
        if found.certificate is not None:
            certificate = codec.decode(found.certificate, CommitCertificate, CERTIFICATE_BYTES_MAX)
        block = (
            codec.decode(found.block, Block, BLOCK_BYTES_MAX) if height == 0 else decode_block(found.block)
        )
        return StoredBlock(block, certificate, tuple(bytes(one) for one in found.transactions))

    async def state(self, key: bytes) -> tuple[bytes | None, int]:
        """The certified value under a state key (None: nothing), and its height: the node's word, without proof."""
        found = await self._call("state.get", {"key": key.hex()}, values.StateValue)
        return found.value, found.height

    async def resolve(self, did: str) -> dict[str, Any]:
        """A DID resolution result (`client.did_document`): the node's word, without proof. Raises Refused `did.*`,
        `identity.unknown`."""
        return await self._call("identity.resolve", {"did": did}, dict[str, Any])

    async def verdict_receipt(self, transaction: bytes, since: int | None = None) -> bytes:
        """A receipt of what became of a transaction. `since`, here and below: the height of a header that the verifier
        trusts, on which the receipt then rests in place of genesis."""
        return await self._receipt({"kind": "verdict", "transaction": transaction.hex(), "since": since})

    async def transaction_receipt(self, transaction: bytes, since: int | None = None) -> bytes:
        """A receipt that a transaction is in a block."""
        return await self._receipt({"kind": "transaction", "transaction": transaction.hex(), "since": since})

    async def state_receipt(self, key: bytes, height: int | None = None, since: int | None = None) -> bytes:
        """A receipt that a key held its value, or none, as of `height`."""
        return await self._receipt({"kind": "state", "key": key.hex(), "height": height, "since": since})

    async def extend_receipt(
        self, receipt: bytes, to_height: int | None = None, since: int | None = None
    ) -> bytes:
        """The same fact, hung from the header at `to_height` (default: from the trusted one, else from the tip)."""
        params = {"receipt": receipt, "to_height": to_height, "since": since}
        return (await self._call("receipt.extend", params, values.ReceiptValue)).receipt

    async def events(
        self,
        after: Cursor = BEFORE_ALL,
        limit: int = 100,
        kinds: Sequence[str] | None = None,
        subject: bytes | None = None,
    ) -> list[EventAt]:
        """Events of committed blocks after a cursor, at most `limit`."""
        params: dict[str, Any] = {"after": str(after), "limit": limit}
        params["kinds"] = None if kinds is None else list(kinds)
        params["subject"] = None if subject is None else subject.hex()
        found = await self._call("events.list", params, values.EventsResult)
        return [EventAt(Cursor.parse(one.cursor), values.event_of(one.event)) for one in found.events]

    def subscribe(
        self,
        after: Cursor | str | None = None,
        kinds: Sequence[str] | None = None,
        subject: bytes | None = None,
        *,
        give_up_s: float = GIVE_UP_S,
    ) -> AsyncGenerator[EventAt, None]:
        """All events after the cursor (None: from the first; NOW: from now on), across lost connections.

        None is missed and none comes twice. Raises Refused `rpc.unreachable` after `give_up_s` without any node.
        """
        if isinstance(after, str) and after != NOW:
            after = Cursor.parse(after)
        return follow(self._open(), self.urls, after, kinds, subject, give_up_s, time.monotonic)

    def socket(self) -> RpcSocket:
        """A WebSocket to the first URL, for many calls at a time: `async with rpc.socket() as socket`."""
        return RpcSocket(self._open(), self.urls[0], self._token)

    async def put_envelopes(self, envelopes: Sequence[bytes]) -> list[bytes]:
        """Store envelopes durably at the own institution's node. Returns their digests. Privileged."""
        digests: list[bytes] = []
        for part in _slices(envelopes):
            answer = await self._call("vault.put", {"envelopes": part}, values.DigestsResult, privileged=True)
            digests += [bytes(digest) for digest in answer.digests]
        return digests

    async def get_envelope(self, digest: bytes) -> bytes:
        """An envelope by digest. Privileged."""
        found = await self._call("vault.get", {"digest": digest.hex()}, values.EnvelopeValue, privileged=True)
        return found.envelope

    async def deposit_share(self, parcel: bytes) -> None:
        """Hand a sealed share to a custodian's node: the first URL's. It needs no token."""
        await self._call("custodian.deposit", {"parcel": parcel}, dict[str, Any], privileged=True)

    async def release(self, transaction: bytes, operation: int, signature: bytes, start: int = 0) -> Released:
        """Ask a custodian to obey a committed *allow*, from a place on; `signature` is the reader's, over the
        decision."""
        params: dict[str, Any] = {
            "transaction": transaction.hex(),
            "operation": operation,
            "signature": Hex(signature).hex(),
            "start": start,
        }
        found = await self._call("custodian.release", params, values.ReleaseValue)
        return released_of(found)

    async def accounting(
        self,
        transaction: bytes,
        operation: int,
        signature: bytes,
        after: Cursor = BEFORE_ALL,
        limit: int = 1_000,
    ) -> tuple[list[AccountingRow], Cursor, bool]:
        """Lines of a patient's accounting after a cursor, on a committed consultation; the next cursor, and whether
        more may follow. `signature` is over the consultation."""
        params: dict[str, Any] = {
            "transaction": transaction.hex(),
            "operation": operation,
            "signature": Hex(signature).hex(),
            "after": str(after),
            "limit": limit,
        }
        found = await self._call("accounting.list", params, values.AccountingResult)
        rows = [AccountingRow(one.number, one.height, bytes(one.digest), one.line) for one in found.rows]
        return rows, Cursor.parse(found.next), found.more

    async def _receipt(self, params: dict[str, Any]) -> bytes:
        given = {name: value for name, value in params.items() if value is not None}
        return (await self._call("receipt.get", given, values.ReceiptValue)).receipt

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("RpcClient is an async context manager: `async with RpcClient(...) as rpc`")
        return self._session

    async def _call(
        self,
        method: str,
        params: dict[str, Any],
        kind: type[_T],
        *,
        timeout_s: float | None = None,
        privileged: bool = False,
    ) -> _T:
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._attempts(method, params, kind, privileged)
        except TimeoutError:
            raise Refused(
                "rpc.timeout", f"{method} at {self.urls[self._current]} within {limit_s:g} s"
            ) from None

    async def _attempts(self, method: str, params: dict[str, Any], kind: type[_T], privileged: bool) -> _T:
        session = self._open()
        number, body = request(method, params)
        token = self._token if privileged else None
        delay_s = RETRY_MIN_S
        attempt = 0
        failure: Refused
        while True:
            url = self.urls[0 if privileged else self._current]
            try:
                raw = await post(session, url, body, token)
                return result_of(decode_answer(raw, url), number, kind, url)
            except ConnectionLost as lost:
                failure = Refused("rpc.unreachable", f"{url}: {lost.reason}")
            except RemoteRefusal as refusal:
                if refusal.code not in NOT_RUN:
                    raise
                failure = refusal
            attempt += 1
            if attempt == ATTEMPTS_MAX:
                raise failure
            if not privileged:
                self._current = (self.urls.index(url) + 1) % len(self.urls)
            # The first round over all addresses is quick: one dead node costs a caller nothing to speak of.
            if privileged or attempt % len(self.urls) == 0:
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
                delay_s = min(2 * delay_s, RETRY_MAX_S)


def _slices(envelopes: Sequence[bytes]) -> list[list[bytes]]:
    parts: list[list[bytes]] = []
    room = 0
    for envelope in envelopes:
        if not parts or len(envelope) > room or len(parts[-1]) == PUT_ENVELOPES_MAX:
            parts.append([])
            room = PUT_BYTES_MAX
        parts[-1].append(envelope)
        room -= len(envelope)
    return parts
