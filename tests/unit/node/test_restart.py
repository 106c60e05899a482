"""Asking and answering at a start: four nodes on one table, whose messages are handed over at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.consensus.io import Advanced, MessageReceived, Started
from consilium.consensus.messages import (
    PreparedCertificate,
    Signed,
    sign_commit,
    sign_prepare,
    verify_message,
)
from consilium.consensus.promise import Promise, no_promise, promise_commit, promise_prepare
from consilium.consensus.restart import Memory, Said, Status, StatusRequest, Verdict, said_in
from consilium.contracts import ballot
from consilium.ledger import codec
from consilium.ledger.block import Seal
from consilium.ledger.errors import PeerFault, Refused
from consilium.ledger.transaction import Operation
from consilium.ledger.validators import ValidatorSet
from consilium.node import restart as restarts
from consilium.node.peer_messages import LIMITS, Kind
from consilium.node.restart import Restart
from tests.unit.node.harness import Harness, HostedNode, until


class FakeClerk:
    """Remembers what it was to say, and answers as it is told; a statement makes the two blocks that it would make."""

    def __init__(self, network: Network | None = None) -> None:
        self.said: list[Operation] = []
        self.network = network
        self.institution = bytes(16)

    async def say(self, operation: Operation) -> str:
        self.said.append(operation)
        if self.network is not None:
            self.network.grow(2)
        return "ok"


class Network:
    """Every node's chain is `height` high. `promises[i]` is what node i kept; `dead` ones neither ask nor answer."""

    def __init__(self, n: int = 4, height: int = 5) -> None:
        self.harness = Harness(n)
        self.nodes = [HostedNode(self.harness, index) for index in range(n)]
        self.dead: set[int] = set()
        self.released: list[int | None] = [None] * n
        self.remembered: dict[int, Promise] = {}
        self.hints: list[tuple[int, int]] = []
        self.restarts: list[Restart] = []
        self._answering: set[asyncio.Task[None]] = set()
        self.grow(height)
        self.promises: list[Promise | None] = [no_promise(height + 1) for _ in range(n)]

    def grow(self, blocks: int, *indexes: int) -> None:
        for index in indexes or range(len(self.nodes)):
            node = self.nodes[index]
            for _ in range(blocks):
                self.harness.commit(node.executor)
            node.replica.step(Advanced(node.executor.context, False), node.clock())

    def build(self) -> None:
        self.restarts = [self._restart(index) for index in range(len(self.nodes))]

    def _restart(self, index: int) -> Restart:
        node = self.nodes[index]
        node.replica.step(Started(), node.clock())

        def send(peer: bytes, kind: int, body: bytes) -> bool:
            assert len(body) <= LIMITS[kind]
            target = next(at for at, one in enumerate(self.nodes) if one.key.public == peer)
            if target in self.dead:
                return False
            work = self.restarts[target].take if kind == Kind.STATUS else self.restarts[target].answer
            task = asyncio.get_running_loop().create_task(work(node.key.public, body))
            self._answering.add(task)
            return True

        def release(floor: int) -> None:
            self.released[index] = floor

        return Restart(
            key=node.key.public,
            chain_id=self.harness.chain_id,
            promise=self.promises[index],
            executor=node.executor,
            replica=node.replica,
            send=send,
            connected=lambda: node.outlet.peers,
            hint=lambda peer, height: self.hints.append((index, height)),
            release=release,
            remember=lambda promise: self.remembered.__setitem__(index, promise),
        )

    async def settle(self) -> None:
        """Let every answer that is under way arrive; a fault of a peer is raised here."""
        while self._answering:
            done, self._answering = self._answering, set()
            await asyncio.gather(*done)

    def hear(self, at: int, message: Signed) -> None:
        """A node hears a vote."""
        node = self.nodes[at]
        verified = verify_message(message, self.harness.chain_id, self.harness.validators)
        node.replica.step(MessageReceived(verified), node.clock())


@asynccontextmanager
async def asking(network: Network, *indexes: int, clerk: FakeClerk | None = None) -> AsyncIterator[None]:
    """These nodes start; tasks end with the block."""
    if not network.restarts:
        network.build()
    tasks = [asyncio.create_task(network.restarts[index].run(clerk)) for index in indexes]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await network.settle()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "ASK_EVERY_S", 0.01)
    monkeypatch.setattr(restarts, "GRACE_S", 0.2)
    monkeypatch.setattr(restarts, "RETURN_PAUSE_S", 0.01)
    monkeypatch.setattr(restarts, "ANSWER_EVERY_S", 0.0)


async def test_a_whole_network_answers_itself() -> None:
    network = Network()
    async with asking(network, 0, 1, 2, 3):
        await until(lambda: all(floor is not None for floor in network.released))
    assert network.released == [6] * 4
    assert [one.silent for one in network.restarts] == [""] * 4


async def test_a_quorum_is_waited_for() -> None:
    network = Network()
    network.dead = {2, 3}
    async with asking(network, 0):
        await until(lambda: len(network.restarts[0]._answers) == 2)
        assert network.released[0] is None
        assert "2 of 3 validators" in network.restarts[0].silent
        network.dead = {3}
        await until(lambda: network.released[0] == 6)


async def test_two_that_forgot_do_not_believe_each_other() -> None:
    """2 lags, 3 is away and knows better: of what 0 and 1 said above the tip of 2, 3 alone can tell."""
    network = Network(height=2)
    network.grow(5, 3)
    network.promises = [None, None, no_promise(3), no_promise(8)]
    network.dead = {3}
    async with asking(network, 0, 1):
        for index in (0, 1):
            await until(lambda: len(network.restarts[index]._answers) == 3)  # noqa: B023
            assert "2 of 3 validators that remember" in network.restarts[index].silent
        await network.settle()
        assert network.released[:2] == [None, None]
        network.dead = set()
        await until(lambda: network.released[:2] == [10, 10])


async def test_whose_chain_is_behind_its_own_word_counts_once_it_has_caught_up() -> None:
    network = Network(height=2)
    network.grow(4, 0, 2)
    network.promises = [no_promise(7), no_promise(7), no_promise(7), None]
    network.dead = {2}
    async with asking(network, 3):
        await until(lambda: len(network.restarts[3]._answers) == 3)
        await network.settle()
        assert network.released[3] is None
        network.grow(4, 1)
        await until(lambda: network.released[3] == 9)


@pytest.mark.parametrize("memory", [Memory.LOST, Memory.STALE, Memory.FOUNDING])
async def test_who_may_not_speak_yet_is_not_of_the_quorum(memory: Memory) -> None:
    network = Network()
    network.build()
    restart = network.restarts[1]
    assert restart._remembers(5)
    restart.verdict = Verdict(memory, 9, 6)
    assert [restart._remembers(tip) for tip in (5, 7, 8)] == [False, False, True]
    restart.verdict = Verdict(Memory.INTACT, 9, 6)
    assert [restart._remembers(tip) for tip in (4, 5)] == [False, True]


async def test_who_is_connected_and_mute_delays_nobody_for_long() -> None:
    network = Network()
    network.dead = {2}
    async with asking(network, 0):
        await until(lambda: network.released[0] == 6)
    assert network.nodes[2].key.public not in network.restarts[0]._answers
    assert network.nodes[1].key.public in network.restarts[0]._answers
    assert network.nodes[3].key.public in network.restarts[0]._answers


async def test_tips_are_believed_that_were_sealed_before_the_set_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next height belongs to another set, and without those who start there may be no block of it."""
    network = Network(5)
    network.build()
    smaller = ValidatorSet(network.harness.validators.validators[:4])
    monkeypatch.setattr(Restart, "_sets", lambda _: (smaller, smaller))
    async with asking(network, 0, 1, 2, 3):
        await until(lambda: None not in network.released[:4])
    assert [one.verdict.memory for one in network.restarts[:4] if one.verdict] == [Memory.INTACT] * 4


async def test_a_single_validator_needs_nobody() -> None:
    network = Network(1)
    async with asking(network, 0):
        await until(lambda: network.released[0] == 6)


async def test_an_empty_disk_is_silent_and_says_so() -> None:
    network = Network()
    network.promises[3] = None
    clerk = FakeClerk(network)
    async with asking(network, 3, clerk=clerk):
        await until(lambda: network.released[3] is not None)
        assert network.released[3] == 8
        await until(lambda: network.nodes[3].height >= 7)
    verdict = network.restarts[3].verdict
    assert verdict is not None
    assert verdict.memory is Memory.LOST
    assert network.restarts[3].silent == ""
    (said,) = clerk.said
    assert said.name == "governance.returned"
    assert codec.decode(said.body, ballot.Returned, 64).key == network.nodes[3].key.public


async def test_who_was_always_outrun_is_not_taken_for_one_that_lost_its_disk() -> None:
    """It ran from the beginning and never voted: the others were faster. One of them is dead when it starts again."""
    network = Network(height=0)
    network.promises[3] = None
    async with asking(network, 3):
        await until(lambda: network.released[3] is not None)
    verdict = network.restarts[3].verdict
    assert verdict is not None
    assert verdict.memory is Memory.FOUNDING
    again = Network(height=2)
    again.promises[3] = network.remembered[3]
    again.dead.add(0)
    async with asking(again, 3):
        await until(lambda: again.released[3] is not None)
    verdict = again.restarts[3].verdict
    assert verdict is not None
    assert (verdict.memory, verdict.floor) == (Memory.INTACT, 3)
    assert again.remembered == {}


async def test_blocks_that_are_decided_while_a_founder_asks_do_not_make_it_one_that_lost_its_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restarts, "GRACE_S", 30.0)
    network = Network(height=0)
    network.promises = [None] * 4
    network.dead = {0}  # the others seal
    async with asking(network, 3):
        restart = network.restarts[3]
        await until(lambda: restart._patient_until_s is not None)
        await network.settle()
        network.grow(1, 1, 2, 3)
        network.dead = set()
        await until(lambda: network.released[3] is not None)
        assert restart.verdict is not None
        assert (restart.verdict.memory, network.released[3]) == (Memory.FOUNDING, 1)


async def test_a_vote_that_is_shown_while_a_founder_asks_counts_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restarts, "GRACE_S", 30.0)
    network = Network(height=0)
    network.promises = [None, no_promise(1), no_promise(1), no_promise(1)]
    network.dead = {3}
    key, chain_id = network.nodes[0].key, network.harness.chain_id
    async with asking(network, 0):
        restart = network.restarts[0]
        await until(lambda: restart._patient_until_s is not None)
        network.dead = set()
        network.hear(3, sign_prepare(key, chain_id, 1, 0, bytes(32)))
        await until(lambda: network.released[0] is not None)
        assert restart.verdict is not None
        assert restart.verdict.memory is Memory.LOST


async def test_an_intact_memory_says_nothing_on_the_ledger() -> None:
    network = Network()
    clerk = FakeClerk(network)
    async with asking(network, 3, clerk=clerk):
        await until(lambda: network.released[3] is not None)
    assert clerk.said == []


async def test_who_lags_goes_by_the_highest_tip_and_catches_up() -> None:
    network = Network(height=2)
    network.grow(4, 0, 1, 2)
    network.promises[3] = no_promise(3)
    async with asking(network, 3):
        await until(lambda: network.released[3] == 7)
    assert (3, 6) in network.hints


async def test_a_vote_that_others_heard_proves_a_copy_stale() -> None:
    network = Network()
    decided = network.harness.decide(network.nodes[0].executor.context)
    vote = sign_prepare(network.nodes[3].key, network.harness.chain_id, 6, 0, decided.block.hash)
    network.hear(1, vote)
    network.build()
    async with asking(network, 3):
        await until(lambda: network.released[3] is not None)
    verdict = network.restarts[3].verdict
    assert verdict is not None
    assert (verdict.memory, verdict.floor) == (Memory.STALE, 8)


async def test_a_vote_for_the_next_height_is_shown_too() -> None:
    network = Network()
    vote = sign_commit(network.nodes[3].key, network.harness.chain_id, 7, 0, bytes(32))
    network.hear(1, vote)
    assert network.nodes[1].replica.heard_from(vote.sender) == [vote]
    network.promises[3] = no_promise(6)
    network.build()
    async with asking(network, 3):
        await until(lambda: network.released[3] is not None)
    assert network.restarts[3].verdict is not None
    assert network.restarts[3].verdict.memory is Memory.STALE


async def test_a_seal_in_a_certificate_proves_an_older_copy_stale() -> None:
    network = Network()
    # The harness' certificates are of the first quorum: validator 0 sealed height 5.
    network.promises[0] = no_promise(3)
    async with asking(network, 0):
        await until(lambda: network.released[0] is not None)
    assert network.restarts[0].verdict is not None
    assert network.restarts[0].verdict.memory is Memory.STALE


async def test_what_a_promise_of_another_keeps_is_shown_after_its_restart() -> None:
    """Node 1 restarted: it heard nothing, but its promise holds a certificate with the asker's prepare."""
    network = Network()
    block = network.harness.decide(network.nodes[0].executor.context).block
    chain_id, keys = network.harness.chain_id, network.harness.keys
    seals = [
        Seal(place, sign_prepare(keys[place], chain_id, 6, 0, block.hash).signature) for place in (0, 1, 3)
    ]
    certificate = PreparedCertificate(0, block.hash, seals)
    network.promises[1] = promise_commit(promise_prepare(no_promise(6), 0, block), certificate)
    network.build()
    status = network.restarts[1]._status(bytes(16), network.nodes[3].key.public, [])
    assert Said(0, 6, 0, block.hash, certificate.signatures[2].signature) in status.said
    async with asking(network, 3):
        await until(lambda: network.released[3] is not None)
    assert network.restarts[3].verdict is not None
    assert network.restarts[3].verdict.memory is Memory.STALE


async def test_a_lying_answer_is_a_fault() -> None:
    network = Network()
    network.build()
    asker = network.restarts[0]
    true = network.restarts[1]._status(asker._nonce, network.nodes[0].key.public, [])
    forged = said_in(sign_prepare(network.nodes[1].key, network.harness.chain_id, 9, 0, bytes(32)))
    lie = Status(true.nonce, true.header, true.certificate, True, [forged])
    with pytest.raises(PeerFault):
        await asker.take(network.nodes[1].key.public, codec.encode(lie))
    assert asker._answers == {}


async def test_answers_to_an_earlier_start_are_ignored() -> None:
    network = Network()
    network.build()
    old = network.restarts[1]._status(b"o" * 16, network.nodes[0].key.public, [])
    await network.restarts[0].take(network.nodes[1].key.public, codec.encode(old))
    assert network.restarts[0]._answers == {}


async def test_a_peer_is_not_answered_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "ANSWER_EVERY_S", 60.0)
    network = Network()
    network.build()
    request = codec.encode(StatusRequest(bytes(16)))
    for _ in range(3):
        await network.restarts[1].answer(network.nodes[0].key.public, request)
    assert len(network._answering) == 1
    await network.settle()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 2_000), st.booleans())
def test_no_bytes_crash_it(noise: bytes, at: int, request: bool) -> None:
    async def scenario() -> None:
        network = Network(height=1)
        network.build()
        asker = network.restarts[0]
        peer = network.nodes[1].key.public
        good = codec.encode(
            StatusRequest(asker._nonce)
            if request
            else network.restarts[1]._status(asker._nonce, network.nodes[0].key.public, [])
        )
        place = at % (len(good) + 1)
        body = good[:place] + noise + good[place + len(noise) :]
        with suppress(PeerFault, Refused):
            await (asker.answer if request else asker.take)(peer, body)
        await network.settle()

    asyncio.run(scenario())
