"""The RPC's methods: for each the Struct of `rpc_params` that its parameters must fit, and a handler.

Handlers translate and nothing else: JSON's hexadecimal and base64 to bytes, dataclasses to the shapes of
`client.rpc_values`. `METHODS` at the end is the whole table; docs/rpc.md has a section for each row, and a test holds
them together.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from consilium.client import rpc_values as values
from consilium.client.rpc_answers import Committed, EventAt, Submission
from consilium.client.rpc_values import Cursor, CursorText, Hex16, Hex32
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.node import rpc_emergency
from consilium.node.api import Settled
from consilium.node.dispatch import Context, Empty, Method
from consilium.node.jsonrpc import refusal_data
from consilium.node.rpc_identity import RESOLVE
from consilium.node.rpc_params import (
    WAIT_MS_MAX,
    AccountingParams,
    BlockParams,
    CommitParams,
    DepositParams,
    EventsParams,
    ExtendParams,
    GetParams,
    PutParams,
    ReleaseParams,
    StateParams,
    StateReceiptParams,
    SubmitParams,
    SubscribeParams,
    TransactionParams,
    TransactionReceiptParams,
    UnsubscribeParams,
    VerdictReceiptParams,
    WaitParams,
)

WAIT_SPARE_S: Final = 5.0


async def discover(context: Context, _: Empty) -> Any:
    """The table itself, for people and generators of clients."""
    return {
        "methods": [
            {
                "name": method.name,
                "summary": method.summary,
                "privileged": method.privileged,
                "websocket": method.websocket,
                "params": values.json_schema(method.params),
            }
            for method in sorted(context.methods.values(), key=lambda method: method.name)
        ]
    }


async def status(context: Context, _: Empty) -> Any:
    return context.api.status()


async def genesis(context: Context, _: Empty) -> Any:
    document = context.api.genesis
    return values.GenesisValue(document.network, Hex32(document.chain_id), codec.encode(document))


async def submit(context: Context, params: SubmitParams) -> Any:
    answers = await context.api.submit(params.transactions)
    return values.SubmitResult([_submission(answer) for answer in answers])


async def commit(context: Context, params: CommitParams) -> Any:
    answers = await context.api.settle(params.transactions, params.timeout_ms / 1_000)
    return values.CommitResult([_settled(answer) for answer in answers])


async def wait(context: Context, params: WaitParams) -> Any:
    return _committed(await context.api.wait(bytes(params.id), params.timeout_ms / 1_000, params.certified))


async def transaction(context: Context, params: TransactionParams) -> Any:
    return _committed(await context.api.transaction(bytes(params.id)))


async def block(context: Context, params: BlockParams) -> Any:
    stored = await context.api.block(params.height)
    header = stored.block.header
    shown: dict[str, Any] = {name: getattr(header, name) for name in header.__struct_fields__}
    shown = {name: Hex32(value) if isinstance(value, bytes) else value for name, value in shown.items()}
    return values.BlockValue(
        height=header.height,
        hash=Hex32(header.hash),
        header=msgspec.convert(shown, values.HeaderValue),
        transactions=[Hex32(identifier) for identifier in stored.transactions],
        block=codec.encode(stored.block),
        certificate=None if stored.certificate is None else codec.encode(stored.certificate),
    )


async def state(context: Context, params: StateParams) -> Any:
    value, height = await context.api.state(bytes(params.key))
    return values.StateValue(params.key, value, height)


async def receipt(
    context: Context, params: VerdictReceiptParams | TransactionReceiptParams | StateReceiptParams
) -> Any:
    match params:
        case VerdictReceiptParams():
            raw = await context.api.verdict_receipt(bytes(params.transaction), params.since)
        case TransactionReceiptParams():
            raw = await context.api.transaction_receipt(bytes(params.transaction), params.since)
        case StateReceiptParams():
            raw = await context.api.state_receipt(bytes(params.key), params.height, params.since)
    return values.ReceiptValue(raw)


async def extend(context: Context, params: ExtendParams) -> Any:
    return values.ReceiptValue(
        await context.api.extend_receipt(params.receipt, params.to_height, params.since)
    )


async def events(context: Context, params: EventsParams) -> Any:
    after = cursor_of(params.after)
    subject = None if params.subject is None else bytes(params.subject)
    found = await context.api.events(after, params.limit, _kinds(params.kinds), subject)
    last = found[-1].cursor if found else after
    return values.EventsResult(
        [_event_at(item) for item in found], CursorText(last), len(found) >= params.limit
    )


async def subscribe(context: Context, params: SubscribeParams) -> Any:
    subscriber = context.caller.subscriber
    if subscriber is None:
        raise Refused("rpc.websocket_needed")
    subject = None if params.subject is None else bytes(params.subject)
    return await subscriber.subscribe(params.after or str(values.BEFORE_ALL), _kinds(params.kinds), subject)


async def unsubscribe(context: Context, params: UnsubscribeParams) -> Any:
    subscriber = context.caller.subscriber
    if subscriber is None:
        raise Refused("rpc.websocket_needed")
    return {"ended": await subscriber.unsubscribe(params.subscription)}


async def vault_put(context: Context, params: PutParams) -> Any:
    digests = await context.api.put_envelopes(params.envelopes)
    return values.DigestsResult([Hex32(digest) for digest in digests])


async def vault_get(context: Context, params: GetParams) -> Any:
    return values.EnvelopeValue(await context.api.get_envelope(bytes(params.digest)))


async def deposit(context: Context, params: DepositParams) -> Any:
    await context.api.deposit_share(params.parcel)
    return {}


async def release(context: Context, params: ReleaseParams) -> Any:
    handed = await context.api.release(
        bytes(params.transaction), params.operation, bytes(params.signature), params.start
    )
    withheld = [
        values.WithheldValue(
            one.verdict, None if one.record is None else Hex16(one.record), one.code, one.detail
        )
        for one in handed.withheld
    ]
    return values.ReleaseValue(handed.sealed_partials, list(handed.envelopes), withheld, handed.next)


async def accounting(context: Context, params: AccountingParams) -> Any:
    page = await context.api.accounting(
        bytes(params.transaction),
        params.operation,
        bytes(params.signature),
        cursor_of(params.after),
        params.limit,
    )
    rows = [
        values.AccountingRowValue(row.number, row.height, Hex32(row.digest), row.line) for row in page.rows
    ]
    return values.AccountingResult(rows, CursorText(page.next), not page.is_last)


def cursor_of(text: str | None) -> Cursor:
    """The cursor of a checked text; None is before everything. Raises msgspec.ValidationError for "now": only a stream
    can mean that."""
    if text is None:
        return values.BEFORE_ALL
    if text == values.NOW:
        raise msgspec.ValidationError('"now" is for events.subscribe; events.list starts after a cursor')
    return Cursor.parse(text)


def _kinds(kinds: list[str] | None) -> frozenset[str] | None:
    return None if kinds is None else frozenset(kinds)


def _event_at(item: EventAt) -> values.EventAtValue:
    return values.EventAtValue(CursorText(item.cursor), values.event_value(item.event))


def _submission(answer: Submission) -> values.SubmissionValue:
    identifier = None if answer.id is None else Hex32(answer.id)
    if answer.code is None:
        return values.SubmissionValue(identifier, accepted=True)
    error = refusal_data(Refused(answer.code, answer.detail))
    error = msgspec.structs.replace(error, retry_after_ms=answer.retry_after_ms)
    return values.SubmissionValue(identifier, accepted=False, error=error)


def _settled(answer: Settled) -> values.SettledValue:
    shown = _submission(answer.submission)
    committed = None if answer.committed is None else _committed(answer.committed)
    return values.SettledValue(shown.id, shown.accepted, shown.error, committed)


def _committed(found: Committed) -> values.CommittedValue:
    leaf = found.leaf
    return values.CommittedValue(
        Hex32(found.id),
        found.height,
        found.index,
        found.time_ms,
        found.certified,
        leaf.code,
        leaf.failed,
        list(leaf.results),
        found.detail,
    )


_ROWS: Final = (
    Method("rpc.discover", "List the methods with the JSON schema of their parameters.", Empty, discover),
    Method("node.status", "What the node is and how far it has come.", Empty, status),
    Method("node.genesis", "The network's genesis document and chain id.", Empty, genesis),
    Method("transaction.submit", "Hand in signed transactions.", SubmitParams, submit),
    Method(
        "transaction.commit",
        "Hand in signed transactions, and wait until they are decided.",
        CommitParams,
        commit,
        timeout_s=WAIT_MS_MAX / 1_000 + WAIT_SPARE_S,
    ),
    Method(
        "transaction.wait",
        "Wait until a transaction is committed, or also certified.",
        WaitParams,
        wait,
        timeout_s=WAIT_MS_MAX / 1_000 + WAIT_SPARE_S,
    ),
    Method(
        "transaction.get", "A committed transaction and what became of it.", TransactionParams, transaction
    ),
    Method("block.get", "A block with its commit certificate.", BlockParams, block),
    RESOLVE,
    Method("state.get", "The certified value under a state key.", StateParams, state),
    Method(
        "receipt.get",
        "A receipt that proves one fact offline.",
        VerdictReceiptParams | TransactionReceiptParams | StateReceiptParams,
        receipt,
    ),
    Method("receipt.extend", "The same fact, hung from a later header.", ExtendParams, extend),
    Method("events.list", "Events of committed blocks after a cursor.", EventsParams, events),
    Method(
        "events.subscribe",
        "Events from a cursor on, as they come.",
        SubscribeParams,
        subscribe,
        websocket=True,
    ),
    Method("events.unsubscribe", "End a subscription.", UnsubscribeParams, unsubscribe, websocket=True),
    Method("vault.put", "Store sealed envelopes durably.", PutParams, vault_put, privileged=True),
    Method("vault.get", "An envelope by its digest.", GetParams, vault_get, privileged=True),
    Method("custodian.deposit", "Hand over a custodian's sealed share.", DepositParams, deposit),
    Method(
        "accounting.list",
        "Lines of a patient's accounting, on a committed consultation.",
        AccountingParams,
        accounting,
    ),
    Method("custodian.release", "Ask a custodian to obey a committed allow.", ReleaseParams, release),
    *rpc_emergency.ROWS,
)

METHODS: Final[dict[str, Method]] = {row.name: row for row in _ROWS}
