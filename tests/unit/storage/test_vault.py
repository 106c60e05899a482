"""The vault: durable, checked both ways, and what is erased stays erased."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from consilium.ledger.errors import InvariantBroken, Refused
from consilium.storage import schema, vault
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
    monkeypatch.setattr(vault, "ENVELOPE_BYTES_MAX", 10)
    monkeypatch.setattr(vault, "PUT_BYTES_MAX", 14)
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
