"""From a message to its answer: look the method up, check the caller and the parameters, run it within its time.

The table of methods is data; this module knows none of them. What a handler refuses is answered with the catalogue's
code. What it raises beside that is a bug: the client gets the specification's -32603 with a reference, the log gets the
rest, and an `InvariantBroken` is also given to `on_broken`, because the node must halt.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Final, Protocol, get_args

import msgspec
import structlog

from consilium.client.rpc_values import encode_json, from_json_value
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.node.api import NodeApi
from consilium.node.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Call,
    ErrorResponse,
    Response,
    ResultResponse,
    encode_answer,
    fault_response,
    parse,
    quoted,
    refusal_response,
)
from consilium.node.metrics import Metrics

METHOD_TIMEOUT_S: Final = 30.0
BATCH_PARALLEL: Final = 8
"""Requests of one batch that run at a time."""
ANSWER_BYTES_MAX: Final = 32 * 1024 * 1024
INLINE_BYTES_MAX: Final = 64 * 1024
"""A longer message is parsed in a thread."""
BUSY_RETRY_MS: Final = 250
MESSAGE_CHARS_MAX: Final = 1_000

_log = structlog.get_logger("rpc")


class Empty(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Busy(Refused):
    """Refused for now."""

    def __init__(self, code: str, detail: str, retry_after_ms: int) -> None:
        super().__init__(code, detail)
        self.retry_after_ms = retry_after_ms


class Subscriber(Protocol):
    """A connection that notifications can be sent to."""

    async def subscribe(self, after: str, kinds: frozenset[str] | None, subject: bytes | None) -> Any:
        """Open a subscription; its first notification leaves after this call's answer."""
        ...

    async def unsubscribe(self, subscription: str) -> bool:
        """End one; False where there is none of that name."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `privileged` says that the right bearer token came with the request or the upgrade."""

    privileged: bool
    subscriber: Subscriber | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may use."""

    api: NodeApi
    caller: Caller
    methods: Mapping[str, Method]


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table: `params` is the Struct that the parameters must fit, or a union of tagged ones."""

    name: str
    summary: str
    params: Any
    handler: Callable[[Context, Any], Awaitable[Any]]
    privileged: bool = False
    websocket: bool = False
    timeout_s: float = METHOD_TIMEOUT_S


class Dispatcher:
    """Answers messages for one node. `in_flight_max` bounds the calls that run at a time, over all connections."""

    def __init__(
        self,
        api: NodeApi,
        methods: Mapping[str, Method],
        *,
        metrics: Metrics,
        in_flight_max: int,
        batch_requests_max: int,
        on_broken: Callable[[InvariantBroken], None],
    ) -> None:
        self._api = api
        self._methods = methods
        self._metrics = metrics
        self._in_flight_max = in_flight_max
        self._batch_requests_max = batch_requests_max
        self._on_broken = on_broken
        self._in_flight = 0

    async def answer(self, raw: bytes, caller: Caller, *, refuse: Refused | None = None) -> bytes | None:
        """The bytes to answer with, or None. With `refuse`, every request is answered so and none is run."""
        if len(raw) > INLINE_BYTES_MAX:
            message = await asyncio.to_thread(parse, raw, self._batch_requests_max)
        else:
            message = parse(raw, self._batch_requests_max)
        running = asyncio.Semaphore(BATCH_PARALLEL)
        budget = ANSWER_BYTES_MAX

        async def one(item: Call | ErrorResponse) -> Response | None:
            nonlocal budget
            if isinstance(item, ErrorResponse):
                self._metrics.rpc_call("-", "malformed", 0.0)
                return item
            async with running:
                refusal = refuse
                if refusal is None and budget <= 0:
                    refusal = Refused(
                        "rpc.answer_too_large", f"the batch's answers exceed {ANSWER_BYTES_MAX} bytes"
                    )
                response = refusal_response(refusal, item.id) if refusal else await self._run(item, caller)
            if isinstance(response, ResultResponse):
                budget -= len(response.result)
            return None if item.notification else response

        if not message.batch:
            answers = [await one(message.items[0])]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(item)) for item in message.items]
            answers = [task.result() for task in tasks]
        return encode_answer([answer for answer in answers if answer is not None], message.batch)

    async def _run(self, call: Call, caller: Caller) -> Response:
        """Run one call. A notification's answer is dropped by who asked for it."""
        method = self._methods.get(call.method)
        if method is None:
            self._metrics.rpc_call("-", "unknown", 0.0)
            detail = f"there is no {quoted(call.method)}; `rpc.discover` lists the methods"
            return fault_response(METHOD_NOT_FOUND, detail, call.id)
        started = time.monotonic()
        outcome = "ok"
        try:
            self._admit(method, caller)
            params = _params(method.params, call.params)
            self._in_flight += 1
            try:
                async with asyncio.timeout(method.timeout_s):
                    result = await method.handler(Context(self._api, caller, self._methods), params)
            finally:
                self._in_flight -= 1
            return ResultResponse(msgspec.Raw(encode_json(result)), call.id)
        except Refused as refusal:
            outcome = refusal.code
            return refusal_response(refusal, call.id)
        except msgspec.ValidationError as error:
            outcome = "rpc.invalid_params"
            detail = f"{error}; {method.name} takes {usage(method.params)}"
            return fault_response(INVALID_PARAMS, _printable(detail), call.id)
        except TimeoutError:
            outcome = "rpc.timeout"
            return refusal_response(
                Refused("rpc.timeout", f"{method.name} took over {method.timeout_s} s"), call.id
            )
        except Exception as error:  # noqa: BLE001 - the border where the specification wants -32603; it is logged
            outcome = "rpc.internal"
            return self._internal(method.name, error, call)
        finally:
            self._metrics.rpc_call(method.name, outcome, time.monotonic() - started)

    def _admit(self, method: Method, caller: Caller) -> None:
        if method.privileged and not caller.privileged:
            raise Refused("rpc.unauthorised", f"{method.name} needs the node's bearer token")
        if method.websocket and caller.subscriber is None:
            raise Refused(
                "rpc.websocket_needed", f"{method.name} has nowhere to send its events over plain HTTP"
            )
        if self._in_flight >= self._in_flight_max:
            raise Busy("rpc.busy", f"{self._in_flight} calls are running on this node", BUSY_RETRY_MS)

    def _internal(self, name: str, error: Exception, call: Call) -> ErrorResponse:
        reference = secrets.token_hex(4)
        _log.error("rpc_internal_error", method=name, reference=reference, exc_info=error)
        if isinstance(error, InvariantBroken):
            self._on_broken(error)
        return fault_response(
            INTERNAL_ERROR, f"the node's log has it under the reference {reference}", call.id
        )


def usage(params: Any) -> str:
    """The members that parameters may have, in a line, for messages and documentation."""
    if isinstance(params, UnionType):
        return " or ".join(usage(kind) for kind in get_args(params))
    config = params.__struct_config__
    shown = [f'{config.tag_field} = "{config.tag}"'] if config.tag_field else []
    for field in msgspec.structs.fields(params):
        shown.append(f"`{field.encode_name}`" if field.required else f"`{field.encode_name}` (optional)")
    return "(" + ", ".join(shown) + ")" if shown else "no parameters"


def _params(kind: Any, given: dict[str, Any] | list[Any]) -> Any:
    """By name, or by position in the order of the Struct's fields. Raises msgspec.ValidationError."""
    if isinstance(given, list):
        if isinstance(kind, UnionType):
            raise msgspec.ValidationError("Expected parameters by name, in an object")
        names = kind.__struct_encode_fields__
        if len(given) > len(names):
            raise msgspec.ValidationError(
                f"{len(given)} positional parameters; at most {len(names)} are taken"
            )
        given = dict(zip(names, given, strict=False))
    return from_json_value(given, kind)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:MESSAGE_CHARS_MAX])
