"""Signatures that a process checks: the same verdicts as in a thread, whatever becomes of the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import psutil  # type: ignore[import-untyped]
import pytest

from consilium.ledger.batch import open_batch, seal_batch
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import Operation, identity_of, sign_transaction
from consilium.node import checking
from consilium.node.checking import Checker
from consilium.node.checking_process import CLAIMS_MAX

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
        first.send_signal(signal.SIGSTOP)
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
        first.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(TIMEOUT_S):
            assert said(await checker.transactions(MIXED, CHAIN)) == EXPECTED
        assert not first.is_running() or first.status() == psutil.STATUS_ZOMBIE


async def test_whoever_answers_unasked_is_heard_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every later answer would be taken for another's."""
    noise = "import sys, time; sys.stdout.write('1'); sys.stdout.flush(); sys.stdin.read()"
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
        process.send_signal(signal.SIGSTOP)
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


async def test_whoever_does_not_wait_any_more_is_not_checked_for() -> None:
    async with running(1) as checker:
        (process,) = children()
        process.send_signal(signal.SIGSTOP)
        gone = asyncio.create_task(checker.transactions([*GOOD] * 4, CHAIN))
        while not checker._others:  # noqa: ASYNC110
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(TIMEOUT_S):
            assert said(await checker.transactions(MIXED, CHAIN)) == EXPECTED
        assert not checker._others


async def test_what_waits_when_the_last_process_is_lost_is_checked_by_threads() -> None:
    async with running(1) as checker:
        (process,) = children()
        process.send_signal(signal.SIGSTOP)
        asked = asyncio.create_task(checker.transactions([*MIXED] * 4, CHAIN))
        while not checker._others:  # noqa: ASYNC110
            await asyncio.sleep(0)
        process.kill()
        async with asyncio.timeout(TIMEOUT_S):
            assert said(await asked) == EXPECTED * 4
        assert not checker._others
