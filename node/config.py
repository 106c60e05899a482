"""What a node is told before it starts: one TOML file, single values overridden by the environment, one frozen Config.

Each key's bounds and its sentence stand once, in the section's Struct: reading checks them, `write_config` prints
them into the file that `node init` makes. A key that nobody knows is refused rather than ignored: a misspelt limit
would be no limit. `CONSILIUM_<SECTION>_<KEY>` overrides a key (lists with commas); relative paths start at the file's
own folder. A port of 0 is asked from the system, and the node writes what it got to `ports.json`.

Source: TOML 1.0, toml.io.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

from consilium.client.rpc_values import Hex32, from_json_value
from consilium.ledger.errors import Refused
from consilium.node.files import read_bounded, write_atomically

CONFIG_BYTES_MAX: Final = 256 * 1024
PEERS_MAX: Final = 512
ENVIRONMENT_PREFIX: Final = "CONSILIUM_"
PORTS_FILE: Final = "ports.json"

_ADDRESS: Final = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9._-]{1,253})):([0-9]{1,5})")

Port = Annotated[int, Meta(ge=0, le=65_535)]
Text = Annotated[str, Meta(min_length=1, max_length=1_024)]
Host = Annotated[str, Meta(min_length=1, max_length=253)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


_T = TypeVar("_T", bound=_Section)


class Peer(_Section, frozen=True):
    """Another node: its public key, and where it listens."""

    key: Annotated[Hex32, Meta(description="The node's public key, 64 hexadecimal digits.")]
    address: Annotated[str, Meta(max_length=300, description='"host:port", or "[IPv6]:port".')]
    name: Annotated[str, Meta(max_length=64, description="A name for people.")] = ""

    def __post_init__(self) -> None:
        host_and_port(self.address)

    @property
    def host(self) -> str:
        """The address's host."""
        return host_and_port(self.address)[0]

    @property
    def port(self) -> int:
        """The address's port."""
        return host_and_port(self.address)[1]


class NodeSection(_Section, frozen=True):
    """Who this node is and where its files lie."""

    name: Annotated[
        str, Meta(min_length=1, max_length=64, description="A name for people: logs, status.")
    ] = "node"
    role: Annotated[
        Literal["validator", "observer"],
        Meta(description="A validator votes; an observer follows and serves."),
    ] = "validator"
    data_dir: Annotated[Text, Meta(description="Chain, promise, vault and ports.json.")] = "data"
    key_file: Annotated[Text, Meta(description="The node's Ed25519 seed in hexadecimal; mode 0600.")] = (
        "node.key"
    )
    genesis_file: Annotated[Text, Meta(description="The network's genesis document.")] = "genesis.json"


class P2pSection(_Section, frozen=True):
    """How nodes reach this one, and whom it dials."""

    host: Annotated[Host, Meta(description="The address to listen on for nodes.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="0 asks the system for a free port.")] = 0
    peers_file: Annotated[Text, Meta(description="More peers, as [[peers]]; it may be missing.")] = (
        "peers.toml"
    )
    peers: Annotated[list[Peer], Meta(max_length=PEERS_MAX, description="The other nodes.")] = []


class RpcSection(_Section, frozen=True):
    """The JSON-RPC face, for the institution's own programs."""

    host: Annotated[
        Host, Meta(description="The address to listen on. Beyond loopback, set tls_certificate.")
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="0 asks the system for a free port.")] = 0
    token_file: Annotated[Text, Meta(description="The bearer token of privileged methods; mode 0600.")] = (
        "rpc.token"
    )
    tls_certificate: Annotated[str, Meta(max_length=1_024, description="PEM chain; empty: plain HTTP.")] = ""
    tls_key: Annotated[str, Meta(max_length=1_024, description="PEM key of the certificate.")] = ""
    hosts: Annotated[
        list[Host],
        Meta(max_length=64, description="Names that clients may call this node; loopback and IPs always."),
    ] = []
    cors_origins: Annotated[
        list[Host],
        Meta(max_length=64, description='Web origins whose pages may call, as "https://portal.example".'),
    ] = []
    connections_max: Annotated[int, Meta(ge=1, le=65_536, description="Open connections.")] = 512
    in_flight_max: Annotated[int, Meta(ge=1, le=65_536, description="Calls running at a time, in all.")] = (
        1_024
    )
    connection_in_flight_max: Annotated[
        int, Meta(ge=1, le=4_096, description="Unanswered requests of one WebSocket.")
    ] = 64
    batch_requests_max: Annotated[int, Meta(ge=1, le=1_000, description="Requests in one batch.")] = 50
    body_bytes_max: Annotated[
        int, Meta(ge=1_024, le=256 * 1024 * 1024, description="Bytes of one body or WebSocket message.")
    ] = 16 * 1024 * 1024
    subscriptions_max: Annotated[int, Meta(ge=1, le=256, description="Subscriptions of one WebSocket.")] = 16
    slow_subscriber_timeout_ms: Annotated[
        int, Meta(ge=10, le=600_000, description="A write that takes longer drops its subscriber.")
    ] = 10_000


class ConsensusSection(_Section, frozen=True):
    """Timers of agreement. They may differ between nodes; safety never depends on them."""

    view_timeout_ms: Annotated[
        int, Meta(ge=20, le=60_000, description="Patience with a primary before a view change.")
    ] = 1_000
    view_timeout_max_ms: Annotated[
        int,
        Meta(ge=20, le=600_000, description="The growing timer's cap: the stated assumption on synchrony."),
    ] = 30_000
    clock_skew_max_ms: Annotated[
        int,
        Meta(ge=10, le=600_000, description="How far a fresh proposal's time may be off this node's clock."),
    ] = 10_000


class StorageSection(_Section, frozen=True):
    """What is kept on disk, and the memory that serves it."""

    keep_blocks: Annotated[int, Meta(ge=0, description="Blocks kept below the tip; 0 keeps all.")] = 0
    write_buffer_bytes: Annotated[
        int, Meta(ge=64 * 1024, le=2**30, description="LevelDB's write buffer.")
    ] = 64 * 1024 * 1024
    cache_bytes: Annotated[int, Meta(ge=64 * 1024, le=2**34, description="LevelDB's block cache.")] = (
        64 * 1024 * 1024
    )


class MempoolSection(_Section, frozen=True):
    """What may wait for a block here."""

    transactions_max: Annotated[int, Meta(ge=1, le=1_000_000, description="Transactions that wait.")] = 20_000
    bytes_max: Annotated[int, Meta(ge=1024 * 1024, le=2**32, description="Bytes of them.")] = 64 * 1024 * 1024
    sender_transactions_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Transactions that wait, of one sender.")
    ] = 5_000
    batch_delay_ms: Annotated[
        int, Meta(ge=0, le=10_000, description="How long a first transaction waits for company in its batch.")
    ] = 5


class CustodianSection(_Section, frozen=True):
    """The institution's wallet, with which this node keeps shares and obeys decisions. Empty: it keeps none."""

    wallet_file: Annotated[str, Meta(max_length=1_024, description="The institution's wallet.")] = ""
    passphrase_file: Annotated[
        str,
        Meta(max_length=1_024, description="Its passphrase; mode 0600. Empty: CONSILIUM_WALLET_PASSPHRASE."),
    ] = ""
    release_staleness_max_ms: Annotated[
        int, Meta(ge=1_000, le=3_600_000, description="Nothing is released on a tip older than this.")
    ] = 60_000


class LogSection(_Section, frozen=True):
    """Logs go to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least that is logged.")
    ] = "info"
    format: Annotated[
        Literal["json", "console"], Meta(description="One JSON object a line, or columns for a person.")
    ] = "json"


class Config(_Section, frozen=True):
    """Everything. Made by `load_config` alone, which also resolves the paths."""

    folder: Path
    node: NodeSection
    p2p: P2pSection
    rpc: RpcSection
    consensus: ConsensusSection
    storage: StorageSection
    mempool: MempoolSection
    custodian: CustodianSection
    log: LogSection

    @property
    def data_dir(self) -> Path:
        """Where the node keeps what it may not lose."""
        return self.folder / self.node.data_dir

    @property
    def key_path(self) -> Path:
        """The seed file."""
        return self.folder / self.node.key_file

    @property
    def genesis_path(self) -> Path:
        """The genesis file."""
        return self.folder / self.node.genesis_file

    @property
    def token_path(self) -> Path:
        """The RPC token file."""
        return self.folder / self.rpc.token_file

    @property
    def peers_path(self) -> Path:
        """The file of further peers."""
        return self.folder / self.p2p.peers_file

    @property
    def ports_path(self) -> Path:
        """Where the actual ports are written."""
        return self.data_dir / PORTS_FILE


SECTIONS: Final[dict[str, type[_Section]]] = {
    "node": NodeSection,
    "p2p": P2pSection,
    "rpc": RpcSection,
    "consensus": ConsensusSection,
    "storage": StorageSection,
    "mempool": MempoolSection,
    "custodian": CustodianSection,
    "log": LogSection,
}


class _PeersFile(_Section, frozen=True):
    peers: Annotated[list[Peer], Meta(max_length=PEERS_MAX)] = []


def load_config(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the file, then the environment. Raises Refused `config.*`: file, key and what was expected."""
    document = _read_toml(path)
    unknown = sorted(document.keys() - SECTIONS.keys())
    if unknown:
        known = ", ".join(f"[{name}]" for name in SECTIONS)
        raise Refused("config.unknown_key", f"{path}: {unknown[0]}: expected one of {known}")
    given: dict[str, dict[str, Any]] = {}
    for name in SECTIONS:
        section = document.get(name, {})
        if not isinstance(section, dict):
            raise Refused("config.invalid_value", f"{path}: {name}: expected a table, [{name}]")
        given[name] = dict(section)
    sections = {name: _section(path, name, kind, given[name], environment) for name, kind in SECTIONS.items()}
    _refuse_strays(environment)
    config = Config(folder=path.resolve().parent, **sections)
    _check_whole(path, config)
    extra = read_peers(config.peers_path) if config.peers_path.exists() else []
    peers = _without_repetition(path, [*config.p2p.peers, *extra])
    return msgspec.structs.replace(config, p2p=msgspec.structs.replace(config.p2p, peers=peers))


def read_peers(path: Path) -> list[Peer]:
    """The peers of a peers file. Raises Refused `config.*`."""
    return _convert(str(path), "", _read_toml(path), _PeersFile).peers


def write_peers(path: Path, peers: Sequence[Peer]) -> None:
    """Write a peers file in one step: a reader sees the old one or the new one."""
    lines = [
        "# The other nodes of the network. Written by consilium; edits are kept until it is written again."
    ]
    for peer in peers:
        lines += ["", "[[peers]]", *_peer_lines(peer)]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def write_config(path: Path, given: Mapping[str, Mapping[str, Any]], peers: Sequence[Peer] = ()) -> None:
    """Write a commented file: the given values as they are, every other key as a comment with its default.

    Raises Refused `config.*` where the values would not load, and FileExistsError where there is a file already.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists")
    for name, values in given.items():
        if name not in SECTIONS:
            raise Refused("config.unknown_key", f"{path}: {name}")
        _convert(str(path), name, dict(values), SECTIONS[name])
    lines = [
        "# A Consilium node. Lines that start with # show the defaults.",
        f"# {ENVIRONMENT_PREFIX}<SECTION>_<KEY> in the environment overrides a key.",
    ]
    for name, kind in SECTIONS.items():
        lines += ["", f"# {(kind.__doc__ or '').strip()}", f"[{name}]"]
        lines += _section_lines(kind, given.get(name, {}))
    for peer in peers:
        lines += ["", "[[p2p.peers]]", *_peer_lines(peer)]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def write_ports(config: Config, ports: Mapping[str, int]) -> None:
    """Tell other programs of this machine which ports the node got, e.g. `{"p2p": 40123, "rpc": 40124}`."""
    write_atomically(config.ports_path, json.dumps(dict(ports)).encode() + b"\n")


def read_ports(path: Path) -> dict[str, int]:
    """The ports that a node wrote. Raises Refused `config.missing` while it has not started yet."""
    raw = read_bounded(path, CONFIG_BYTES_MAX)
    try:
        return msgspec.json.decode(raw, type=dict[str, Port])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("config.malformed", f"{path}: {error}") from None


def host_and_port(address: str) -> tuple[str, int]:
    """Split `host:port` or `[IPv6]:port`. Raises ValueError with a sentence."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[3]) > 65_535:
        raise ValueError("Expected an address, `host:port` or `[IPv6]:port`")
    return match[1] or match[2], int(match[3])


def _read_toml(path: Path) -> dict[str, Any]:
    raw = read_bounded(path, CONFIG_BYTES_MAX)
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused("config.malformed", f"{path}: the byte at offset {error.start} is not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Refused("config.malformed", f"{path}: {error}") from None


def _section(
    path: Path, name: str, kind: type[_Section], given: dict[str, Any], environment: Mapping[str, str]
) -> Any:
    """One section: the file's values checked first, so that an error names where it stands."""
    _convert(str(path), name, given, kind)
    for field in msgspec.structs.fields(kind):
        variable = f"{ENVIRONMENT_PREFIX}{name}_{field.name}".upper()
        if variable not in environment or field.name == "peers":
            continue
        text = environment[variable]
        is_list = isinstance(field.default_factory, type) and issubclass(field.default_factory, list)
        value: Any = [item.strip() for item in text.split(",") if item.strip()] if is_list else text
        try:
            given[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError as error:
            raise Refused("config.invalid_value", f"environment: {variable}: {_sentence(error)}") from None
    return _convert("environment", name, given, kind)


def _convert(place: str, section: str, given: dict[str, Any], kind: type[_T]) -> _T:
    known = set(kind.__struct_fields__)
    prefix = f"[{section}] " if section else ""
    for key in given:
        if key not in known:
            expected = ", ".join(sorted(known))
            raise Refused("config.unknown_key", f"{place}: {prefix}{key}: expected one of {expected}")
    try:
        return from_json_value(given, kind)
    except msgspec.ValidationError as error:
        sentence = str(error)
        where = re.search(r" - at `\$\.?(.*)`$", sentence)
        key = where[1] if where else ""
        raise Refused("config.invalid_value", f"{place}: {prefix}{key}: {_sentence(error)}") from None


def _sentence(error: msgspec.ValidationError) -> str:
    return str(error).split(" - at `", 1)[0]


def _refuse_strays(environment: Mapping[str, str]) -> None:
    """A variable that names a section but none of its keys is a misspelling."""
    known = {
        f"{ENVIRONMENT_PREFIX}{name}_{field}".upper()
        for name, kind in SECTIONS.items()
        for field in kind.__struct_fields__
        if field != "peers"
    }
    prefixes = tuple(f"{ENVIRONMENT_PREFIX}{name}_".upper() for name in SECTIONS)
    for variable in sorted(environment):
        if variable.startswith(prefixes) and variable not in known:
            raise Refused("config.unknown_key", f"environment: {variable}: no such key")


def _check_whole(path: Path, config: Config) -> None:
    """What concerns several keys."""
    if config.consensus.view_timeout_max_ms < config.consensus.view_timeout_ms:
        raise Refused(
            "config.invalid_value",
            f"{path}: [consensus] view_timeout_max_ms: expected at least view_timeout_ms, "
            f"{config.consensus.view_timeout_ms}",
        )
    if bool(config.rpc.tls_certificate) != bool(config.rpc.tls_key):
        raise Refused(
            "config.invalid_value", f"{path}: [rpc] tls_certificate and tls_key: expected both, or neither"
        )


def _without_repetition(path: Path, peers: list[Peer]) -> list[Peer]:
    """One entry per key; two that contradict each other are refused."""
    by_key: dict[bytes, Peer] = {}
    for peer in peers:
        known = by_key.setdefault(peer.key, peer)
        if known.address != peer.address:
            raise Refused(
                "config.invalid_value",
                f"{path}: [p2p] peers: {peer.key.hex()[:16]}… has two addresses, {known.address} and {peer.address}",
            )
    return list(by_key.values())


def _peer_lines(peer: Peer) -> list[str]:
    lines = [f'key = "{peer.key.hex()}"', f"address = {_toml(peer.address)}"]
    return [*lines, f"name = {_toml(peer.name)}"] if peer.name else lines


def _section_lines(kind: type[_Section], given: Mapping[str, Any]) -> list[str]:
    hints = get_type_hints(kind, include_extras=True)
    lines: list[str] = []
    for field in msgspec.structs.fields(kind):
        if field.name == "peers":
            continue
        default = field.default_factory() if callable(field.default_factory) else field.default
        lines.append(f"# {_description(hints[field.name])}")
        if field.name in given:
            lines.append(f"{field.name} = {_toml(given[field.name])}")
        else:
            lines.append(f"# {field.name} = {_toml(default)}")
    return lines


def _description(hint: Any) -> str:
    """The key's sentence and bounds, from all its annotations."""
    sentence, low, high = "", None, None
    for meta in getattr(hint, "__metadata__", ()):
        sentence = meta.description or sentence
        low = meta.ge if meta.ge is not None else low
        high = meta.le if meta.le is not None else high
    if low is not None and high is not None:
        return f"{sentence} {low} to {high}."
    return sentence if low is None else f"{sentence} At least {low}."


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    raise TypeError(f"no TOML form for {type(value).__name__}")
