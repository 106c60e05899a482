"""Small files beside a node's stores: keys and tokens that only their owner may read, notes written in one step.

A secret file that others can read is refused, not repaired: whoever could read it may have done so already.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from consilium.ledger.crypto import SEED_BYTES, SigningKey
from consilium.ledger.errors import Refused

SECRET_FILE_BYTES_MAX: Final = 4_096
TOKEN_BYTES: Final = 32
TOKEN_CHARS_MIN: Final = 32
TOKEN_CHARS_MAX: Final = 256
SECRET_MODE: Final = 0o600


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """A file's bytes. Raises Refused `config.missing`, `config.unreadable`, `config.malformed` (too long)."""
    try:
        with path.open("rb") as file:
            raw = file.read(bytes_max + 1)
    except FileNotFoundError:
        raise Refused("config.missing", f"{path}: there is no such file") from None
    except OSError as error:
        raise Refused("config.unreadable", f"{path}: {error.strerror}") from None
    if len(raw) > bytes_max:
        raise Refused("config.malformed", f"{path}: more than {bytes_max} bytes")
    return raw


def write_atomically(path: Path, raw: bytes, mode: int = 0o644) -> None:
    """Replace a file: readers see the old bytes or the new ones, and after a crash one of both is there."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _create(temporary, raw, mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def create_secret(path: Path, text: str) -> None:
    """Write a new file that its owner alone may read. Raises FileExistsError: a secret is never overwritten."""
    _create(path, f"{text}\n".encode("ascii"), SECRET_MODE)
    sync_folder(path.parent)


def read_secret(path: Path) -> str:
    """A secret file's text. Raises Refused `config.insecure_file` where others than its owner could read it."""
    raw = read_bounded(path, SECRET_FILE_BYTES_MAX)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise Refused("config.insecure_file", f"{path}: mode {mode:04o}; expected {SECRET_MODE:04o}")
    try:
        return raw.decode("ascii").strip()
    except UnicodeDecodeError:
        raise Refused("config.malformed_secret", f"{path}: not ASCII text") from None


def create_node_key(path: Path) -> SigningKey:
    """Make a node's key pair and keep its seed at `path`, in hexadecimal."""
    seed = secrets.token_bytes(SEED_BYTES)
    create_secret(path, seed.hex())
    return SigningKey(seed)


def load_node_key(path: Path) -> SigningKey:
    """The key pair of a seed file. Raises Refused `config.*`; the message never shows what the file holds."""
    text = read_secret(path)
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise Refused("config.malformed_secret", f"{path}: expected {2 * SEED_BYTES} hexadecimal digits")
    return SigningKey(seed)


def create_token(path: Path) -> str:
    """Make the bearer token of the RPC's privileged methods."""
    token = secrets.token_hex(TOKEN_BYTES)
    create_secret(path, token)
    return token


def load_token(path: Path) -> str:
    """The bearer token. Raises Refused `config.*`; the message never shows what the file holds."""
    token = read_secret(path)
    if not TOKEN_CHARS_MIN <= len(token) <= TOKEN_CHARS_MAX or not token.isprintable() or " " in token:
        expected = f"expected {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} printable characters without spaces"
        raise Refused("config.malformed_secret", f"{path}: {expected}")
    return token


def _create(path: Path, raw: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
