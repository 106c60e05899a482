"""What commands are given: ids, times, passphrases, wallets, nodes. What is wrong is a Refused with one clear line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Final

import typer

from consilium.client import wallet as wallets
from consilium.client.did import KeyKind, parse_did
from consilium.client.rpc import RpcClient
from consilium.client.wallet import Wallet
from consilium.contracts.identity import IDENTITIES
from consilium.contracts.operation import ID_BYTES
from consilium.contracts.purposes import require_purpose
from consilium.contracts.teams import TEAMS
from consilium.ledger.crypto import DIGEST_BYTES
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import Genesis
from consilium.ledger.transaction import identity_of
from consilium.node import files, founding, opening
from consilium.node.cluster import rpc_url
from consilium.node.config import Config, load_config

PASSPHRASE_VARIABLE: Final = "CONSILIUM_PASSPHRASE"
INSTITUTION_VARIABLE: Final = opening.PASSPHRASE_VARIABLE


_HEX: Final = re.compile(r"[0-9a-f]*")
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([smhdwy])")
_UNITS: Final[Mapping[str, timedelta]] = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}


# --- ids and times --------------------------------------------------------------------------------------------------


def identity_id(text: str) -> bytes:
    """An identity: 32 hexadecimal digits, or the did:key of its first signing key."""
    if text.startswith("did:"):
        parsed = parse_did(text)
        if parsed.kind is not KeyKind.ED25519:
            raise Refused(
                "cli.bad_value", f"{text} is an encryption key; an identity is named by its signing key"
            )
        return identity_of(parsed.key)
    return hexadecimal(text, ID_BYTES, "an id")


def transaction_id(text: str) -> bytes:
    """A transaction's id: 64 hexadecimal digits."""
    return hexadecimal(text, DIGEST_BYTES, "a transaction's id")


def hexadecimal(text: str, size: int, what: str) -> bytes:
    """Bytes from hexadecimal digits of either case. Raises Refused `cli.bad_value`."""
    digits = text.strip().lower()
    if len(digits) != 2 * size or not _HEX.fullmatch(digits):
        raise Refused("cli.bad_value", f"{text[:100]!r}: {what} has {2 * size} hexadecimal digits")
    return bytes.fromhex(digits)


def moment(text: str, now_ms: int) -> int:
    """A moment as milliseconds since 1970: a duration from now (`90m`, `12h`, `30d`, `2w`, `1y`), a date-time with its
    zone, or a date, which means the end of that day in UTC."""
    matched = _DURATION.fullmatch(text)
    try:
        if matched:
            return now_ms + int(matched[1]) * (_UNITS[matched[2]] // timedelta(milliseconds=1))
        if "T" not in text and " " not in text:
            day = datetime.combine(datetime.strptime(text, "%Y-%m-%d").date(), time(), UTC)
            return _milliseconds(day + timedelta(days=1))
        given = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise Refused(
            "cli.bad_value", f"{text[:100]!r}: give 30d, 12h, 2026-12-31 or 2026-12-31T18:00:00+01:00"
        ) from None
    if given.tzinfo is None:
        raise Refused("cli.bad_value", f"{text}: a time needs its zone, such as Z or +01:00")
    return _milliseconds(given)


def purpose_code(text: str) -> str:
    """A code of HL7's PurposeOfUse. Raises Refused `consent.unknown_purpose`."""
    require_purpose(text)
    return text


def when(time_ms: int) -> str:
    """A moment for people, in UTC."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def _milliseconds(given: datetime) -> int:
    return (given - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


# --- secrets --------------------------------------------------------------------------------------------------------


def passphrase(
    file: Path | None, what: str, *, confirm: bool = False, variable: str = PASSPHRASE_VARIABLE
) -> str:
    """From the file, the environment, or whoever sits at the terminal. Raises Refused `cli.no_passphrase`."""
    found = optional_passphrase(file, variable)
    if found is not None:
        return found
    if not sys.stdin.isatty():
        raise Refused("cli.no_passphrase", f"for {what}")
    return str(typer.prompt(f"Passphrase of {what}", hide_input=True, confirmation_prompt=confirm, err=True))


def optional_passphrase(file: Path | None, variable: str = PASSPHRASE_VARIABLE) -> str | None:
    """From the file or the environment, or None."""
    if file is not None:
        return files.read_secret(file)
    return os.environ.get(variable) or None


def open_wallet(path: Path, passphrase_file: Path | None) -> Wallet:
    """A wallet from its file. Raises Refused `wallet.*`, `cli.no_passphrase`, `config.*`."""
    if not path.is_file():
        raise Refused("wallet.missing", f"{path}: there is no such file")
    return wallets.load(path, passphrase(passphrase_file, str(path)))


def secret_words(file: Path | None) -> str:
    """Recovery words from the file, or whoever sits at the terminal: never from an argument, which others can read.

    Raises Refused `cli.no_words`, `config.insecure_file`.
    """
    if file is not None:
        return files.read_secret(file)
    if not sys.stdin.isatty():
        raise Refused("cli.no_words")
    return str(typer.prompt("Recovery words", hide_input=True, err=True))


# --- nodes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """The node that a command talks to. A folder gives token, configuration and institution too."""

    url: str
    token: str | None = None
    config: Config | None = None

    def institution(self) -> Wallet:
        """The wallet of the node's institution. Raises Refused `cli.bad_value` where only an address was given."""
        if self.config is None:
            raise Refused(
                "cli.bad_value", f"{self.url}: give the node's folder: it has the institution's wallet"
            )
        return wallet_of(self.config)


def wallet_of(config: Config) -> Wallet:
    """The wallet of a node's institution. Raises Refused `wallet.*`, `cli.no_passphrase`, `config.*`."""
    section = config.custodian
    path = config.folder / (section.wallet_file or founding.WALLET_FILE)
    file = config.folder / section.passphrase_file if section.passphrase_file else None
    return wallets.load(path, passphrase(file, str(path), variable=INSTITUTION_VARIABLE))


def target(text: str) -> Target:
    """A node from its folder or address. Raises Refused `config.*` where the folder is none, `rpc.unreachable` where
    the node does not run."""
    if text.startswith(("http://", "https://")):
        return Target(text)
    config = node_config(Path(text))
    return Target(rpc_url(config), files.load_token(config.token_path), config)


async def require_known(rpc: RpcClient, identity: bytes) -> None:
    """Raises Refused `identity.unknown` where the ledger knows nobody, and no team, by this id: an empty list would say
    that there is nothing about somebody."""
    for slot in (IDENTITIES, TEAMS):
        raw, _ = await rpc.state(slot.key(identity))
        if raw is not None:
            return
    raise Refused("identity.unknown", identity.hex())


def node_config(folder: Path) -> Config:
    """The configuration of a node's folder."""
    if (folder / "node-0").is_dir() and not (folder / founding.CONFIG_FILE).exists():
        raise Refused(
            "cli.bad_value", f"{folder} is a cluster; name one of its nodes, such as {folder / 'node-0'}"
        )
    return load_config(folder / founding.CONFIG_FILE)


@asynccontextmanager
async def connected(node: Target) -> AsyncIterator[tuple[RpcClient, Genesis]]:
    """A client of the node, and the genesis of its network: from the node's folder, else the node's word."""
    async with RpcClient(node.url, node.token) as rpc:
        if node.config is not None and node.config.genesis_path.exists():
            yield rpc, founding.read_genesis(node.config.genesis_path)
        else:
            yield rpc, await rpc.genesis()
