"""What LevelDB's port does at opening, and when its files are damaged or its disk fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import plyvel
import pytest

from consilium.ledger.errors import InvariantBroken, Refused
from consilium.storage.leveldb import LevelKV

ROWS = [(b"key %04d" % number, os.urandom(500)) for number in range(2_000)]


def filled(folder: Path) -> Path:
    store = LevelKV(folder, create=True)
    for at in range(0, len(ROWS), 50):
        store.write(ROWS[at : at + 50], sync=False)
    store.compact(b"")
    store.write([(b"later %d" % number, bytes(300)) for number in range(20)], sync=True)
    store.close()
    return folder


def flip(file: Path, at: int) -> None:
    raw = bytearray(file.read_bytes())
    raw[at] ^= 0x10
    file.write_bytes(raw)


def code_of_opening(folder: Path, *, create: bool = False) -> str:
    with pytest.raises(Refused) as refused:
        LevelKV(folder, create=create)
    assert str(folder) in refused.value.detail
    return refused.value.code


def test_only_create_creates(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "store"
    assert code_of_opening(folder) == "store.missing"
    assert not folder.exists()
    LevelKV(folder, create=True).close()
    assert code_of_opening(folder, create=True) == "store.exists"
    LevelKV(folder).close()


def test_create_spares_a_folder_with_anything_in_it(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    assert code_of_opening(tmp_path, create=True) == "store.exists"
    assert [file.name for file in tmp_path.iterdir()] == ["note"]


def test_the_sizes_reach_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    real = plyvel.DB

    def noting(*args: object, **kwargs: object) -> object:
        asked.append(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(plyvel, "DB", noting)
    LevelKV(tmp_path, create=True, write_buffer_bytes=123_456, cache_bytes=654_321).close()
    assert (asked[0]["write_buffer_size"], asked[0]["lru_cache_size"]) == (123_456, 654_321)


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = LevelKV(folder, create=True)
    assert code_of_opening(folder) == "store.locked"
    program = (
        "import sys, pathlib\n"
        "from consilium.ledger.errors import Refused\n"
        "from consilium.storage.leveldb import LevelKV\n"
        "try:\n    LevelKV(pathlib.Path(sys.argv[1]))\n"
        "except Refused as refused:\n    print(refused.code)\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=60, check=True
    )
    assert other.stdout.strip() == "store.locked"
    store.close()
    LevelKV(folder).close()


def test_a_flipped_bit_in_the_log_is_refused_at_opening(tmp_path: Path) -> None:
    folder = filled(tmp_path / "store")
    log = max(folder.glob("*.log"), key=lambda file: file.stat().st_size)
    flip(log, log.stat().st_size // 2)
    assert code_of_opening(folder) == "store.corrupt"
    assert code_of_opening(folder) == "store.corrupt"  # looking at it has not repaired it


def test_a_flipped_bit_in_a_table_halts_the_reader(tmp_path: Path) -> None:
    folder = filled(tmp_path / "store")
    table = max(folder.glob("*.ldb"), key=lambda file: file.stat().st_size)
    flip(table, table.stat().st_size // 2)
    store = LevelKV(folder)
    with pytest.raises(InvariantBroken, match="synchronise again"):
        _ = [store.get(key) for key, _ in ROWS]
    with pytest.raises(InvariantBroken):
        list(store.iterate(b""))
    with pytest.raises(Refused) as refused:
        store.check()
    assert refused.value.code == "store.corrupt"
    store.close()


@pytest.mark.parametrize("pattern", ["MANIFEST-*", "*.ldb", "CURRENT"])
def test_a_missing_file_is_refused(tmp_path: Path, pattern: str) -> None:
    folder = filled(tmp_path / "store")
    next(iter(folder.glob(pattern))).unlink()
    assert code_of_opening(folder) == "store.corrupt"


def test_a_whole_store_passes_its_check(tmp_path: Path) -> None:
    store = LevelKV(filled(tmp_path / "store"))
    assert store.check() == len(ROWS) + 20
    assert store.size_bytes(b"key") > 500 * 1_000
    assert store.size_bytes(b"nothing") == 0
    store.close()


class _FailingBatch:
    def put(self, key: bytes, value: bytes) -> None: ...

    def delete(self, key: bytes) -> None: ...

    def write(self) -> None:
        raise plyvel.IOError(b"IO error: No space left on device")


class _FailingDisk:
    """A database whose writes fail; it counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def write_batch(self, sync: bool) -> _FailingBatch:
        self.asked += 1
        return _FailingBatch()

    def close(self) -> None: ...


def test_a_failed_sync_is_fatal_and_never_tried_again(tmp_path: Path) -> None:
    store = LevelKV(tmp_path / "store", create=True)
    store._source.close()
    disk = _FailingDisk()
    store._source = disk
    with pytest.raises(InvariantBroken, match="No space left"):
        store.write([(b"a", b"1")], sync=True)
    with pytest.raises(InvariantBroken, match="failed before"):
        store.write([(b"a", b"1")], sync=True)
    assert disk.asked == 1
