"""Nothing is closed under anybody's feet: not a reader's, not a writer's, not one's who reads row by row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consilium.ledger.errors import InvariantBroken
from consilium.storage.gate import Gate, GateClosed
from consilium.storage.leveldb import LevelKV


@pytest.fixture
def store(tmp_path: Path) -> LevelKV:
    made = LevelKV(tmp_path / "store", create=True)
    made.write([(b"k%03d" % number, b"v" * 1_000) for number in range(500)], sync=True)
    return made


def test_closing_waits_for_whoever_is_inside() -> None:
    gate = Gate()
    inside, go, closed = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with gate:
            inside.set()
            go.wait(10)
            assert not closed.is_set()

    def close() -> None:
        gate.close()
        closed.set()

    worker, closer = threading.Thread(target=work), threading.Thread(target=close)
    worker.start()
    inside.wait(10)
    closer.start()
    assert not closed.wait(0.05)
    with pytest.raises(GateClosed), gate:
        pass
    go.set()
    worker.join(10)
    assert closed.wait(10)
    gate.close()  # again is harmless


def test_an_exception_inside_leaves_the_gate() -> None:
    gate = Gate()
    with pytest.raises(KeyError), gate:
        raise KeyError
    gate.close()


@pytest.mark.parametrize("what", ["get", "iterate", "snapshot", "write", "size"])
def test_a_store_may_be_closed_while_others_use_it(store: LevelKV, what: str) -> None:
    """Without the gate, this ends the process."""
    uses: dict[str, Callable[[], Any]] = {
        "get": lambda: store.get(b"k001"),
        "iterate": lambda: list(store.iterate(b"k")),
        "snapshot": lambda: _read_a_snapshot(store),
        "write": lambda: store.write([(b"w", b"x")], sync=False),
        "size": lambda: store.size_bytes(b"k"),
    }
    started = threading.Semaphore(0)
    ends: list[str] = []

    def work() -> None:
        started.release()
        try:
            while True:
                uses[what]()
        except InvariantBroken as broken:
            ends.append(str(broken))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        started.acquire()
    store.close()
    for thread in threads:
        thread.join(10)
    assert len(ends) == 4
    assert all("is closed" in end for end in ends)


def _read_a_snapshot(store: LevelKV) -> None:
    with store.snapshot() as snapshot:
        snapshot.get(b"k001")
        list(snapshot.iterate(b"k", limit=20))


def test_a_reader_between_two_rows_does_not_keep_the_store_open(store: LevelKV) -> None:
    rows = store.iterate(b"k")
    snapshot = store.snapshot()
    old_rows = snapshot.iterate(b"k")
    assert next(rows)[0] == next(old_rows)[0] == b"k000"
    store.close()
    for late in (rows, old_rows):
        with pytest.raises(InvariantBroken, match="is closed"):
            next(late)
    with pytest.raises(InvariantBroken, match="is closed"):
        snapshot.get(b"k001")
    snapshot.close()
    store.close()


def test_a_closed_store_can_be_opened_again(store: LevelKV) -> None:
    store.close()
    again = LevelKV(store.folder)
    assert again.get(b"k001") == b"v" * 1_000
    again.close()
