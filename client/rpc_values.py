"""The JSON shapes of the RPC, once for both ends: the node encodes these Structs, the client decodes them.

Bytes have two forms in JSON. Ids, keys, digests and signatures are lower-case hexadecimal, as people compare them;
blobs (transactions, envelopes, receipts, results) are base64. A `Hex` is bytes whose JSON form is the first; plain
`bytes` take the second. Results may gain members in later versions: what a client does not know, it ignores.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self, TypeVar

import msgspec

from consilium.ledger.execution import Event
from consilium.ledger.state import STATE_KEY_BYTES_MAX

_T = TypeVar("_T")

_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")
_CURSOR: Final = re.compile(r"(-1|0|[1-9][0-9]{0,17})\.(-1|0|[1-9][0-9]{0,9})")


class Hex(bytes):
    """Bytes that are lower-case hexadecimal in JSON. `SIZES` has the least and the greatest length in bytes."""

    __slots__ = ()
    SIZES: ClassVar[tuple[int, int]] = (0, 64)

    @classmethod
    def parse(cls, text: object) -> Self:
        """From the JSON form. Raises ValueError with a sentence for whoever wrote it."""
        low, high = cls.SIZES
        size = f"{2 * low}" if low == high else f"{2 * low} to {2 * high}"
        if not isinstance(text, str):
            raise ValueError(f"Expected a string of {size} hexadecimal digits")
        if not 2 * low <= len(text) <= 2 * high or not _HEX.fullmatch(text):
            raise ValueError(f"Expected {size} lower-case hexadecimal digits, an even number of them")
        return cls(bytes.fromhex(text))


class Hex16(Hex):
    """An identity, patient, record: 16 bytes."""

    __slots__ = ()
    SIZES = (16, 16)


class Hex32(Hex):
    """A transaction id, hash, digest or public key: 32 bytes."""

    __slots__ = ()
    SIZES = (32, 32)


class Hex64(Hex):
    """A signature: 64 bytes."""

    __slots__ = ()
    SIZES = (64, 64)


class HexKey(Hex):
    """A state key."""

    __slots__ = ()
    SIZES = (1, STATE_KEY_BYTES_MAX)


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """An event's place in the chain; an event is after a cursor when its own is greater. Text form: `height.index`.

    `Cursor(height, -1)` is before every event of that height; `Cursor(-1, -1)` before everything.
    """

    height: int
    index: int

    def __str__(self) -> str:
        return f"{self.height}.{self.index}"

    @classmethod
    def parse(cls, text: object) -> Cursor:
        """From the text form. Raises ValueError."""
        match = _CURSOR.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError('Expected a cursor, `"height.index"`, as an earlier event carried it')
        return cls(int(match[1]), int(match[2]))


BEFORE_ALL: Final = Cursor(-1, -1)
NOW: Final = "now"
"""In place of a cursor: only what is committed from now on."""


class CursorText(str):
    """A cursor in its text form, or `"now"`, checked where it is decoded."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> CursorText:
        """Raises ValueError where the text is neither."""
        return cls(NOW if text == NOW else str(Cursor.parse(text)))


class ErrorData(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error of the catalogue, as every answer carries it."""

    code: str
    cause: str = ""
    remedy: str = ""
    detail: str = ""
    retry_after_ms: int | None = None


class SubmissionValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one submitted transaction. `id` is null where the bytes were no transaction."""

    id: Hex32 | None
    accepted: bool
    error: ErrorData | None = None


class SubmitResult(msgspec.Struct, frozen=True):
    """The answers, in the order of the transactions."""

    results: list[SubmissionValue]


class CommittedValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a transaction is in the chain, and what became of it: `code` is `ok` or a catalogue code, `detail` what
    was said with the latter, where the node still knows."""

    id: Hex32
    height: int
    index: int
    time_ms: int
    certified: bool
    code: str
    failed: int | None
    results: list[bytes]
    detail: str = ""


class SettledValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """As SubmissionValue; `committed` is absent where it was refused, or is undecided when the time is up."""

    id: Hex32 | None
    accepted: bool
    error: ErrorData | None = None
    committed: CommittedValue | None = None


class CommitResult(msgspec.Struct, frozen=True):
    """The answers, in the order of the transactions."""

    results: list[SettledValue]


class HeaderValue(msgspec.Struct, frozen=True):
    """A header, for people; programs decode the block's own bytes, which are what is certified."""

    version: int
    chain_id: Hex32
    height: int
    parent: Hex32
    time_ms: int
    primary: Hex32
    lost: int
    batches_root: Hex32
    state_root: Hex32
    receipts_root: Hex32
    validators_hash: Hex32
    next_validators_hash: Hex32
    history_root: Hex32


class BlockValue(msgspec.Struct, frozen=True):
    """`block` and `certificate` are the canonical bytes; genesis has no certificate."""

    height: int
    hash: Hex32
    header: HeaderValue
    transactions: list[Hex32]
    block: bytes
    certificate: bytes | None


class GenesisValue(msgspec.Struct, frozen=True):
    """`genesis` has the canonical bytes, whose digest is the chain id."""

    network: str
    chain_id: Hex32
    genesis: bytes


class StateValue(msgspec.Struct, frozen=True):
    """`value` is null where the key holds nothing at `height`."""

    key: HexKey
    value: bytes | None
    height: int


class ReceiptValue(msgspec.Struct, frozen=True):
    """An encoded receipt, for `consilium receipt verify`."""

    receipt: bytes


class EventValue(msgspec.Struct, frozen=True):
    """What applications are told; `subjects` are the ids that it concerns."""

    kind: str
    subjects: list[Hex16]
    transaction: Hex32
    operation: int
    time_ms: int
    data: bytes


class EventAtValue(msgspec.Struct, frozen=True):
    """An event and its place in the chain."""

    cursor: CursorText
    event: EventValue


class EventsResult(msgspec.Struct, frozen=True):
    """`next` is the cursor to ask on from; `more` says whether there may be more already."""

    events: list[EventAtValue]
    next: CursorText
    more: bool


class SubscribeResult(msgspec.Struct, frozen=True):
    """`after` is the cursor that the subscription starts after: what `"now"` meant."""

    subscription: str
    after: CursorText


class EventNotice(msgspec.Struct, frozen=True):
    """Parameters of the notification `events.event`."""

    subscription: str
    cursor: CursorText
    event: EventValue


class DroppedNotice(msgspec.Struct, frozen=True):
    """Parameters of the notification `events.dropped`: the subscription is over; `cursor` is the last one sent."""

    subscription: str
    cursor: CursorText
    code: str
    cause: str
    remedy: str
    detail: str


class DigestsResult(msgspec.Struct, frozen=True):
    """Digests of stored envelopes, in their order."""

    digests: list[Hex32]


class EnvelopeValue(msgspec.Struct, frozen=True):
    """One envelope: ciphertext."""

    envelope: bytes


class WithheldValue(msgspec.Struct, frozen=True):
    """A record (None: the whole verdict) that an allow names and a custodian does not release, and why."""

    verdict: int
    record: Hex16 | None
    code: str
    detail: str


class ReleaseValue(msgspec.Struct, frozen=True):
    """A page of what a custodian hands out on a committed *allow*; `next` is the `start` of the next page."""

    sealed_partials: bytes
    envelopes: list[bytes]
    withheld: list[WithheldValue] = []
    next: int | None = None


class AccountingRowValue(msgspec.Struct, frozen=True):
    """A line of a patient's accounting (`contracts.accounting.Line`); `line` is None where only its digest is shown."""

    number: int
    height: int
    digest: Hex32
    line: bytes | None


class AccountingResult(msgspec.Struct, frozen=True):
    """Some lines, and the cursor to go on from; `more` may be true where none follow."""

    rows: list[AccountingRowValue]
    next: CursorText
    more: bool


def event_value(event: Event) -> EventValue:
    """The JSON shape of a committed event."""
    return EventValue(
        event.kind,
        [Hex16(subject) for subject in event.subjects],
        Hex32(event.transaction),
        event.operation,
        event.time_ms,
        event.data,
    )


def event_of(value: EventValue) -> Event:
    """The event that a JSON shape stands for."""
    return Event(
        value.kind,
        [bytes(subject) for subject in value.subjects],
        bytes(value.transaction),
        value.operation,
        value.time_ms,
        value.data,
    )


def _decode_hook(kind: type[Any], value: Any) -> Any:
    parse: Callable[[object], Any] | None = getattr(kind, "parse", None)
    if parse is None:
        raise NotImplementedError(f"no JSON form for {kind.__name__}")
    return parse(value)


def _encode_hook(value: Any) -> Any:
    if isinstance(value, Hex):
        return value.hex()
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError(f"no JSON form for {type(value).__name__}")


def _schema_hook(kind: type[Any]) -> dict[str, Any]:
    if issubclass(kind, Hex):
        low, high = kind.SIZES
        count = f"{{{2 * low}}}" if low == high else f"{{{2 * low},{2 * high}}}"
        return {"type": "string", "pattern": f"^[0-9a-f]{count}$"}
    if issubclass(kind, CursorText):
        return {"type": "string", "description": "a cursor, height.index, or now"}
    raise NotImplementedError(f"no JSON form for {kind.__name__}")


def encode_json(value: Any) -> bytes:
    """JSON of a Struct of this module, or of plain values that hold some."""
    return msgspec.json.encode(value, enc_hook=_encode_hook)


def decode_json(raw: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    """Decode JSON. Raises msgspec.DecodeError, UnicodeDecodeError or RecursionError on hostile or foreign bytes."""
    return msgspec.json.decode(raw, type=kind, dec_hook=_decode_hook)


def from_json_value(value: object, kind: type[_T]) -> _T:
    """Convert decoded JSON to a Struct. Raises msgspec.ValidationError, which says where and what was expected."""
    return msgspec.convert(value, kind, dec_hook=_decode_hook)


def json_schema(kind: type[Any]) -> dict[str, Any]:
    """The JSON schema (2020-12) of a Struct."""
    return msgspec.json.schema(kind, schema_hook=_schema_hook)
