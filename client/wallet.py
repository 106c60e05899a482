"""Keys at rest: one file, one passphrase. The secrets exist in memory only while the Wallet does.

    file = MAGIC || canonical [argon2id passes, memory bytes, salt, nonce, sealed contents, checksum]

The key of the file is Argon2id of the passphrase; the contents are XChaCha20-Poly1305 under it, with magic and
parameters as associated data. The checksum needs no passphrase: it tells a damaged file from a wrong passphrase.
Whoever can write the file can forge it, and gains nothing: the tag stands behind it. Everything the wallet signs,
decrypts and opens with is derived from one 32-byte root, so that a backup of the file, once made, stays complete for
these; compartment secrets are random (a derived secret could never be forgotten), and need a new backup.

Sources: RFC 9106 section 4 (Argon2id; its second recommended choice: 3 passes over 64 MiB; libsodium has one lane);
RFC 8265 section 4.2 (passphrases are compared in normalisation form C).
"""

from __future__ import annotations

import os
import stat
import tempfile
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from nacl import exceptions as nacl_errors
from nacl import pwhash
from nacl.utils import random

from consilium.client import boxes, did, group
from consilium.client.sealing import AuthorKeys
from consilium.client.sharing import CompartmentSecret
from consilium.ledger import codec
from consilium.ledger.codec import Bytes16, Bytes32, Uint
from consilium.ledger.crypto import SigningKey, Tag
from consilium.ledger.errors import Refused
from consilium.ledger.transaction import identity_of

MAGIC_WORD: Final = b"consilium wallet "
MAGIC: Final = MAGIC_WORD + b"3\n"
MAGIC_2: Final = MAGIC_WORD + b"2\n"
MAGIC_1: Final = MAGIC_WORD + b"1\n"
"""Of files without blindings, and of files that do not say for whom their keys speak either: read, not written."""
WALLET_BYTES_MAX: Final = 4 * 1024 * 1024
COMPARTMENTS_MAX: Final = 4_096
BLINDINGS_MAX: Final = 64
LABEL_CHARS_MAX: Final = 128
ROLE_CHARS_MAX: Final = 32
PASSPHRASE_CHARS_MIN: Final = 8
PASSPHRASE_BYTES_MAX: Final = 1_024
PASSES_MAX: Final = 8
MEMORY_BYTES_MIN: Final = 8 * 1024
MEMORY_BYTES_MAX: Final = 512 * 1024 * 1024
ROOT_BYTES: Final = 32

_SIGNING: Final = Tag("consilium/wallet-signing/1")
_ENCRYPTION: Final = Tag("consilium/wallet-encryption/1")
_POINT: Final = Tag("consilium/wallet-point/1")
_CLASS: Final = Tag("consilium/wallet-class-blinding/1")
_CHECKSUM: Final = Tag("consilium/wallet-checksum/1")

Salt = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Nonce = Annotated[bytes, msgspec.Meta(min_length=24, max_length=24)]


class Cost(NamedTuple):
    """What one guess of the passphrase costs: Argon2id's passes, and its memory in bytes."""

    passes: int
    memory_bytes: int


STANDARD: Final = Cost(passes=3, memory_bytes=64 * 1024 * 1024)


class _File(codec.Wire, frozen=True):
    passes: Uint
    memory_bytes: Uint
    salt: Salt
    nonce: Nonce
    sealed: Annotated[bytes, msgspec.Meta(max_length=WALLET_BYTES_MAX)]
    checksum: Bytes32


class KeptCompartment(codec.Wire, frozen=True):
    """The secret of one epoch of a compartment that this wallet made."""

    compartment: Bytes16
    epoch: Uint
    secret: CompartmentSecret


class KeptBlinding(codec.Wire, frozen=True):
    """What hides the class of a compartment that another wallet of the same identity opened."""

    compartment: Bytes16
    blinding: Bytes32


class _Contents1(codec.Wire, frozen=True):
    label: Annotated[str, msgspec.Meta(max_length=LABEL_CHARS_MAX)]
    role: Annotated[str, msgspec.Meta(max_length=ROLE_CHARS_MAX)]
    root: Bytes32
    compartments: Annotated[tuple[KeptCompartment, ...], msgspec.Meta(max_length=COMPARTMENTS_MAX)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class _Contents2(_Contents1, frozen=True):
    speaks_for: Bytes16 | None
    """Another identity than that of the signing key: where keys were rotated, or taken over with a new wallet."""


class _Contents(_Contents2, frozen=True):
    blindings: Annotated[tuple[KeptBlinding, ...], msgspec.Meta(max_length=BLINDINGS_MAX)]
    """Of compartments that an earlier wallet opened; of all others they follow from the root."""


class Wallet:
    """An identity's keys. Immutable: what changes a wallet returns another one, to be saved."""

    __slots__ = ("_contents", "encryption", "identity", "point", "point_secret", "signing")

    def __init__(self, contents: _Contents) -> None:
        self._contents = contents
        self.signing: Final = SigningKey(_SIGNING.digest(contents.root))
        """Signs transactions and headers."""
        self.encryption: Final = boxes.box_key_of(_ENCRYPTION.digest(contents.root))
        """X25519: receives headers, share parcels, releases."""
        self.point_secret: Final = group.hash_to_scalar(_POINT, contents.root)
        """`a`: opens what its institution authored."""
        self.point: Final = group.multiply_base(self.point_secret)
        """`A = a · G`, public."""
        self.identity: Final = contents.speaks_for or identity_of(self.signing.public)
        """Whom this wallet speaks for (16 bytes): the identity that was founded with its signing key, or another."""

    @classmethod
    def create(cls, label: str, role: str = "") -> Wallet:
        """A wallet with a fresh root. The label is for its owner, and never leaves the encrypted file."""
        if len(label) > LABEL_CHARS_MAX or len(role) > ROLE_CHARS_MAX:
            raise ValueError(f"a label has at most {LABEL_CHARS_MAX} characters, a role {ROLE_CHARS_MAX}")
        return cls.of_root(random(ROOT_BYTES), label, role)

    @classmethod
    def of_root(cls, root: bytes, label: str = "", role: str = "") -> Wallet:
        """The wallet with a known root (32 bytes). Everything but the secrets of compartments follows from it."""
        return cls(_Contents(label, role, root, (), None, ()))

    @property
    def root(self) -> bytes:
        """The 32 bytes from which all keys follow: for recovery words and pseudonyms, and for nobody's eyes."""
        return self._contents.root

    def speaking_for(self, identity: bytes) -> Wallet:
        """This wallet, as one of an identity (16 bytes) that was founded with another key."""
        other = None if identity == identity_of(self.signing.public) else identity
        return Wallet(msgspec.structs.replace(self._contents, speaks_for=other))

    @property
    def label(self) -> str:
        """What its owner calls it."""
        return self._contents.label

    @property
    def role(self) -> str:
        """What it is used for, as its owner says."""
        return self._contents.role

    @property
    def encryption_public(self) -> bytes:
        """The X25519 key (32 bytes) that others seal to."""
        return self.encryption.public

    @property
    def encryption_secret(self) -> bytes:
        """The X25519 secret (32 bytes)."""
        return self.encryption.secret

    @property
    def did(self) -> str:
        """The did:key of the signing key."""
        return did.did_of_signing_key(self.signing.public)

    @property
    def author_keys(self) -> AuthorKeys:
        """What `sealing.seal` needs of an author."""
        return AuthorKeys(self.signing, self.point)

    @property
    def compartments(self) -> tuple[KeptCompartment, ...]:
        """The compartment secrets that are kept here."""
        return self._contents.compartments

    def compartment_secret(self, compartment: bytes, epoch: int) -> CompartmentSecret | None:
        """The secret of a compartment's epoch, when it is kept here."""
        for kept in self._contents.compartments:
            if (kept.compartment, kept.epoch) == (compartment, epoch):
                return kept.secret
        return None

    def class_blinding(self, compartment: bytes) -> bytes:
        """What hides the class of a compartment in its commitment (32 bytes): kept (`knowing`), else from the root."""
        for kept in self._contents.blindings:
            if kept.compartment == compartment:
                return kept.blinding
        return _CLASS.digest(self._contents.root, compartment)

    def keeping(self, *added: KeptCompartment) -> Wallet:
        """This wallet with further compartment secrets; one that is kept already is replaced.

        Raises Refused `wallet.full` beyond COMPARTMENTS_MAX.
        """
        places = {(kept.compartment, kept.epoch): kept for kept in (*self._contents.compartments, *added)}
        if len(places) > COMPARTMENTS_MAX:
            raise Refused("wallet.full", f"a wallet keeps at most {COMPARTMENTS_MAX} compartment secrets")
        return Wallet(msgspec.structs.replace(self._contents, compartments=tuple(places.values())))

    def knowing(self, *blindings: KeptBlinding) -> Wallet:
        """This wallet, for compartments whose classes an earlier wallet of the same identity hid.

        Raises Refused `wallet.full` beyond BLINDINGS_MAX.
        """
        known = {kept.compartment: kept for kept in (*self._contents.blindings, *blindings)}
        if len(known) > BLINDINGS_MAX:
            raise Refused("wallet.full", f"a wallet keeps at most {BLINDINGS_MAX} blindings")
        return Wallet(msgspec.structs.replace(self._contents, blindings=tuple(known.values())))

    def sealed(self, passphrase: str, cost: Cost = STANDARD) -> bytes:
        """The bytes of the wallet's file. Takes about 0.1 s and 64 MiB by design: call it from a thread.

        Raises Refused `wallet.weak_passphrase`.
        """
        secret = _passphrase(passphrase)
        _check_cost(cost)
        salt, nonce = random(16), random(boxes.CIPHER_NONCE_BYTES)
        key = _stretch(secret, salt, cost)
        sealed = boxes.encrypt(key, nonce, codec.encode(self._contents), _associated(MAGIC, cost, salt))
        checksum = _checksum(MAGIC, cost, salt, nonce, sealed)
        return MAGIC + codec.encode(_File(cost.passes, cost.memory_bytes, salt, nonce, sealed, checksum))

    @classmethod
    def opened(cls, raw: bytes, passphrase: str) -> Wallet:
        """The wallet in the bytes of a file, which may be hostile. Costs as `sealed`.

        Raises Refused: `wallet.too_large`, `wallet.wrong_version`, `wallet.damaged`, `wallet.too_costly`,
        `wallet.wrong_passphrase`.
        """
        magic, file = _parse(raw)
        cost = Cost(file.passes, file.memory_bytes)
        _check_cost(cost)
        try:
            key = _stretch(_passphrase(passphrase), file.salt, cost)
            plain = boxes.decrypt(key, file.nonce, file.sealed, _associated(magic, cost, file.salt))
        except Refused as refusal:
            if refusal.code in ("sealing.damaged", "wallet.weak_passphrase"):
                raise Refused("wallet.wrong_passphrase") from None
            raise
        try:
            if magic == MAGIC:
                return cls(codec.decode(plain, _Contents, WALLET_BYTES_MAX))
            kind = _Contents2 if magic == MAGIC_2 else _Contents1
            old = codec.decode(plain, kind, WALLET_BYTES_MAX)
            speaks_for = old.speaks_for if isinstance(old, _Contents2) else None
            return cls(_Contents(old.label, old.role, old.root, old.compartments, speaks_for, ()))
        except Refused:
            raise Refused("wallet.damaged", "the wallet's contents are not of this version") from None

    def __repr__(self) -> str:
        return f"Wallet({self.did})"


def save(
    wallet: Wallet, path: Path, passphrase: str, cost: Cost = STANDARD, *, replace: bool = False
) -> None:
    """Write a wallet so that a crash leaves the old file or the new one; only its owner may read it.

    Raises Refused: `wallet.exists` unless `replace`, `wallet.unwritable`, `wallet.weak_passphrase`.
    """
    if not replace and os.path.lexists(path):
        raise Refused("wallet.exists", f"{path} exists")
    require_passphrase(passphrase, str(path))
    raw = wallet.sealed(passphrase, cost)
    try:
        _write(path, raw, replace)
    except FileExistsError:
        raise Refused("wallet.exists", f"{path} exists") from None
    except OSError as error:
        raise Refused("wallet.unwritable", f"{path}: {error.strerror}") from None


def require_passphrase(passphrase: str, what: str) -> None:
    """Raises Refused `wallet.weak_passphrase`, for `what`, where no wallet is sealed under this passphrase."""
    try:
        _passphrase(passphrase)
    except Refused as refusal:
        raise Refused(refusal.code, f"{what}: {refusal.detail}") from None


def load(path: Path, passphrase: str) -> Wallet:
    """Read and open a wallet. Raises Refused `wallet.missing`, and as `Wallet.opened`, with the file's name."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Refused("wallet.missing", "it is no regular file")
            return Wallet.opened(file.read(WALLET_BYTES_MAX + 1), passphrase)
    except OSError as error:
        raise Refused("wallet.missing", f"{path}: {error.strerror}") from None
    except Refused as refusal:  # commands open two wallets: people must know which is meant
        raise Refused(refusal.code, f"{path}: {refusal.detail or refusal.entry.cause}") from None


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _write(path: Path, raw: bytes, replace: bool) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".wallet-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(descriptor)
        if replace:
            os.replace(name, path)
        else:
            os.link(name, path)  # fails where a rename would overwrite what appeared meanwhile
            os.unlink(name)
    except BaseException:
        os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parse(raw: bytes) -> tuple[bytes, _File]:
    if len(raw) > WALLET_BYTES_MAX:
        raise Refused("wallet.too_large", f"more than {WALLET_BYTES_MAX} bytes")
    magic = raw[: len(MAGIC)]
    if magic not in (MAGIC, MAGIC_2, MAGIC_1):
        version, newline, _ = raw[len(MAGIC_WORD) : len(MAGIC_WORD) + 4].partition(b"\n")
        if raw.startswith(MAGIC_WORD) and newline and version.isdigit():
            raise Refused("wallet.wrong_version", f"version {int(version)}; this program knows 1 and 2")
        raise Refused("wallet.damaged", "it does not start as a wallet does")
    try:
        file = codec.decode(raw[len(MAGIC) :], _File, WALLET_BYTES_MAX)
    except Refused as refusal:
        raise Refused("wallet.damaged", f"its structure is broken ({refusal.code})") from None
    cost = Cost(file.passes, file.memory_bytes)
    if file.checksum != _checksum(magic, cost, file.salt, file.nonce, file.sealed):
        raise Refused("wallet.damaged", "its checksum does not match")
    return magic, file


def _check_cost(cost: Cost) -> None:
    if not (1 <= cost.passes <= PASSES_MAX and MEMORY_BYTES_MIN <= cost.memory_bytes <= MEMORY_BYTES_MAX):
        raise Refused("wallet.too_costly", f"{cost.passes} passes over {cost.memory_bytes} bytes")


def _passphrase(text: str) -> bytes:
    normalised = unicodedata.normalize("NFC", text)
    try:
        encoded = normalised.encode()
    except UnicodeEncodeError:
        raise Refused("wallet.weak_passphrase", "it holds what is no Unicode character") from None
    if len(normalised) < PASSPHRASE_CHARS_MIN or len(encoded) > PASSPHRASE_BYTES_MAX:
        raise Refused(
            "wallet.weak_passphrase", f"{PASSPHRASE_CHARS_MIN} characters to {PASSPHRASE_BYTES_MAX} bytes"
        )
    return encoded


def _stretch(passphrase: bytes, salt: bytes, cost: Cost) -> bytes:
    try:
        return pwhash.argon2id.kdf(
            boxes.CIPHER_KEY_BYTES, passphrase, salt, opslimit=cost.passes, memlimit=cost.memory_bytes
        )
    except nacl_errors.RuntimeError:
        raise Refused(
            "wallet.too_costly", f"this computer has not {cost.memory_bytes} bytes to spare"
        ) from None


def _associated(magic: bytes, cost: Cost, salt: bytes) -> bytes:
    return magic + codec.encode([cost.passes, cost.memory_bytes, salt])


def _checksum(magic: bytes, cost: Cost, salt: bytes, nonce: bytes, sealed: bytes) -> bytes:
    return _CHECKSUM.digest(_associated(magic, cost, salt), nonce, sealed)
