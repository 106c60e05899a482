"""The log of openings: every byte of it holds together, or it is never used again."""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium.contracts.summaries import NOTHING_REPORTED, Openings
from consilium.ledger.errors import Refused
from consilium.node import openings
from consilium.node.openings import OpeningLog
from tests.unit.contracts import summarising
from tests.unit.contracts.world import NORTH, SOUTH, World


@pytest.fixture
def world() -> World:
    return World().populate()


def filled(folder: Path, world: World, count: int = 3) -> OpeningLog:
    log = OpeningLog(folder, SOUTH.id)
    for _ in range(count):
        log.write(summarising.opening(world), SOUTH.key, NOTHING_REPORTED)
    return log


def test_entries_are_numbered_chained_and_signed(tmp_path: Path, world: World) -> None:
    log = filled(tmp_path, world)
    entries = [log.entry(number).entry for number in (1, 2, 3)]
    assert [one.sequence for one in entries] == [1, 2, 3]
    assert [one.previous for one in entries[1:]] == [one.hash for one in entries[:2]]
    again = OpeningLog(tmp_path, SOUTH.id)
    assert (again.count, again.damage) == (3, "")
    assert (
        again.write(summarising.opening(world), SOUTH.key, NOTHING_REPORTED).entry.previous == entries[2].hash
    )


@pytest.mark.parametrize("number", [1, 2, 3])
def test_no_byte_of_it_changes_unseen(tmp_path: Path, world: World, number: int) -> None:
    filled(tmp_path, world)
    file = tmp_path / f"{number:08d}.opening"
    raw = file.read_bytes()
    for place in range(0, len(raw), 7):
        file.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        damaged = OpeningLog(tmp_path, SOUTH.id)
        assert damaged.damage, place
        with pytest.raises(Refused, match=r"summary\.bad_log"):
            damaged.write(summarising.opening(world), SOUTH.key, NOTHING_REPORTED)
    file.write_bytes(raw)
    assert OpeningLog(tmp_path, SOUTH.id).damage == ""


def test_a_missing_entry_and_anothers_log_show(tmp_path: Path, world: World) -> None:
    filled(tmp_path, world)
    assert OpeningLog(tmp_path, NORTH.id).damage
    (tmp_path / "00000002.opening").unlink()
    assert OpeningLog(tmp_path, SOUTH.id).damage


def test_so_many_that_nobody_reported_are_enough(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openings, "UNREPORTED_MAX", 2)
    log = filled(tmp_path, world, 2)
    with pytest.raises(Refused, match=r"summary\.too_many"):
        log.write(summarising.opening(world), SOUTH.key, NOTHING_REPORTED)
    log.write(summarising.opening(world), SOUTH.key, Openings(1, log.entry(1).entry.hash, 0))


def test_a_log_that_was_lost_goes_on_where_the_chain_has_it(tmp_path: Path, world: World) -> None:
    last = filled(tmp_path / "lost", world).entry(3).entry
    reported = Openings(3, last.hash, 0)
    fresh = OpeningLog(tmp_path / "fresh", SOUTH.id)
    entries = [fresh.write(summarising.opening(world), SOUTH.key, reported).entry for _ in range(2)]
    assert [(one.sequence, one.previous) for one in entries] == [(4, last.hash), (5, entries[0].hash)]
    again = OpeningLog(tmp_path / "fresh", SOUTH.id)
    assert (again.count, again.damage, again.entry(5).entry) == (5, "", entries[1])
    (tmp_path / "fresh" / "00000004.opening").rename(tmp_path / "fresh" / "00000003.opening")
    assert OpeningLog(tmp_path / "fresh", SOUTH.id).damage
