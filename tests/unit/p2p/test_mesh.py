"""Meshes of three and four on loopback: what arrives, what is bounded, who is dropped, who comes back."""

from __future__ import annotations

import asyncio
import socket as sockets
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from consilium.ledger.errors import PeerFault, Refused
from consilium.p2p.frame import CHUNK_BYTES_MAX, HEADER_BYTES, Chunker, Lane, Message
from consilium.p2p.mesh import MESSAGES_PER_TURN_MAX, Address, Mesh, MeshPolicy
from consilium.p2p.pace import BURST_MESSAGES

PATIENCE_S = 20.0

BAN = PeerFault("found out later", 100)


async def test_messages_arrive_in_order_on_both_lanes(net: Any) -> None:
    nodes = await net.full(4)
    for number in range(50):
        for lane in Lane:
            assert nodes[0].mesh.broadcast(1, bytes([lane, number]), lane) == 3
        await asyncio.sleep(0)
    for node in nodes[1:]:
        await node.until(lambda node=node: len(node.received) == 100)
        for lane in Lane:
            bodies = [body for _, _, body in node.received if body[0] == lane]
            assert bodies == [bytes([lane, number]) for number in range(50)]
        assert {peer for peer, _, _ in node.received} == {nodes[0].key}
    assert nodes[0].received == []


async def test_a_big_message_travels_in_chunks(net: Any) -> None:
    one, two = await net.full(2)
    body = bytes(3 * CHUNK_BYTES_MAX) + b"tail"
    assert one.mesh.send(two.key, 2, body, Lane.BULK)
    await two.until(lambda: bool(two.received))
    assert two.received == [(one.key, 2, body)]
    metrics = two.mesh.metrics.bulk
    assert (metrics.messages_in, metrics.frames_in) == (1, 4)
    assert metrics.bytes_in == len(body) + 4 * HEADER_BYTES == one.mesh.metrics.bulk.bytes_out


async def test_votes_overtake_bulk(net: Any) -> None:
    one, two = await net.full(2)
    two.gate.clear()
    await net.fill(one, two.key)
    # the bulk lane stands still from end to end; the votes lane has its own worker, which waits at the gate
    # too
    assert one.mesh.send(two.key, 1, b"vote", Lane.VOTES)
    two.gate.set()
    await two.until(lambda: any(kind == 1 for _, kind, _ in two.received))
    position = [kind for _, kind, _ in two.received].index(1)
    assert position < 8, "a vote waited behind bulk that was sent before it"


async def test_a_slow_reader_costs_bounded_memory_and_loses_nothing_accepted(net: Any) -> None:
    one, two = await net.full(2)
    two.gate.clear()
    accepted = await net.fill(one, two.key)
    status = one.mesh.peers()[0]
    assert status.outbox_bytes <= one.mesh.policy.bulk.outbox_bytes_max
    assert one.mesh.metrics.bulk.refused == 1
    assert one.mesh.metrics.bulk.dropped == 0
    two.gate.set()
    await two.until(lambda: len(two.received) == accepted)
    assert [int.from_bytes(body[:4], "big") for _, _, body in two.received] == list(range(accepted))


async def test_a_full_votes_outbox_drops_the_oldest(net: Any) -> None:
    one, two = await net.full(2)
    for number in range(200):  # no turn for the writer between them
        assert one.mesh.send(two.key, 1, number.to_bytes(2, "big"), Lane.VOTES)
    await two.until(lambda: bool(two.received) and two.received[-1][2] == (199).to_bytes(2, "big"))
    assert len(two.received) == 64
    assert one.mesh.metrics.votes.dropped == 136


async def test_one_reachable_address_is_enough_whichever(net: Any) -> None:
    for numbers in ((1, 2), (4, 3)):
        hidden, open_ = await net.node(numbers[0]), await net.node(numbers[1])
        open_.mesh.set_members({hidden.key: None})
        hidden.mesh.set_members({open_.key: open_.address})
        await net.connected([hidden, open_])
        assert open_.mesh.send(hidden.key, 1, b"hi", Lane.VOTES)
        await hidden.until(lambda hidden=hidden: bool(hidden.received))


async def test_both_dial_and_one_link_per_lane_remains(net: Any) -> None:
    eager = replace(net_policy(net), grace_s=0.0)
    nodes = await net.full(3, policy=eager)
    for _ in range(3):
        assert nodes[0].mesh.broadcast(1, b"x", Lane.VOTES) == 2
        assert nodes[0].mesh.broadcast(1, b"y", Lane.BULK) == 2
        await nodes[1].until(lambda: len(nodes[1].received) >= 2)
    for node in nodes:
        alive = node.mesh.metrics.connects - node.mesh.metrics.disconnects
        assert alive <= 2 * len(Lane) + 2  # at most one replaced link is still being torn down for each peer


async def test_reconnects_after_restart_on_the_same_port(net: Any) -> None:
    one, two, three = await net.full(3)
    address = two.address
    await two.mesh.stop()
    await one.until(lambda: two.key not in one.mesh.connected())
    assert not one.mesh.send(two.key, 1, b"lost", Lane.VOTES)
    again = await net.node(2, listen=address)
    again.mesh.set_members({one.key: None, three.key: None})
    await net.connected([one, again, three])
    assert one.mesh.send(again.key, 1, b"back", Lane.VOTES)
    await again.until(lambda: bool(again.received))
    assert again.received == [(one.key, 1, b"back")]
    assert one.mesh.metrics.reconnects >= 2
    assert next(peer for peer in one.mesh.peers() if peer.key == again.key).reconnects >= 2


async def test_a_removed_member_is_disconnected_and_stays_out(net: Any) -> None:
    one, two, three = await net.full(3)
    one.mesh.set_members({three.key: three.address})
    assert two.key not in one.mesh.connected()
    await two.until(lambda: one.key not in two.mesh.connected())
    before = one.mesh.metrics.handshake_failures
    await net.eventually(lambda: one.mesh.metrics.handshake_failures > before)  # `two` dials: TLS refuses
    assert one.mesh.connected() == {three.key}
    one.mesh.set_members({two.key: two.address, three.key: three.address})
    await net.connected([one, two, three])


async def test_a_banned_peer_is_cut_off_and_comes_back(net: Any, fast: MeshPolicy) -> None:
    one, two, three = await net.full(3, policy=replace(fast, ban_first_s=3.0))
    for other in (two, three):
        one.mesh.fault(other.key, BAN)
    for other in (two, three):
        await other.until(lambda other=other: one.key not in other.mesh.connected())
    before = one.mesh.metrics.handshakes_refused
    await net.eventually(lambda: one.mesh.metrics.handshakes_refused > before)  # they dial, and are refused
    assert two.mesh.connected() == {three.key}
    await net.connected([one, two, three])


async def test_what_was_received_from_a_peer_that_was_banned_since_is_not_handled(
    net: Any, fast: MeshPolicy
) -> None:
    one, two = await net.full(2, policy=replace(fast, ban_first_s=2.0))
    two.gate.clear()
    for number in range(3):
        one.mesh.send(two.key, 1, bytes([number]), Lane.VOTES)
    await net.eventually(lambda: two.mesh.metrics.votes.messages_in == 3)
    two.mesh.fault(one.key, BAN)
    port = two.mesh._peers[one.key].ports[Lane.VOTES]
    await port.inbox.put(Message(1, b"late"))  # what a reader may still do before it is cancelled
    two.gate.set()
    await net.eventually(lambda: len(port.inbox) == 0)
    await net.connected([one, two])
    one.mesh.send(two.key, 1, b"again", Lane.VOTES)
    await two.until(lambda: two.received[-1:] == [(one.key, 1, b"again")])
    assert [body for _, _, body in two.received] == [bytes([0]), b"again"]


async def test_another_chain_does_not_connect(net: Any) -> None:
    one = await net.node(1)
    other = await net.node(2, chain=bytes(32))
    one.mesh.set_members({other.key: other.address})
    other.mesh.set_members({one.key: one.address})
    await net.eventually(lambda: other.mesh.metrics.dial_failures + one.mesh.metrics.dial_failures >= 4)
    assert not one.mesh.connected()
    assert not other.mesh.connected()
    assert one.mesh.metrics.connects == 0
    assert one.mesh.metrics.faults == 0  # a wrong configuration is no malice


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"garbage that is long enough", id="garbage"),
        pytest.param(next(Chunker().frames(200, b"x")), id="unknown kind"),
        pytest.param(next(Chunker().frames(9, bytes(17))), id="beyond its kind's limit"),
        pytest.param(bytes((1, 1, 0, 0, 0, 0, 0, 5)), id="out of place"),
        pytest.param(bytes(CHUNK_BYTES_MAX + HEADER_BYTES + 1), id="oversized frame"),
        pytest.param(bytes(10 << 20), id="oversized websocket message"),
    ],
)
async def test_garbage_ends_the_link_and_is_scored(net: Any, frame: bytes) -> None:
    node = await net.node(1)
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    for lane in Lane:
        assert await rogue.dial(node, lane) is not None
    await node.until(lambda: rogue.key in node.mesh.connected())
    with suppress(ConnectionError):  # it may be dropped while it is still sending
        await rogue.connections[Lane.BULK].send(frame)
    await node.until(lambda: node.mesh.metrics.disconnects == 1)
    assert node.mesh.metrics.faults == 1
    assert node.mesh.peers()[0].score < -20
    assert node.received == []


async def test_text_and_ping_are_garbage(net: Any) -> None:
    node = await net.node(1)
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    for count, send in enumerate(("send_str", "ping"), start=1):
        connection = await rogue.dial(node, Lane.VOTES)
        await getattr(connection._socket, send)(*(("text",) if send == "send_str" else ()))
        await node.until(lambda count=count: node.mesh.metrics.faults == count)


async def test_repeated_garbage_bans_and_the_ban_ends(net: Any, fast: MeshPolicy) -> None:
    node = await net.node(1, policy=replace(fast, ban_first_s=0.3))
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    for count in range(1, 5):
        connection = await rogue.dial(node, Lane.VOTES)
        await connection.send(b"x")
        await node.until(lambda count=count: node.mesh.metrics.faults == count)
    assert node.mesh.metrics.bans == 1
    assert node.mesh.peers()[0].banned_s > 0
    assert await rogue.dial(node, Lane.VOTES) is None
    await net.eventually(lambda: node.mesh.peers()[0].banned_s == 0)
    assert await rogue.dial(node, Lane.VOTES) is not None


async def test_the_handlers_faults_are_scored_and_ban(net: Any) -> None:
    one, two = await net.full(2)
    two.refusal.append(PeerFault("nonsense", 40))
    for count in (1, 2):
        one.mesh.send(two.key, 1, b"bad", Lane.VOTES)
        await two.until(lambda count=count: len(two.received) == count)
    assert two.mesh.connected() == {one.key}  # scored, not dropped
    assert two.mesh.peers()[0].score < -70
    one.mesh.send(two.key, 1, b"bad", Lane.VOTES)
    await one.until(lambda: not one.mesh.connected())
    assert two.mesh.metrics.bans == 1
    assert not two.mesh.connected()


async def test_refused_from_the_handler_is_a_small_fault(net: Any) -> None:
    one, two = await net.full(2)
    two.refusal.append(Refused("codec.malformed"))
    one.mesh.send(two.key, 1, b"bad", Lane.VOTES)
    await two.until(lambda: two.mesh.metrics.faults == 1)
    assert -6 < two.mesh.peers()[0].score < -4


async def test_the_host_can_score_a_peer(net: Any) -> None:
    one, two = await net.full(2)
    one.mesh.fault(two.key, BAN)
    await two.until(lambda: not two.mesh.connected())
    assert one.mesh.metrics.bans == 1


async def test_a_bug_in_the_handler_stops_the_mesh_and_shows(net: Any) -> None:
    one, two = await net.full(2)
    two.refusal.append(ZeroDivisionError("a bug"))
    one.mesh.send(two.key, 1, b"x", Lane.VOTES)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(two.mesh.run(), PATIENCE_S)
    assert caught.value.subgroup(ZeroDivisionError) is not None
    await two.mesh.stop()
    await one.until(lambda: not one.mesh.connected())
    assert not two.mesh.send(one.key, 1, b"x", Lane.VOTES)


async def test_run_ends_with_stop(net: Any) -> None:
    one, _ = await net.full(2)
    running = asyncio.create_task(one.mesh.run())
    await one.mesh.stop()
    await asyncio.wait_for(running, PATIENCE_S)
    await one.mesh.stop()
    assert one.mesh.connected() == frozenset()


async def test_a_silent_peer_is_dropped_and_its_outbox_freed(net: Any, fast: MeshPolicy) -> None:
    node = await net.node(1, policy=replace(fast, silence_timeout_s=0.5))
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    for lane in Lane:
        await rogue.dial(node, lane)
    await node.until(lambda: rogue.key in node.mesh.connected())
    assert await net.fill(node, rogue.key) >= 8
    assert node.mesh.peers()[0].outbox_bytes > 0
    await node.until(lambda: node.mesh.metrics.disconnects == 2)
    assert node.mesh.peers()[0].outbox_bytes == 0
    assert node.mesh.metrics.faults == 0


async def test_a_peer_that_beats_but_never_reads_is_closed(net: Any, fast: MeshPolicy) -> None:
    node = await net.node(1, policy=replace(fast, stall_timeout_s=0.5))
    rogue = net.rogue(2)
    node.mesh.set_members({rogue.key: None})
    connection = await rogue.dial(node, Lane.BULK)
    await node.until(lambda: node.mesh.metrics.connects == 1)
    while not node.mesh.metrics.disconnects:  # the kernel takes some megabytes before it makes anybody wait
        node.mesh.send(rogue.key, 2, bytes(1 << 20), Lane.BULK)
        with suppress(ConnectionError):
            await connection.beat()
        await asyncio.sleep(0.01)
    assert node.mesh.metrics.bulk.refused > 0
    assert node.mesh.peers()[0].outbox_bytes == 0


async def test_a_busy_handler_does_not_look_dead(net: Any, fast: MeshPolicy) -> None:
    one, two = await net.full(2, policy=replace(fast, silence_timeout_s=1.0))
    two.gate.clear()
    await net.fill(one, two.key)
    await asyncio.sleep(2.0)  # twice the silence that would end a link: nothing may happen
    assert one.mesh.metrics.disconnects == two.mesh.metrics.disconnects == 0
    two.gate.set()
    await two.until(lambda: len(two.received) >= 8)


async def test_sockets_have_no_delay(net: Any) -> None:
    one, two = await net.full(2)
    for node in (one, two):
        for peer in node.mesh._peers.values():
            for port in peer.ports:
                raw = port.link._connection._raw
                assert raw.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY) == 1


async def test_send_refuses_what_this_node_may_not_send(net: Any) -> None:
    one, two = await net.full(2)
    with pytest.raises(ValueError, match="kind 77"):
        one.mesh.send(two.key, 77, b"", Lane.VOTES)
    with pytest.raises(ValueError, match="the limit of kind 9"):
        one.mesh.broadcast(9, bytes(17), Lane.BULK)
    assert one.mesh.send(two.key, 9, bytes(16), Lane.BULK)
    assert not one.mesh.send(bytes(32), 1, b"", Lane.VOTES)


async def test_what_cannot_be_is_refused_at_once(net: Any, fast: MeshPolicy) -> None:
    node = await net.node(1)
    with pytest.raises(ValueError, match="32 bytes"):
        node.mesh.set_members({b"short": None})
    with pytest.raises(ValueError, match="257 peers"):
        node.mesh.set_members({number.to_bytes(32, "big"): None for number in range(257)})
    with pytest.raises(RuntimeError):
        await node.mesh.start()
    with pytest.raises(OSError, match=r"[Aa]ddress"):
        await net.node(2, listen=Address("127.0.0.1", node.mesh.port))


async def test_the_memory_of_a_peer_has_a_number() -> None:
    policy = MeshPolicy()
    assert policy.peer_bytes_max(4 << 20) == (4 + 4 + 32 + 8 + 2 * (16 + 2)) << 20


async def test_an_unstarted_mesh_says_so() -> None:
    from consilium.ledger.crypto import SigningKey

    async def handler(_peer: bytes, _kind: int, _body: bytes) -> None:
        return None

    mesh = Mesh(
        key=SigningKey(bytes(32)),
        chain_id=bytes(32),
        members={},
        listen=Address("127.0.0.1", 0),
        limits={},
        handler=handler,
    )
    with pytest.raises(RuntimeError):
        await mesh.run()
    with pytest.raises(RuntimeError):
        _ = mesh.port
    await mesh.stop()


def net_policy(net: Any) -> MeshPolicy:
    return MeshPolicy(backoff_first_s=0.02, backoff_max_s=0.2, close_timeout_s=0.5)


async def test_a_flood_of_small_messages_leaves_everybody_else_their_turns(net: Any) -> None:
    """A handler that never waits must not keep the event loop for as long as the inbox is full."""
    one, two = await net.full(2)
    two.gate.clear()
    for number in range(64):
        assert one.mesh.send(two.key, 1, bytes([number]), Lane.VOTES)
    (peer,) = two.mesh._peers.values()
    await net.eventually(lambda: len(peer.ports[Lane.VOTES].inbox) == 63)  # one is at the gate
    two.gate.set()
    turns: list[int] = []
    while len(two.received) < 64:
        turns.append(len(two.received))
        await asyncio.sleep(0)
    together = max(later - earlier for earlier, later in zip(turns, [*turns[1:], 64], strict=True))
    assert together <= MESSAGES_PER_TURN_MAX < 64 // 2


async def test_a_lane_beyond_its_pace_is_held_back_alone(net: Any, fast: MeshPolicy) -> None:
    slow = replace(fast, votes=replace(fast.votes, messages_per_s_max=1))
    one, two = await net.node(1, [2, 3], policy=slow), await net.node(2, [1, 3])
    three = await net.node(3, [1, 2])
    for node in (two, three):
        node.mesh.set_members({one.key: one.address})
    await net.connected([one, two])
    await net.connected([one, three])
    for number in range(BURST_MESSAGES + 32):
        assert two.mesh.send(one.key, 1, number.to_bytes(2, "big"), Lane.VOTES)
        if number % 32 == 31:
            await one.until(lambda number=number: len(one.received) >= min(number + 1, BURST_MESSAGES))
    assert three.mesh.send(one.key, 1, b"vote", Lane.VOTES)
    assert two.mesh.send(one.key, 1, b"bulk", Lane.BULK)
    await one.until(lambda: len(one.received) >= BURST_MESSAGES + 2)
    assert {body for _, _, body in one.received[BURST_MESSAGES:]} >= {b"vote", b"bulk"}
    assert len(one.received) < BURST_MESSAGES + 32
