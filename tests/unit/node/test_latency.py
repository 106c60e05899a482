"""From admission to commit: measured for what was admitted here, and bounded."""

from __future__ import annotations

import itertools

import pytest

from consilium.node import latency
from consilium.node.latency import Latency


def test_what_was_admitted_here_is_observed_once() -> None:
    seen: list[float] = []
    clock = itertools.count(10.0, 1.5)
    measured = Latency(seen.append, lambda: next(clock))
    measured.admitted(b"mine")
    measured.committed([b"another's"])
    measured.committed([b"mine"])
    measured.committed([b"mine"])
    assert seen == [3.0]
    assert len(measured) == 0


def test_of_a_large_block_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "OBSERVED_PER_BLOCK_MAX", 3)
    seen: list[float] = []
    measured = Latency(seen.append)
    for number in range(10):
        measured.admitted(bytes([number]))
    measured.committed(bytes([number]) for number in range(10))
    assert len(seen) == 3
    assert len(measured) == 0


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "REMEMBERED_MAX", 2)
    seen: list[float] = []
    measured = Latency(seen.append, lambda: 0.0)
    for name in (b"1", b"2", b"3"):
        measured.admitted(name)
    assert len(measured) == 2
    measured.committed([b"1"])
    assert seen == []
    measured.committed([b"2", b"3"])
    assert len(seen) == 2
