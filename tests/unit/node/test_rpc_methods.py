from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from consilium.ledger import codec
from consilium.ledger.block import BLOCK_BYTES_MAX, Block
from consilium.ledger.genesis import GENESIS_BYTES_MAX, Genesis
from consilium.node.dispatch import Caller, Dispatcher, usage
from consilium.node.metrics import Metrics
from consilium.node.rpc_methods import METHODS
from consilium.node.rpc_params import SUBMIT_TRANSACTIONS_MAX
from tests.conftest import PROJECT
from tests.unit.node.fake_node import GENESIS, FakeNode, event_at, transaction_id

ID = transaction_id(b"one")


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


class Rpc:
    def __init__(self) -> None:
        self.node = FakeNode()
        self.dispatcher = Dispatcher(
            self.node,
            METHODS,
            metrics=Metrics(),
            in_flight_max=10,
            batch_requests_max=10,
            on_broken=lambda error: None,
        )

    async def answer(self, method: str, params: dict[str, Any] | None = None) -> Any:
        body = {"jsonrpc": "2.0", "method": method, "params": params or {}, "id": 1}
        answer = await self.dispatcher.answer(json.dumps(body).encode(), Caller(privileged=True))
        assert answer is not None
        return json.loads(answer)

    async def result(self, method: str, **params: Any) -> Any:
        answer = await self.answer(method, params)
        assert "result" in answer, answer
        return answer["result"]

    async def error(self, method: str, **params: Any) -> Any:
        return (await self.answer(method, params))["error"]


@pytest.fixture
def rpc() -> Rpc:
    return Rpc()


async def test_status_and_genesis(rpc: Rpc) -> None:
    assert (await rpc.result("node.status"))["height"] == 0
    found = await rpc.result("node.genesis")
    assert found["chain_id"] == GENESIS.chain_id.hex()
    raw = base64.b64decode(found["genesis"])
    assert codec.decode(raw, Genesis, GENESIS_BYTES_MAX).chain_id == GENESIS.chain_id


async def test_one_refused_transaction_does_not_affect_the_others(rpc: Rpc) -> None:
    found = await rpc.result("transaction.submit", transactions=[b64(b"one"), b64(b"bad"), b64(b"full")])
    good, bad, full = found["results"]
    assert good == {"id": ID.hex(), "accepted": True}
    assert bad["id"] is None
    assert bad["accepted"] is False
    assert bad["error"]["code"] == "codec.malformed"
    assert bad["error"]["remedy"]
    assert "retry_after_ms" not in bad["error"]
    assert full["error"]["retry_after_ms"] == 40
    assert rpc.node.admitted == {ID: b"one"}


async def test_what_is_waited_for_in_bulk_comes_back_decided_or_refused(rpc: Rpc) -> None:
    found = await rpc.result("transaction.commit", transactions=[b64(b"one"), b64(b"bad"), b64(b"full")])
    good, bad, full = found["results"]
    assert (good["id"], good["accepted"]) == (ID.hex(), True)
    assert good["committed"]["height"] == 7
    assert good["committed"]["code"] == "ok"
    assert bad["error"]["code"] == "codec.malformed"
    assert full["error"]["retry_after_ms"] == 40
    assert "committed" not in bad
    assert "committed" not in full


async def test_a_committed_transaction(rpc: Rpc) -> None:
    await rpc.result("transaction.submit", transactions=[b64(b"one")])
    expected = {
        "id": ID.hex(),
        "height": 7,
        "index": 2,
        "time_ms": 1_234,
        "certified": False,
        "code": "ok",
        "failed": None,
        "results": [b64(b"\x00result")],
    }
    assert await rpc.result("transaction.get", id=ID.hex()) == expected
    waited = await rpc.result("transaction.wait", id=ID.hex(), timeout_ms=10, certified=True)
    assert waited == {**expected, "certified": True}


async def test_a_block(rpc: Rpc) -> None:
    found = await rpc.result("block.get", height=1)
    block = codec.decode(base64.b64decode(found["block"]), Block, BLOCK_BYTES_MAX)
    assert found["hash"] == block.hash.hex()
    assert found["header"]["height"] == 1
    assert found["header"]["chain_id"] == GENESIS.chain_id.hex()
    assert found["transactions"] == [bytes(32).hex()]
    assert found["certificate"] is not None
    assert (await rpc.result("block.get", height=0))["certificate"] is None
    assert (await rpc.error("block.get", height=2))["data"]["code"] == "chain.unknown_height"


async def test_state_and_receipts(rpc: Rpc) -> None:
    key = b"known".hex()
    assert await rpc.result("state.get", key=key) == {"key": key, "value": b64(b"value"), "height": 9}
    assert (await rpc.result("state.get", key="00"))["value"] is None

    async def receipt(**params: Any) -> bytes:
        return base64.b64decode((await rpc.result("receipt.get", **params))["receipt"])

    assert await receipt(kind="verdict", transaction=ID.hex()) == b"verdict:" + ID
    assert await receipt(kind="transaction", transaction=ID.hex()) == b"transaction:" + ID
    assert await receipt(kind="state", key=key) == b"state:knownNone"
    assert await receipt(kind="state", key=key, height=4) == b"state:known4"
    for kind in ("verdict", "transaction"):
        expected = kind.encode() + b":" + ID + b" since 3"
        assert await receipt(kind=kind, transaction=ID.hex(), since=3) == expected
    assert await receipt(kind="state", key=key, since=3) == b"state:knownNone since 3"

    async def extended(**params: Any) -> bytes:
        found = await rpc.result("receipt.extend", receipt=b64(b"old"), **params)
        return base64.b64decode(found["receipt"])

    assert await extended() == b"extended:oldNone"
    assert await extended(to_height=9, since=4) == b"extended:old9 since 4"


async def test_events_are_listed_from_a_cursor_on(rpc: Rpc) -> None:
    rpc.node.events_log = [event_at(1, 0), event_at(1, 1, "consent.granted", b"\x01"), event_at(2, 0)]
    first = await rpc.result("events.list", limit=2)
    assert [one["cursor"] for one in first["events"]] == ["1.0", "1.1"]
    assert first["events"][1]["event"] == {
        "kind": "consent.granted",
        "subjects": ["01" * 16],
        "transaction": transaction_id(b"1").hex(),
        "operation": 0,
        "time_ms": 1,
        "data": b64(b"\x01"),
    }
    assert (first["next"], first["more"]) == ("1.1", True)
    rest = await rpc.result("events.list", after=first["next"])
    assert [one["cursor"] for one in rest["events"]] == ["2.0"]
    assert (rest["next"], rest["more"]) == ("2.0", False)
    assert (await rpc.result("events.list", after="2.0"))["next"] == "2.0"
    kinds = await rpc.result("events.list", kinds=["consent.granted"])
    assert [one["cursor"] for one in kinds["events"]] == ["1.1"]
    subject = await rpc.result("events.list", subject="02" * 16)
    assert [one["cursor"] for one in subject["events"]] == ["2.0"]


async def test_vault_and_custodian(rpc: Rpc) -> None:
    digests = (await rpc.result("vault.put", envelopes=[b64(b"e1"), b64(b"e2")]))["digests"]
    assert digests == [transaction_id(b"e1").hex(), transaction_id(b"e2").hex()]
    assert (await rpc.result("vault.get", digest=digests[1]))["envelope"] == b64(b"e2")
    assert await rpc.result("custodian.deposit", parcel=b64(b"share")) == {}
    assert rpc.node.parcels == [b"share"]
    released = await rpc.result("custodian.release", transaction=ID.hex(), operation=2, signature="01" * 64)
    assert released == {
        "sealed_partials": b64(b"partials" + ID),
        "envelopes": [b64(b"envelope")] * 2,
        "withheld": [
            {"verdict": 3, "record": None, "code": "access.epoch_ended", "detail": "since"},
            {"verdict": 4, "record": "00" * 16, "code": "vault.unknown", "detail": ""},
        ],
        "next": 7,
    }
    asked = {"transaction": ID.hex(), "operation": 2, "signature": "01" * 64}
    assert (await rpc.result("custodian.release", **asked, start=7))["next"] == 14
    assert (await rpc.error("custodian.release", **asked, start=-1))["code"] == -32602
    denied = await rpc.error("custodian.release", transaction=ID.hex(), operation=2, signature="00" * 64)
    assert denied["data"]["code"] == "access.not_allowed"


async def test_an_accounting_comes_in_pages(rpc: Rpc) -> None:
    asked = {"transaction": ID.hex(), "operation": 0, "signature": "01" * 64}
    assert await rpc.result("accounting.list", **asked, after="5.1", limit=9) == {
        "rows": [
            {"number": 1, "height": 5, "digest": "00" * 32, "line": b64(b"line")},
            {"number": 2, "height": 6, "digest": "00" * 32, "line": None},
        ],
        "next": "6.9",
        "more": True,
    }
    assert (await rpc.result("accounting.list", **asked))["next"] == "0.100"
    denied = await rpc.error("accounting.list", **{**asked, "signature": "00" * 64})
    assert denied["data"]["code"] == "accounting.denied"


@pytest.mark.parametrize(
    ("method", "params", "reason"),
    [
        ("transaction.submit", {}, "`transactions`"),
        ("transaction.submit", {"transactions": []}, "length >= 1"),
        ("transaction.submit", {"transactions": [""] * (SUBMIT_TRANSACTIONS_MAX + 1)}, "length <= 512"),
        ("transaction.submit", {"transactions": ["%"]}, "base64"),
        ("transaction.submit", {"transactions": [b64(bytes(128 * 1024 + 1))]}, "length <= 131072"),
        ("transaction.get", {"id": "AB" * 32}, "64 lower-case hexadecimal digits"),
        ("transaction.get", {"id": "ab" * 31 + "a\n"}, "64 lower-case hexadecimal digits"),
        ("transaction.get", {"id": "ab" * 33}, "64 lower-case hexadecimal digits"),
        ("transaction.get", {"id": 5}, "64 hexadecimal digits"),
        ("transaction.wait", {"id": "ab" * 32, "timeout_ms": 60_001}, "<= 60000"),
        ("transaction.wait", {"id": "ab" * 32, "timeout_ms": 1.5}, "`int`"),
        ("transaction.wait", {"id": "ab" * 32, "certified": 1}, "`bool`"),
        ("block.get", {"height": -1}, ">= 0"),
        ("block.get", {"height": 2**63}, "<= 9223372036854775807"),
        ("state.get", {"key": ""}, "hexadecimal"),
        ("state.get", {"key": "ab" * 129}, "2 to 256"),
        ("receipt.get", {}, "`kind`"),
        ("receipt.get", {"kind": "moon"}, 'kind = "verdict"'),
        ("receipt.get", {"kind": "state"}, "`key`"),
        ("receipt.extend", {}, "`receipt`"),
        ("receipt.extend", {"receipt": "", "to_height": -1}, ">= 0"),
        ("receipt.get", {"kind": "verdict", "transaction": "ab" * 32, "height": 1}, "`height`"),
        ("events.list", {"after": "1"}, "height.index"),
        ("events.list", {"after": "1.2.3"}, "height.index"),
        ("events.list", {"after": "01.2"}, "height.index"),
        ("events.list", {"after": "now"}, "events.subscribe"),
        ("events.list", {"limit": 1_001}, "<= 1000"),
        ("events.list", {"kinds": ["x"] * 33}, "length <= 32"),
        ("events.list", {"subject": "ab"}, "32 lower-case"),
        ("vault.get", {"digest": ""}, "64 lower-case"),
        ("custodian.release", {"transaction": "ab" * 32, "operation": 256, "signature": "00" * 64}, "<= 255"),
        ("node.status", {"verbose": True}, "`verbose`"),
    ],
)
async def test_every_parameter_is_held_to_its_type_and_bounds(
    rpc: Rpc, method: str, params: dict[str, Any], reason: str
) -> None:
    failed = await rpc.error(method, **params)
    assert failed["code"] == -32602, failed
    assert reason in failed["message"]


async def test_parameters_of_several_kinds_go_by_name_only(rpc: Rpc) -> None:
    body = {"jsonrpc": "2.0", "method": "receipt.get", "params": ["verdict", ID.hex()], "id": 1}
    answer = await rpc.dispatcher.answer(json.dumps(body).encode(), Caller(privileged=False))
    assert answer is not None
    assert "by name" in json.loads(answer)["error"]["message"]


async def test_discover_lists_every_method_with_a_schema(rpc: Rpc) -> None:
    listed = (await rpc.result("rpc.discover"))["methods"]
    assert [one["name"] for one in listed] == sorted(METHODS)
    assert {one["name"] for one in listed if one["privileged"]} == {
        "vault.put",
        "vault.get",
        "summary.open",
    }
    assert all(one["params"] and one["summary"] for one in listed)


PAGE = (PROJECT / "docs" / "rpc.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_each_method_is_documented(name: str) -> None:
    """Its section names every parameter, says whether it is privileged, and shows a request that fits."""
    section = re.search(rf"^### {re.escape(name)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None
    text = section[1]
    for parameter in re.findall(r"`(\w+)`", usage(METHODS[name].params)):
        assert f"`{parameter}`" in text
    assert ("Privileged" in text) is METHODS[name].privileged
    request = re.search(r"```json\n(\{.*?\})\n```", text, re.DOTALL)
    assert request is not None
    shown = json.loads(request[1])
    assert (shown["jsonrpc"], shown["method"]) == ("2.0", name)
    from consilium.client.rpc_values import from_json_value

    from_json_value(shown.get("params", {}), METHODS[name].params)


def test_no_section_documents_what_is_not_there() -> None:
    assert set(re.findall(r"^### ([a-z]+\.[a-z]+)$", PAGE, re.MULTILINE)) == set(METHODS)
