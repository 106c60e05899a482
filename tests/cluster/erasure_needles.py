"""What must not be left of an erased record, as bytes to look for; and every byte of a folder, to look in.

Windows are short and many: LevelDB cuts its log into blocks of 32 KiB, and a window across a cut is not found whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from consilium.client import group, wrapping
from consilium.client.envelope import Context, parse
from consilium.client.wallet import Wallet
from consilium.client.wrapping import Recipient
from consilium.node.backup_format import BackupReader
from consilium.storage import schema

WINDOW_BYTES = 40
WINDOWS_MAX = 200
VAULT, SHARES = 1, 2


@dataclass(frozen=True)
class Needles:
    """By name: windows of a thing, and whether one of them, found, is the thing found."""

    windows: Mapping[str, list[bytes]]

    def found(self, folder: Path) -> dict[str, list[str]]:
        """The things of which a window is in a file below the folder, each with the files."""
        hits: dict[str, list[str]] = {}
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            try:
                raw = path.read_bytes()
            except FileNotFoundError:  # a running store replaces its files
                continue
            for name, windows in self.windows.items():
                if any(window in raw for window in windows):
                    hits.setdefault(name, []).append(str(path.relative_to(folder)))
        return hits

    def names(self) -> set[str]:
        return set(self.windows)

    def only(self, names: Iterable[str]) -> Needles:
        return Needles({name: self.windows[name] for name in names})

    def joined(self, other: Needles) -> Needles:
        return Needles({**self.windows, **other.windows})


def windows_of(raw: bytes) -> list[bytes]:
    """Windows all over a thing."""
    step = max(WINDOW_BYTES, len(raw) // WINDOWS_MAX)
    return [raw[at : at + WINDOW_BYTES] for at in range(0, max(1, len(raw) - WINDOW_BYTES), step)]


def data_key_of(envelope: bytes, context: Context, author: Wallet) -> bytes:
    """The key that the record was encrypted with, as its author can get it."""
    head = parse(envelope).head
    point = group.multiply_base(author.point_secret)
    shared = group.multiply(author.point_secret, head.author_wrap.point)
    return wrapping.unwrap_key(head, Recipient.AUTHOR, point, shared, context)


def of_envelope(name: str, envelope: bytes, context: Context, author: Wallet) -> Needles:
    """Ciphertext, both wraps, the sealed header: all that an envelope is."""
    parsed = parse(envelope)
    return Needles(
        {
            f"{name}/ciphertext": windows_of(bytes(parsed.stream)),
            f"{name}/wrap": [parsed.head.wrap.sealed_key],
            f"{name}/author_wrap": [parsed.head.author_wrap.sealed_key],
            f"{name}/header": windows_of(parsed.head.header.body),
        }
    )


def of_secrets(name: str, payload: bytes, data_key: bytes) -> Needles:
    """What no node may ever hold: the payload and its key."""
    return Needles({f"{name}/payload": windows_of(payload), f"{name}/data_key": [data_key]})


def shares_in(backup: Path, compartments: Iterable[bytes]) -> Needles:
    """The sealed shares of these compartments that a node's backup holds."""
    wanted = set(compartments)
    found: dict[str, list[bytes]] = {}
    with backup.open("rb") as file:
        for place, rows in BackupReader(file).rows():
            for key, value in rows:
                if place == SHARES and key[:1] == schema.SHARE and key[1:17] in wanted:
                    found[f"share/{key[1:17].hex()}/{value[:4].hex()}"] = windows_of(value)
    return Needles(found)
