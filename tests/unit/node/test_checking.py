"""Signatures that a process checks: the same verdicts as in a thread, whatever becomes of the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import psutil  # type: ignore[import-untyped]
import pytest

from consilium.ledger.batch import open_batch, seal_batch
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import Opened, Operation, identity_of, sign_transaction
from consilium.node import checking
from consilium.node.checking import Checker
from consilium.node.checking_process import CLAIMS_MAX
from consilium.node.processes import SECRETS

CHAIN = bytes(range(32))
KEY = SigningKey(b"k" * 32)
TIMEOUT_S = 60.0


def signed(number: int) -> bytes:
    return sign_transaction(
        KEY,
        chain_id=CHAIN,
        sender=identity_of(KEY.public),
        nonce=number.to_bytes(16, "big"),
        valid_until=1_000,
        operations=[Operation("a.b", b"body" * number)],
    ).raw


GOOD = [signed(number) for number in range(CLAIMS_MAX + 9)]
FORGED = GOOD[7][:-1] + bytes((GOOD[7][-1] ^ 1,))
MIXED = [*GOOD[:3], FORGED, b"nonsense", *GOOD[3:]]


def said(answers: object) -> list[str]:
    assert isinstance(answers, list)
    return [one.code if isinstance(one, Refused) else one.raw.hex() for one in answers]


EXPECTED = [
    "transaction.bad_signature" if raw == FORGED else "codec.malformed" if raw == b"nonsense" else raw.hex()
    for raw in MIXED
]


@contextlib.asynccontextmanager
async def running(processes: int) -> AsyncIterator[Checker]:
    checker = Checker(processes)
    task = asyncio.create_task(checker.run())
    try:
        await until(checker, processes)
        yield checker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(checker: Checker, count: int) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while checker.process_count != count:  # noqa: ASYNC110 - processes tell nobody here
            await asyncio.sleep(0.01)


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "consilium.node.checking_process" in one.cmdline()]


async def stop(process: psutil.Process) -> None:
    process.send_signal(signal.SIGSTOP)
    while process.status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def ended(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    yield
    assert children() == []


async def test_a_process_says_what_a_thread_says() -> None:
    assert said(await Checker().transactions(MIXED, CHAIN)) == EXPECTED
    async with running(1) as checker:
        assert said(await checker.transactions(MIXED, CHAIN)) == EXPECTED
    async with running(2) as checker:
        both = await asyncio.gather(*(checker.transactions(MIXED, CHAIN) for _ in range(5)))
        assert [said(one) for one in both] == [EXPECTED] * 5
        assert said(await checker.transactions([], CHAIN)) == []


async def test_a_batch_is_opened_whole_or_refused() -> None:
    verified = [one for one in await Checker().transactions(GOOD, CHAIN) if not isinstance(one, Refused)]
    sealed = seal_batch(KEY, CHAIN, 1, verified)
    batch, digest = open_batch(sealed.raw, CHAIN)
    async with running(1) as checker:
        found = await checker.batch(batch, digest, sealed.raw)
        assert (found.digest, found.author, found.raw) == (sealed.digest, KEY.public, sealed.raw)
        assert [one.id for one in found.transactions] == [one.id for one in verified]
        batch.transactions[5] = FORGED
        with pytest.raises(Refused, match=r"transaction\.bad_signature"):
            await checker.batch(batch, digest, sealed.raw)


async def test_what_a_lost_process_was_asked_is_checked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "RESTART_S", 0.0)
    async with running(1) as checker:
        (first,) = children()
        await stop(first)
        asked = asyncio.create_task(checker.transactions(MIXED, CHAIN))
        await asyncio.sleep(0)
        first.kill()
        async with asyncio.timeout(TIMEOUT_S):
            assert said(await asked) == EXPECTED
            await until(checker, 1)
        (second,) = children()
        assert second.pid != first.pid
        assert said(await checker.transactions(MIXED, CHAIN)) == EXPECTED


async def test_a_silent_process_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "RESTART_S", 0.0)
    monkeypatch.setattr(checking, "POLL_S", 0.01)
    monkeypatch.setattr(checking, "ANSWER_TIMEOUT_S", 0.2)
    async with running(1) as checker:
        (first,) = children()
        await stop(first)
        async with asyncio.timeout(TIMEOUT_S):
            assert said(await checker.transactions(MIXED, CHAIN)) == EXPECTED
            await ended(first)  # whoever asked need not wait for that


async def test_whoever_answers_unasked_is_heard_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every later answer would be taken for another's."""
    noise = "import os, sys; os.write(0, bytes(1)); sys.stdin.read()"
    monkeypatch.setattr(checking, "PROGRAM", (sys.executable, "-c", noise))
    checker = Checker(1)
    task = asyncio.create_task(checker.run())
    try:
        await until(checker, 1)
        await until(checker, 0)
        assert said(await checker.transactions(MIXED, CHAIN)) == EXPECTED
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_a_process_prints_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that says something where it is imported must not have said that signatures are good."""
    chatty = "print('1' * 1_000, flush=True); from consilium.node import checking_process as p; p.main()"
    monkeypatch.setattr(checking, "PROGRAM", (sys.executable, "-P", "-c", chatty))
    checker = Checker(1)
    task = asyncio.create_task(checker.run())
    try:
        await until(checker, 1)
        assert said(await checker.transactions(MIXED, CHAIN)) == EXPECTED
        assert checker.process_count == 1
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_answer_is_one_or_nought(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "import os, sys; sys.stdin.buffer.read(2); os.write(0, b'1' * 64); sys.stdin.buffer.read()"
    monkeypatch.setattr(checking, "PROGRAM", (sys.executable, "-c", wrong))
    checker = Checker(1)
    task = asyncio.create_task(checker.run())
    try:
        await until(checker, 1)
        assert said(await checker.transactions(MIXED, CHAIN)) == EXPECTED
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_process_gets_nothing_of_the_node_but_its_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "secret")
    own, other = socket.socketpair()
    with own, other:
        os.set_inheritable(other.fileno(), True)
        async with running(1) as checker:
            await checker.transactions(MIXED, CHAIN)  # it is up
            (process,) = children()
            assert not set(SECRETS) & process.environ().keys()
            assert process.num_fds() == 3
            assert os.getpgid(process.pid) == process.pid


async def test_a_process_ends_with_the_node_though_it_was_stopped() -> None:
    """A node that is killed can tell nobody."""
    node = """
import asyncio, os, psutil, signal
from consilium.node.checking import Checker
async def run():
    checker = Checker(1)
    task = asyncio.create_task(checker.run())
    while not checker.process_count:
        await asyncio.sleep(0.01)
    (child,) = psutil.Process().children()
    child.send_signal(signal.SIGSTOP)
    while child.status() != psutil.STATUS_STOPPED:
        await asyncio.sleep(0.01)
    print(child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(run())
"""
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", node, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(TIMEOUT_S):
        said_, _ = await run.communicate()
        with contextlib.suppress(psutil.NoSuchProcess):
            await ended(psutil.Process(int(said_)))


@pytest.mark.parametrize(
    "error",
    [RuntimeError("can't start new thread"), subprocess.SubprocessError("of a child before it began")],
)
async def test_nothing_that_keeps_a_process_from_starting_ends_the_node(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tried = asyncio.Event()
    loop = asyncio.get_running_loop()

    @contextlib.contextmanager
    def failing(_: int) -> Iterator[None]:
        loop.call_soon_threadsafe(tried.set)
        raise error
        yield

    monkeypatch.setattr(checking, "_running", failing)
    monkeypatch.setattr(checking, "RESTART_S", 0.0)
    task = asyncio.create_task(Checker(1).run())
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(2):  # and it is tried again
                await tried.wait()
                tried.clear()
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_what_ends_at_once_is_started_less_and_less_often() -> None:
    waits = [checking.RESTART_S]
    while waits[-1] < checking.RESTART_S_MAX:
        waits.append(checking.next_wait_s(waits[-1], 0.2))
        assert waits[-1] > waits[-2]
    assert checking.next_wait_s(waits[-1], 0.2) == checking.RESTART_S_MAX
    assert checking.next_wait_s(waits[-1], checking.RESTART_S_MAX) == checking.RESTART_S


async def test_a_process_that_does_not_start_leaves_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "PROGRAM", (os.devnull,))
    checker = Checker(1)
    task = asyncio.create_task(checker.run())
    try:
        await asyncio.sleep(0.05)
        assert checker.process_count == 0
        assert not task.done()
        assert said(await checker.transactions(MIXED, CHAIN)) == EXPECTED
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_batches_come_before_what_clients_hand_in() -> None:
    """A proposal waits for the batches that it names; clients wait for blocks anyway."""
    many = [*GOOD] * 4
    verified = [one for one in await Checker().transactions(GOOD[:3], CHAIN) if not isinstance(one, Refused)]
    sealed = seal_batch(KEY, CHAIN, 1, verified)
    batch, digest = open_batch(sealed.raw, CHAIN)
    async with running(1) as checker:
        (process,) = children()
        await stop(process)
        clients = asyncio.create_task(checker.transactions(many, CHAIN))
        while not checker._others:  # noqa: ASYNC110
            await asyncio.sleep(0)
        urgent = asyncio.create_task(checker.batch(batch, digest, sealed.raw))
        while not checker._batches:  # noqa: ASYNC110
            await asyncio.sleep(0)
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(TIMEOUT_S):
            assert (await urgent).digest == sealed.digest
            assert not clients.done()
            assert len(await clients) == len(many)


async def test_whoever_sends_batches_without_end_starves_nobody() -> None:
    """Their signatures are good, and anybody may have made them: a client's turn comes all the same."""
    verified = [one for one in await Checker().transactions(GOOD[:64], CHAIN) if not isinstance(one, Refused)]
    sealed = seal_batch(KEY, CHAIN, 1, verified)
    batch, digest = open_batch(sealed.raw, CHAIN)
    async with running(1) as checker:
        (process,) = children()
        await stop(process)
        peers = [asyncio.create_task(checker.batch(batch, digest, sealed.raw)) for _ in range(20)]
        while len(checker._batches) < 18:  # noqa: ASYNC110 - it is asked two
            await asyncio.sleep(0)
        client = asyncio.create_task(checker.transactions(GOOD[:3], CHAIN))
        while not checker._others:  # noqa: ASYNC110
            await asyncio.sleep(0)
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(TIMEOUT_S):
            assert said(await client) == [raw.hex() for raw in GOOD[:3]]
            assert not all(peer.done() for peer in peers)
            assert {one.digest for one in await asyncio.gather(*peers)} == {sealed.digest}


async def test_a_process_is_asked_much_at_once_though_each_wants_little() -> None:
    """Else it would do as little in each turn of the event loop as two clients want."""
    async with running(1) as checker:
        (process,) = children()
        await stop(process)
        asked = [asyncio.create_task(checker.transactions(GOOD[:4], CHAIN)) for _ in range(CLAIMS_MAX)]
        while len(checker._others) < CLAIMS_MAX // 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert len(checker._others) == CLAIMS_MAX // 2  # a half is asked: 2 × CLAIMS_MAX claims
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(TIMEOUT_S):
            assert [said(one) for one in await asyncio.gather(*asked)] == [
                [raw.hex() for raw in GOOD[:4]]
            ] * CLAIMS_MAX


async def test_many_at_a_time_are_decoded_as_slowly_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, and however short what they hand in, everybody else on the event loop has a turn soon."""
    opened: list[bytes] = []
    monkeypatch.setattr(checking, "OPENED_PER_TURN_BYTES", 10 * checking.OPENED_EACH_BYTES)
    real = checking._opened

    def counted(raw: bytes, chain_id: bytes) -> Opened | Refused:
        opened.append(raw)
        return real(raw, chain_id)

    monkeypatch.setattr(checking, "_opened", counted)
    verified = [one for one in await Checker().transactions(GOOD[:3], CHAIN) if not isinstance(one, Refused)]
    sealed = seal_batch(KEY, CHAIN, 1, verified)
    batch, digest = open_batch(sealed.raw, CHAIN)
    async with running(1) as checker:
        clients = [asyncio.create_task(checker.transactions([b""] * 40, CHAIN)) for _ in range(10)]
        peer = asyncio.create_task(checker.batch(batch, digest, sealed.raw))
        turns = []
        while not all(client.done() for client in clients):
            before = len(opened)
            await asyncio.sleep(0)
            turns.append(len(opened) - before)
        assert max(turns) <= 10 + len(GOOD[:3])
        assert opened.index(GOOD[2]) <= 4 * 10  # nor does a batch wait for clients here
        assert sum(turns) == 10 * 40 + 3
        assert (await peer).digest == sealed.digest


async def test_whoever_does_not_wait_any_more_is_not_checked_for() -> None:
    async with running(1) as checker:
        (process,) = children()
        await stop(process)
        gone = asyncio.create_task(checker.transactions([*GOOD] * 4, CHAIN))
        while not checker._others:  # noqa: ASYNC110
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert not checker._others  # whoever comes and goes again leaves nothing here
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(TIMEOUT_S):
            assert said(await checker.transactions(MIXED, CHAIN)) == EXPECTED
        assert not checker._others


async def test_what_waits_when_the_last_process_is_lost_is_checked_by_threads() -> None:
    async with running(1) as checker:
        (process,) = children()
        await stop(process)
        asked = asyncio.create_task(checker.transactions([*MIXED] * 4, CHAIN))
        while not checker._others:  # noqa: ASYNC110
            await asyncio.sleep(0)
        process.kill()
        async with asyncio.timeout(TIMEOUT_S):
            assert said(await asked) == EXPECTED * 4
        assert not checker._others


async def test_several_processes_share_a_batch() -> None:
    both = (GOOD * 2)[: 2 * CLAIMS_MAX]
    async with running(2) as checker:
        for process in children():
            process.send_signal(signal.SIGSTOP)
        asked = asyncio.create_task(checker.transactions(both, CHAIN))
        while not all(process.claims for process in checker._alive):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert [process.claims for process in checker._alive] == [CLAIMS_MAX, CLAIMS_MAX]
        for process in children():
            process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(TIMEOUT_S):
            assert said(await asked) == [raw.hex() for raw in both]
