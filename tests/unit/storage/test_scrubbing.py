"""What was deleted is in no file of the store any more: every byte of every file is looked at."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from consilium.storage import schema, scrubbing
from consilium.storage.kv import KeyValue, MemoryKV
from consilium.storage.leveldb import LevelKV
from consilium.storage.scrubbing import scrub, unscrubbed
from consilium.storage.shares import ShareVault
from consilium.storage.vault import Vault
from tests.unit.storage.test_vault import digest_of, entry

ROW_BYTES = 4_096


def found(folder: Path, needle: bytes) -> list[str]:
    """The files that hold these bytes."""
    return sorted(path.name for path in folder.iterdir() if path.is_file() and needle in path.read_bytes())


def row(number: int) -> tuple[bytes, bytes]:
    key = schema.ENVELOPE + number.to_bytes(32, "big")
    return key, random.Random(number).randbytes(ROW_BYTES)


def noted(key: bytes) -> list[tuple[bytes, bytes | None]]:
    return [(key, None), (schema.DELETED + key, b"")]


@pytest.fixture
def store(tmp_path: Path) -> LevelKV:
    return LevelKV(tmp_path / "store", create=True, write_buffer_bytes=64 * 1024)


def sample(number: int) -> bytes:
    """From the middle of a value: whole in a file, wherever LevelDB cuts its log into blocks."""
    return row(number)[1][1_000:1_064]


def test_deleted_rows_stay_in_the_files_until_they_are_scrubbed(store: LevelKV) -> None:
    store.write([row(number) for number in range(4)], sync=True)
    store.write(noted(row(1)[0]), sync=True)
    assert found(store.folder, sample(1)) != []
    assert unscrubbed(store)
    assert scrub(store, (schema.ENVELOPE,))
    assert found(store.folder, sample(1)) == []
    assert store.get(row(1)[0]) is None
    assert not unscrubbed(store)
    for number in (0, 2, 3):
        assert store.get(row(number)[0]) == row(number)[1]
        assert found(store.folder, sample(number)) != []


@pytest.mark.parametrize("deleted", [[0], [399], [7, 200, 301], list(range(0, 400, 3))])
def test_wherever_the_rows_lie(store: LevelKV, deleted: list[int]) -> None:
    """In several levels, overwritten before, in tables with both a row and its deletion."""
    numbers = list(range(400))
    random.Random(5).shuffle(numbers)
    for number in numbers:
        store.write([row(number)], sync=False)
    store.compact(b"")
    for number in numbers[::7]:
        store.write([row(number)], sync=False)
    for number in deleted:
        store.write([row(number)], sync=False)
        store.write(noted(row(number)[0]), sync=True)
    assert any(found(store.folder, sample(number)) for number in deleted)
    assert scrub(store, (schema.ENVELOPE,))
    files = [path.read_bytes() for path in store.folder.iterdir() if path.is_file()]
    for number in range(400):
        assert any(sample(number) in raw for raw in files) == (number not in deleted), number


def test_a_reader_in_between_keeps_it_alive_and_it_goes_afterwards(store: LevelKV) -> None:
    store.write([row(1), row(2)], sync=True)
    held = store.snapshot()
    store.write(noted(row(1)[0]), sync=True)
    assert not scrub(store, (schema.ENVELOPE,))
    assert held.get(row(1)[0]) == row(1)[1]
    assert unscrubbed(store)
    held.close()
    assert scrub(store, (schema.ENVELOPE,))
    assert found(store.folder, sample(1)) == []


def test_an_open_iterator_counts_as_a_reader(store: LevelKV) -> None:
    store.write([row(1), row(2)], sync=True)
    rows = store.iterate(schema.ENVELOPE)
    next(rows)
    store.write(noted(row(1)[0]), sync=True)
    assert not scrub(store, (schema.ENVELOPE,))
    rows.close()  # type: ignore[attr-defined]
    assert scrub(store, (schema.ENVELOPE,))
    assert found(store.folder, sample(1)) == []


def test_the_notes_survive_a_crash() -> None:
    store = MemoryKV()
    store.write([row(1)], sync=True)
    store.write(noted(row(1)[0]), sync=True)
    again = store.crash()
    assert unscrubbed(again)
    assert scrub(again, (schema.ENVELOPE,))
    assert not unscrubbed(again)


def test_more_places_than_are_taken_one_by_one(store: LevelKV, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "SCRUB_KEYS_MAX", 2)
    store.write([row(number) for number in range(5)], sync=True)
    for number in range(4):
        store.write(noted(row(number)[0]), sync=True)
    assert scrub(store, (schema.ENVELOPE,))
    assert [bool(found(store.folder, sample(number))) for number in range(5)] == [False] * 4 + [True]


def test_what_is_deleted_while_scrubbing_is_left_to_the_next_time(store: LevelKV) -> None:
    store.write([row(1), row(2)], sync=True)
    store.write(noted(row(1)[0]), sync=True)
    purge = store.purge

    class Interrupted:
        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def purge(self, prefixes: list[bytes]) -> bool:
            done = purge(prefixes)
            store.write(noted(row(2)[0]), sync=True)
            return done

    interrupted: KeyValue = Interrupted()  # type: ignore[assignment]
    assert not scrub(interrupted, (schema.ENVELOPE,))
    assert found(store.folder, sample(2)) != []
    assert scrub(store, (schema.ENVELOPE,))
    assert found(store.folder, sample(2)) == []


def test_an_erased_envelope_its_earlier_copies_and_broken_streams_leave_the_disk(tmp_path: Path) -> None:
    store = LevelKV(tmp_path / "vault", create=True)
    vault = Vault(store, digest_of, create=True)
    small, large, kept = os.urandom(3_000), os.urandom(3_000_000), os.urandom(3_000)
    vault.put_many([entry(small), entry(large), entry(kept)])
    for _ in range(2):  # as a stream, twice: earlier copies are replaced
        with vault.receive(digest_of(large)) as incoming:
            incoming.write(large)
            incoming.finish()
    vault.put_many([entry(large)])
    broken = vault.receive(digest_of(small))
    broken.write(small * 400)
    vault.erase([digest_of(small), digest_of(large)])
    broken.__exit__(None, None, None)
    for raw in (small[500:600], large[:100], large[2_500_000:2_500_100]):
        assert found(store.folder, raw) != []
    assert vault.scrub()
    for raw in (small[500:600], large[:100], large[2_500_000:2_500_100], small[-100:], large[-100:]):
        assert found(store.folder, raw) == []
    assert found(store.folder, kept[500:600]) != []
    assert vault.get(digest_of(kept)) == kept


def test_an_erased_share_leaves_the_disk(tmp_path: Path) -> None:
    store = LevelKV(tmp_path / "shares", create=True)
    shares = ShareVault(store, create=True)
    first, second, other = (os.urandom(200) for _ in range(3))
    shares.put_share(b"c" * 16, 0, first)
    shares.put_share(b"c" * 16, 0, second)  # delivered again
    shares.put_share(b"c" * 16, 1, other)
    shares.put_share(b"d" * 16, 0, other)
    assert shares.places(b"c" * 16) == [0, 1]
    assert list(shares.kept()) == [(b"c" * 16, 0), (b"c" * 16, 1), (b"d" * 16, 0)]
    assert shares.erase(b"c" * 16, 0)
    assert not shares.erase(b"c" * 16, 0)
    assert shares.scrub()
    assert (shares.share_count(), shares.places(b"c" * 16)) == (2, [1])
    for parcel in (first, second):
        assert found(store.folder, parcel[50:114]) == []
    assert shares.share(b"c" * 16, 1) == other
