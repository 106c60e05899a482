"""Founding a network: each institution makes its own keys; cards travel, secrets do not; genesis follows from cards.

A *founding card* is what an institution makes public of itself: its node's key and address, and the public halves of
its wallet. Both keys sign the card, so nobody founds a network with somebody else's keys. From the same cards, name
and time everybody builds the same genesis, and compares its chain id. Then each institution lets its folder join: the
genesis and the other nodes' addresses go in, and the stores are made.

Founders agree on *terms* too (`terms`): who issues credentials, who is an authority, and the network's settings.

A node's folder holds `consilium.toml`, `node.key`, `institution.wallet`, `rpc.token`, `card.json`, after joining also
`genesis.json`, `peers.toml` and the stores below `data`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from consilium.client import group
from consilium.client import wallet as wallets
from consilium.client.rpc_values import Hex32, Hex64, decode_json, encode_json
from consilium.contracts import identity
from consilium.contracts.registry import operation
from consilium.contracts.settings import DEFAULTS
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag, verify
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import (
    GENESIS_BYTES_MAX,
    GENESIS_VERSION,
    Genesis,
    genesis_from_json,
    genesis_to_json,
)
from consilium.ledger.transaction import Operation, identity_of
from consilium.ledger.validators import VALIDATORS_MAX, Validator
from consilium.node import files
from consilium.node.config import Config, Peer, load_config, read_peers, write_config, write_peers
from consilium.node.config_sections import host_and_port
from consilium.node.terms import NO_TERMS, Terms

CARD_FORMAT: Final = "consilium-card/1"
CARD_BYTES_MAX: Final = 16 * 1024
NAME_CHARS_MAX: Final = 64
CONFIG_FILE: Final = "consilium.toml"
CARD_FILE: Final = "card.json"
WALLET_FILE: Final = "institution.wallet"
INSTITUTION_ROLE: Final = "institution"
LOCAL_COST: Final = wallets.Cost(passes=1, memory_bytes=64 * 1024)
"""For a passphrase that is 32 random bytes: there is nothing to guess, so a guess need not be dear."""

_CARD_TAG: Final = Tag("consilium/founding-card/1")


class FoundingCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an institution makes public of itself. `node_proof` and `proof` are signatures over `digest`."""

    format: str
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARS_MAX)]
    address: Annotated[str, msgspec.Meta(max_length=300)]
    node_key: Hex32
    key: Hex32
    encryption_key: Hex32
    author_point: Hex32
    node_proof: Hex64
    proof: Hex64

    @property
    def institution(self) -> bytes:
        """The institution's identity (16 bytes)."""
        return identity_of(self.key)

    @property
    def digest(self) -> Digest:
        """What both keys sign."""
        return _card_digest(
            self.name, self.address, self.node_key, self.key, self.encryption_key, self.author_point
        )

    @property
    def peer(self) -> Peer:
        """The node as others dial it."""
        return Peer(key=self.node_key, address=self.address, name=self.name)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node listens, and at which address the other nodes reach it."""

    address: str
    p2p: tuple[str, int]
    rpc: tuple[str, int] = ("127.0.0.1", 0)
    role: str = "validator"
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further keys for the configuration, by section."""


def make_folder(
    folder: Path,
    name: str,
    place: Place,
    passphrase: str,
    *,
    passphrase_file: str = "",
    cost: wallets.Cost = wallets.STANDARD,
) -> FoundingCard:
    """Make an institution's keys, wallet, token and configuration in a new or empty folder, and its card.

    `passphrase_file` is where the running node will find the passphrase, relative to the folder; empty: it is given in
    the environment. Raises Refused `founding.folder_taken`, `founding.bad_address`, `wallet.*`, `config.*`.
    """
    _check_address(place.address)
    if not 1 <= len(name) <= NAME_CHARS_MAX:
        raise Refused("config.invalid_value", f"a name has 1 to {NAME_CHARS_MAX} characters")
    make_empty(folder)
    node_key = files.create_node_key(folder / "node.key")
    wallet = wallets.Wallet.create(name, INSTITUTION_ROLE)
    wallets.save(wallet, folder / WALLET_FILE, passphrase, cost)
    files.create_token(folder / "rpc.token")
    given: dict[str, dict[str, Any]] = {
        "node": {"name": name, "role": place.role},
        "p2p": {"host": place.p2p[0], "port": place.p2p[1]},
        "rpc": {"host": place.rpc[0], "port": place.rpc[1]},
        "custodian": {"wallet_file": WALLET_FILE, "passphrase_file": passphrase_file},
    }
    for section, values in place.settings.items():
        given.setdefault(section, {}).update(values)
    write_config(folder / CONFIG_FILE, given)
    public = (
        Hex32(node_key.public),
        Hex32(wallet.signing.public),
        Hex32(wallet.encryption_public),
        Hex32(wallet.point),
    )
    digest = _card_digest(name, place.address, *public)
    card = FoundingCard(
        CARD_FORMAT,
        name,
        place.address,
        *public,
        node_proof=Hex64(node_key.sign(digest)),
        proof=Hex64(wallet.signing.sign(digest)),
    )
    files.write_atomically(folder / CARD_FILE, card_to_json(card))
    return card


def card_to_json(card: FoundingCard) -> bytes:
    """The file form of a card."""
    return msgspec.json.format(encode_json(card), indent=2) + b"\n"


def read_card(path: Path) -> FoundingCard:
    """A card from its file, checked. Raises Refused `config.*` (the file), `founding.bad_card`."""
    raw = files.read_bounded(path, CARD_BYTES_MAX)
    try:
        card = decode_json(raw, FoundingCard)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("founding.bad_card", f"{path}: {error}") from None
    reason = _card_fault(card)
    if reason is not None:
        raise Refused("founding.bad_card", f"{path}: {reason}")
    return card


def found(network: str, cards: Sequence[FoundingCard], time_ms: int, terms: Terms = NO_TERMS) -> Genesis:
    """The genesis of a network of these institutions, the same whatever the order of the cards.

    Raises Refused `founding.bad_cards`: none, too many, or two with one key; `founding.bad_terms`: a role for an
    institution that is no founder.
    """
    if not 1 <= len(cards) <= VALIDATORS_MAX:
        raise Refused(
            "founding.bad_cards", f"{len(cards)} cards; a network has 1 to {VALIDATORS_MAX} founders"
        )
    ordered = sorted(cards, key=lambda card: card.node_key)
    for what in ("node_key", "key", "encryption_key", "address"):
        seen: dict[object, str] = {}
        for card in ordered:
            value = getattr(card, what)
            if value in seen:
                raise Refused("founding.bad_cards", f"{seen[value]} and {card.name} have the same {what}")
            seen[value] = card.name
    founders = {card.institution for card in ordered}
    for named in (*terms.issuers, *terms.authorities):
        if named not in founders:
            raise Refused("founding.bad_terms", f"{named.hex()} is no founder")
    genesis = Genesis(
        GENESIS_VERSION,
        network,
        time_ms,
        [Validator(bytes(card.node_key), card.institution) for card in ordered],
        [
            *(operation("identity.found", _founding(card, terms)) for card in ordered),
            *_settings(ordered, terms),
        ],
    )
    # Held to the bounds of the wire: a name that is too long is found here and not by a node.
    return codec.decode(codec.encode(genesis), Genesis, GENESIS_BYTES_MAX)


def join(
    folder: Path,
    genesis: Genesis,
    cards: Sequence[FoundingCard],
    environment: Mapping[str, str] = os.environ,
    *,
    newcomer: bool = False,
) -> Config:
    """Complete a folder with the genesis and the other nodes' addresses. Its stores are made by `stores.init_stores`.

    Joining the same network again adds the cards that are new, and replaces the addresses that changed.

    A `newcomer` is to become a validator of a network that others founded: it follows until governance has accepted
    its key. Raises Refused `founding.not_a_founder` where the genesis does not name any other validator,
    `founding.already_joined`, `config.*`.
    """
    config = load_config(folder / CONFIG_FILE, environment)
    own = files.load_node_key(config.key_path).public
    if config.genesis_path.exists():
        present = read_genesis(config.genesis_path)
        if present.chain_id != genesis.chain_id:
            raise Refused("founding.already_joined", f"{folder} belongs to {present.chain_id.hex()[:16]}…")
    if config.node.role == "validator" and not newcomer and own not in genesis.validator_set:
        raise Refused("founding.not_a_founder", f"node key {own.hex()}")
    files.write_atomically(config.genesis_path, genesis_to_json(genesis))
    earlier = read_peers(config.peers_path) if config.peers_path.exists() else []
    peers = {peer.key: peer for peer in earlier} | {card.node_key: card.peer for card in cards}
    write_peers(config.peers_path, [peer for key, peer in peers.items() if key != own])
    return load_config(folder / CONFIG_FILE, environment)


def has_joined(folder: Path, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a folder belongs to a network already. Raises Refused `config.*`."""
    return load_config(folder / CONFIG_FILE, environment).genesis_path.exists()


def without_address(config: Config, genesis: Genesis) -> list[Validator]:
    """The founders that a joined node does not know how to reach: no card of theirs was given."""
    known = {files.load_node_key(config.key_path).public, *(bytes(peer.key) for peer in config.p2p.peers)}
    return [one for one in genesis.validator_set.validators if one.key not in known]


def read_genesis(path: Path) -> Genesis:
    """A genesis file. Raises Refused `config.*` (the file), `genesis.malformed`."""
    return genesis_from_json(files.read_bounded(path, GENESIS_BYTES_MAX))


def make_empty(folder: Path) -> None:
    """Make the folder, or find it empty. Raises Refused `founding.folder_taken`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.scandir(folder) as items:
            taken = any(items)
    except OSError as error:
        raise Refused("founding.folder_taken", f"{folder}: {error.strerror}") from None
    if taken:
        raise Refused("founding.folder_taken", f"{folder} is not empty")


def _settings(cards: Sequence[FoundingCard], terms: Terms) -> list[Operation]:
    """A network of one founder has nobody to share a sensitive compartment with: it must say that one reads alone."""
    if terms.settings is not None:
        return [operation("settings.found", terms.settings)]
    if len(cards) > 1:
        return []
    return [operation("settings.found", msgspec.structs.replace(DEFAULTS, sensitive_threshold_min=1))]


def _founding(card: FoundingCard, terms: Terms) -> identity.FoundInstitution:
    return identity.FoundInstitution(
        bytes(card.key), bytes(card.encryption_key), bytes(card.author_point), terms.roles(card.institution)
    )


def _card_digest(
    name: str, address: str, node_key: bytes, key: bytes, encryption_key: bytes, author_point: bytes
) -> Digest:
    parts = (name, address, bytes(node_key), bytes(key), bytes(encryption_key), bytes(author_point))
    return _CARD_TAG.digest(codec.encode(parts))


def _card_fault(card: FoundingCard) -> str | None:
    if card.format != CARD_FORMAT:
        return f"its format is not {CARD_FORMAT!r}"
    try:
        host_and_port(card.address)
    except ValueError as error:
        return f"its address: {error}"
    if not group.is_point(card.author_point):
        return "its author_point is no point of the group"
    digest = card.digest
    if not verify(card.node_key, digest, card.node_proof) or not verify(card.key, digest, card.proof):
        return "a signature does not verify: the card was changed"
    return None


def _check_address(address: str) -> None:
    try:
        _, port = host_and_port(address)
    except ValueError as error:
        raise Refused("founding.bad_address", f"{address!r}: {error}") from None
    if port == 0:
        raise Refused("founding.bad_address", f"{address!r}: other nodes cannot dial port 0")
