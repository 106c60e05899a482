"""Hello and welcome: golden bytes, and what is neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consilium.ledger.errors import PeerFault
from consilium.p2p import handshake
from consilium.p2p.frame import Lane
from consilium.p2p.handshake import Hello, Verdict, Welcome, judge, read_hello, read_welcome
from consilium.p2p.policy import PROTOCOL_VERSION

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "p2p" / "handshake.json").read_text())
CHAIN = bytes(range(32))


@pytest.mark.parametrize("case", GOLDEN["hello"], ids=lambda case: case["name"])
def test_golden_hello(case: dict[str, str]) -> None:
    raw = bytes.fromhex(case["raw"])
    if "lane" in case:
        assert handshake.hello(CHAIN, Lane[case["lane"]]) == raw
        assert read_hello(raw) == Hello(PROTOCOL_VERSION, CHAIN, Lane[case["lane"]])
        assert len(raw) <= handshake.HELLO_BYTES_MAX
    else:
        with pytest.raises(PeerFault):
            read_hello(raw)


@pytest.mark.parametrize("case", GOLDEN["welcome"], ids=lambda case: case["name"])
def test_golden_welcome(case: dict[str, str]) -> None:
    raw = bytes.fromhex(case["raw"])
    if "verdict" in case:
        assert handshake.welcome(CHAIN, Verdict[case["verdict"]]) == raw
        assert read_welcome(raw) == Welcome(PROTOCOL_VERSION, CHAIN, Verdict[case["verdict"]])
    else:
        with pytest.raises(PeerFault):
            read_welcome(raw)


@pytest.mark.parametrize(
    ("greeting", "verdict"),
    [
        (Hello(PROTOCOL_VERSION, CHAIN, 0), Verdict.ACCEPTED),
        (Hello(PROTOCOL_VERSION - 1, CHAIN, 0), Verdict.WRONG_VERSION),
        (Hello(PROTOCOL_VERSION - 1, bytes(32), 0), Verdict.WRONG_VERSION),
        (Hello(PROTOCOL_VERSION, bytes(32), 1), Verdict.WRONG_CHAIN),
    ],
)
def test_a_hello_is_judged(greeting: Hello, verdict: Verdict) -> None:
    assert judge(greeting, CHAIN) is verdict
