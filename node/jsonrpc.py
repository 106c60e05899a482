"""JSON-RPC 2.0 without input or output: bytes to calls, answers to bytes.

JSON is read strictly: UTF-8 only, no NaN or Infinity, no member twice in an object, no lone surrogate, and bounded
before a tree grows from it: one pass over the raw bytes counts structure and depth, so that eight megabytes of `[]`
cost nothing. Every error says in its message what to change, and carries the catalogue's entry in its data.

Source: JSON-RPC 2.0 specification, www.jsonrpc.org/specification; RFC 8259 (JSON).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import msgspec

from consilium.client.rpc_values import ErrorData, encode_json
from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.errors import Refused

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
REFUSED: Final = -32000
"""The server-defined error: the catalogue's code is in its data."""

DEPTH_MAX: Final = 16
TOKENS_MAX: Final = 40_000
"""Strings, brackets, braces, commas and colons in one message: what its tree of values can grow from."""
ID_CHARS_MAX: Final = 128
ID_ABSOLUTE_MAX: Final = 2**63 - 1
METHOD_CHARS_MAX: Final = 64
QUOTED_CHARS_MAX: Final = 80

_MEMBERS: Final = frozenset({"jsonrpc", "method", "params", "id"})
# An unterminated string runs to the end (`\\?\Z`): without that, each of its quotes would start a scan anew.
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|([\[{])|([\]}])|[,:]', re.DOTALL)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

_PHRASES: Final = {
    PARSE_ERROR: ("Parse error", "rpc.parse_error"),
    INVALID_REQUEST: ("Invalid Request", "rpc.invalid_request"),
    METHOD_NOT_FOUND: ("Method not found", "rpc.unknown_method"),
    INVALID_PARAMS: ("Invalid params", "rpc.invalid_params"),
    INTERNAL_ERROR: ("Internal error", "rpc.internal"),
}

Id = str | int | None


@dataclass(frozen=True, slots=True)
class Call:
    """One request. A notification (`notification`) gets no answer, not even an error."""

    method: str
    params: dict[str, Any] | list[Any]
    id: Id
    notification: bool


class ErrorObject(msgspec.Struct, frozen=True):
    """The specification's error object."""

    code: int
    message: str
    data: ErrorData


class ErrorResponse(msgspec.Struct, frozen=True):
    """An answer that is an error."""

    error: ErrorObject
    id: Id
    jsonrpc: str = "2.0"


class ResultResponse(msgspec.Struct, frozen=True):
    """An answer that is a result, already encoded: its size is known before it is sent."""

    result: msgspec.Raw
    id: Id
    jsonrpc: str = "2.0"


Response = ErrorResponse | ResultResponse


@dataclass(frozen=True, slots=True)
class Message:
    """What one body or frame held: calls, and answers to what was no call, in their order."""

    items: tuple[Call | ErrorResponse, ...]
    batch: bool


class Fault(Exception):
    """One of the specification's own errors."""

    def __init__(self, code: int, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(code, detail)


def fault_response(code: int, detail: str, identifier: Id) -> ErrorResponse:
    """An answer with one of the specification's errors; `detail` tells a person what to change."""
    phrase, name = _PHRASES[code]
    entry = CATALOGUE[name]
    data = ErrorData(name, entry.cause, entry.remedy, detail)
    return ErrorResponse(ErrorObject(code, f"{phrase}: {detail or entry.cause}", data), identifier)


def refusal_response(refusal: Refused, identifier: Id) -> ErrorResponse:
    """An answer with a catalogue error. A refusal may carry `retry_after_ms`."""
    return ErrorResponse(ErrorObject(REFUSED, str(refusal), refusal_data(refusal)), identifier)


def refusal_data(refusal: Refused) -> ErrorData:
    """The catalogue's entry and the refusal's own detail."""
    cause, remedy = refusal.entry
    retry_after_ms: int | None = getattr(refusal, "retry_after_ms", None)
    return ErrorData(refusal.code, cause, remedy, refusal.detail, retry_after_ms)


def parse(raw: bytes, batch_requests_max: int) -> Message:
    """Read a body or frame. Never raises: what cannot be read is an answer in the message."""
    try:
        value = _read(raw)
    except Fault as fault:
        return Message((fault_response(fault.code, fault.detail, None),), batch=False)
    if not isinstance(value, list):
        return Message((_call(value),), batch=False)
    if not value:
        return Message((fault_response(INVALID_REQUEST, "the batch is empty", None),), batch=False)
    if len(value) > batch_requests_max:
        detail = f"a batch of {len(value)} requests; at most {batch_requests_max} are allowed: send several batches"
        return Message((fault_response(INVALID_REQUEST, detail, None),), batch=False)
    return Message(tuple(_call(item) for item in value), batch=True)


def encode_answer(responses: list[Response], batch: bool) -> bytes | None:
    """The bytes to send back, or None where only notifications came."""
    if not responses:
        return None
    return encode_json(responses if batch else responses[0])


def encode_notification(method: str, params: Any) -> bytes:
    """A notification from the node."""
    return encode_json({"jsonrpc": "2.0", "method": method, "params": params})


def quoted(text: str) -> str:
    """Somebody else's text, short and printable, for a message."""
    shown = ascii(text[:QUOTED_CHARS_MAX])
    return shown if len(text) <= QUOTED_CHARS_MAX else f"{shown}…"


def _read(raw: bytes) -> Any:
    _bound(raw)
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
        if _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        detail = (
            f"{error.msg} (line {error.lineno}, column {error.colno})" if raw.strip() else "the body is empty"
        )
        raise Fault(PARSE_ERROR, detail) from None
    except UnicodeDecodeError as error:
        raise Fault(PARSE_ERROR, f"the byte at offset {error.start} is not UTF-8") from None
    except UnicodeEncodeError:
        raise Fault(PARSE_ERROR, "a string has half of a surrogate pair") from None
    except (ValueError, RecursionError) as error:
        raise Fault(PARSE_ERROR, str(error)) from None
    return value


def _bound(raw: bytes) -> None:
    depth = 0
    for count, match in enumerate(_STRUCTURE.finditer(raw)):
        kind = match.lastindex
        if kind == 1:
            depth += 1
            if depth > DEPTH_MAX:
                raise Fault(INVALID_REQUEST, f"nested more than {DEPTH_MAX} deep")
        elif kind == 2:
            depth -= 1
        if count >= TOKENS_MAX:
            raise Fault(
                INVALID_REQUEST, f"more than {TOKENS_MAX} strings, brackets, commas and colons: send several"
            )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the member {quoted(twice)} stands twice in an object")
    return members


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _call(value: Any) -> Call | ErrorResponse:
    if not isinstance(value, dict):
        return fault_response(INVALID_REQUEST, "a request is an object, or a batch of objects", None)
    identifier = value.get("id")
    if isinstance(identifier, bool) or not isinstance(identifier, str | int | None):
        return fault_response(INVALID_REQUEST, "`id` is a string, a whole number, or null", None)
    if isinstance(identifier, str) and len(identifier) > ID_CHARS_MAX:
        return fault_response(INVALID_REQUEST, f"`id` has more than {ID_CHARS_MAX} characters", None)
    if isinstance(identifier, int) and abs(identifier) > ID_ABSOLUTE_MAX:
        return fault_response(INVALID_REQUEST, f"`id` is beyond {ID_ABSOLUTE_MAX}", None)
    problem = _problem(value)
    if problem:
        return fault_response(INVALID_REQUEST, problem, identifier)
    params = value.get("params", {})
    return Call(value["method"], params, identifier, notification="id" not in value)


def _problem(value: dict[str, Any]) -> str:
    if value.get("jsonrpc") != "2.0":
        return '`jsonrpc` must be "2.0"'
    method = value.get("method")
    if not isinstance(method, str):
        return "`method` must be a string"
    if len(method) > METHOD_CHARS_MAX:
        return f"`method` has more than {METHOD_CHARS_MAX} characters"
    if not isinstance(value.get("params", {}), dict | list):
        return "`params` must be an object or an array; leave it out where there are none"
    unknown = next((name for name in value if name not in _MEMBERS), None)
    return f"unknown member {quoted(unknown)}" if unknown is not None else ""
