"""A custodian without a node: it keeps envelopes and shares, believes no node, and obeys on receipts of state.

What `custodian.Custodian` reads of a chain it reads here of *receipts*: each proves, with the genesis document alone,
that a key held its value, or none, in the state that one certified header commits to. All values of a release are of
the same header, the newest that at least TIPS_MIN nodes were asked for, so that one node that withholds blocks, or
falls behind, is found out by another; and its block time is held against the custodian's own clock, as on a node.

What that gives up: a node sees what its newest block did before the next one certifies it, a receipt only after. So a
revocation binds this custodian one block later. And nothing proves that a list is complete: decisions on whole
compartments are refused, those that name records are obeyed. docs/adr/0046.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from consilium.client.rpc_answers import Released
from consilium.client.session import Session
from consilium.contracts.identity import IDENTITIES
from consilium.ledger.block import Header
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OK
from consilium.ledger.genesis import Genesis
from consilium.ledger.receipt import verify_receipt
from consilium.ledger.receipt_format import decode_receipt
from consilium.ledger.state import StateReader
from consilium.ledger.transaction import Operation
from consilium.node.custodian import Custodian

TIPS_MIN: Final = 2
"""So many nodes must show a certified header: one alone could keep the newest to itself."""
NODE_TIMEOUT_S: Final = 3.0
"""A node that proves nothing for so long is passed over, and asked last from then on."""
RELEASE_TIMEOUT_S: Final = 60.0
"""One release at a time: whoever answers slowly each time must not keep all that follow waiting."""
KEYS_MAX: Final = 20_000
"""Of one release: some twenty for a verdict, about one for each further record."""


class StateSource(Protocol):
    """A node, as far as it is asked here: `client.rpc.RpcClient`."""

    async def state_receipt(self, key: bytes, height: int | None = None, since: int | None = None) -> bytes:
        """A receipt that a key held its value, or none, as of `height` (None: the newest certified)."""
        ...


class Trusted(NamedTuple):
    """A header that the verifier knows: its height, and its hash (32 bytes)."""

    height: int
    block_hash: bytes


class SessionSpeaker:
    """What `attesting.Attesting` speaks by, where there is no node: the institution's session with somebody's."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def say(self, operation: Operation) -> str:
        """Submit one operation, and wait until it is decided. Returns "ok", or the code of the refusal."""
        try:
            await self._session.submit([operation])
        except Refused as refusal:
            return refusal.code
        return OK


@dataclass(slots=True)
class _View:
    """The state that one certified header commits to, as far as it was proved. Implements `custodian.Ledger`."""

    header: Header
    fetch: Callable[[bytes, Header], bytes | None]
    values: dict[bytes, bytes | None] = field(default_factory=dict)

    def tip(self) -> Header:
        return self.header

    def tip_state(self) -> StateReader:
        return self

    def certified_state(self) -> StateReader:
        return self

    def get(self, key: bytes) -> bytes | None:
        if key not in self.values:
            if len(self.values) >= KEYS_MAX:
                raise Refused("custodian.unlisted", f"it takes more than {KEYS_MAX} entries of state")
            self.values[key] = self.fetch(key, self.header)
        return self.values[key]

    def certified(self, key: bytes) -> bytes | None:
        return self.get(key)

    def records_in(self, patient: bytes, compartment: bytes) -> Iterable[bytes]:
        raise Refused("custodian.unlisted", f"compartment {compartment.hex()}")


class ReceiptCustodian:
    """See the module. `build` makes the custodian that reads this ledger; its share store and journal are its own.

    `nodes` are of different institutions. `institution` (16 bytes) is this custodian's. `trusted` is a header that it
    knows to be the chain's, such as the newest of its last run: retired validators forge nothing.
    """

    def __init__(
        self,
        genesis: Genesis,
        nodes: Sequence[StateSource],
        institution: bytes,
        build: Callable[[_View], Custodian],
        trusted: Trusted | None = None,
    ) -> None:
        if len(nodes) < TIPS_MIN:
            raise ValueError(f"a custodian without a node asks {TIPS_MIN} nodes at least")
        self._genesis = genesis
        self._nodes = list(nodes)
        self._institution = institution
        self._build = build
        self._trusted = trusted
        self._newest: Header | None = None
        self._one_at_a_time = asyncio.Lock()

    async def release(self, transaction: bytes, operation: int, signature: bytes, start: int = 0) -> Released:
        """As `Custodian.release`. Raises as that, and Refused `custodian.too_few_nodes`, `custodian.fork`,
        `custodian.unlisted`, `receipt.*`, `rpc.*`."""
        async with self._one_at_a_time:
            header = await self._tip()
            loop = asyncio.get_running_loop()
            until_s = loop.time() + RELEASE_TIMEOUT_S

            def fetch(key: bytes, at: Header) -> bytes | None:
                asked = asyncio.run_coroutine_threadsafe(self._value(key, at), loop)
                try:
                    return asked.result(max(0.0, until_s - loop.time()))
                except TimeoutError:
                    asked.cancel()
                    raise Refused("rpc.timeout", "no node proved the entries of state in time") from None

            custodian = self._build(_View(header, fetch))
            return await asyncio.to_thread(custodian.release, transaction, operation, signature, start)

    async def _tip(self) -> Header:
        """The newest certified header that the nodes show. It never goes back."""
        key = IDENTITIES.key(self._institution)
        heard = await asyncio.gather(*(self._shown(node, key) for node in self._nodes))
        headers = [one for one in heard if one is not None]
        if len(headers) < TIPS_MIN:
            raise Refused(
                "custodian.too_few_nodes", f"{len(headers)} of {len(self._nodes)}, and {TIPS_MIN} must"
            )
        if self._newest is not None:
            headers.append(self._newest)
        by_height: dict[int, Header] = {}
        for one in headers:
            if by_height.setdefault(one.height, one) != one:
                raise Refused("custodian.fork", f"height {one.height}")
        self._newest = by_height[max(by_height)]
        return self._newest

    async def _shown(self, node: StateSource, key: bytes) -> Header | None:
        """The header that a node's newest state is proved against; None where it shows none, or a bad one."""
        try:
            async with asyncio.timeout(NODE_TIMEOUT_S):
                raw = await node.state_receipt(key, None, self._since)
            return self._proved(raw, key)[0]
        except (Refused, TimeoutError):
            return None

    async def _value(self, key: bytes, at: Header) -> bytes | None:
        """What a key held in the state that the header commits to, from the first node that proves it."""
        last = Refused("custodian.too_few_nodes", "no node proved an entry of state")
        for node in list(self._nodes):
            try:
                async with asyncio.timeout(NODE_TIMEOUT_S):
                    raw = await node.state_receipt(key, at.height - 1, self._since)
                header, value = self._proved(raw, key)
            except TimeoutError:
                last = Refused("rpc.timeout", f"a node proved no entry of state within {NODE_TIMEOUT_S:g} s")
            except Refused as refusal:
                last = refusal
            else:
                if header == at:
                    return value
                if header.height == at.height:
                    raise Refused("custodian.fork", f"height {at.height}")
            self._nodes.remove(node)
            self._nodes.append(node)
        raise last

    @property
    def _since(self) -> int | None:
        return None if self._trusted is None else self._trusted.height

    def _proved(self, raw: bytes, key: bytes) -> tuple[Header, bytes | None]:
        """The header and the value of a receipt of this key. Raises Refused `receipt.*`, `codec.*`."""
        trusted = None if self._trusted is None else self._trusted.block_hash
        proved = verify_receipt(raw, self._genesis, trusted)
        if proved.kind != "state" or proved.key != key:
            raise Refused("receipt.invalid", "it is of another fact than was asked for")
        return decode_receipt(raw).header, proved.value
