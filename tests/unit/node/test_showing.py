"""Showing a peer that lags what was decided: what it is sent first, and what is remembered of it."""

from __future__ import annotations

import asyncio

import pytest

from consilium.node import showing
from consilium.node.peer_messages import Kind
from consilium.node.showing import Showing
from tests.unit.node.harness import Harness, HostedNode


def _failed(error: BaseException) -> None:
    raise error


async def _settled(shower: Showing) -> None:
    await asyncio.gather(*shower.tasks)


async def test_the_certificate_comes_first_and_then_how_far_the_chain_is(four: Harness) -> None:
    node, peer = HostedNode(four), four.keys[1].public
    four.commit(node.executor, [four.batch([four.transaction(four.wallets[0])])])
    shower = Showing(node.executor, node.outlet, _failed)
    shower.show(peer, 1)
    await _settled(shower)
    assert len(node.outlet.sent(Kind.CONSENSUS, peer)) == 1
    assert node.outlet.sent(Kind.TIP, peer) == []
    shower.show(peer, 1)
    await _settled(shower)
    assert len(node.outlet.sent(Kind.CONSENSUS, peer)) == 1
    assert len(node.outlet.sent(Kind.TIP, peer)) == 1


async def test_only_so_many_peers_are_remembered(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showing, "PEERS_SHOWN_MAX", 2)
    node = HostedNode(four)
    four.commit(node.executor)
    shower = Showing(node.executor, node.outlet, _failed)
    for number in range(5):
        shower.show(bytes([number]) * 32, 1)
        await _settled(shower)
        assert len(shower.shown) == 1 + number % 2
