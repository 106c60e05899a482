"""The vault: durable, checked both ways, and what is erased stays erased."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from consilium.ledger.errors import InvariantBroken, Refused
from consilium.storage import envelopes, schema, vault
from consilium.storage.envelopes import PIECE_BYTES, check_all, is_whole
from consilium.storage.kv import MemoryKV
from consilium.storage.leveldb import LevelKV
from consilium.storage.vault import EnvelopeStore, Totals, Vault


def digest_of(envelope: bytes) -> bytes:
    return hashlib.sha256(b"test envelope" + envelope).digest()


def entry(envelope: bytes) -> tuple[bytes, bytes]:
    return digest_of(envelope), envelope


FIRST, SECOND, THIRD = entry(b"first"), entry(b"the second"), entry(b"")


@pytest.fixture
def store() -> MemoryKV:
    return MemoryKV()


@pytest.fixture
def opened(store: MemoryKV) -> Vault:
    return Vault(store, digest_of, create=True)


def code_of(error: pytest.ExceptionInfo[Refused]) -> str:
    return error.value.code


def test_what_is_put_is_there_after_a_crash(store: MemoryKV, opened: Vault) -> None:
    as_port: EnvelopeStore = opened
    as_port.put_many([FIRST, SECOND, THIRD])
    again = Vault(store.crash(), digest_of)
    for digest, envelope in (FIRST, SECOND, THIRD):
        assert again.has(digest)
        assert again.get(digest) == envelope
    assert again.totals() == Totals(3, 15)
    assert again.get(bytes(32)) is None
    assert not again.has(bytes(32))


def test_putting_twice_counts_once_and_repairs(store: MemoryKV, opened: Vault) -> None:
    opened.put_many([FIRST, FIRST])
    store.write([(schema.ENVELOPE + FIRST[0], b"damaged")], sync=True)
    with pytest.raises(Refused) as refused:
        opened.get(FIRST[0])
    assert code_of(refused) == "vault.damaged"
    opened.put_many([FIRST])
    assert opened.get(FIRST[0]) == FIRST[1]
    assert opened.totals() == Totals(1, 5)


def test_a_wrong_digest_keeps_nothing(opened: Vault) -> None:
    with pytest.raises(Refused) as refused:
        opened.put_many([FIRST, (SECOND[0], b"something else")])
    assert code_of(refused) == "vault.damaged"
    assert not opened.has(FIRST[0])
    assert opened.totals() == Totals(0, 0)


def test_what_is_erased_does_not_come_back(store: MemoryKV, opened: Vault) -> None:
    opened.put_many([FIRST, SECOND])
    assert opened.erase([FIRST[0], THIRD[0]]) == 1
    opened.scrub()
    again = Vault(store.crash(), digest_of)
    assert again.get(FIRST[0]) is None
    assert again.erased(FIRST[0])
    assert again.erased(THIRD[0])  # it was never here, and may not come later
    assert again.totals() == Totals(1, 10)
    for returning in (FIRST, THIRD):
        with pytest.raises(Refused) as refused:
            again.put_many([entry(b"new"), returning])
        assert code_of(refused) == "vault.deleted"
    assert not again.has(digest_of(b"new"))
    assert again.erase([FIRST[0]]) == 0
    assert again.totals() == Totals(1, 10)


def test_limits(opened: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelopes, "ENVELOPE_BYTES_MAX", 10)
    monkeypatch.setattr(envelopes, "PUT_BYTES_MAX", 14)
    opened.put_many([SECOND])
    for too_much in ([entry(bytes(11))], [SECOND, FIRST]):
        with pytest.raises(Refused) as refused:
            opened.put_many(too_much)
        assert code_of(refused) == "vault.oversized"


def test_listing_goes_on_where_it_stopped(opened: Vault) -> None:
    entries = dict(entry(b"x" * number) for number in range(1, 30))
    opened.put_many(list(entries.items()))
    listed: list[tuple[bytes, int]] = []
    while page := opened.digests(after=listed[-1][0] if listed else b"", limit=7):
        listed += page
    assert listed == sorted((digest, len(envelope)) for digest, envelope in entries.items())


@pytest.mark.parametrize(("number", "code"), [(2, "store.newer_format"), (0, "store.older_format")])
def test_another_format_is_refused(store: MemoryKV, opened: Vault, number: int, code: str) -> None:
    store.write([(schema.FORMAT, schema.format_bytes(number))], sync=True)
    with pytest.raises(Refused) as refused:
        Vault(store, digest_of)
    assert code_of(refused) == code
    with pytest.raises(Refused) as refused:
        Vault(MemoryKV(), digest_of)
    assert code_of(refused) == "store.corrupt"


def test_a_failing_disk_halts(store: MemoryKV, opened: Vault) -> None:
    store.fail_next_write = True
    with pytest.raises(InvariantBroken):
        opened.put_many([FIRST])


def test_erased_bytes_leave_the_disk(tmp_path: Path) -> None:
    marker = b"a sealed record that must go" * 20
    opened = Vault(LevelKV(tmp_path / "vault", create=True), digest_of, create=True)
    opened.put_many([entry(marker), SECOND])
    opened.scrub()
    assert any(marker in file.read_bytes() for file in (tmp_path / "vault").iterdir())
    opened.erase([digest_of(marker)])
    opened.scrub()
    opened.close()
    reopened = Vault(LevelKV(tmp_path / "vault"), digest_of)
    assert not any(marker in file.read_bytes() for file in (tmp_path / "vault").iterdir())
    assert reopened.get(SECOND[0]) == SECOND[1]
    reopened.close()


# Streams


LARGE = bytes(range(256)) * 10_000  # two and a half pieces


class Hasher:
    def __init__(self) -> None:
        self._inner = hashlib.sha256(b"test envelope")

    def update(self, piece: bytes, /) -> None:
        self._inner.update(piece)

    def digest(self) -> bytes:
        return self._inner.digest()


@pytest.fixture(params=["memory", "leveldb"])
def streaming(request: pytest.FixtureRequest, tmp_path: Path) -> Vault:
    backing = MemoryKV() if request.param == "memory" else LevelKV(tmp_path / "vault", create=True)
    return Vault(backing, digest_of, create=True, hasher=Hasher, clock_ms=lambda: 77)


def pour(into: Vault, envelope: bytes, digest: bytes | None = None, step: int = 70_000) -> int:
    with into.receive(digest or digest_of(envelope)) as incoming:
        for at in range(0, len(envelope), step):
            incoming.write(envelope[at : at + step])
        return incoming.finish()


def pieces_kept(opened: Vault) -> int:
    return len(list(opened._store.iterate(schema.PIECE)))


@pytest.mark.parametrize(
    "size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, len(LARGE)]
)
def test_a_stream_comes_back_as_it_came(streaming: Vault, size: int) -> None:
    envelope = LARGE[:size]
    digest = digest_of(envelope)
    assert pour(streaming, envelope) == size
    assert streaming.has(digest)
    assert (streaming.size(digest), streaming.came_ms(digest)) == (size, 77)
    assert streaming.digests() == [(digest, size)]
    assert streaming.totals() == Totals(1, size)
    assert streaming.get(digest) == envelope
    read = streaming.read(digest)
    assert read is not None
    found = list(read)
    assert b"".join(found) == envelope
    assert all(len(piece) <= PIECE_BYTES for piece in found)
    assert check_all(streaming) == []
    assert streaming.read(bytes(32)) is None
    assert streaming.size(bytes(32)) is None


def test_a_stream_that_is_not_what_it_says_leaves_nothing(streaming: Vault) -> None:
    with pytest.raises(Refused) as refused:
        pour(streaming, LARGE, FIRST[0])
    assert code_of(refused) == "vault.damaged"
    with streaming.receive(digest_of(LARGE)) as incoming:
        incoming.write(LARGE)
    assert pieces_kept(streaming) == 0
    assert list(streaming._store.iterate(schema.RECEIVING)) == []
    assert streaming.totals() == Totals(0, 0)
    assert streaming.read(FIRST[0]) is None


def test_a_bad_copy_does_not_damage_a_good_one_and_a_good_one_repairs(streaming: Vault) -> None:
    digest = digest_of(LARGE)
    pour(streaming, LARGE)
    with pytest.raises(Refused):
        pour(streaming, LARGE[:-1] + b"!", digest)
    assert streaming.get(digest) == LARGE
    key, _ = list(streaming._store.iterate(schema.PIECE))[1]
    streaming._store.write([(key, b"damaged")], sync=True)
    read = streaming.read(digest)
    assert read is not None
    with pytest.raises(Refused) as refused:
        list(read)
    assert code_of(refused) == "vault.damaged"
    assert check_all(streaming) == [digest]
    assert not is_whole(streaming, digest)
    pour(streaming, LARGE)
    assert streaming.get(digest) == LARGE
    assert pieces_kept(streaming) == 3
    assert streaming.totals() == Totals(1, len(LARGE))


def test_the_last_piece_of_a_damaged_stream_never_comes(streaming: Vault) -> None:
    digest = digest_of(LARGE)
    pour(streaming, LARGE)
    key, piece = next(iter(streaming._store.iterate(schema.PIECE)))
    streaming._store.write([(key, b"?" + piece[1:])], sync=True)
    read = streaming.read(digest)
    assert read is not None
    got: list[bytes] = []
    with pytest.raises(Refused):
        got.extend(read)
    assert len(b"".join(got)) < len(LARGE)


def test_what_a_crash_interrupted_is_swept_at_the_start() -> None:
    store = MemoryKV()
    opened = Vault(store, digest_of, create=True, hasher=Hasher)
    pour(opened, LARGE)
    incoming = opened.receive(digest_of(b"other"))
    incoming.write(LARGE)
    assert pieces_kept(opened) == 5
    for surviving in range(store.unsynced_writes + 1):
        again = Vault(store.crash(surviving), digest_of, hasher=Hasher)
        assert pieces_kept(again) == 3
        assert again.get(digest_of(LARGE)) == LARGE
        assert list(again._store.iterate(schema.RECEIVING)) == []


def test_streams_are_erased_and_forgotten_with_their_pieces(streaming: Vault) -> None:
    digest = digest_of(LARGE)
    pour(streaming, LARGE)
    assert streaming.forget([digest, FIRST[0]]) == 1
    assert (streaming.has(digest), streaming.erased(digest), pieces_kept(streaming)) == (False, False, 0)
    pour(streaming, LARGE)
    incoming = streaming.receive(digest)
    incoming.write(LARGE)
    assert streaming.erase([digest]) == 1
    assert streaming.totals() == Totals(0, 0)
    with pytest.raises(Refused) as refused:  # it was erased while it came
        incoming.finish()
    assert code_of(refused) == "vault.deleted"
    with pytest.raises(Refused) as refused:
        streaming.receive(digest)
    assert code_of(refused) == "vault.deleted"


def test_one_row_and_pieces_replace_each_other(streaming: Vault) -> None:
    digest = digest_of(LARGE)
    streaming.put_many([(digest, LARGE)])
    assert pieces_kept(streaming) == 0
    pour(streaming, LARGE)
    assert streaming._store.get(schema.ENVELOPE + digest) is None
    streaming.put_many([(digest, LARGE)])
    assert pieces_kept(streaming) == 0
    assert streaming.get(digest) == LARGE
    assert streaming.totals() == Totals(1, len(LARGE))


def test_streams_have_limits(streaming: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "ENVELOPE_BYTES_MAX", 10)
    pour(streaming, b"longer than ten")
    with pytest.raises(Refused) as refused:
        streaming.get(digest_of(b"longer than ten"))
    assert code_of(refused) == "vault.oversized"
    monkeypatch.setattr(vault, "STREAM_BYTES_MAX", 10)
    with pytest.raises(Refused) as refused:
        pour(streaming, b"longer still")
    assert code_of(refused) == "vault.oversized"
