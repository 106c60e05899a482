"""Catching up: one honest peer is enough, and nothing that a liar says or sends costs more than a moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from consilium.ledger import codec
from consilium.ledger.batch import VerifiedBatch
from consilium.ledger.block import Block, CommitCertificate
from consilium.ledger.errors import InvariantBroken, PeerFault
from consilium.ledger.weight import BLOCK_WEIGHT_MAX
from consilium.node import claims, sync
from consilium.node import decided as decided_blocks
from consilium.node.decided import (
    VerifiedDecision,
    check_run,
    open_decided,
    open_some,
    payload_within_limits,
    sealed_by,
    verify_decided,
)
from consilium.node.executor import Executor
from consilium.node.peer_messages import Blocks, BlocksRequest, DecidedBlock, Kind
from consilium.node.sync import Synchroniser
from tests.unit.node.harness import BLOCK_MS, Harness, until

Answer = Callable[[BlocksRequest], list[bytes]]


class Network:
    """A node that lags, and peers that answer its questions as a test wants."""

    def __init__(self, harness: Harness, blocks: int = 0, observer: bytes | None = None) -> None:
        self.harness = harness
        self.source = harness.executor()
        """A node that has every block."""
        for _ in range(blocks):
            harness.commit(self.source, [harness.batch([harness.transaction(harness.wallets[0])])])
        self.executor = harness.executor()
        self.answers: dict[bytes, Answer] = {}
        self.faults: list[tuple[bytes, PeerFault]] = []
        self.asked: list[tuple[bytes, int]] = []
        self.delivered: list[int] = []
        self.absent: set[bytes] = set()
        self.sync = Synchroniser(
            send=self._send,
            connected=lambda: frozenset(self.answers) - self.absent,
            context=lambda: self.executor.context,
            deliver=self._deliver,
            fault=lambda peer, fault: self.faults.append((peer, fault)),
            observer=observer,
        )

    @property
    def height(self) -> int:
        return self.executor.store.tip.height

    def peer(self, index: int, answer: Answer | None = None, tip: int | None = None) -> bytes:
        """Validator `index` as a peer: honest unless told otherwise. It claims `tip`, or what the source has."""
        key = self.harness.keys[index].public
        self.answers[key] = answer or self.honest
        self.sync.hint(key, self.source.store.tip.height if tip is None else tip)
        return key

    def honest(self, request: BlocksRequest) -> list[bytes]:
        raw = self.source.encoded_blocks(request.first, request.count)
        return [] if raw is None else [raw]

    def _send(self, peer: bytes, kind: int, body: bytes) -> bool:
        assert kind == Kind.BLOCKS_REQUEST
        request = codec.decode(body, BlocksRequest, 32)
        self.asked.append((peer, request.first))
        loop = asyncio.get_running_loop()
        for raw in self.answers[peer](request):
            loop.call_soon(self.offer, peer, raw)
        return True

    def offer(self, peer: bytes, raw: bytes) -> None:
        """As the router does, and the mesh around it."""
        try:
            self.sync.offer(peer, raw)
        except PeerFault as fault:
            self.faults.append((peer, fault))

    async def _deliver(self, decisions: Sequence[VerifiedDecision]) -> None:
        self.delivered += [decision.block.height for decision in decisions]
        self.executor.commit_all(
            [one for one in decisions if one.block.height >= self.executor.context.height]
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.sync.run())
        try:
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, InvariantBroken):
                await task


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "GRACE_S", 0.001)
    monkeypatch.setattr(sync, "RESPONSE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(sync, "UNCORROBORATED_HEDGE_S", 1.0)
    monkeypatch.setattr(claims, "FAILURE_PAUSE_S", 0.01)
    monkeypatch.setattr(claims, "FAILURE_PAUSE_MAX_S", 0.05)


def silent(request: BlocksRequest) -> list[bytes]:
    return []


def blocks_of(network: Network, heights: range) -> list[DecidedBlock]:
    store = network.source.store
    made = []
    for height in heights:
        certificate = store.certificate(height)
        assert certificate is not None
        made.append(DecidedBlock(store.block(height), certificate, store.batches(height)))
    return made


def encoded(*blocks: DecidedBlock) -> bytes:
    return codec.encode(Blocks(list(blocks)))


# --- what is checked of a block -------------------------------------------------------------------------------------


def reseal(harness: Harness, decided: DecidedBlock, **changes: object) -> DecidedBlock:
    """The same block with another header, and a certificate of a true quorum for it."""
    header = msgspec.structs.replace(decided.block.header, **changes)
    block = Block(header, decided.block.batches)
    return DecidedBlock(block, harness.certificate(block), decided.batches)


def lies(four: Harness, executor: Executor) -> dict[str, DecidedBlock]:
    """One decided block, harmed in every way that needs no key of an honest validator."""
    batches = [four.batch([four.transaction(four.wallets[0])]) for _ in range(2)]
    good = four.decide(executor.context, batches)
    other = four.batch([four.transaction(four.wallets[0])])
    certificate, block = good.certificate, good.block
    change = msgspec.structs.replace
    forged = change(certificate.seals[0], signature=bytes(64))
    foreign = Harness(4, network="another")
    return {
        "other block": DecidedBlock(four.decide(executor.context, [other]).block, certificate, [other.raw]),
        "height": reseal(four, good, height=2),
        "parent": reseal(four, good, parent=b"p" * 32),
        "chain": reseal(four, good, chain_id=foreign.chain_id),
        "validators": reseal(four, good, validators_hash=b"v" * 32),
        "version": reseal(four, good, version=2),
        "batches root": reseal(four, good, batches_root=b"r" * 32),
        "few seals": DecidedBlock(block, change(certificate, seals=certificate.seals[:-1]), good.batches),
        "forged seal": DecidedBlock(
            block, change(certificate, seals=[forged, *certificate.seals[1:]]), good.batches
        ),
        "one seal thrice": DecidedBlock(
            block, change(certificate, seals=[certificate.seals[0]] * 3), good.batches
        ),
        "seal of nobody": DecidedBlock(
            block,
            change(certificate, seals=[*certificate.seals[:-1], change(certificate.seals[-1], validator=9)]),
            good.batches,
        ),
        "other view": DecidedBlock(block, change(certificate, view=1), good.batches),
        "fewer batches": DecidedBlock(block, certificate, good.batches[:1]),
        "more batches": DecidedBlock(block, certificate, [*good.batches, other.raw]),
        "batches in another order": DecidedBlock(block, certificate, good.batches[::-1]),
        "another batch": DecidedBlock(block, certificate, [good.batches[0], other.raw]),
        "a damaged batch": DecidedBlock(
            block, certificate, [good.batches[0], good.batches[1][:-1] + b"\xff"]
        ),
        "no batch": DecidedBlock(block, certificate, [good.batches[0], b""]),
        "batch of another chain": DecidedBlock(
            block,
            certificate,
            [good.batches[0], foreign.batch([foreign.transaction(foreign.wallets[0])]).raw],
        ),
    }


LIES = list(lies(Harness(4), Harness(4).executor()))


@pytest.mark.parametrize("lie", LIES)
def test_a_block_that_is_not_what_was_decided_is_its_senders_fault(four: Harness, lie: str) -> None:
    executor = four.executor()
    with pytest.raises(PeerFault):
        verify_decided(lies(four, executor)[lie], executor.context)


def test_what_was_decided_checks(four: Harness) -> None:
    executor = four.executor()
    batch = four.batch([four.transaction(four.wallets[0])])
    decided = four.decide(executor.context, [batch])
    verified = verify_decided(decided, executor.context)
    assert verified.block == decided.block
    assert [one.raw for one in verified.batches] == [batch.raw]


def test_a_run_is_checked_against_the_set_that_its_headers_hand_on(four: Harness) -> None:
    """Whoever seals a later block of the run must be the set that the header before it names: else it waits."""
    network = Network(four, blocks=6)
    opened = [open_decided(one, four.chain_id) for one in blocks_of(network, range(1, 7))]
    context = network.executor.context
    assert check_run(opened, context) == opened
    assert check_run(opened[:3], context) == opened[:3]
    forged = msgspec.structs.replace(opened[3].certificate, view=1)
    wrong = [*opened[:3], VerifiedDecision(opened[3].block, forged, opened[3].batches), *opened[4:]]
    assert check_run(wrong, context) == opened[:3]
    assert check_run([*opened[:2], *opened[3:]], context) == opened[:2]
    with pytest.raises(PeerFault):
        check_run(wrong[3:], context)
    with pytest.raises(PeerFault):
        check_run(opened[1:], context)
    handing_over = [
        open_decided(reseal(four, one, next_validators_hash=b"n" * 32) if place == 2 else one, four.chain_id)
        for place, one in enumerate(blocks_of(network, range(1, 7)))
    ]
    assert check_run(handing_over, context) == handing_over[:3]


async def test_what_is_committed_together_is_bounded(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "TOGETHER_TRANSACTIONS_MAX", 4)
    network = Network(four, blocks=11)
    runs: list[int] = []
    deliver = network.sync._deliver

    async def counting(decisions: Sequence[VerifiedDecision]) -> None:
        runs.append(len(decisions))
        await deliver(decisions)

    network.sync._deliver = counting
    network.peer(1)
    async with network.running():
        await until(lambda: network.height == 11)
    assert runs == [4, 4, 3]


async def test_the_next_blocks_travel_while_these_are_committed(four: Harness) -> None:
    network = Network(four, blocks=140)
    deliver = network.sync._deliver

    async def waiting(decisions: Sequence[VerifiedDecision]) -> None:
        height = network.height
        if height in (0, 64):
            await until(lambda: network.asked[-1][1] > height + 64)
        await deliver(decisions)

    network.sync._deliver = waiting
    for index in (1, 2):
        network.peer(index)
    async with network.running():
        await until(lambda: network.height == 140)
    assert [first for _, first in network.asked] == [1, 65, 129]


async def test_it_can_be_closed_where_it_stands(four: Harness) -> None:
    """As a simulated process is that is killed: whoever is closed may await nothing any more."""
    network = Network(four, blocks=2)
    network.peer(1, tip=5)
    stuck = asyncio.Event()

    async def deliver(decisions: Sequence[VerifiedDecision]) -> None:
        await stuck.wait()

    network.sync._deliver = deliver
    chasing = network.sync.run()
    async with asyncio.timeout(30):
        while (waited_for := chasing.send(None)) is not None and network.sync._fetching is None:
            await asyncio.wait({waited_for})
    question = network.sync._fetching
    assert question is not None
    chasing.close()
    await asyncio.wait({question})
    assert question.cancelled()


def test_the_limits_of_a_block_hold_for_its_batches_together(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: tuple[VerifiedBatch, ...] = tuple(
        four.batch([four.transaction(four.wallets[0])] * 1) for _ in range(3)
    )
    size = sum(len(batch.raw) for batch in batches)
    monkeypatch.setattr(decided_blocks, "BLOCK_TRANSACTIONS_MAX", 3)
    monkeypatch.setattr(decided_blocks, "BLOCK_PAYLOAD_BYTES_MAX", size)
    assert payload_within_limits(batches, BLOCK_WEIGHT_MAX)
    assert not payload_within_limits(batches, BLOCK_WEIGHT_MAX + 1)
    monkeypatch.setattr(decided_blocks, "BLOCK_TRANSACTIONS_MAX", 2)
    assert not payload_within_limits(batches, 0)
    monkeypatch.setattr(decided_blocks, "BLOCK_TRANSACTIONS_MAX", 3)
    monkeypatch.setattr(decided_blocks, "BLOCK_PAYLOAD_BYTES_MAX", size - 1)
    assert not payload_within_limits(batches, 0)
    assert payload_within_limits((), 0)


# --- honest peers ---------------------------------------------------------------------------------------------------


async def test_a_node_that_lags_catches_up(four: Harness) -> None:
    network = Network(four, blocks=70)
    network.peer(1)
    async with network.running():
        await until(lambda: network.height == 70)
    assert network.executor.context == network.source.context
    assert network.delivered == list(range(1, 71))
    assert network.faults == []


async def test_a_node_that_is_not_behind_asks_nobody(four: Harness) -> None:
    network = Network(four, blocks=0)
    network.peer(1, tip=0)
    async with network.running():
        await asyncio.sleep(0.02)
    assert network.asked == []


async def test_votes_that_arrive_meanwhile_spare_the_question(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "GRACE_S", 0.5)
    network = Network(four, blocks=1)
    network.peer(1)
    (only,) = blocks_of(network, range(1, 2))
    verified = verify_decided(only, network.executor.context)
    async with network.running():
        await asyncio.sleep(0.01)
        network.executor.commit(verified.block, verified.certificate, verified.batches)
        await asyncio.sleep(0.6)
    assert network.asked == []


async def test_old_and_repeated_blocks_are_passed_over(four: Harness) -> None:
    network = Network(four, blocks=3)
    one, two, three = blocks_of(network, range(1, 4))
    network.peer(1, lambda request: [encoded(one, one, two, one, three)])
    async with network.running():
        await until(lambda: network.height == 3)
    assert network.delivered == [1, 2, 3]
    assert network.faults == []


async def test_a_gap_ends_a_response_without_fault(four: Harness) -> None:
    network = Network(four, blocks=3)
    one, _, three = blocks_of(network, range(1, 4))
    network.peer(1, lambda request: [encoded(one, three)] if request.first == 1 else network.honest(request))
    async with network.running():
        await until(lambda: network.height == 3)
    assert network.faults == []


async def test_checking_may_take_longer_than_answering(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that a peer has is for its answer: what this node does with it is not the peer's to hurry."""
    network = Network(four, blocks=3)
    deliver = network._deliver

    async def slow(decisions: Sequence[VerifiedDecision]) -> None:
        await asyncio.sleep(0.12)
        await deliver(decisions)

    network.sync._deliver = slow
    peer = network.peer(1)
    async with network.running():
        await until(lambda: network.height == 3)
    assert network.asked == [(peer, 1)]


async def test_a_late_answer_counts(four: Harness) -> None:
    network = Network(four, blocks=2)
    late: list[asyncio.TimerHandle] = []

    def slow(request: BlocksRequest) -> list[bytes]:
        (raw,) = network.honest(request)
        late.append(asyncio.get_running_loop().call_later(0.1, network.offer, peer, raw))
        return []

    peer = network.peer(1, slow)
    async with network.running():
        await until(lambda: network.height == 2)
    assert network.faults == []


# --- observers ------------------------------------------------------------------------------------------------------


def bystander(network: Network, name: bytes, answer: Answer | None = None) -> bytes:
    """A peer that does not vote."""
    key = name * 32
    network.answers[key] = answer or network.honest
    network.sync.hint(key, network.source.store.tip.height)
    return key


async def test_an_observer_asks_other_observers_first(four: Harness) -> None:
    network = Network(four, blocks=140, observer=b"m" * 32)
    network.peer(1)
    other = bystander(network, b"a")
    async with network.running():
        await until(lambda: network.height == 140)
    assert {peer for peer, _ in network.asked} == {other}


async def test_an_observer_asks_validators_where_the_others_have_nothing(four: Harness) -> None:
    network = Network(four, blocks=70, observer=b"m" * 32)
    validator = network.peer(1)
    liar = bystander(network, b"a", silent)
    async with network.running():
        await until(lambda: network.height == 70)
    assert [peer for peer, _ in network.asked].count(liar) == 1
    assert network.asked[-1][0] == validator


def test_the_first_observers_do_not_wait_for_others(four: Harness) -> None:
    first = Network(four, blocks=1, observer=b"b" * 32)
    for name in (b"a", b"x", b"y", b"z"):
        first.answers[name * 32] = silent
    assert first.sync._grace_s() == sync.RELAY_GRACE_S
    first.answers[b"0" * 32] = silent
    assert first.sync._grace_s() == sync.GRACE_S
    assert Network(four).sync._grace_s() == sync.GRACE_S


# --- peers that lie, are slow, or go --------------------------------------------------------------------------------


@pytest.mark.parametrize("lie", LIES)
async def test_one_honest_peer_is_enough_whatever_the_others_send(four: Harness, lie: str) -> None:
    network = Network(four, blocks=5)
    raw = encoded(lies(four, network.executor)[lie])
    for index in (1, 2):
        network.peer(index, lambda request: [raw], tip=1_000)
    honest = network.peer(3)
    async with network.running():
        await until(lambda: network.height == 5)
    assert network.executor.context == network.source.context
    assert {peer for peer, _ in network.faults} <= set(network.answers) - {honest}


@pytest.mark.parametrize(
    "garbage", [b"", b"\xc1", b"\x91\x90" * 50, b"\x00" * 1_000, codec.encode(Blocks([]))]
)
async def test_garbage_and_empty_answers_delay_nobody_for_long(four: Harness, garbage: bytes) -> None:
    network = Network(four, blocks=5)
    liar = network.peer(1, lambda request: [garbage], tip=2**63 - 1)
    network.peer(2)
    async with network.running():
        await until(lambda: network.height == 5)
    assert all(peer == liar for peer, _ in network.faults)


async def test_a_liar_is_at_fault_once_for_each_lie(four: Harness) -> None:
    network = Network(four, blocks=5)
    raw = encoded(lies(four, network.executor)["forged seal"])
    liar = network.peer(1, lambda request: [raw])
    async with network.running():
        await until(lambda: network.faults)
        await asyncio.sleep(0.02)
    assert [(peer, fault.weight) for peer, fault in network.faults] == [(liar, decided_blocks.FAULT_WEIGHT)]


async def test_who_claims_most_and_shows_nothing_is_asked_less_and_less(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A liar that repeats its claim every moment must not cost a timeout each time."""
    monkeypatch.setattr(claims, "FAILURE_PAUSE_S", 600.0)
    monkeypatch.setattr(claims, "FAILURE_PAUSE_MAX_S", 600.0)
    network = Network(four, blocks=200)
    liar = network.peer(1, silent, tip=2**63 - 1)
    network.peer(2)
    async with network.running():
        for _ in range(20):
            network.sync.hint(liar, 2**63 - 1)
            await asyncio.sleep(0.005)
        await until(lambda: network.height == 200)
        network.sync.hint(liar, 2**63 - 1)
        await asyncio.sleep(0.02)
    assert [peer for peer, _ in network.asked].count(liar) == 1


async def test_a_stingy_peer_does_not_set_the_pace(four: Harness) -> None:
    network = Network(four, blocks=150)

    def one_at_a_time(request: BlocksRequest) -> list[bytes]:
        raw = network.source.encoded_blocks(request.first, 1)
        return [] if raw is None else [raw]

    stingy = network.peer(1, one_at_a_time, tip=10_000)
    network.peer(2)
    async with network.running():
        await until(lambda: network.height == 150)
    assert [peer for peer, _ in network.asked].count(stingy) <= 5


async def test_a_peer_that_goes_is_passed_over(four: Harness) -> None:
    network = Network(four, blocks=5)
    gone = network.peer(1, tip=100)
    network.absent.add(gone)
    honest = network.peer(2)
    async with network.running():
        await until(lambda: network.height == 5)
    assert {peer for peer, _ in network.asked} == {honest}


async def test_with_nobody_to_ask_it_waits_without_spinning(four: Harness) -> None:
    network = Network(four, blocks=5)
    network.sync.hint(four.keys[1].public, 5)
    looks = 0
    connected = network.sync._claims._connected

    def counting() -> frozenset[bytes]:
        nonlocal looks
        looks += 1
        return connected()

    network.sync._claims._connected = counting
    async with network.running():
        await asyncio.sleep(0.05)
        assert looks <= 2
        network.peer(1)
        await until(lambda: network.height == 5)


async def test_an_outbox_that_is_full_is_tried_again_later(four: Harness) -> None:
    network = Network(four, blocks=2)
    peer = network.peer(1)
    send = network.sync._send
    refusals = [False, False]

    def full_at_first(peer: bytes, kind: int, body: bytes) -> bool:
        return refusals.pop() if refusals else send(peer, kind, body)

    network.sync._send = full_at_first
    async with network.running():
        while network.height < 2:
            network.sync.hint(peer, 2)  # as its next word does
            await asyncio.sleep(0.01)
    assert network.faults == []


async def test_a_contradiction_ends_the_task(four: Harness) -> None:
    network = Network(four, blocks=2)

    async def halt(decisions: Sequence[VerifiedDecision]) -> None:
        raise InvariantBroken("its state is not the network's")

    network.sync._deliver = halt
    network.peer(1)
    with pytest.raises(InvariantBroken):
        await asyncio.wait_for(network.sync.run(), 10)
    assert network.faults == []


async def test_being_cancelled_leaves_nothing_asked(four: Harness) -> None:
    network = Network(four, blocks=2)
    network.peer(1, silent)
    async with network.running():
        await until(lambda: network.asked)
        assert network.sync._asked
    assert not network.sync._asked
    assert not network.sync.catching_up


async def test_ghsa_22qq_3xwm_r5x4_a_peer_that_claims_a_great_height_and_then_a_lower_one(
    four: Harness,
) -> None:
    """The node waited for the great height for ever, and never left its catching up."""
    network = Network(four, blocks=5)
    liar = network.peer(1, silent, tip=2**60)
    network.sync.hint(liar, 1)
    for index in (2, 3):
        network.peer(index)
    async with network.running():
        await until(lambda: network.height == 5)
        network.sync.hint(liar, 2**60)
        network.sync.hint(liar, 1)
        await until(lambda: not network.sync._chasing)
        assert not network.sync.catching_up
        four.commit(network.source)
        for index in (2, 3):
            network.sync.hint(four.keys[index].public, 6)
        await until(lambda: network.height == 6)


async def test_ghsa_hg58_rf2h_6rr7_invalid_blocks_neither_end_nor_hold_a_node_that_catches_up(
    four: Harness,
) -> None:
    """The node panicked, went on in an invalid state, or never left its catching up."""
    network = Network(four, blocks=5)
    every = [encoded(one) for one in lies(four, network.executor).values()]

    def lie(request: BlocksRequest) -> list[bytes]:
        return [every[len(network.asked) % len(every)]]

    liars = [network.peer(index, lie) for index in (1, 2)]
    network.peer(3)
    async with network.running() as following:
        await until(lambda: network.height == 5)
        await until(lambda: not network.sync._chasing)
        assert not following.done()
        assert not network.sync.catching_up
    assert network.executor.context == network.source.context
    assert {peer for peer, _ in network.faults} <= set(liars)


# --- memory, and what others are told -------------------------------------------------------------------------------


def test_claims_are_remembered_of_so_many_peers_only(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "PEERS_MAX", 3)
    network = Network(four)
    keys = [bytes([number]) * 32 for number in range(10)]
    network.answers = dict.fromkeys(keys, silent)
    for key in keys:
        network.sync.hint(key, 5)
    assert list(network.sync._claims.peers) == keys[:3]
    network.absent.add(keys[0])  # whoever went makes room for others
    network.sync.hint(keys[5], 5)
    assert list(network.sync._claims.peers) == [keys[1], keys[2], keys[5]]
    network.absent.add(keys[2])
    network.sync.hint(keys[6], 5)
    assert list(network.sync._claims.peers) == [keys[1], keys[5], keys[6]]


def no_decoding(*_: object) -> None:
    raise AssertionError("it was decoded")


@pytest.mark.parametrize("size", [0, 1 << 20])
async def test_blocks_that_nobody_asked_for_are_refused_before_they_are_decoded(
    four: Harness, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Good ones too: a peer that sends what it was not asked for would have a core of this node's for nothing."""
    network = Network(four, blocks=2)
    raw = encoded(*blocks_of(network, range(1, 3))) if not size else bytes(size)
    monkeypatch.setattr("consilium.node.sync.codec.decode", no_decoding)
    async with network.running():
        for key in (four.keys[1].public, b"p" * 32):
            for _ in range(3):
                with pytest.raises(PeerFault) as caught:
                    network.sync.offer(key, raw)
                assert caught.value.weight == sync.UNASKED_WEIGHT
    assert network.height == 0
    assert network.sync._late is None


async def test_a_question_has_one_answer_and_a_few_echoes_which_nobody_reads(four: Harness) -> None:
    network = Network(four, blocks=2)

    def again_and_again(request: BlocksRequest) -> list[bytes]:
        return [*network.honest(request), *[b"not read"] * (sync.ECHOES_MAX + 2)]

    peer = network.peer(1, again_and_again)
    async with network.running():
        await until(lambda: network.height == 2)
    assert [(who, fault.weight) for who, fault in network.faults] == [(peer, sync.UNASKED_WEIGHT)] * 2


async def test_what_comes_late_is_one_answer_and_no_fault(four: Harness) -> None:
    network = Network(four, blocks=2)
    peer = network.peer(1, silent)
    async with network.running():
        await until(lambda: network.asked and not network.sync._asked)
        (raw,) = network.honest(BlocksRequest(1, 64))
        network.sync.offer(peer, raw)
        for _ in range(sync.ECHOES_MAX):
            network.sync.offer(peer, b"not read")
        with pytest.raises(PeerFault, match="nobody asked for"):
            network.sync.offer(peer, raw)
        await until(lambda: network.height == 2)
    assert network.faults == []


async def test_as_many_answers_may_come_late_as_there_were_questions(four: Harness) -> None:
    network = Network(four, blocks=2)
    peer = network.peer(1, silent)
    async with network.running():
        while len(network.asked) < 3:
            network.sync.hint(peer, 2)
            await asyncio.sleep(0.01)
        await until(lambda: not network.sync._asked)
        for _ in range(3 + sync.ECHOES_MAX):
            network.sync.offer(peer, encoded())
        with pytest.raises(PeerFault, match="nobody asked for"):
            network.sync.offer(peer, encoded())


async def test_what_comes_late_is_not_decoded_while_others_are_asked(four: Harness) -> None:
    network = Network(four, blocks=2)
    slow = network.peer(1, silent)
    async with network.running():
        await until(lambda: slow in network.sync._owed)
        other = network.peer(2, silent)
        await until(lambda: other in network.sync._asked)
        network.sync.offer(slow, b"anything")
        assert network.sync._late is None
    assert network.faults == []


async def test_answers_that_are_owed_are_remembered_of_so_many_only(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "OWED_MAX", 2)
    follower = Network(four).sync
    loop = asyncio.get_running_loop()
    for name in (b"a", b"b", b"c"):
        follower._asked[name] = loop.create_future()
        follower._give_up(name)
    assert list(follower._owed) == [b"b", b"c"]


# --- heights that nobody has ----------------------------------------------------------------------------------------


async def test_a_nonsense_height_holds_nobody_up(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that boasts of 2^60 and says nothing is asked, and not waited for: the next block comes from whoever has it
    in the meantime, long before the time that an answer may take."""
    monkeypatch.setattr(sync, "RESPONSE_TIMEOUT_S", 600.0)
    monkeypatch.setattr(sync, "UNCORROBORATED_HEDGE_S", 0.001)
    network = Network(four, blocks=0)
    boaster = network.peer(1, silent, tip=2**60)
    async with network.running():
        await until(lambda: boaster in network.sync._asked)
        assert not network.sync.catching_up
        four.commit(network.source)
        honest = network.peer(2)
        await until(lambda: network.height == 1)
        assert not network.sync.catching_up
    assert network.asked == [(boaster, 1), (honest, 1)]
    assert network.sync._claims.peers[boaster].failures == 1
    assert network.faults == []


async def test_who_is_silent_is_not_waited_for_alone(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "RESPONSE_TIMEOUT_S", 600.0)
    monkeypatch.setattr(sync, "HEDGE_S", 0.01)
    network = Network(four, blocks=3)
    mute = [network.peer(index, silent) for index in (1, 2)]
    network.peer(3)
    async with network.running():
        await until(lambda: network.height == 3)
        for key in mute:
            network.sync.offer(key, b"late, and not read")
    assert network.faults == []


async def test_so_many_are_asked_at_a_time(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "RESPONSE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(sync, "HEDGE_S", 0.001)
    monkeypatch.setattr(sync, "QUESTIONS_MAX", 2)
    monkeypatch.setattr(claims, "FAILURE_PAUSE_S", 600.0)
    monkeypatch.setattr(claims, "FAILURE_PAUSE_MAX_S", 600.0)
    network = Network(four, blocks=3)
    at_once: list[int] = []

    def counting(request: BlocksRequest) -> list[bytes]:
        at_once.append(len(network.sync._asked))
        return []

    for index in (0, 1, 2):
        network.peer(index, counting)
    async with network.running():
        await until(lambda: len(at_once) == 3)
        await until(lambda: not network.sync._asked)
    assert max(at_once) == 2


def pruned(request: BlocksRequest) -> list[bytes]:
    return [encoded()]


async def test_one_liar_does_not_make_the_node_believe_that_all_have_pruned(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that thinks so gives up its blocks for a snapshot: one answer without blocks must not be enough."""
    monkeypatch.setattr(sync, "STARVED_AFTER_S", 0.0)
    network = Network(four, blocks=2)
    async with network.running():
        for index in (1, 2):
            network.peer(index)
        await until(lambda: network.height == 2)
        network.peer(3, pruned, tip=900)
        await until(lambda: network.sync._pruned is not None)
        assert not network.sync.starved
        # Others are a block ahead for a moment, as they always are: what was said of an earlier height is old.
        for index in (1, 2):
            network.sync.hint(four.keys[index].public, 2 + 1)
        four.commit(network.executor)
        for index in (1, 2):
            network.sync.hint(four.keys[index].public, 3 + 1)
        assert not network.sync.starved


async def test_what_an_honest_one_has_and_nobody_shows_is_to_be_had_from_nobody(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(four, blocks=2)
    async with network.running():
        for index in (1, 2, 3):
            network.peer(index, pruned)
        await until(lambda: network.sync._pruned is not None)

        def starved_when_told_again() -> bool:
            for index in (1, 2, 3):
                network.sync.hint(four.keys[index].public, 2)
            return network.sync.starved

        assert not starved_when_told_again(), "not at once"
        monkeypatch.setattr(sync, "STARVED_AFTER_S", 0.0)
        await until(starved_when_told_again)
        network.answers[four.keys[1].public] = network.honest
        await until(lambda: not starved_when_told_again() and network.height == 2)


def test_one_liar_does_not_make_the_node_say_that_it_lags(four: Harness) -> None:
    network = Network(four)
    network.sync._chasing = True
    network.sync.hint(four.keys[1].public, 2**63 - 1)
    network.sync.hint(b"no validator" + bytes(20), 2**63 - 1)
    assert network.sync.best_known == 0
    assert not network.sync.catching_up
    network.sync.hint(four.keys[2].public, 7)
    assert network.sync.best_known == 7
    assert network.sync.catching_up


def test_a_node_that_waits_for_a_snapshot_says_that_it_lags(four: Harness) -> None:
    network = Network(four)
    network.sync.paused = True
    assert not network.sync.catching_up
    for index in (1, 2):
        network.sync.hint(four.keys[index].public, 7)
    assert network.sync.catching_up


def test_a_claim_never_falls_by_a_later_smaller_one(four: Harness) -> None:
    network = Network(four)
    for tip in (7, 3):
        for index in (1, 2):
            network.sync.hint(four.keys[index].public, tip)
    assert network.sync.best_known == 7


def test_certificates_differ_and_blocks_do_not(four: Harness) -> None:
    """Another quorum, another view: the same block."""
    executor = four.executor()
    decided = four.decide(executor.context, time_ms=executor.context.parent.time_ms + BLOCK_MS)
    block = decided.block
    again: CommitCertificate = four.certificate(block, view=3)
    assert verify_decided(DecidedBlock(block, again, []), executor.context).block == block


def test_seals_are_checked_ahead_by_the_set_that_the_header_names(four: Harness) -> None:
    """Nobody waits for them later; where another set is named, it is left to the moment at which that set is known."""
    network = Network(four, blocks=3)
    validators = network.executor.context.validators
    blocks = blocks_of(network, range(1, 4))
    opened, fault = open_some(blocks, four.chain_id, decided_blocks.nothing_held, validators)
    assert fault is None
    assert all(sealed_by(one, validators) for one in opened)
    forged = msgspec.structs.replace(blocks[1].certificate, view=1)
    wrong = [blocks[0], DecidedBlock(blocks[1].block, forged, blocks[1].batches), blocks[2]]
    opened, fault = open_some(wrong, four.chain_id, decided_blocks.nothing_held, validators)
    assert fault is not None
    assert [one.block.height for one in opened] == [1]
    other = Harness(5).genesis.validator_set
    opened, fault = open_some(wrong, four.chain_id, decided_blocks.nothing_held, other)
    assert fault is None
    assert not any(sealed_by(one, validators) for one in opened)
    with pytest.raises(PeerFault):
        check_run(opened[1:2], network.executor.context)
    assert check_run(opened, network.executor.context) == opened[:1]


def test_blocks_are_checked_in_pieces_that_are_worth_a_thread(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(four, blocks=6)
    blocks = blocks_of(network, range(1, 7))
    size = sum(map(len, blocks[0].batches))
    monkeypatch.setattr(sync, "CHECK_BYTES", 2 * size - 8)
    assert [len(share) for share in sync._shares(blocks)] == [2, 2, 2]
    assert sync._shares([]) == []
    monkeypatch.setattr(sync, "CHECK_BYTES", 1)
    assert sync._shares(blocks) == [[one] for one in blocks]
