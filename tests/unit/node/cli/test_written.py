"""Files that commands write, and refusals before anything is done that cannot be done twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consilium.ledger.errors import Refused
from consilium.node.cli import written
from consilium.node.cli.main import app


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        act()
    return refused.value.code


def test_a_new_file_takes_nobodys_place(tmp_path: Path) -> None:
    path = tmp_path / "new"
    written.require_free(path)
    written.write_new(path, b"one", 0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one", 0o600)
    assert code_of(lambda: written.write_new(path, b"two")) == "cli.unwritable"
    assert code_of(lambda: written.require_free(tmp_path / "other", path)) == "cli.unwritable"
    assert path.read_bytes() == b"one"
    written.write_over(path, b"two")
    assert path.read_bytes() == b"two"


def test_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    blocking = tmp_path / "file"
    blocking.write_bytes(b"")
    for path in (tmp_path / "none" / "new", blocking / "new"):
        assert code_of(partial(written.require_free, path)) == "cli.unwritable"
        assert code_of(partial(written.write_over, path, b"")) == "cli.unwritable"
    assert code_of(lambda: written.private_folder(blocking / "new")) == "cli.unwritable"


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "one" / "two"
    written.private_folder(folder)
    written.private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("taken", ["summary", "summary.opening"])
def test_a_summary_is_not_opened_for_a_file_that_cannot_be_written(tmp_path: Path, taken: str) -> None:
    """An opening is logged and reported, so the payload must not be lost for want of a place."""
    (tmp_path / taken).write_bytes(b"")
    files = ("--wallet", "w", "--share", "s", "--second-wallet", "w", "--second-share", "s")
    named = ("--licence", "00" * 16, "--second-licence", "00" * 16, "--patient", "00" * 16)
    where = ("--node", "http://127.0.0.1:1", "--reason", "danger-to-life", "--out", str(tmp_path / "summary"))
    done = CliRunner().invoke(app, ["summaries", "open", *files, *named, *where, "--json"])
    assert json.loads(done.stdout)["error"]["code"] == "cli.unwritable", done.output
