"""The node's face: who waits is told once and for certain, events are neither missed nor doubled, nothing leaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from consilium.client.envelope import envelope_digest
from consilium.client.rpc_answers import EventAt
from consilium.client.rpc_values import Cursor
from consilium.contracts import identity
from consilium.contracts.consent import RevokeConsent
from consilium.contracts.registry import operation
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import FOUNDER
from consilium.ledger.transaction import VALIDITY_MAX_MS, Operation
from consilium.node import service as services
from consilium.node.mempool import MempoolLimits
from consilium.node.service import Service
from consilium.node.standing import STALE_TIP_MS
from consilium.storage.chain import Place
from tests.unit.client.conftest import build
from tests.unit.node.harness import START_MS, VALID_MS, Harness, HostedNode, enrolment, until, wallet_of
from tests.unit.node.hosting import running, service_of

BEFORE_ALL = Cursor(-1, -1)


def code_of(refused: pytest.ExceptionInfo[Refused]) -> str:
    return refused.value.code


def enrol(harness: Harness, name: str) -> Operation:
    return operation(
        "identity.enrol", enrolment(harness, harness.wallets[0], "practitioner", wallet_of(name))
    )


def commit(
    node: HostedNode, service: Service, *transactions, author: int = 0, time_ms: int | None = None
) -> None:
    """Commit a block as the driver would."""
    harness = node.harness
    batches = [harness.batch(list(transactions), author=author)] if transactions else []
    done = harness.commit(node.executor, batches, time_ms=time_ms)
    ids = [one.id for one in transactions]
    node.mempool.committed(
        done.block.batches, ids, done.block.height, done.block.header.time_ms, node.executor.seen
    )
    service.committed(done)


# --- submitting -----------------------------------------------------------------------------------------------------


async def test_a_request_is_replayed_to_another_node(four: Harness) -> None:
    """A node knows what the chain has seen, whoever it was handed in to: another node's transaction is no news."""
    first, second = HostedNode(four), HostedNode(four, 1)
    request = four.transaction(four.wallets[0])
    batch = four.batch([request])
    for node in (first, second):
        four.commit(node.executor, [batch])
    for node in (first, second):
        (answer,) = await service_of(node).submit([request.raw])
        assert answer.code == "transaction.duplicate"
        assert node.mempool.transaction_count == 0


async def test_each_transaction_is_answered_for_itself(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    who = four.wallets[0]
    included = four.transaction(who)
    commit(node, service, included)
    good, other = four.transaction(who), four.transaction(who)
    expired = four.transaction(who, valid_until=START_MS)
    answers = await service.submit(
        [good.raw, b"\x00", expired.raw, good.raw, included.raw, good.raw[:-1] + b"\xff", other.raw]
    )
    assert [(answer.id, answer.code) for answer in answers] == [
        (good.id, None),
        (None, "codec.malformed"),
        (expired.id, "transaction.expired"),
        (good.id, "transaction.duplicate"),
        (included.id, "transaction.duplicate"),
        (None, "transaction.bad_signature"),
        (other.id, None),
    ]
    assert all(answer.detail for answer in answers if answer.code is not None)
    assert node.mempool.pending_count == 2
    assert node.driver._sealing is not None
    node.driver._sealing.cancel()


async def test_strangers_are_turned_away_at_the_door(four: Harness) -> None:
    """Otherwise anybody could fill blocks with transactions that execution then refuses."""
    node = HostedNode(four)
    service = service_of(node)
    stranger = four.transaction(wallet_of("stranger"))
    forged = four.transaction(wallet_of("stranger"), sender=four.wallets[0].identity)
    answers = await service.submit([stranger.raw, forged.raw])
    assert [(answer.id, answer.code) for answer in answers] == [
        (stranger.id, "identity.unknown"),
        (forged.id, "identity.key_not_authorised"),
    ]
    assert node.mempool.pending_count == 0


async def test_a_full_pool_says_when_to_come_back(four: Harness) -> None:
    node = HostedNode(four, limits=MempoolLimits(pending_transactions_max=1))
    service = service_of(node)
    one, two = (four.transaction(four.wallets[0]).raw for _ in range(2))
    first, second = await service.submit([one, two])
    assert (first.code, first.retry_after_ms) == (None, None)
    assert (second.code, second.retry_after_ms) == ("mempool.full", 123)


async def test_what_is_refused_seals_nothing(four: Harness) -> None:
    node = HostedNode(four)
    await service_of(node).submit([b"no transaction"])
    assert node.driver._sealing is None


# --- waiting --------------------------------------------------------------------------------------------------------


async def test_waiting_ends_with_the_block(solo: Harness) -> None:
    node = HostedNode(solo)
    service = service_of(node)
    async with running(node):
        one = solo.transaction(solo.wallets[0], enrol(solo, "d"))
        waiting = asyncio.create_task(service.wait(one.id, 20, certified=False))
        await asyncio.sleep(0)
        await service.submit([one.raw])
        found = await waiting
        certified = await service.wait(one.id, 20, certified=True)
        again = await service.transaction(one.id)
    assert (found.id, found.leaf.code, found.height) == (one.id, "ok", certified.height)
    assert (certified.certified, again.certified) == (True, True)
    assert node.executor.store.header(found.height).time_ms == found.time_ms
    assert len(service._waiting) == 0


async def test_a_refusal_comes_with_what_was_said(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    one = four.transaction(four.wallets[0], operation("consent.revoke", RevokeConsent(bytes(16))))
    waiting = asyncio.create_task(service.wait(one.id, 20, certified=False))
    await asyncio.sleep(0)
    commit(node, service, one)
    found = await waiting
    assert (found.leaf.code, found.detail) == ("consent.unknown", bytes(16).hex())
    assert (await service.transaction(one.id)).detail == found.detail


async def test_many_wait_for_one_and_one_gives_up(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    one = four.transaction(four.wallets[0])
    await service.submit([one.raw])
    patient = [asyncio.create_task(service.wait(one.id, 20, certified=False)) for _ in range(3)]
    hasty = asyncio.create_task(service.wait(one.id, 0.01, certified=False))
    with pytest.raises(Refused) as refused:
        await hasty
    assert code_of(refused) == "rpc.timeout"
    patient.pop().cancel()
    await asyncio.sleep(0)
    commit(node, service, one)
    assert {found.height for found in await asyncio.gather(*patient)} == {1}
    assert len(service._waiting) == 0


@pytest.mark.parametrize("timeout_s", [0.0, 0.01])
async def test_waits_that_time_out_leave_nothing_behind(four: Harness, timeout_s: float) -> None:
    node = HostedNode(four)
    service = service_of(node)
    known = four.transaction(four.wallets[0])
    await service.submit([known.raw])
    for identifier in [known.id, b"u" * 32] * 5:
        with pytest.raises(Refused) as refused:
            await service.wait(identifier, timeout_s, certified=True)
        assert code_of(refused) == "rpc.timeout"
    assert len(service._waiting) == 0


async def test_certified_waits_for_the_next_block(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    one = four.transaction(four.wallets[0])
    waiting = asyncio.create_task(service.wait(one.id, 20, certified=True))
    await asyncio.sleep(0)
    commit(node, service, one)
    plain = await service.wait(one.id, 20, certified=False)
    assert not plain.certified
    await asyncio.sleep(0.01)
    assert not waiting.done()
    commit(node, service)
    assert (await waiting).certified


async def test_what_expires_unincluded_is_told(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    one = four.transaction(four.wallets[0], valid_until=START_MS + 5_000)
    await service.submit([one.raw])
    waiting = asyncio.create_task(service.wait(one.id, 20, certified=False))
    await asyncio.sleep(0.01)
    commit(node, service, time_ms=START_MS + 4_999)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    commit(node, service, time_ms=START_MS + 6_000)
    with pytest.raises(Refused) as refused:
        await waiting
    assert code_of(refused) == "transaction.expired"


async def test_what_a_block_skips_is_told_unless_it_is_a_repetition(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    early = four.transaction(four.wallets[0], valid_until=START_MS + 10 * VALIDITY_MAX_MS)
    waiting = asyncio.create_task(service.wait(early.id, 20, certified=False))
    await asyncio.sleep(0.01)
    commit(node, service, early)
    with pytest.raises(Refused) as refused:
        await waiting
    assert code_of(refused) == "transaction.too_far_ahead"


async def test_what_was_included_is_found_though_a_later_batch_still_holds_it(four: Harness) -> None:
    """A client that handed it to two nodes: one's batch was decided, the other's is still here."""
    node = HostedNode(four)
    service = service_of(node)
    twice, alone = (four.transaction(four.wallets[0]) for _ in range(2))
    node.mempool.add_batch(four.batch([twice, alone], author=2), 1)
    commit(node, service, twice, author=1)
    assert node.mempool.knows(twice.id)
    found = await service.wait(twice.id, 5, certified=False)
    assert found.height == 1


async def test_a_transaction_committed_between_question_and_look_is_not_missed(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = HostedNode(four)
    service = service_of(node)
    one = four.transaction(four.wallets[0])
    look = node.executor.store.place_of
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def slow(identifier: bytes) -> object:
        place = look(identifier)  # nothing yet

        def now() -> None:
            commit(node, service, one)
            done.set()

        loop.call_soon_threadsafe(now)
        asyncio.run_coroutine_threadsafe(done.wait(), loop).result(10)
        return place

    monkeypatch.setattr(node.executor.store, "place_of", slow)
    found = await service.wait(one.id, 5, certified=False)
    assert found.height == 1


async def test_settling_waits_for_all_that_can_be_decided(solo: Harness) -> None:
    node = HostedNode(solo)
    service = service_of(node)
    async with running(node):
        await until(lambda: node.height == 1)
        before = solo.transaction(solo.wallets[0])
        await service.submit([before.raw])
        await service.wait(before.id, 20, certified=False)
        fresh, other = (solo.transaction(solo.wallets[0]) for _ in range(2))
        settled = await service.settle([fresh.raw, b"bad", before.raw, other.raw], 20)
    assert [one.committed is not None for one in settled] == [True, False, True, True]
    assert [one.submission.code for one in settled] == [
        None,
        "codec.malformed",
        "transaction.duplicate",
        None,
    ]
    assert len(service._waiting) == 0


async def test_settling_ends_with_its_time(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    one = four.transaction(four.wallets[0])
    (settled,) = await service.settle([one.raw], 0.01)
    assert settled.submission.code is None
    assert settled.committed is None
    assert len(service._waiting) == 0


async def test_what_is_unknown_is_said_to_be(four: Harness) -> None:
    service = service_of(HostedNode(four))
    for question, code in (
        (service.transaction(bytes(32)), "transaction.unknown"),
        (service.block(1), "chain.unknown_height"),
        (service.verdict_receipt(bytes(32)), "transaction.unknown"),
        (service.transaction_receipt(bytes(32)), "transaction.unknown"),
        (service.state_receipt(b"k", None), "receipt.not_certified"),
        (service.extend_receipt(b"no receipt", None), "codec.malformed"),
        (service.get_envelope(bytes(32)), "vault.unknown"),
        (service.deposit_share(b""), "custodian.disabled"),
        (service.release(bytes(32), 0, bytes(64)), "custodian.disabled"),
    ):
        with pytest.raises(Refused) as refused:
            await question
        assert code_of(refused) == code


async def test_what_may_have_been_before_the_snapshot_is_not_said_to_be_unknown(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    node.executor.store._base = 1
    for question in (
        service.transaction(bytes(32)),
        service.verdict_receipt(bytes(32)),
        service.transaction_receipt(bytes(32)),
        service.events(BEFORE_ALL, 10, None, None),
        service.events(BEFORE_ALL, 10, frozenset({"records.anchored"}), None),
        service.events(BEFORE_ALL, 10, None, bytes(16)),
        anext(aiter(service.subscribe(BEFORE_ALL, None, None))),
    ):
        with pytest.raises(Refused) as refused:
            await question
        assert code_of(refused) == "chain.before_snapshot"


async def test_state_is_answered_as_certified(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    doctor = wallet_of("doctor")
    key = identity.IDENTITIES.key(doctor.identity)
    commit(node, service, four.transaction(four.wallets[0], enrol(four, "doctor")))
    assert await service.state(key) == (None, 0)
    commit(node, service)
    value, height = await service.state(key)
    assert height == 1
    assert value is not None
    stored = await service.block(1)
    assert len(stored.transactions) == 1
    genesis = await service.block(0)
    assert (genesis.certificate, genesis.transactions) == (None, ())


async def test_whoever_waits_when_the_node_ends_is_sent_elsewhere(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    one, two = (four.transaction(four.wallets[0]) for _ in range(2))
    waiting = [
        asyncio.create_task(service.wait(one.id, 60, certified=False)),
        asyncio.create_task(service.wait(two.id, 60, certified=True)),
    ]
    reading = asyncio.create_task(collect(service.subscribe(Cursor(1, 100), None, None), 1))
    await asyncio.sleep(0.01)
    commit(node, service, two)
    await asyncio.sleep(0.01)
    service.close()
    for task in waiting:
        with pytest.raises(Refused) as refused:
            await asyncio.wait_for(task, 5)
        assert code_of(refused) == "rpc.shutting_down"
    assert await asyncio.wait_for(reading, 5) == []
    with pytest.raises(Refused) as refused:
        await service.wait(one.id, 60, certified=False)
    assert code_of(refused) == "rpc.shutting_down"
    assert len(service._waiting) == 0


# --- events ---------------------------------------------------------------------------------------------------------


def populate(node: HostedNode, service: Service, heights: int, each: int = 3) -> list[EventAt]:
    """Blocks of enrolments; the events that the chain then has."""
    harness = node.harness
    for height in range(heights):
        operations = [enrol(harness, f"{height}/{index}") for index in range(each)]
        commit(node, service, harness.transaction(harness.wallets[0], *operations))
    return [
        EventAt(Cursor(at.height, at.index), event)
        for at, event in node.executor.store.events(Place(-1, -1), 10_000)
    ]


async def collect(stream: AsyncIterator[EventAt], count: int) -> list[EventAt]:
    found: list[EventAt] = []
    async for item in stream:
        found.append(item)
        if len(found) == count:
            break
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1_000])
async def test_pages_of_any_size_give_every_event_once(four: Harness, limit: int) -> None:
    node = HostedNode(four)
    service = service_of(node)
    everything = populate(node, service, heights=4)
    assert len(everything) == 4 + 4 * 3  # the founders too
    found: list[EventAt] = []
    after = BEFORE_ALL
    while page := await service.events(after, limit, None, None):
        assert len(page) <= limit
        found += page
        after = page[-1].cursor
    assert found == everything


async def test_events_are_filtered_by_kind_and_subject(
    four: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "EVENTS_PAGE", 2)
    node = HostedNode(four)
    service = service_of(node)
    everything = populate(node, service, heights=3)
    doctor = wallet_of("1/1").identity
    assert await service.events(BEFORE_ALL, 100, None, doctor) == [
        one for one in everything if doctor in one.event.subjects
    ]
    assert await service.events(BEFORE_ALL, 100, frozenset(["no.such"]), None) == []
    kinds = frozenset(["identity.enrolled"])
    assert await service.events(BEFORE_ALL, 5, kinds, None) == everything[:5]
    assert await service.events(BEFORE_ALL, 5, frozenset(["no.such"]), doctor) == []
    assert await service.events(BEFORE_ALL, 5, None, FOUNDER) == []


@pytest.mark.parametrize(
    ("after", "first"),
    [
        (Cursor(-1, -1), (0, 0)),
        (Cursor(-1, 7), (0, 0)),
        (Cursor(0, -1), (0, 0)),
        (Cursor(1, -1), (1, 0)),
        (Cursor(1, 0), (1, 1)),
        (Cursor(1, 2), (2, 0)),
        (Cursor(1, 2**32 - 1), (2, 0)),
        (Cursor(1, 10**10 - 1), (2, 0)),
        (Cursor(10**18 - 1, 10**10 - 1), None),
    ],
)
async def test_a_cursor_is_exclusive_and_any_cursor_may_be_asked(
    four: Harness, after: Cursor, first: tuple[int, int] | None
) -> None:
    node = HostedNode(four)
    service = service_of(node)
    populate(node, service, heights=2)
    for subject in (None, four.wallets[0].identity):
        found = await service.events(after, 1, None, subject)
        places = [(one.cursor.height, one.cursor.index) for one in found]
        if subject is None:
            assert places == ([] if first is None else [first])
        else:
            assert all(place >= (first or (0, 0)) for place in places)


@pytest.mark.parametrize("page", [1, 2, 128])
async def test_a_subscription_misses_nothing_and_doubles_nothing(
    solo: Harness, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Blocks are committed while subscribers of every speed read."""
    monkeypatch.setattr(services, "STREAM_PAGE", page)
    node = HostedNode(solo)
    service = service_of(node)
    total = 1 + 12 * 3

    async def read(pause: bool, after: Cursor, count: int) -> list[Cursor]:
        found = []
        async for item in service.subscribe(after, None, None):
            found.append(item.cursor)
            if pause:
                await asyncio.sleep(0.001)
            if len(found) == count:
                return found
        raise AssertionError("a subscription ended by itself")

    async with running(node), asyncio.timeout(60):
        readers = [asyncio.create_task(read(pause, BEFORE_ALL, total)) for pause in (False, True)]
        for number in range(12):
            operations = [enrol(solo, f"{number}/{index}") for index in range(3)]
            one = solo.transaction(
                solo.wallets[0], *operations, valid_until=node.executor.store.tip.time_ms + VALID_MS
            )
            await service.submit([one.raw])
            if number % 3 == 0:
                await service.wait(one.id, 20, certified=False)
        results = await asyncio.gather(*readers)
        everything = [one.cursor for one in await service.events(BEFORE_ALL, 1_000, None, None)]
        assert results == [everything, everything]
        assert await read(False, everything[10], total - 11) == everything[11:]


async def test_a_subscription_filters_and_goes_on_over_what_it_does_not_want(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    stream = service.subscribe(Cursor(0, 100), frozenset(["identity.enrolled"]), wallet_of("2/1").identity)
    reading = asyncio.create_task(collect(stream, 1))
    for height in range(3):
        await asyncio.sleep(0.005)
        commit(
            node,
            service,
            four.transaction(four.wallets[0], *[enrol(four, f"{height}/{index}") for index in range(2)]),
        )
    (found,) = await asyncio.wait_for(reading, 10)
    assert (found.cursor.height, found.cursor.index) == (3, 1)


async def test_a_subscription_that_waits_can_be_ended(four: Harness) -> None:
    service = service_of(HostedNode(four))
    reading = asyncio.create_task(collect(service.subscribe(Cursor(0, 100), None, None), 1))
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


# --- status ---------------------------------------------------------------------------------------------------------


async def test_the_status_is_json_and_reads_no_disk(four: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    node = HostedNode(four)
    service = service_of(node)
    commit(node, service, four.transaction(four.wallets[0], enrol(four, "d")))

    def forbidden(*given: object, **more: object) -> None:
        raise AssertionError("the event loop reads the disk")

    for kv in (node.executor.store._store, service._vault._store):  # type: ignore[attr-defined]
        monkeypatch.setattr(type(kv), "get", forbidden)
        monkeypatch.setattr(type(kv), "iterate", forbidden)
    status = service.status()
    again = json.loads(json.dumps(status))
    assert again == status
    assert status["height"] == 1
    assert status["certified_height"] == 0
    assert status["chain_id"] == four.chain_id.hex()
    assert len(status["validators"]) == 4
    assert all(one["connected"] for one in status["validators"])
    assert status["custodian"] == {"enabled": False}


async def test_health_says_why_not(four: Harness) -> None:
    node = HostedNode(four)
    service = service_of(node)
    assert service.healthy() == (True, "")
    peers = node.outlet.peers
    node.outlet.peers = frozenset(sorted(peers)[:1])
    healthy, reason = service.healthy()
    assert not healthy
    assert "quorum" in reason
    node.outlet.peers = peers
    commit(node, service)
    node.clock.wall_ms = node.executor.store.tip.time_ms + STALE_TIP_MS
    assert service.healthy()[0]
    node.clock.wall_ms += 1
    healthy, reason = service.healthy()
    assert not healthy
    assert "old" in reason


# --- envelopes ------------------------------------------------------------------------------------------------------


async def test_envelopes_come_back_as_they_were_put(four: Harness) -> None:
    service = service_of(HostedNode(four))
    envelope = build(1, 1).record.envelope
    (digest,) = await service.put_envelopes([envelope])
    assert digest == envelope_digest(envelope)
    assert await service.get_envelope(digest) == envelope
    assert service.status()["vault"] == {"envelopes": 1, "bytes": len(envelope)}
    with pytest.raises(Refused):
        await service.put_envelopes([envelope, b"no envelope"])
    with pytest.raises(Refused):
        await service.put_envelopes([b""])
    assert service.status()["vault"]["envelopes"] == 1
