"""The specification's own examples, word for word (www.jsonrpc.org/specification, section 7), and the calls' limits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from consilium.ledger.errors import InvariantBroken, Refused
from consilium.node import dispatch
from consilium.node.dispatch import Caller, Context, Dispatcher, Empty, Method, usage
from consilium.node.metrics import Metrics
from tests.unit.node.fake_node import FakeNode


class Subtract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    minuend: int
    subtrahend: int


class Sum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    a: int
    b: int
    c: int


class Anything(msgspec.Struct, frozen=True):
    a: Any = None
    b: Any = None
    c: Any = None
    d: Any = None
    e: Any = None


async def subtract(_: Context, params: Subtract) -> Any:
    return params.minuend - params.subtrahend


async def add(_: Context, params: Sum) -> Any:
    return params.a + params.b + params.c


async def nothing(_: Context, __: Anything) -> Any:
    return None


async def get_data(_: Context, __: Empty) -> Any:
    return ["hello", 5]


async def fails(context: Context, _: Anything) -> Any:
    raise ZeroDivisionError("a secret in the text of an exception")


async def breaks(context: Context, _: Anything) -> Any:
    raise InvariantBroken("two roots")


async def refuses(context: Context, _: Anything) -> Any:
    raise Refused("mempool.full", "20000 wait")


async def large(context: Context, _: Anything) -> Any:
    return "x" * 1_000


async def never(context: Context, _: Anything) -> Any:
    await asyncio.Event().wait()


METHODS = {
    row.name: row
    for row in (
        Method("subtract", "", Subtract, subtract),
        Method("sum", "", Sum, add),
        Method("update", "", Anything, nothing),
        Method("notify_sum", "", Anything, nothing),
        Method("notify_hello", "", Anything, nothing),
        Method("get_data", "", Empty, get_data),
        Method("fails", "", Anything, fails),
        Method("breaks", "", Anything, breaks),
        Method("refuses", "", Anything, refuses),
        Method("large", "", Anything, large),
        Method("never", "", Anything, never, timeout_s=0.01),
        Method("waits", "", Anything, never),
        Method("secret", "", Empty, get_data, privileged=True),
        Method("stream", "", Empty, get_data, websocket=True),
    )
}

STRANGER = Caller(privileged=False)


class Harness:
    def __init__(self, **limits: Any) -> None:
        self.metrics = Metrics()
        self.broken: list[BaseException] = []
        self.dispatcher = Dispatcher(
            FakeNode(),
            METHODS,
            metrics=self.metrics,
            on_broken=self.broken.append,
            **{"in_flight_max": 10, "batch_requests_max": 50, **limits},
        )

    async def raw(self, text: str | bytes, caller: Caller = STRANGER, **options: Any) -> Any:
        raw = text.encode() if isinstance(text, str) else text
        answer = await self.dispatcher.answer(raw, caller, **options)
        return None if answer is None else json.loads(answer)

    async def call(self, method: str, params: Any = None, caller: Caller = STRANGER) -> Any:
        body: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "id": 1}
        if params is not None:
            body["params"] = params
        return await self.raw(json.dumps(body), caller)


def result(value: Any, identifier: Any) -> Any:
    return {"jsonrpc": "2.0", "result": value, "id": identifier}


def error(code: int, phrase: str, identifier: Any) -> Any:
    """An error as the specification shows it: its phrase opens our message, which goes on with what to change."""
    return {"jsonrpc": "2.0", "error": {"code": code, "message": phrase}, "id": identifier}


def as_shown(answer: Any) -> Any:
    """An answer with errors cut back to what the specification's examples show."""
    if isinstance(answer, list):
        return [as_shown(one) for one in answer]
    if answer is None or "error" not in answer:
        return answer
    failed = answer["error"]
    return {**answer, "error": {"code": failed["code"], "message": failed["message"].split(":")[0]}}


INVALID = error(-32600, "Invalid Request", None)
PARSE = error(-32700, "Parse error", None)

EXAMPLES = [
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', result(19, 1)),
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}', result(-19, 2)),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        result(19, 3),
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
        result(19, 4),
    ),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', error(-32601, "Method not found", "1")),
    ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', PARSE),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID),
    (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]',
        PARSE,
    ),
    ("[]", INVALID),
    ("[1]", [INVALID]),
    ("[1,2,3]", [INVALID, INVALID, INVALID]),
    (
        """[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
    ]""",
        [
            result(7, "1"),
            result(19, "2"),
            INVALID,
            error(-32601, "Method not found", "5"),
            result(["hello", 5], "9"),
        ],
    ),
    (
        """[
        {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
    ]""",
        None,
    ),
]


@pytest.mark.parametrize(("sent", "answered"), EXAMPLES)
async def test_the_examples_of_the_specification(sent: str, answered: Any) -> None:
    assert as_shown(await Harness().raw(sent)) == answered


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"minuend": 1}, "`subtrahend`"),
        ({"minuend": 1, "subtrahend": "2"}, "`$.subtrahend`"),
        ({"minuend": 1, "subtrahend": 2, "third": 3}, "`third`"),
        ([1], "`subtrahend`"),
        ([1, 2, 3], "3 positional"),
        ([1, True], "`bool`"),
    ],
)
async def test_wrong_parameters_are_named_with_what_the_method_takes(params: Any, reason: str) -> None:
    failed = (await Harness().call("subtract", params))["error"]
    assert failed["code"] == -32602
    assert reason in failed["message"]
    assert "subtract takes (`minuend`, `subtrahend`)" in failed["message"]
    assert failed["data"]["code"] == "rpc.invalid_params"


async def test_a_refusal_carries_its_catalogue_entry() -> None:
    failed = (await Harness().call("refuses"))["error"]
    assert failed["code"] == -32000
    assert failed["data"]["code"] == "mempool.full"
    assert failed["data"]["detail"] == "20000 wait"
    assert failed["data"]["cause"]
    assert failed["data"]["remedy"]


async def test_a_bug_is_an_internal_error_that_tells_the_client_nothing_else() -> None:
    harness = Harness()
    failed = (await harness.call("fails"))["error"]
    assert failed["code"] == -32603
    assert "secret" not in json.dumps(failed)
    assert harness.broken == []
    assert harness.metrics.value("consilium_rpc_seconds_count", method="fails", outcome="rpc.internal") == 1


async def test_a_broken_invariant_is_given_to_who_halts_the_node() -> None:
    harness = Harness()
    assert (await harness.call("breaks"))["error"]["code"] == -32603
    assert [str(one) for one in harness.broken] == ["two roots"]


async def test_a_method_has_its_time() -> None:
    failed = (await Harness().call("never"))["error"]
    assert failed["data"]["code"] == "rpc.timeout"


async def test_a_privileged_method_needs_its_caller() -> None:
    harness = Harness()
    assert (await harness.call("secret"))["error"]["data"]["code"] == "rpc.unauthorised"
    assert (await harness.call("secret", caller=Caller(privileged=True)))["result"] == ["hello", 5]


async def test_a_method_that_streams_needs_a_socket() -> None:
    assert (await Harness().call("stream"))["error"]["data"]["code"] == "rpc.websocket_needed"


async def test_calls_beyond_the_limit_are_refused_with_a_hint_and_the_place_is_given_back() -> None:
    harness = Harness(in_flight_max=1)
    waiting = asyncio.create_task(harness.call("waits"))
    await asyncio.sleep(0)
    failed = (await harness.call("get_data"))["error"]
    assert failed["data"]["code"] == "rpc.busy"
    assert failed["data"]["retry_after_ms"] == dispatch.BUSY_RETRY_MS
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (await harness.call("get_data"))["result"] == ["hello", 5]


async def test_a_refused_message_runs_nothing() -> None:
    harness = Harness()
    batch = '[{"jsonrpc":"2.0","method":"breaks","id":1},{"jsonrpc":"2.0","method":"breaks"},7]'
    busy, invalid = await harness.raw(batch, refuse=Refused("rpc.busy"))
    assert busy["error"]["data"]["code"] == "rpc.busy"
    assert invalid["error"]["code"] == -32600
    assert harness.broken == []


async def test_a_batch_stops_running_where_its_answers_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "ANSWER_BYTES_MAX", 2_500)
    monkeypatch.setattr(dispatch, "BATCH_PARALLEL", 1)
    batch = json.dumps([{"jsonrpc": "2.0", "method": "large", "id": number} for number in range(5)])
    answers = await Harness().raw(batch)
    assert [one["id"] for one in answers] == [0, 1, 2, 3, 4]
    assert ["result" in one for one in answers] == [True, True, True, False, False]
    assert answers[-1]["error"]["data"]["code"] == "rpc.answer_too_large"


async def test_a_long_message_is_read_as_a_short_one() -> None:
    body = {"jsonrpc": "2.0", "method": "update", "params": {"a": "x" * 200_000}, "id": 1}
    assert await Harness().raw(json.dumps(body)) == result(None, 1)


def test_usage_names_what_is_optional_and_each_kind() -> None:
    assert usage(Empty) == "no parameters"
    assert usage(Anything).startswith("(`a` (optional), ")

    class A(msgspec.Struct, tag_field="kind", tag="a"):
        x: int

    class B(msgspec.Struct, tag_field="kind", tag="b"):
        y: int = 0

    assert usage(A | B) == '(kind = "a", `x`) or (kind = "b", `y` (optional))'
