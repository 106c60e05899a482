"""A custodian's shares: durable on return, one for each epoch of a compartment, counted without the disk."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from consilium.ledger.errors import InvariantBroken, Refused
from consilium.storage import schema, shares
from consilium.storage.kv import MemoryKV
from consilium.storage.leveldb import LevelKV
from consilium.storage.shares import ShareVault

ONE, TWO = b"1" * 16, b"2" * 16


def test_a_parcel_comes_back_as_it_was_put_and_only_where_it_belongs() -> None:
    vault = ShareVault(MemoryKV(), create=True)
    vault.put_share(ONE, 0, b"first")
    vault.put_share(ONE, 1, b"second")
    vault.put_share(TWO, 2**63 - 1, b"third")
    assert vault.share(ONE, 0) == b"first"
    assert vault.share(ONE, 1) == b"second"
    assert vault.share(TWO, 2**63 - 1) == b"third"
    assert vault.share(TWO, 0) is None
    assert vault.share(ONE, 256) is None


def test_a_parcel_put_again_takes_the_place_of_the_earlier_one() -> None:
    vault = ShareVault(MemoryKV(), create=True)
    vault.put_share(ONE, 0, b"first")
    vault.put_share(ONE, 0, b"again")
    assert (vault.share(ONE, 0), vault.share_count()) == (b"again", 1)


def test_what_was_put_survives_a_crash_and_is_counted_at_the_next_start() -> None:
    store = MemoryKV()
    vault = ShareVault(store, create=True)
    vault.put_share(ONE, 0, b"first")
    vault.put_share(TWO, 0, b"second")
    reopened = ShareVault(store.crash())
    assert (reopened.share(ONE, 0), reopened.share(TWO, 0), reopened.share_count()) == (
        b"first",
        b"second",
        2,
    )


def test_a_disk_that_fails_counts_nothing() -> None:
    store = MemoryKV()
    vault = ShareVault(store, create=True)
    store.fail_next_write = True
    with pytest.raises(InvariantBroken):
        vault.put_share(ONE, 0, b"lost")
    assert vault.share_count() == 0


def test_the_same_share_deposited_at_the_same_time_counts_once() -> None:
    """Two threads find it missing before either has written it."""

    class Slow(MemoryKV):
        def get(self, key: bytes) -> bytes | None:
            found = super().get(key)
            if key.startswith(schema.SHARE):
                both_are_here.wait(0.05)
            return found

    both_are_here = threading.Event()
    vault = ShareVault(Slow(), create=True)
    threads = [threading.Thread(target=vault.put_share, args=(ONE, 0, b"p")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert vault.share_count() == 1


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (shares.SHARES_FORMAT + 1, "store.newer_format"),
        (shares.SHARES_FORMAT - 1, "store.older_format"),
        (None, "store.corrupt"),
    ],
)
def test_a_store_of_another_format_is_refused(number: int | None, code: str) -> None:
    store = MemoryKV()
    if number is not None:
        store.write([(schema.FORMAT, schema.format_bytes(number))], sync=True)
    with pytest.raises(Refused) as refused:
        ShareVault(store)
    assert refused.value.code == code


def test_shares_lie_on_a_real_disk(tmp_path: Path) -> None:
    vault = ShareVault(LevelKV(tmp_path / "shares", create=True), create=True)
    vault.put_share(ONE, 3, b"parcel")
    vault.close()
    again = ShareVault(LevelKV(tmp_path / "shares"))
    assert (again.share(ONE, 3), again.share_count()) == (b"parcel", 1)
    again.close()
