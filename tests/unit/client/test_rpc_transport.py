"""What goes to nodes and comes back: bounded, matched to its request, and safe to print."""

from __future__ import annotations

import json

import pytest

from consilium.client import rpc_transport
from consilium.client.rpc_transport import (
    bearer,
    decode_answer,
    printable,
    refusal_of,
    request,
    result_of,
    rpc_url,
)
from consilium.ledger.errors import Refused

URL = "http://127.0.0.1:1/rpc"


def result(value: object, number: int, kind: type = int) -> object:
    return result_of(decode_answer(json.dumps(value).encode(), URL), number, kind, URL)


def test_requests_are_numbered_and_answers_belong_to_theirs() -> None:
    (first, raw), (second, _) = request("node.status", {}), request("node.status", {})
    assert first != second
    assert json.loads(raw) == {"jsonrpc": "2.0", "id": first, "method": "node.status", "params": {}}
    assert result({"jsonrpc": "2.0", "id": first, "result": 7}, first) == 7
    for wrong in ({"id": second, "result": 7}, {"id": first}, {"id": None, "result": 7}):
        with pytest.raises(Refused, match=r"rpc\.remote_error"):
            result(wrong, first)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'"text"', b'{"id": []}'])
def test_what_is_no_answer_is_a_remote_error(raw: bytes) -> None:
    with pytest.raises(Refused, match=r"rpc\.remote_error"):
        decode_answer(raw, URL)


def test_a_result_of_another_shape_is_a_remote_error_and_keeps_its_words_clean() -> None:
    with pytest.raises(Refused, match=r"rpc\.remote_error"):
        result({"id": 1, "result": "text"}, 1)


def test_a_nodes_refusal_keeps_its_code_and_an_unknown_one_does_not() -> None:
    def refused(data: object) -> Refused:
        answer = decode_answer(
            json.dumps({"id": 1, "error": {"code": -32000, "message": "no\x1b[2J", "data": data}}).encode(),
            URL,
        )
        assert answer.error is not None
        return refusal_of(answer.error)

    known = refused({"code": "mempool.full", "detail": "9 wait", "retry_after_ms": 40})
    assert isinstance(known, rpc_transport.RemoteRefusal)
    assert (known.code, known.detail, known.retry_after_ms) == ("mempool.full", "9 wait", 40)
    for data in (None, {"code": "made.up", "detail": "x"}):
        unknown = refused(data)
        assert unknown.code == "rpc.remote_error"
        assert "\x1b" not in unknown.detail


def test_foreign_text_is_short_and_without_control_characters() -> None:
    assert printable("a\nb\x00c\x1b[31m\u202e") == "a�b�c�[31m�"
    assert len(printable("x" * 10_000)) == 2_000


def test_a_token_is_sent_only_where_there_is_one() -> None:
    assert bearer(None) == {}
    assert bearer("t") == {"Authorization": "Bearer t"}


@pytest.mark.parametrize("address", ["", "ftp://a:1", "http://", "a:0", "http://u:p@a:1", "a:1?x", "a:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Refused, match=r"rpc\.unreachable"):
        rpc_url(address)
