"""The parts of the crash matrix: they find what they look for, and strike where they say."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from consilium.consensus.messages import (
    Message,
    Prepared,
    PreparedCertificate,
    ViewChange,
    sign_commit,
    sign_prepare,
    sign_view_change,
)
from consilium.ledger.block import Block, Header
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import InvariantBroken
from consilium.storage.kv import MemoryKV
from consilium.storage.leveldb import LevelKV
from consilium.storage.promise import MemoryPromises
from scripts.crash_matrix import damage, system_faults
from scripts.crash_matrix.report import Report
from scripts.crash_matrix.strike import LATE_TEXT, STRIKE_FILE, Strike, Striker, StruckPromises, StruckStore
from scripts.crash_matrix.wiretap import HEIGHTS_KEPT, Ballots

PROJECT = Path(__file__).resolve().parents[3]
CHAIN = b"c" * 32
KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
A, B = b"a" * 32, b"b" * 32


def change(view: int, claimed: int | None) -> ViewChange:
    header = Header(1, CHAIN, 5, A, 1, KEY.public, 0, A, A, A, A, A, A)
    block = Block(header, [])
    certificate = PreparedCertificate(claimed or 0, block.hash, [])
    prepared = None if claimed is None else Prepared(certificate, block)
    return sign_view_change(KEY, CHAIN, 5, view, prepared)


def heard(*messages: Message, by: SigningKey = KEY) -> Ballots:
    ballots = Ballots()
    for message in messages:
        ballots.hear(by.public, message)
    return ballots


def prepare(view: int, block: bytes) -> Message:
    return sign_prepare(KEY, CHAIN, 5, view, block)


def commit(view: int, block: bytes) -> Message:
    return sign_commit(KEY, CHAIN, 5, view, block)


def test_what_an_honest_validator_says_is_no_contradiction() -> None:
    said = [
        prepare(0, A),
        commit(0, A),
        change(1, 0),
        prepare(1, A),
        commit(1, A),
        change(2, 1),
        change(3, 1),
    ]
    ballots = heard(*said, *said)
    assert ballots.contradictions == []
    assert ballots.votes == ballots.said_by[KEY.public] == 7


@pytest.mark.parametrize(
    "said",
    [
        (prepare(0, A), prepare(0, B)),
        (commit(2, A), commit(2, B)),
        (change(1, None), change(1, 0)),
        (commit(0, A), change(1, None)),
        (change(3, 1), commit(2, A)),
    ],
)
def test_contradictions_are_found_in_any_order(said: tuple[Message, Message]) -> None:
    assert len(heard(*said).contradictions) == 1
    assert len(heard(*reversed(said)).contradictions) == 1


def test_what_others_pass_on_is_not_held_against_anybody() -> None:
    assert heard(prepare(0, A), prepare(0, B), by=OTHER).votes == 0


def test_old_heights_are_forgotten() -> None:
    ballots = Ballots()
    for height in range(1, HEIGHTS_KEPT + 2_001):
        ballots.hear(KEY.public, sign_prepare(KEY, CHAIN, height, 0, A))
    assert len(ballots._said) <= HEIGHTS_KEPT + 1_001


def test_a_striker_counts_from_the_arming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number))
    striker = Striker(tmp_path)
    store = StruckStore(MemoryKV(), "chain.write", striker)
    promises = StruckPromises(MemoryPromises(), striker)
    store.write([(b"a", b"")], sync=True)
    (tmp_path / STRIKE_FILE).write_bytes(msgspec.json.encode(Strike("chain.write", 2, "kill-after")))
    striker.arm()
    promises.save(b"votes")
    store.write([(b"b", b"")], sync=True)
    assert killed == []
    store.write([(b"c", b"")], sync=True)
    assert killed == [signal.SIGKILL]
    store.write([(b"d", b"")], sync=True)
    assert killed == [signal.SIGKILL]
    assert store.get(b"c") == b""


def test_a_store_that_works_after_it_failed_is_told_of_and_another_is_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    striker = Striker(tmp_path)
    inner = MemoryKV()
    chain, vault = StruckStore(inner, "chain.write", striker), StruckStore(MemoryKV(), "vault.write", striker)
    inner.fail_next_write = True
    with pytest.raises(InvariantBroken):
        chain.write([], sync=True)
    vault.write([], sync=False)
    assert capfd.readouterr().err == ""
    inner._failed = inner.fail_next_write = False  # what no store of ours does
    chain.write([], sync=True)
    assert LATE_TEXT in capfd.readouterr().err


@pytest.mark.skipif(not system_faults.available, reason="these faults are played by seccomp on Linux")
@pytest.mark.parametrize("fault", ["fail_syncs", "fill_disk"])
def test_the_kernel_plays_the_fault_and_the_store_takes_no_more(tmp_path: Path, fault: str) -> None:
    script = f"""
import os, sys
from pathlib import Path
from consilium.ledger.errors import InvariantBroken
from consilium.storage.leveldb import LevelKV
from scripts.crash_matrix import system_faults
store = LevelKV(Path({str(tmp_path / "store")!r}), create=True)
store.write([(b"before", b"")], sync=True)
system_faults.{fault}()
for _ in range(2):
    try:
        store.write([(b"after", b"")], sync=True)
    except InvariantBroken as broken:
        print("refused:", str(broken)[:300].replace("\\n", " "), file=sys.stderr)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("refused:")]
    assert len(lines) == 2, done.stderr
    assert ("No space left" if fault == "fill_disk" else "Input/output error") in lines[0]
    assert "nothing more is written" in lines[1]
    again = LevelKV(tmp_path / "store")
    assert again.get(b"before") == b""
    again.close()


def test_damage_is_done_and_undone(tmp_path: Path) -> None:
    store = LevelKV(tmp_path / "store", create=True)
    for number in range(200):
        store.write([(b"%d" % number, bytes(100))], sync=True)
    store.close()
    log = damage.newest_log(tmp_path / "store")
    assert log is not None
    copy = damage.copy_folder(tmp_path / "store", tmp_path / "copy")
    before = log.stat().st_size
    assert damage.cut_tail(tmp_path / "store", random.Random(1)) is not None
    assert log.stat().st_size < before
    damage.put_back(copy, tmp_path / "store")
    assert log.stat().st_size == before
    flip = damage.Flip(log, before // 2, 4)
    flip.flip()
    assert damage.is_damaged(tmp_path / "store") == "store.corrupt"
    flip.flip()
    assert damage.is_damaged(tmp_path / "store") is None


def test_a_report_is_good_only_where_everything_held() -> None:
    assert not Report().good  # it heard nothing, so it found nothing
    report = Report(restarts=3, restarts_at_head=3, votes_heard=1, catch_up_s=[1.0, 2.0, 9.0])
    assert report.good
    assert report.as_json()["restart_to_head_s"] == {"median": 2.0, "p95": 9.0, "max": 9.0}
    for name in ("lost_commits", "lost_envelopes", "contradicting_votes", "restarts"):
        worse = Report(restarts=3, restarts_at_head=3, votes_heard=1)
        setattr(worse, name, 7)
        assert not worse.good
    report.violated("something")
    assert not report.as_json()["good"]


def test_no_store_is_ever_repaired() -> None:
    """RepairDB makes a damaged store open, without what it lost."""
    product = [
        path
        for folder in ("ledger", "contracts", "consensus", "storage", "p2p", "client", "node", "gateway")
        for path in (PROJECT / folder).rglob("*.py")
    ]
    assert product
    assert [path.name for path in product if "repair_db" in path.read_text(encoding="utf-8")] == []
