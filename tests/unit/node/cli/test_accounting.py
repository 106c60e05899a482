"""`consilium access check`: a file beside the proof says what the proof does, or is named as one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium.ledger.errors import Refused
from consilium.node.cli.accounting import _same

EXPECTED = b"number,kind\n1,decided\n"


def test_a_file_that_says_the_same_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "accounting.csv"
    path.write_bytes(EXPECTED)
    assert _same(path, EXPECTED)


@pytest.mark.parametrize(
    "raw", [b"", EXPECTED[:-1], EXPECTED + b"x", EXPECTED * 3, EXPECTED.replace(b"1", b"2")]
)
def test_a_file_that_was_changed_is_broken_whatever_its_length(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "accounting.csv"
    path.write_bytes(raw)
    with pytest.raises(Refused) as refused:
        _same(path, EXPECTED)
    assert refused.value.code == "accounting.broken"


def test_a_file_that_is_not_there_is_not_compared(tmp_path: Path) -> None:
    assert not _same(tmp_path / "accounting.csv", EXPECTED)
