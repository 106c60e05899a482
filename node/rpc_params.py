"""What the RPC's methods take: a Struct for each, whose bounds are checked where the request is decoded.

Nothing unknown is taken. What they answer is in `client.rpc_values`, for both ends.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.client.envelope import ENVELOPE_BYTES_MAX
from consilium.client.rpc_values import CursorText, Hex16, Hex32, Hex64, HexKey
from consilium.contracts.accounting import RELEASED_RECORDS_MAX, VERDICTS_MAX
from consilium.ledger import codec
from consilium.ledger.receipt_format import RECEIPT_BYTES_MAX
from consilium.ledger.transaction import OPERATIONS_MAX, TRANSACTION_BYTES_MAX

SUBMIT_TRANSACTIONS_MAX: Final = 512
WAIT_MS_MAX: Final = 60_000
WAIT_MS: Final = 30_000
EVENTS_MAX: Final = 1_000
EVENTS: Final = 100
EVENT_KINDS_MAX: Final = 32
ENVELOPES_MAX: Final = 512
PARCEL_BYTES_MAX: Final = 64 * 1024

Height = Annotated[int, msgspec.Meta(ge=0, le=codec.UINT_MAX)]
Kind = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Kinds = Annotated[list[Kind], msgspec.Meta(max_length=EVENT_KINDS_MAX)]


class _Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class SubmitParams(_Params, frozen=True):
    transactions: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=TRANSACTION_BYTES_MAX)]],
        msgspec.Meta(min_length=1, max_length=SUBMIT_TRANSACTIONS_MAX),
    ]


class CommitParams(_Params, frozen=True):
    transactions: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=TRANSACTION_BYTES_MAX)]],
        msgspec.Meta(min_length=1, max_length=SUBMIT_TRANSACTIONS_MAX),
    ]
    timeout_ms: Annotated[int, msgspec.Meta(ge=0, le=WAIT_MS_MAX)] = WAIT_MS


class WaitParams(_Params, frozen=True):
    id: Hex32
    timeout_ms: Annotated[int, msgspec.Meta(ge=0, le=WAIT_MS_MAX)] = WAIT_MS
    certified: bool = False


class TransactionParams(_Params, frozen=True):
    id: Hex32


class BlockParams(_Params, frozen=True):
    height: Height


class StateParams(_Params, frozen=True):
    key: HexKey


class VerdictReceiptParams(_Params, frozen=True, tag_field="kind", tag="verdict"):
    transaction: Hex32
    since: Height | None = None


class TransactionReceiptParams(_Params, frozen=True, tag_field="kind", tag="transaction"):
    transaction: Hex32
    since: Height | None = None


class StateReceiptParams(_Params, frozen=True, tag_field="kind", tag="state"):
    key: HexKey
    height: Height | None = None
    since: Height | None = None


class ExtendParams(_Params, frozen=True):
    receipt: Annotated[bytes, msgspec.Meta(max_length=RECEIPT_BYTES_MAX)]
    to_height: Height | None = None
    since: Height | None = None


class EventsParams(_Params, frozen=True):
    after: CursorText | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=EVENTS_MAX)] = EVENTS
    kinds: Kinds | None = None
    subject: Hex16 | None = None


class SubscribeParams(_Params, frozen=True):
    after: CursorText | None = None
    kinds: Kinds | None = None
    subject: Hex16 | None = None


class UnsubscribeParams(_Params, frozen=True):
    subscription: Annotated[str, msgspec.Meta(max_length=32)]


class PutParams(_Params, frozen=True):
    envelopes: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=ENVELOPE_BYTES_MAX)]],
        msgspec.Meta(min_length=1, max_length=ENVELOPES_MAX),
    ]


class GetParams(_Params, frozen=True):
    digest: Hex32


class DepositParams(_Params, frozen=True):
    parcel: Annotated[bytes, msgspec.Meta(max_length=PARCEL_BYTES_MAX)]


class ReleaseParams(_Params, frozen=True):
    transaction: Hex32
    operation: Annotated[int, msgspec.Meta(ge=0, lt=OPERATIONS_MAX)]
    signature: Hex64
    start: Annotated[int, msgspec.Meta(ge=0, lt=VERDICTS_MAX * RELEASED_RECORDS_MAX)] = 0


class AccountingParams(_Params, frozen=True):
    transaction: Hex32
    operation: Annotated[int, msgspec.Meta(ge=0, lt=OPERATIONS_MAX)]
    signature: Hex64
    after: CursorText | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=EVENTS_MAX)] = EVENTS
