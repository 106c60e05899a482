"""The promise: what was saved comes back, a cut-off save is forgotten, and any other damage is refused."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.ledger.errors import InvariantBroken, Refused
from consilium.storage import promise
from consilium.storage.promise import (
    PROPOSAL_SLOTS,
    RING_SLOTS,
    SLOT_BYTES,
    Kept,
    MemoryPromises,
    Promises,
    PromiseStore,
)

OWNER = b"o" * 32


def name_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def proposal_of(number: int) -> bytes:
    return b"proposal %d " % number * 300


def reopened(store: PromiseStore) -> PromiseStore:
    store.close()
    return PromiseStore(store.folder, OWNER)


def read_back(folder: Path) -> Kept:
    store = PromiseStore(folder, OWNER)
    try:
        return store.load()
    finally:
        store.close()


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        act()
    return refused.value.code


@pytest.fixture
def store(tmp_path: Path) -> PromiseStore:
    return PromiseStore(tmp_path / "promise", OWNER, create=True)


def flip(file: Path, at: int) -> None:
    raw = bytearray(file.read_bytes())
    raw[at] ^= 0x40
    file.write_bytes(raw)


def test_nothing_is_promised_at_first(store: PromiseStore) -> None:
    assert store.load() == Kept(None, {})
    assert reopened(store).load() == Kept(None, {})


def test_the_last_save_comes_back(store: PromiseStore) -> None:
    for number in range(3 * RING_SLOTS):
        store.save(b"votes %d" % number)
        store = reopened(store)
        assert store.load() == Kept(b"votes %d" % number, {})


steps = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("save"), st.integers(0, 6), st.integers(0, 6)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    ),
    max_size=30,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(steps)
def test_the_file_equals_the_memory(
    tmp_path_factory: pytest.TempPathFactory, taken: list[tuple[str, int, int]]
) -> None:
    store = PromiseStore(tmp_path_factory.mktemp("p") / "promise", OWNER, create=True)
    twin = MemoryPromises()
    both: list[Promises] = [twin, store]
    for count, (act, first, second) in enumerate(taken):
        if act == "keep":
            for kept in both:
                kept.keep(name_of(first), proposal_of(first))
        elif act == "save":
            named = [name_of(number) for number in {first: 0, second: 0} if twin.holds(name_of(number))]
            # The file may have let go of what no votes named; a named one it must hold.
            for name in named:
                if not store.holds(name):
                    store.keep(name, proposal_of(int.from_bytes(name, "big")))
            for kept in both:
                kept.save(b"votes %d" % count, named)
        else:
            store = reopened(store)
            both[1] = store
        votes, proposals = twin.votes, store.load().proposals
        assert store.load().votes == votes
        assert all(twin.kept[name] == raw for name, raw in proposals.items())
    store.close()


def test_the_votes_bring_their_proposals(store: PromiseStore) -> None:
    for number in range(9):
        store.keep(name_of(number), proposal_of(number))
        store.save(b"votes", [name_of(number), *([name_of(number - 1)] if number else [])])
    store = reopened(store)
    assert store.load() == Kept(b"votes", {name_of(n): proposal_of(n) for n in (7, 8)})
    assert store.holds(name_of(8))
    assert not store.holds(name_of(1))
    # Two more may be kept ahead of their votes, and displace nothing that the votes name.
    for number in (20, 21, 22):
        store.keep(name_of(number), proposal_of(number))
    assert reopened(store).load().proposals == {name_of(n): proposal_of(n) for n in (7, 8)}


def test_votes_never_name_what_is_not_kept(store: PromiseStore) -> None:
    with pytest.raises(InvariantBroken):
        store.save(b"votes", [name_of(1)])
    with pytest.raises(InvariantBroken):
        MemoryPromises().save(b"votes", [name_of(1)])
    for number in (1, 2, 3):
        store.keep(name_of(number), b"x")
    with pytest.raises(InvariantBroken):
        store.save(b"votes", [name_of(1), name_of(2), name_of(3)])


WAYS = ["old", "new", "cut", "garbage"]


@pytest.mark.parametrize("saves", [0, 1, RING_SLOTS - 1, RING_SLOTS, 2 * RING_SLOTS + 3])
@pytest.mark.parametrize(("first", "second"), list(itertools.product(WAYS, WAYS)))
def test_a_crash_while_saving_leaves_this_save_or_the_last(
    tmp_path: Path, saves: int, first: str, second: str
) -> None:
    store = PromiseStore(tmp_path / "promise", OWNER, create=True)
    for number in range(saves):
        store.save(b"votes %d" % number)
    file = store.folder / "votes"
    before = file.read_bytes()
    store.save(b"the last votes")
    after = file.read_bytes()
    store.close()
    at = (saves + 1) % RING_SLOTS * SLOT_BYTES
    crashed = bytearray(after)
    for way, offset in ((first, at), (second, at + RING_SLOTS * SLOT_BYTES)):
        piece = {
            "old": before[offset : offset + 200],
            "new": after[offset : offset + 200],
            "cut": after[offset : offset + 30] + before[offset + 30 : offset + 200],
            "garbage": b"\xa5" * 200,
        }[way]
        crashed[offset : offset + 200] = piece
    file.write_bytes(crashed)
    store = PromiseStore(store.folder, OWNER)
    last = b"votes %d" % (saves - 1) if saves else None
    assert store.load().votes == (b"the last votes" if "new" in (first, second) else last)
    store.save(b"and on")
    assert reopened(store).load().votes == b"and on"


def test_one_flipped_bit_in_the_last_save_forgets_nothing(store: PromiseStore) -> None:
    for number in range(RING_SLOTS + 2):
        store.save(b"votes %d" % number)
    store.close()
    file = store.folder / "votes"
    whole = file.read_bytes()
    at = whole.index(b"votes %d" % (RING_SLOTS + 1))
    for offset in range(at - 60, at + 40):
        flip(file, offset)
        store = PromiseStore(store.folder, OWNER)
        assert store.load().votes == b"votes %d" % (RING_SLOTS + 1)
        store.close()
        file.write_bytes(whole)


@pytest.mark.parametrize("age", range(RING_SLOTS - 1))
def test_a_save_that_lost_both_copies_is_refused_unless_it_was_never_promised(
    store: PromiseStore, age: int
) -> None:
    saves = 2 * RING_SLOTS + 3
    for number in range(1, saves + 1):
        store.save(b"votes %d" % number)
    store.close()
    file = store.folder / "votes"
    at = (saves - age) % RING_SLOTS * SLOT_BYTES
    for offset in (at, at + RING_SLOTS * SLOT_BYTES):
        flip(file, offset + 50)
    if age == 0:  # looks exactly like a save that was cut off: the restart rule of consensus covers it
        assert read_back(store.folder).votes == b"votes %d" % (saves - 1)
    else:
        assert refusal(lambda: PromiseStore(store.folder, OWNER)) == "promise.corrupt"


@pytest.mark.parametrize("saved", [1, 2])
def test_a_save_that_became_nothing_but_zeros_is_refused(store: PromiseStore, saved: int) -> None:
    for number in range(1, 4):
        store.save(b"votes %d" % number)
    store.close()
    raw = bytearray((store.folder / "votes").read_bytes())
    for at in (saved * SLOT_BYTES, (RING_SLOTS + saved) * SLOT_BYTES):
        raw[at : at + SLOT_BYTES] = bytes(SLOT_BYTES)
    (store.folder / "votes").write_bytes(raw)
    assert refusal(lambda: PromiseStore(store.folder, OWNER)) == "promise.corrupt"


def test_bytes_where_nothing_was_written_are_refused(store: PromiseStore) -> None:
    store.save(b"votes")
    store.close()
    flip(store.folder / "votes", 5 * SLOT_BYTES + 9)
    assert refusal(lambda: PromiseStore(store.folder, OWNER)) == "promise.corrupt"


def test_a_proposal_that_is_named_must_be_whole(store: PromiseStore) -> None:
    store.keep(name_of(1), proposal_of(1))
    store.keep(name_of(2), proposal_of(2))
    store.save(b"votes", [name_of(1)])
    store.close()
    files = {
        number: next(f for f in store.folder.iterdir() if proposal_of(number) in f.read_bytes())
        for number in (1, 2)
    }
    whole = files[1].read_bytes()
    flip(files[2], 200)  # kept ahead, not named: no matter
    assert read_back(store.folder) == Kept(b"votes", {name_of(1): proposal_of(1)})
    for at in (0, 10, 45, 60, 100, len(whole) - 1):
        flip(files[1], at)
        assert refusal(lambda: read_back(store.folder)) == "promise.corrupt"
        files[1].write_bytes(whole)
    files[1].write_bytes(whole[:-1])
    assert refusal(lambda: read_back(store.folder)) == "promise.corrupt"


def test_files_of_another_format_are_not_read(store: PromiseStore) -> None:
    """Whole, checksum and all, but written by a program that means something else by its fields."""
    store.keep(name_of(1), proposal_of(1))
    store.save(b"votes")
    store.close()
    file = store.folder / "proposal-0"
    head, rest = file.read_bytes()[:84], file.read_bytes()[84 + 32 :]
    assert rest == proposal_of(1)
    other = head[:7] + b"9" + head[8:]
    file.write_bytes(other + hashlib.sha256(other + rest).digest() + rest)
    opened = PromiseStore(store.folder, OWNER)
    assert not opened.holds(name_of(1))
    opened.close()
    raw = bytearray((store.folder / "votes").read_bytes())
    record = bytes(raw[SLOT_BYTES : SLOT_BYTES + 53 + len(b"votes")])
    other = record[:7] + b"9" + record[8:]
    for at in (SLOT_BYTES, (RING_SLOTS + 1) * SLOT_BYTES):
        assert raw[at : at + len(record) + 32] == record + hashlib.sha256(record).digest()
        raw[at : at + len(record) + 32] = other + hashlib.sha256(other).digest()
    (store.folder / "votes").write_bytes(raw)
    opened = PromiseStore(store.folder, OWNER)
    assert opened.load() == Kept(None, {})
    opened.close()


def test_a_cut_off_proposal_is_written_anew(store: PromiseStore) -> None:
    store.save(b"votes")
    store.keep(name_of(1), proposal_of(1))
    file = next(f for f in store.folder.iterdir() if proposal_of(1) in f.read_bytes())
    file.write_bytes(file.read_bytes()[:-100])
    store = reopened(store)
    assert not store.holds(name_of(1))
    store.keep(name_of(1), proposal_of(1))
    store.save(b"more", [name_of(1)])
    assert reopened(store).load() == Kept(b"more", {name_of(1): proposal_of(1)})


def test_after_a_restart_too_the_oldest_proposal_makes_room(store: PromiseStore) -> None:
    for number in range(PROPOSAL_SLOTS):
        store.keep(name_of(number), proposal_of(number))
    store = reopened(store)
    for number in range(PROPOSAL_SLOTS, PROPOSAL_SLOTS + 2):
        store.keep(name_of(number), proposal_of(number))
    held = [number for number in range(PROPOSAL_SLOTS + 2) if store.holds(name_of(number))]
    assert held == list(range(2, PROPOSAL_SLOTS + 2))


def test_the_folder_itself_is_locked_while_a_store_is_open(store: PromiseStore) -> None:
    descriptor = os.open(store.folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        store.close()
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def test_how_opening_is_refused(store: PromiseStore, tmp_path: Path) -> None:
    assert refusal(lambda: PromiseStore(store.folder, OWNER)) == "store.locked"
    assert refusal(lambda: PromiseStore(store.folder, OWNER, create=True)) == "store.exists"
    assert refusal(lambda: PromiseStore(tmp_path / "none", OWNER)) == "promise.missing"
    store.save(b"votes")
    store.close()
    assert refusal(lambda: PromiseStore(store.folder, b"p" * 32)) == "promise.corrupt"
    file = store.folder / "votes"
    os.truncate(file, 1000)
    assert refusal(lambda: PromiseStore(store.folder, OWNER)) == "promise.corrupt"
    (store.folder / "proposal-2").unlink()
    assert refusal(lambda: PromiseStore(store.folder, OWNER)) == "promise.corrupt"


def test_limits(store: PromiseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.keep(name_of(1), b"x")
    store.keep(name_of(2), b"x")
    longest = os.urandom(promise.VOTES_BYTES_MAX)
    store.save(longest, [name_of(1), name_of(2)])
    assert reopened(store).load().votes == longest
    assert refusal(lambda: store.save(longest + b"x")) == "promise.oversized"
    monkeypatch.setattr(promise, "PROPOSAL_BYTES_MAX", 10)
    assert refusal(lambda: store.keep(name_of(3), bytes(11))) == "promise.oversized"


def test_a_failed_sync_is_final(store: PromiseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(b"before")
    asked: list[int] = []

    def failing(descriptor: int) -> None:
        asked.append(descriptor)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fdatasync", failing)
    for _ in range(2):
        with pytest.raises(InvariantBroken):
            store.save(b"votes")
    with pytest.raises(InvariantBroken):
        store.keep(name_of(1), b"x")
    assert len(asked) == 1


def test_a_new_folder_is_durable_before_anything_is_promised_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is synced when it is synced: each file at its full size, then the folder and the one above it."""
    synced: list[tuple[str, int]] = []
    fsync = os.fsync

    def watching(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((path.name, path.stat().st_size if path.is_file() else -1))
        fsync(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not name the files that are open")
    monkeypatch.setattr("os.fsync", watching)
    store = PromiseStore(tmp_path / "promise", OWNER, create=True)
    store.close()
    files = [("votes", 2 * RING_SLOTS * SLOT_BYTES), *((f"proposal-{slot}", 0) for slot in range(4))]
    assert synced[:7] == [*files, ("promise", -1), (tmp_path.name, -1)]


def test_what_a_killed_process_left_is_synced_before_it_is_read(
    store: PromiseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be said again, and a power cut could take it back afterwards."""
    store.save(b"votes")
    store.close()
    done: list[str] = []
    fsync, pread = os.fsync, os.pread

    def syncing(descriptor: int) -> None:
        done.append("sync")
        fsync(descriptor)

    def reading(descriptor: int, size: int, offset: int) -> bytes:
        done.append("read")
        return pread(descriptor, size, offset)

    monkeypatch.setattr("os.fsync", syncing)
    monkeypatch.setattr("os.pread", reading)
    assert read_back(store.folder).votes == b"votes"
    assert done[:6] == ["sync"] * 6
    assert "sync" not in done[6:]

    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(InvariantBroken):
        PromiseStore(store.folder, OWNER)


def test_a_folder_is_made_with_those_above_it_or_an_empty_one_is_used_and_others_cannot_look(
    tmp_path: Path,
) -> None:
    deep = tmp_path / "a" / "b" / "promise"
    PromiseStore(deep, OWNER, create=True).close()
    assert deep.stat().st_mode & 0o777 == 0o700
    empty = tmp_path / "empty"
    empty.mkdir()
    PromiseStore(empty, OWNER, create=True).close()
    assert read_back(empty) == Kept(None, {})


def test_proposals_stay_on_the_disk(store: PromiseStore) -> None:
    """Four of them may have 80 MiB each: memory holds their names."""
    for number in range(4):
        store.keep(name_of(number), proposal_of(number))
    for opened in (store, reopened(store)):
        assert [kept[1:] if kept else None for kept in opened._proposals] == [
            (name_of(number), b"") for number in range(4)
        ]
