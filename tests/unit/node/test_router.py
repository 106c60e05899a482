"""From a peer's bytes to the right inbox: whatever a peer sends ends in an inbox, in an answer, or in its fault."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.consensus.messages import (
    Decided,
    Message,
    decode_message,
    encode_message,
    sign_commit,
    sign_pre_prepare,
    sign_prepare,
    sign_view_change,
)
from consilium.ledger import batch as batches_
from consilium.ledger import codec
from consilium.ledger.batch import BATCH_VERSION, Batch, VerifiedBatch
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import PeerFault, Refused
from consilium.ledger.transaction import OPERATION_BODY_BYTES_MAX, Operation
from consilium.ledger.weight import BATCH_WEIGHT_MAX
from consilium.node import router as routers
from consilium.node.checking import Checker
from consilium.node.complaints import TAKEN_EVERY_HEIGHTS
from consilium.node.driver import Driver
from consilium.node.mempool import MempoolLimits
from consilium.node.peer_messages import BatchRequest, Blocks, BlocksRequest, Kind, Tip
from consilium.node.router import Router
from consilium.node.sync import Synchroniser
from tests.unit.node.harness import START_MS, Harness, HostedNode, some
from tests.unit.node.hosting import service_of


class Routed:
    """Validator 0 with a router; its driver does not run, so that its inbox can be looked into."""

    def __init__(self, harness: Harness, limits: MempoolLimits | None = None) -> None:
        self.harness = harness
        self.node = HostedNode(harness, limits=limits)
        self.faults: list[tuple[bytes, PeerFault]] = []
        self.sync = Synchroniser(
            send=lambda peer, kind, body: self.node.outlet.send(peer, kind, body),
            connected=self.node.outlet.connected,
            context=lambda: self.node.executor.context,
            deliver=self.node.driver.deliver,
            fault=lambda peer, fault: self.faults.append((peer, fault)),
        )
        self.router = Router(
            chain_id=harness.chain_id,
            driver=self.node.driver,
            executor=self.node.executor,
            mempool=self.node.mempool,
            synchroniser=self.sync,
            send=lambda peer, kind, body: self.node.outlet.send(peer, kind, body),
        )

    @property
    def driver(self) -> Driver:
        return self.node.driver

    def peer(self, index: int) -> bytes:
        return self.harness.keys[index].public

    async def handle(self, kind: int, body: bytes, sender: int = 1) -> None:
        await self.router.handle(self.peer(sender), kind, body)

    def inbox(self) -> list[Any]:
        found = []
        while not self.driver._messages.empty():
            found.append(self.driver._messages.get_nowait())
        return found

    def heard(self) -> dict[bytes, int]:
        """Heights at which peers are said to work."""
        return {key[1]: item.height for key, item in self.driver._signals.items() if key[0] == "peer"}  # type: ignore[misc, union-attr]


@pytest.fixture
def routed(four: Harness) -> Routed:
    return Routed(four)


def forged_batch(
    harness: Harness,
    raws: list[bytes],
    author: int = 1,
    *,
    chain_id: bytes | None = None,
    version: int = BATCH_VERSION,
) -> bytes:
    """A batch as a malicious author seals it: its signature is good, whatever is inside."""
    key = harness.keys[author]
    unsigned = Batch(version, chain_id or harness.chain_id, key.public, 7, raws, bytes(64))
    signature = key.sign(batches_._BATCH_SIGNATURE_TAG.digest(unsigned.digest()))
    return codec.encode(msgspec.structs.replace(unsigned, signature=signature))


# --- votes ----------------------------------------------------------------------------------------------------------


async def test_a_vote_of_this_height_or_the_next_reaches_the_machine(routed: Routed) -> None:
    four = routed.harness
    for height in (1, 2):
        vote = sign_prepare(four.keys[2], four.chain_id, height, 0, bytes(32))
        # Who delivers it need not be who cast it.
        await routed.handle(Kind.CONSENSUS, encode_message(vote), sender=1)
        (received,) = routed.inbox()
        assert received.message.message == vote
    assert routed.heard() == {}


async def test_what_takes_one_signature_is_checked_without_a_thread(
    routed: Routed, monkeypatch: pytest.MonkeyPatch
) -> None:
    four, trips = routed.harness, []

    async def in_thread(work: Any, *args: Any) -> Any:
        trips.append(work)
        return work(*args)

    monkeypatch.setattr(routers, "checked", in_thread)
    monkeypatch.setattr(routers, "INLINE_PROPOSAL_BATCHES", 1)
    one, two = one_batch(routed), one_batch(routed)
    for batches, expected in (([one], 0), ([one, two], 1)):
        block = four.decide(routed.node.executor.context, batches).block
        proposal = sign_pre_prepare(four.keys[1], four.chain_id, 0, block, None)
        await routed.handle(Kind.CONSENSUS, encode_message(proposal))
        (received,) = routed.inbox()
        assert received.message.message == proposal
        assert len(trips) == expected


@pytest.mark.parametrize("height", [0, 3, 2**63 - 1])
async def test_a_vote_of_another_height_says_where_its_bringer_works(routed: Routed, height: int) -> None:
    four = routed.harness
    vote = sign_prepare(four.keys[1], four.chain_id, height, 0, bytes(32))
    await routed.handle(Kind.CONSENSUS, encode_message(vote))
    assert routed.inbox() == []
    assert routed.heard() == {routed.peer(1): height}


async def test_what_is_no_message_is_refused(routed: Routed) -> None:
    for body in (
        b"",
        b"\x91",
        b"\x00" * 100,
        encode_message_of(routed)[:-1],
        encode_message_of(routed) + b"\x00",
    ):
        with pytest.raises(Refused):
            await routed.handle(Kind.CONSENSUS, body)


def encode_message_of(routed: Routed) -> bytes:
    four = routed.harness
    return encode_message(sign_prepare(four.keys[1], four.chain_id, 1, 0, bytes(32)))


async def test_forged_votes_are_the_bringers_fault(routed: Routed) -> None:
    four = routed.harness
    context = routed.node.executor.context
    block = four.decide(context).block
    stranger = SigningKey(some("stranger", 32))
    primary = next(key for key in four.keys if key.public == context.primary(0))
    other = Harness(4, network="another").chain_id
    vote = sign_prepare(four.keys[1], four.chain_id, 1, 0, block.hash)
    seal = four.certificate(block).seals[0]
    forged: list[Message] = [
        msgspec.structs.replace(vote, signature=bytes(64)),
        msgspec.structs.replace(vote, sender=four.keys[2].public),
        sign_prepare(stranger, four.chain_id, 1, 0, block.hash),
        sign_commit(four.keys[1], other, 1, 0, block.hash),
        sign_view_change(four.keys[1], four.chain_id, 1, 0, None),
        sign_pre_prepare(primary, four.chain_id, 1, block, None),
        msgspec.structs.replace(sign_pre_prepare(primary, four.chain_id, 0, block, None), height=2),
        Decided(block, msgspec.structs.replace(four.certificate(block), seals=[seal])),
    ]
    for message in forged:
        with pytest.raises(PeerFault):
            await routed.handle(Kind.CONSENSUS, encode_message(message))
    assert routed.inbox() == []


async def test_a_decided_block_reaches_the_machine_for_its_certificate(routed: Routed) -> None:
    decided = routed.harness.decide(routed.node.executor.context)
    await routed.handle(Kind.CONSENSUS, encode_message(Decided(decided.block, decided.certificate)))
    (received,) = routed.inbox()
    assert isinstance(received.message.message, Decided)


async def test_a_full_inbox_holds_back_the_peer_that_fills_it(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consilium.node.driver.MESSAGES_QUEUED_MAX", 1)
    routed = Routed(four)
    body = encode_message_of(routed)
    await routed.handle(Kind.CONSENSUS, body)
    waiting = asyncio.create_task(routed.handle(Kind.CONSENSUS, body))
    other = asyncio.create_task(routed.handle(Kind.TIP, codec.encode(Tip(5, bytes(32))), sender=2))
    await other
    assert not waiting.done()
    routed.inbox()
    await asyncio.wait_for(waiting, 10)


# --- tips and blocks ------------------------------------------------------------------------------------------------


async def test_a_tip_is_a_hint_for_both_who_need_it(routed: Routed) -> None:
    await routed.handle(Kind.TIP, codec.encode(Tip(41, bytes(32))))
    assert routed.heard() == {routed.peer(1): 42}
    assert routed.sync._claims.peers[routed.peer(1)].tip == 41


async def test_blocks_go_to_the_synchroniser_and_others_are_served(routed: Routed) -> None:
    four = routed.harness
    routed.sync._owed[routed.peer(1)] = 1
    await routed.handle(Kind.BLOCKS, b"anything")
    assert routed.sync._late == (routed.peer(1), b"anything")
    with pytest.raises(PeerFault):
        await routed.handle(Kind.BLOCKS, b"anything")
    for _ in range(3):
        four.commit(routed.node.executor)
    await routed.handle(Kind.BLOCKS_REQUEST, codec.encode(BlocksRequest(2, 64)), sender=2)
    (raw,) = routed.node.outlet.sent(Kind.BLOCKS, routed.peer(2))
    assert [one.block.height for one in codec.decode(raw, Blocks, 1 << 20).blocks] == [2, 3]
    await routed.handle(Kind.BLOCKS_REQUEST, codec.encode(BlocksRequest(4, 64)), sender=2)
    assert len(routed.node.outlet.sent(Kind.BLOCKS, routed.peer(2))) == 1


async def test_an_unknown_kind_is_a_fault(routed: Routed) -> None:
    for kind in (0, 9, 255):
        with pytest.raises(PeerFault):
            await routed.handle(kind, b"")


# --- batches --------------------------------------------------------------------------------------------------------


def one_batch(routed: Routed, author: int = 1, **given: Any) -> VerifiedBatch:
    four = routed.harness
    return four.batch([four.transaction(four.wallets[0], **given)], author=author)


async def test_an_authors_own_batch_is_kept_once(routed: Routed) -> None:
    batch = one_batch(routed)
    for _ in range(2):
        await routed.handle(Kind.BATCH, batch.raw)
    assert routed.node.mempool.batch_count == 1
    assert ("work",) in routed.driver._signals


async def test_a_batch_that_is_offered_again_is_not_opened_again(
    routed: Routed, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, other = one_batch(routed), one_batch(routed)
    await routed.handle(Kind.BATCH, batch.raw)
    opened: list[bytes] = []

    def opening(raw: bytes, chain_id: bytes) -> tuple[Batch, bytes]:
        opened.append(raw)
        return batches_.open_batch(raw, chain_id)

    monkeypatch.setattr(routers, "open_batch", opening)
    await routed.handle(Kind.BATCH, batch.raw)
    await routed.handle(Kind.BATCH, other.raw)
    assert opened == [other.raw]


async def test_anothers_batch_is_welcome_only_where_it_is_wanted(
    routed: Routed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is no validator may have been one until now, and lag: it is not at fault, and not heard for a while."""
    monkeypatch.setattr(routers, "SPENT_REST_S_MAX", 0.02)
    clock = asyncio.get_running_loop().time
    batch, observer = one_batch(routed, author=2), SigningKey(some("an observer", 32)).public
    began_s = clock()
    await routed.router.handle(observer, Kind.BATCH, batch.raw)
    assert clock() - began_s >= 0.019
    assert routed.node.mempool.batch(batch.digest) is None
    routed.node.mempool.want([batch.digest])
    await routed.router.handle(observer, Kind.BATCH, batch.raw)
    assert routed.node.mempool.batch(batch.digest) is not None


async def test_a_validator_may_pass_on_what_waits_now_and_then(routed: Routed) -> None:
    """Before it complains that nobody proposes it: its author may not have shown it to all."""
    shown = [one_batch(routed, author=2) for _ in range(3)]
    pool = routed.node.mempool
    for batch in shown[:2]:
        await routed.handle(Kind.BATCH, batch.raw, sender=1)
    assert [pool.batch(batch.digest) is not None for batch in shown] == [True, False, False]
    for _ in range(TAKEN_EVERY_HEIGHTS):
        routed.harness.commit(routed.node.executor)
    await routed.handle(Kind.BATCH, shown[2].raw, sender=1)
    assert pool.batch(shown[2].digest) is not None
    await routed.handle(Kind.BATCH, shown[1].raw, sender=3)
    assert pool.batch(shown[1].digest) is not None


async def test_what_is_passed_on_finds_room_and_comes_first_however_much_its_author_sends(
    four: Harness,
) -> None:
    """Else the author shows a batch to all others, and keeps its share here full: this node would be complained of for
    what it never took."""
    routed = Routed(four, MempoolLimits(batches_per_author_max=3))
    pool = routed.node.mempool
    own = [one_batch(routed, author=2) for _ in range(3)]
    for batch in own:
        await routed.handle(Kind.BATCH, batch.raw, sender=2)
    hidden = one_batch(routed, author=2)
    await routed.handle(Kind.BATCH, hidden.raw, sender=2)
    assert pool.batch(hidden.digest) is None, "its share is full"
    await routed.handle(Kind.BATCH, hidden.raw, sender=1)
    assert pool.choose() == [hidden.digest, own[0].digest, own[1].digest]
    assert pool.batch_count == 3, "and is no larger for it"


async def test_what_a_proposal_waits_for_makes_no_room(four: Harness) -> None:
    routed = Routed(four, MempoolLimits(batches_per_author_max=1))
    pool = routed.node.mempool
    batch, other = one_batch(routed, author=2), one_batch(routed, author=2)
    await routed.handle(Kind.BATCH, batch.raw, sender=2)
    pool.want([batch.digest])
    await routed.handle(Kind.BATCH, other.raw, sender=1)
    assert pool.choose() == [batch.digest]


async def test_an_answer_that_comes_too_late_is_nobodys_fault(routed: Routed) -> None:
    """Two peers were asked, the first answered, the height is decided: the second must not be scored."""
    batch = one_batch(routed, author=2)
    mempool = routed.node.mempool
    mempool.want([batch.digest])
    mempool.committed([batch.digest], [], 1, START_MS, frozenset())
    await routed.handle(Kind.BATCH, batch.raw, sender=3)
    assert mempool.batch(batch.digest) is None
    # Its author may still offer it.
    await routed.handle(Kind.BATCH, batch.raw, sender=2)
    assert mempool.batch(batch.digest) is not None


async def test_an_observer_has_a_small_share_of_the_pool(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What connects is a member, and may have something to submit; it cannot fill the pool."""
    monkeypatch.setattr(routers, "SPENT_REST_S_MAX", 0.0)
    routed = Routed(four, MempoolLimits(batches_per_author_max=2 * routers.ATTACHED_PARTS))
    observer = SigningKey(some("observer", 32))
    for sequence in range(1, 5):
        transaction = four.transaction(four.wallets[0])
        batch = batches_.seal_batch(observer, four.chain_id, sequence, [transaction])
        await routed.router.handle(some("another observer", 32), Kind.BATCH, batch.raw)
        await routed.router.handle(observer.public, Kind.BATCH, batch.raw)
    assert routed.node.mempool.batch_count == 2


async def test_a_batch_that_weighs_too_much_is_a_fault_even_of_who_was_asked(routed: Routed) -> None:
    # No body of this kind is so long; only its length counts.
    heavy = Operation("disclosure.attest", bytes(OPERATION_BODY_BYTES_MAX))
    signed = routed.harness.transaction(routed.harness.wallets[0], heavy)
    weight = routed.node.executor.weigh(heavy)
    batch = routed.harness.batch([signed] * (BATCH_WEIGHT_MAX // weight + 1), author=1)
    routed.node.mempool.want([batch.digest])
    with pytest.raises(PeerFault, match=r"batch\.too_heavy"):
        await routed.handle(Kind.BATCH, batch.raw)
    assert routed.node.mempool.batch(batch.digest) is None
    light = routed.harness.batch([signed] * (BATCH_WEIGHT_MAX // weight), author=1)
    await routed.handle(Kind.BATCH, light.raw)
    assert routed.node.mempool.batch(light.digest) is not None


async def test_an_author_beyond_its_share_is_not_verified_and_not_at_fault(four: Harness) -> None:
    routed = Routed(four, MempoolLimits(batches_per_author_max=1))
    await routed.handle(Kind.BATCH, one_batch(routed).raw)
    await routed.handle(Kind.BATCH, one_batch(routed).raw)
    assert routed.node.mempool.batch_count == 1
    wanted = one_batch(routed)
    routed.node.mempool.want([wanted.digest])
    await routed.handle(Kind.BATCH, wanted.raw)
    assert routed.node.mempool.batch(wanted.digest) is not None


async def test_a_spent_batch_is_not_kept_unless_a_proposal_needs_it(routed: Routed) -> None:
    spent = one_batch(routed, valid_until=START_MS)
    await routed.handle(Kind.BATCH, spent.raw)
    assert routed.node.mempool.batch_count == 0
    routed.node.mempool.want([spent.digest])
    await routed.handle(Kind.BATCH, spent.raw)
    assert routed.node.mempool.batch(spent.digest) is not None


async def test_who_brings_what_is_spent_is_held_back_for_longer_than_it_took(
    routed: Routed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good batches of decided transactions cost their check each time, use up no share and are no fault."""
    took_s, loop = 0.01, asyncio.get_running_loop()

    class Slow(Checker):
        async def batch(self, *given: Any) -> VerifiedBatch:
            await asyncio.sleep(took_s)
            return await super().batch(*given)

    monkeypatch.setattr(routed.router, "_checker", Slow())
    spent = one_batch(routed)
    routed.harness.commit(routed.node.executor, [spent])
    began_s = loop.time()
    await routed.handle(Kind.BATCH, spent.raw)
    assert loop.time() - began_s >= took_s * (1 + routers.SPENT_REST_SHARE) * 0.9
    assert routed.node.mempool.batch(spent.digest) is None


async def test_one_bad_transaction_condemns_the_batch(routed: Routed) -> None:
    four = routed.harness
    good = four.transaction(four.wallets[0]).raw
    foreign = Harness(4, network="another")
    bad = [
        b"",
        b"\x90",
        good[:-1],
        good + b"\x00",
        good[:-1] + bytes([good[-1] ^ 0x01]),
        foreign.transaction(foreign.wallets[0]).raw,
    ]
    for raw in bad:
        with pytest.raises(PeerFault) as fault:
            await routed.handle(Kind.BATCH, forged_batch(four, [good, raw]))
        assert fault.value.weight == routers.FORGED_WEIGHT
    for body in (
        forged_batch(four, [good], chain_id=foreign.chain_id),
        forged_batch(four, [good], version=2),
        forged_batch(four, [good])[:-1] + b"\xff",
        forged_batch(four, []),
    ):
        with pytest.raises(PeerFault):
            await routed.handle(Kind.BATCH, body)
    assert routed.node.mempool.batch_count == 0
    assert not routed.node.mempool.knows(four.transaction(four.wallets[0]).id)


async def test_batches_are_served_once_a_request(routed: Routed) -> None:
    held, unknown = one_batch(routed), one_batch(routed)
    routed.node.mempool.add_batch(held, 1)
    request = BatchRequest([held.digest, unknown.digest, held.digest])
    await routed.handle(Kind.BATCH_REQUEST, codec.encode(request), sender=3)
    assert routed.node.outlet.sent(Kind.BATCH, routed.peer(3)) == [held.raw]


# --- what admission accepts, an honest replica accepts --------------------------------------------------------------

RAWS = st.one_of(
    st.tuples(st.just("size"), st.integers(0, 130_000)),
    st.tuples(st.just("operations"), st.integers(1, 256)),
    st.tuples(st.just("cut"), st.integers(1, 200)),
    st.tuples(st.just("flip"), st.integers(0, 500)),
    st.tuples(st.just("chain"), st.just(0)),
    st.tuples(st.just("version"), st.integers(0, 3)),
    st.tuples(st.just("signer"), st.just(0)),
    st.tuples(st.just("valid"), st.integers(-2, 2)),
)


def raw_of(four: Harness, kind: str, number: int) -> bytes:
    who = four.wallets[0]
    match kind:
        case "size":
            bodies = [Operation("x", bytes(min(16_384, number - at))) for at in range(0, number, 16_384)]
            try:
                return four.transaction(who, *bodies).raw
            except Refused:
                return codec.encode([1, four.chain_id, [["x", bytes(number)]]])
        case "operations":
            return four.transaction(who, *[Operation("x", b"")] * number).raw
        case "valid":
            return four.transaction(who, valid_until=START_MS + 600_000 * (number > 0) + number).raw
    good = four.transaction(who)
    match kind:
        case "cut":
            return good.raw[:-number]
        case "flip":
            at = number % len(good.raw)
            return good.raw[:at] + bytes([good.raw[at] ^ (1 << number % 8)]) + good.raw[at + 1 :]
        case "chain":
            return codec.encode(msgspec.structs.replace(good.value, chain_id=bytes(32)))
        case "version":
            return codec.encode(msgspec.structs.replace(good.value, version=number))
        case _:
            return codec.encode(msgspec.structs.replace(good.value, key=four.wallets[1].signing.public))


DEPENDS_ON_TIME = {"transaction.expired", "transaction.too_far_ahead"}


@settings(max_examples=60)
@given(RAWS)
def test_what_admission_accepts_an_honest_replica_accepts(given_raw: tuple[str, int]) -> None:
    async def scenario() -> None:
        four = Harness(4)
        author = HostedNode(four, index=1)
        raw = raw_of(four, *given_raw)
        (answer,) = await service_of(author).submit([raw])
        other = Routed(four)
        if answer.code is None:
            batch = author.mempool.seal(1)
            assert batch is not None
            await other.handle(Kind.BATCH, batch.raw)
            assert other.node.mempool.batch(batch.digest) is not None
        elif answer.code not in DEPENDS_ON_TIME:
            with pytest.raises(PeerFault):
                await other.handle(Kind.BATCH, forged_batch(four, [raw]))
            assert other.node.mempool.batch_count == 0

    asyncio.run(scenario())


# --- bytes of every kind --------------------------------------------------------------------------------------------


def seeds() -> dict[Kind, list[bytes]]:
    """Good messages of every kind, to be harmed."""
    four = Harness(4)
    context = four.executor().context
    batch = four.batch([four.transaction(four.wallets[0])], author=1)
    decided = four.decide(context, [batch])
    key = four.keys[1]
    votes: list[Message] = [
        sign_prepare(key, four.chain_id, 1, 0, decided.block.hash),
        sign_commit(key, four.chain_id, 1, 0, decided.block.hash),
        sign_view_change(key, four.chain_id, 1, 1, None),
        sign_pre_prepare(key, four.chain_id, 0, decided.block, None),
        Decided(decided.block, decided.certificate),
    ]
    return {
        Kind.CONSENSUS: [encode_message(vote) for vote in votes],
        Kind.TIP: [codec.encode(Tip(3, bytes(32)))],
        Kind.BATCH: [batch.raw],
        Kind.BATCH_REQUEST: [codec.encode(BatchRequest([batch.digest]))],
        Kind.BLOCKS_REQUEST: [codec.encode(BlocksRequest(1, 5))],
        Kind.BLOCKS: [codec.encode(Blocks([decided]))],
    }


SEEDS = seeds()


@settings(max_examples=300)
@given(
    kind=st.sampled_from(sorted(SEEDS)),
    seed=st.integers(0, 10),
    cut=st.integers(0, 2_000),
    at=st.integers(0, 4_000),
    noise=st.binary(max_size=40),
    raw=st.booleans(),
)
def test_no_bytes_crash_a_node(kind: Kind, seed: int, cut: int, at: int, noise: bytes, raw: bool) -> None:
    """Random bytes, and good messages with a piece replaced: an inbox, an answer, or a fault; never anything else."""
    good = SEEDS[kind][seed % len(SEEDS[kind])]
    at %= len(good) + 1
    body = noise if raw else good[:at] + noise + good[at + len(noise) + cut % 3 :]

    async def scenario() -> None:
        routed = Routed(Harness(4))
        routed.sync._owed[routed.peer(1)] = 1
        try:
            await routed.handle(kind, body)
        except (PeerFault, Refused):
            return
        if routed.sync._late is not None:
            following = asyncio.create_task(routed.sync.run())
            await asyncio.wait({following}, timeout=0.05)
            if following.done():
                following.result()
            following.cancel()
        for received in routed.inbox():
            if kind == Kind.CONSENSUS:
                assert encode_message(received.message.message) == body
                assert decode_message(body) == received.message.message

    asyncio.run(scenario())
