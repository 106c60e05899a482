"""Showing a peer that lags what was decided: what it is sent first, and what is remembered of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consilium.ledger.errors import InvariantBroken
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


async def test_a_certificate_of_long_ago_is_not_sent_alone(four: Harness) -> None:
    """Whoever is two heights behind could do nothing with it."""
    node, peer = HostedNode(four), four.keys[1].public
    four.commit(node.executor)
    four.commit(node.executor)
    shower = Showing(node.executor, node.outlet, _failed)
    shower.show(peer, 1)
    await _settled(shower)
    assert node.outlet.sent(Kind.CONSENSUS, peer) == []
    assert len(node.outlet.sent(Kind.TIP, peer)) == 1
    assert shower.shown == {}


async def test_only_so_many_peers_are_remembered(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showing, "PEERS_SHOWN_MAX", 2)
    node = HostedNode(four)
    four.commit(node.executor)
    shower = Showing(node.executor, node.outlet, _failed)
    for number in range(5):
        shower.show(bytes([number]) * 32, 1)
        await _settled(shower)
        assert len(shower.shown) == 1 + number % 2


async def test_only_so_many_are_sent_to_at_a_time(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showing, "SERVES_AT_ONCE_MAX", 2)
    node = HostedNode(four)
    four.commit(node.executor)
    shower = Showing(node.executor, node.outlet, _failed)
    for number in range(3):
        shower.show(four.keys[number + 1].public, 1)
    assert len(shower.tasks) == 2
    await _settled(shower)
    assert not shower.tasks
    # who found no place is not taken for somebody who was shown the certificate
    shower.show(four.keys[3].public, 1)
    await _settled(shower)
    assert len(node.outlet.sent(Kind.CONSENSUS, four.keys[3].public)) == 1


async def test_what_a_task_died_of_is_told(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    node = HostedNode(four)
    four.commit(node.executor)
    told: list[BaseException] = []
    shower = Showing(node.executor, node.outlet, told.append)
    broken = InvariantBroken("a part of height 1 is not in the store")

    def decided(height: int) -> None:
        raise broken

    monkeypatch.setattr(node.executor, "decided", decided)
    shower.show(four.keys[1].public, 1)
    await asyncio.gather(*shower.tasks, return_exceptions=True)
    assert told == [broken]
    assert not shower.tasks


async def test_a_task_that_was_cancelled_is_not_asked_what_it_died_of(four: Harness) -> None:
    """Asking raises, and the loop would log an error for each peer whenever a node ends."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    node = HostedNode(four)
    four.commit(node.executor)
    told: list[BaseException] = []
    shower = Showing(node.executor, node.outlet, told.append)
    shower.show(four.keys[1].public, 1)
    (task,) = shower.tasks
    shower.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert not shower.tasks
    assert (told, complaints) == ([], [])
