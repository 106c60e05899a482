"""Wallets: what is kept comes back, hostile files are refused cheaply, and no secret shows."""

from __future__ import annotations

import os
import stat
import traceback
import unicodedata
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from consilium.client import boxes, group, sharing, wallet
from consilium.client.wallet import Cost, KeptCompartment, Wallet
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import identity_of

PASSPHRASE = "correct horse battery"
CHEAP = Cost(1, wallet.MEMORY_BYTES_MIN)


def code_of(action, *arguments, **options) -> str:
    with pytest.raises(Refused) as refused:
        action(*arguments, **options)
    return refused.value.code


def kept(number: int) -> KeptCompartment:
    return KeptCompartment(number.to_bytes(16, "big"), 0, sharing.make_compartment(2, 3))


@pytest.fixture(scope="module")
def mine() -> Wallet:
    return Wallet.create("Ward 3, Ångström", "institution").keeping(kept(1), kept(2))


@pytest.fixture(scope="module")
def raw(mine: Wallet) -> bytes:
    return mine.sealed(PASSPHRASE, CHEAP)


def same(left: Wallet, right: Wallet) -> bool:
    def parts(w: Wallet):
        secrets = (w.signing.seed, w.encryption, w.point_secret)
        return (*secrets, w.point, w.identity, w.label, w.role, w.compartments)

    return parts(left) == parts(right)


def test_what_is_saved_comes_back(mine: Wallet, tmp_path: Path) -> None:
    path = tmp_path / "wallet"
    wallet.save(mine, path, PASSPHRASE, CHEAP)
    assert same(wallet.load(path, PASSPHRASE), mine)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["wallet"]


def test_the_standard_cost_opens_too(mine: Wallet) -> None:
    assert same(Wallet.opened(mine.sealed(PASSPHRASE), PASSPHRASE), mine)
    assert wallet.STANDARD.memory_bytes >= 64 * 1024 * 1024
    assert wallet.STANDARD.passes >= 3


def test_keys_are_derived_and_belong_together(mine: Wallet) -> None:
    assert mine.identity == identity_of(mine.signing.public)
    assert mine.encryption_public == bindings.crypto_scalarmult_base(mine.encryption_secret)
    assert mine.point == group.multiply_base(mine.point_secret)
    assert mine.author_keys == (mine.signing, mine.point)
    assert boxes.open_sealed(mine.encryption, boxes.seal_to(mine.encryption_public, b"x")) == b"x"
    secrets = {mine.signing.seed, mine.encryption_secret, mine.point_secret}
    assert len(secrets) == 3
    assert Wallet.create("a").signing.seed != Wallet.create("a").signing.seed


def test_compartments_are_kept_and_replaced(mine: Wallet) -> None:
    third = kept(2)
    changed = mine.keeping(third)
    assert len(changed.compartments) == 2
    assert changed.compartment_secret(third.compartment, 0) == third.secret
    assert mine.compartment_secret(third.compartment, 0) != third.secret


def test_a_wallet_is_bounded_and_its_largest_file_opens(monkeypatch) -> None:
    secret = sharing.make_compartment(16, 16)
    many = tuple(KeptCompartment(i.to_bytes(16, "big"), 0, secret) for i in range(wallet.COMPARTMENTS_MAX))
    full = Wallet.create("x").keeping(*many)
    assert code_of(full.keeping, kept(wallet.COMPARTMENTS_MAX)) == "wallet.full"
    assert same(Wallet.opened(full.sealed(PASSPHRASE, CHEAP), PASSPHRASE), full)


def test_a_wrong_passphrase_is_told_from_a_damaged_file(raw: bytes) -> None:
    assert code_of(Wallet.opened, raw, PASSPHRASE + "!") == "wallet.wrong_passphrase"
    assert code_of(Wallet.opened, raw, "") == "wallet.wrong_passphrase"
    assert code_of(Wallet.opened, raw, "\ud800" * 9) == "wallet.wrong_passphrase"


def test_every_flipped_byte_is_called_damage(raw: bytes) -> None:
    for place in range(
        len(raw)
    ):  # the digit of the version too: it becomes another that is read, whose checksum differs
        changed = raw[:place] + bytes((raw[place] ^ 1,)) + raw[place + 1 :]
        assert code_of(Wallet.opened, changed, PASSPHRASE) == "wallet.damaged"


def test_every_truncation_is_called_damage(raw: bytes) -> None:
    for end in range(len(raw)):
        assert code_of(Wallet.opened, raw[:end], PASSPHRASE) == "wallet.damaged"


@given(st.binary(max_size=200))
def test_garbage_is_called_damage(garbage: bytes) -> None:
    assert code_of(Wallet.opened, garbage, PASSPHRASE) == "wallet.damaged"
    assert code_of(Wallet.opened, wallet.MAGIC + garbage, PASSPHRASE) == "wallet.damaged"


@pytest.mark.parametrize(
    "cost", [Cost(2**40, 8192), Cost(1, 2**50), Cost(0, 8192), Cost(1, 0), Cost(9, 8192)]
)
def test_a_file_that_asks_too_much_is_refused_before_any_work(raw: bytes, cost: Cost, mine: Wallet) -> None:
    file = codec.decode(raw[len(wallet.MAGIC) :], wallet._File, len(raw))
    checksum = wallet._checksum(wallet.MAGIC, cost, file.salt, file.nonce, file.sealed)
    hostile = msgspec.structs.replace(
        file, passes=cost.passes, memory_bytes=cost.memory_bytes, checksum=checksum
    )
    assert code_of(Wallet.opened, wallet.MAGIC + codec.encode(hostile), PASSPHRASE) == "wallet.too_costly"
    assert code_of(mine.sealed, PASSPHRASE, cost) == "wallet.too_costly"


def test_weaker_parameters_in_a_forged_file_do_not_open(raw: bytes) -> None:
    """Parameters are bound: a forger who mends the checksum is stopped by the tag."""
    file = codec.decode(raw[len(wallet.MAGIC) :], wallet._File, len(raw))
    cost = Cost(2, file.memory_bytes)
    checksum = wallet._checksum(wallet.MAGIC, cost, file.salt, file.nonce, file.sealed)
    forged = codec.encode(msgspec.structs.replace(file, passes=2, checksum=checksum))
    assert code_of(Wallet.opened, wallet.MAGIC + forged, PASSPHRASE) == "wallet.wrong_passphrase"


def test_a_newer_wallet_is_told_from_a_damaged_one() -> None:
    assert code_of(Wallet.opened, b"consilium wallet 4\nxyz", PASSPHRASE) == "wallet.wrong_version"
    assert code_of(Wallet.opened, b"consilium wallet x\nxyz", PASSPHRASE) == "wallet.damaged"
    assert code_of(Wallet.opened, bytes(wallet.WALLET_BYTES_MAX + 1), PASSPHRASE) == "wallet.too_large"


def test_contents_of_another_shape_are_called_damage() -> None:
    salt, nonce = bytes(16), bytes(24)
    key = wallet._stretch(PASSPHRASE.encode(), salt, CHEAP)
    sealed = boxes.encrypt(key, nonce, codec.encode(["label"]), wallet._associated(wallet.MAGIC, CHEAP, salt))
    checksum = wallet._checksum(wallet.MAGIC, CHEAP, salt, nonce, sealed)
    file = codec.encode(wallet._File(*CHEAP, salt, nonce, sealed, checksum))
    assert code_of(Wallet.opened, wallet.MAGIC + file, PASSPHRASE) == "wallet.damaged"


@pytest.mark.parametrize("passphrase", ["", "short", "x" * 1_025, "é" * 600, "\ud800" * 9])
def test_weak_passphrases_are_refused(mine: Wallet, passphrase: str) -> None:
    assert code_of(mine.sealed, passphrase, CHEAP) == "wallet.weak_passphrase"


def test_a_passphrase_typed_on_another_keyboard_opens() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Blåbærgrød é") for form in ("NFC", "NFD"))
    assert composed != decomposed
    mine = Wallet.create("x")
    assert same(Wallet.opened(mine.sealed(composed, CHEAP), decomposed), mine)


def test_an_existing_file_is_not_overwritten_unless_asked(mine: Wallet, tmp_path: Path) -> None:
    path = tmp_path / "wallet"
    path.write_bytes(b"precious")
    assert code_of(wallet.save, mine, path, PASSPHRASE, CHEAP) == "wallet.exists"
    assert path.read_bytes() == b"precious"
    wallet.save(mine, path, PASSPHRASE, CHEAP, replace=True)
    assert same(wallet.load(path, PASSPHRASE), mine)
    assert os.listdir(tmp_path) == ["wallet"]


def test_a_file_that_appears_meanwhile_is_not_overwritten(mine: Wallet, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "wallet"
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    path.write_bytes(b"precious")
    assert code_of(wallet.save, mine, path, PASSPHRASE, CHEAP) == "wallet.exists"
    assert path.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["wallet"]


def test_a_failed_write_leaves_the_old_file(mine: Wallet, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "wallet"
    wallet.save(mine, path, PASSPHRASE, CHEAP)
    before = path.read_bytes()

    def failing(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    assert (
        code_of(wallet.save, Wallet.create("y"), path, PASSPHRASE, CHEAP, replace=True) == "wallet.unwritable"
    )
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["wallet"]


def test_paths_that_are_no_wallet_are_refused(mine: Wallet, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path / "none", tmp_path, pipe):
        assert code_of(wallet.load, path, PASSPHRASE) == "wallet.missing"
    assert code_of(wallet.save, mine, tmp_path / "no" / "wallet", PASSPHRASE, CHEAP) == "wallet.unwritable"
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(10 * wallet.WALLET_BYTES_MAX)
    assert code_of(wallet.load, large, PASSPHRASE) == "wallet.too_large"


def test_no_secret_shows_in_text_or_errors(mine: Wallet, raw: bytes) -> None:
    secrets = (mine.signing.seed, mine.encryption_secret, mine.point_secret, mine._contents.root)
    shown = [
        repr(mine),
        str(mine),
        repr(mine._contents),
        repr(mine._contents.__rich_repr__()),
        repr(mine.encryption),
    ]
    try:
        Wallet.opened(raw, PASSPHRASE + "!")
    except Refused:
        shown.append(traceback.format_exc())
    assert len(shown) == 6
    for text in shown:
        assert PASSPHRASE not in text
        for secret in secrets:
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
    for secret in (*secrets, b"Ward 3"):
        assert secret not in raw


def test_labels_are_bounded() -> None:
    with pytest.raises(ValueError, match="label"):
        Wallet.create("x" * (wallet.LABEL_CHARS_MAX + 1))
    with pytest.raises(ValueError, match="role"):
        Wallet.create("x", "y" * (wallet.ROLE_CHARS_MAX + 1))
