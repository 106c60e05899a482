from __future__ import annotations

import stat
from pathlib import Path

import pytest

from consilium.ledger.errors import Refused
from consilium.node import files


def test_a_node_key_is_its_owners_alone_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    made = files.create_node_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert files.load_node_key(path).public == made.public
    assert path.read_text() == made.seed.hex() + "\n"


def test_a_secret_is_never_overwritten(tmp_path: Path) -> None:
    files.create_node_key(tmp_path / "node.key")
    before = (tmp_path / "node.key").read_bytes()
    with pytest.raises(FileExistsError):
        files.create_node_key(tmp_path / "node.key")
    assert (tmp_path / "node.key").read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    files.create_node_key(path)
    path.chmod(mode)
    with pytest.raises(Refused) as refused:
        files.load_node_key(path)
    assert refused.value.code == "config.insecure_file"
    assert f"{mode:04o}" in refused.value.detail


@pytest.mark.parametrize("text", ["", "qj", "zz" * 32, "ab" * 33, "\xe9" * 64])
def test_a_malformed_secret_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(text, encoding="utf-8")
    for load in (files.load_node_key, files.load_token):
        if load is files.load_token and len(text) in (64, 66) and text.isascii():
            continue
        with pytest.raises(Refused) as refused:
            load(path)
        assert refused.value.code == "config.malformed_secret"
        assert not text or text not in str(refused.value)


def test_a_token_is_long_and_comes_back(tmp_path: Path) -> None:
    made = files.create_token(tmp_path / "rpc.token")
    assert len(made) == 64
    assert files.load_token(tmp_path / "rpc.token") == made
    with pytest.raises(Refused, match=r"config\.missing"):
        files.load_token(tmp_path / "none")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note"
    files.write_atomically(path, b"old")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", no_space)
        with pytest.raises(OSError, match="No space"):
            files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["note"]
    files.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_no_more_than_the_bound_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(10))
    assert files.read_bounded(tmp_path / "x", 10) == bytes(10)
    with pytest.raises(Refused, match="more than 9 bytes"):
        files.read_bounded(tmp_path / "x", 9)
