"""Votes and batches reach validators alone; everybody else hears how far the chain is, seldom."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from consilium.ledger import codec
from consilium.node import voices
from consilium.node.peer_messages import Kind, Tip
from consilium.node.voices import Voices
from consilium.p2p.frame import Lane
from consilium.p2p.mesh import Mesh
from tests.unit.node.harness import Harness, until

OBSERVER = b"o" * 32


class RememberingMesh:
    """Who was sent what."""

    def __init__(self, peers: frozenset[bytes]) -> None:
        self.peers = peers
        self.sent: list[tuple[bytes, int, bytes, Lane]] = []

    def connected(self) -> frozenset[bytes]:
        return self.peers

    def send(self, peer_key: bytes, kind: int, body: bytes, lane: Lane) -> bool:
        if peer_key in self.peers:
            self.sent.append((peer_key, kind, body, lane))
        return peer_key in self.peers

    def broadcast(self, kind: int, body: bytes, lane: Lane) -> int:
        return sum(self.send(peer, kind, body, lane) for peer in self.peers)


def made(four: Harness) -> tuple[Any, RememberingMesh, Voices]:
    executor = four.executor()
    mesh = RememberingMesh(frozenset([*four.validators.keys[1:], OBSERVER]))
    return executor, mesh, Voices(cast(Mesh, mesh), executor)


async def test_votes_and_batches_go_to_validators_alone(four: Harness) -> None:
    _, mesh, speaking = made(four)
    assert speaking.broadcast(Kind.CONSENSUS, b"vote", Lane.VOTES) == 3
    assert speaking.broadcast(Kind.BATCH, b"batch", Lane.BULK) == 3
    assert {peer for peer, *_ in mesh.sent} == set(four.validators.keys[1:])
    assert speaking.connected() == mesh.peers
    assert speaking.send(OBSERVER, Kind.BLOCKS, b"blocks")
    assert mesh.sent[-1] == (OBSERVER, Kind.BLOCKS, b"blocks", Lane.BULK)


async def test_others_hear_of_new_heights_and_of_many_at_once(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voices, "ANNOUNCE_S", 0.01)
    executor, mesh, speaking = made(four)
    for _ in range(5):
        four.commit(executor)
        speaking.committed()
    await until(lambda: mesh.sent)
    tip = executor.store.tip
    assert mesh.sent == [(OBSERVER, Kind.TIP, codec.encode(Tip(tip.height, tip.block_hash)), Lane.VOTES)]
    await asyncio.sleep(0.03)
    assert len(mesh.sent) == 1
    speaking.committed()
    await until(lambda: len(mesh.sent) == 2)


async def test_everybody_hears_now_and_then(four: Harness) -> None:
    _, mesh, speaking = made(four)
    speaking.say_tip()
    assert {peer for peer, *_ in mesh.sent} == mesh.peers


async def test_who_hears_of_new_heights_hears_in_the_order_of_keys(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of a set differs from process to process, and a schedule that is replayed would differ with it."""
    monkeypatch.setattr(voices, "ANNOUNCE_S", 0.0)
    observers = [bytes([number]) * 32 for number in range(40)]
    mesh = RememberingMesh(frozenset(observers))
    speaking = Voices(cast(Mesh, mesh), four.executor())
    speaking.committed()
    await until(lambda: mesh.sent)
    assert [peer for peer, *_ in mesh.sent] == observers
