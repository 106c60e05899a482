"""The sections of a node's configuration: every key with its type, its bounds, its default and its sentence.

`config.py` reads files into these and refuses what does not fit; the file that `node init` writes is printed from
them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from consilium.client.rpc_values import Hex32

PEERS_MAX: Final = 256
PORTS_FILE: Final = "ports.json"

_ADDRESS: Final = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9._-]{1,253})):([0-9]{1,5})")

Port = Annotated[int, Meta(ge=0, le=65_535)]
Text = Annotated[str, Meta(min_length=1, max_length=1_024)]
Host = Annotated[str, Meta(min_length=1, max_length=253)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class Peer(Section, frozen=True):
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


class NodeSection(Section, frozen=True):
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
    checking_processes: Annotated[
        int, Meta(ge=0, le=64, description="Processes that check clients' signatures; 0: threads do.")
    ] = 1


class P2pSection(Section, frozen=True):
    """How nodes reach this one, and whom it dials."""

    host: Annotated[Host, Meta(description="The address to listen on for nodes.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="0 asks the system for a free port.")] = 0
    peers_file: Annotated[Text, Meta(description="More peers, as [[peers]]; it may be missing.")] = (
        "peers.toml"
    )
    peers: Annotated[list[Peer], Meta(max_length=PEERS_MAX, description="The other nodes.")] = []


class RpcSection(Section, frozen=True):
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


class ConsensusSection(Section, frozen=True):
    """Timers of agreement. They may differ between nodes; safety never depends on them."""

    view_timeout_ms: Annotated[
        int, Meta(ge=20, le=60_000, description="Patience with a primary before a view change.")
    ] = 600
    view_timeout_max_ms: Annotated[
        int,
        Meta(ge=20, le=600_000, description="The growing timer's cap: the stated assumption on synchrony."),
    ] = 10_000
    clock_skew_max_ms: Annotated[
        int,
        Meta(ge=10, le=600_000, description="How far a fresh proposal's time may be off this node's clock."),
    ] = 2_000


class StorageSection(Section, frozen=True):
    """What is kept on disk, and the memory that serves it."""

    keep_blocks: Annotated[int, Meta(ge=0, description="Blocks kept below the tip; 0 keeps all.")] = 0
    snapshot_every_s: Annotated[
        int,
        Meta(
            ge=0, le=86_400, description="A snapshot for newcomers is held so often, by block time; 0: none."
        ),
    ] = 600
    unanchored_grace_s: Annotated[
        int, Meta(ge=60, description="How long an envelope may wait for its anchor before it is forgotten.")
    ] = 86_400
    write_buffer_bytes: Annotated[
        int, Meta(ge=64 * 1024, le=2**30, description="LevelDB's write buffer.")
    ] = 64 * 1024 * 1024
    cache_bytes: Annotated[int, Meta(ge=64 * 1024, le=2**34, description="LevelDB's block cache.")] = (
        32 * 1024 * 1024
    )
    trie_cache_bytes: Annotated[
        int,
        Meta(ge=1024 * 1024, le=2**40, description="For the trie's nodes: some 150 bytes a key hold all."),
    ] = 512 * 1024 * 1024


class SyncSection(Section, frozen=True):
    """How a node that is far behind catches up: by every block, or with a snapshot of the state (docs/snapshots.md)."""

    mode: Annotated[
        Literal["auto", "blocks"],
        Meta(description="auto: begin with a snapshot where the chain is long or pruned. blocks: never."),
    ] = "auto"
    snapshot_gap: Annotated[
        int, Meta(ge=0, description="A node without blocks takes a snapshot when it lags by more heights.")
    ] = 10_000
    trusted_header: Annotated[
        str,
        Meta(
            pattern="^([0-9a-f]{64})?$",
            description="Hash of a header that a snapshot's chain must contain. Empty: genesis is enough.",
        ),
    ] = ""


class S3Section(Section, frozen=True):
    """An S3-compatible bucket for the envelopes, in place of this node's disk. It must not keep versions."""

    bucket: Annotated[str, Meta(max_length=255, description="Its name. Empty: envelopes are on disk.")] = ""
    endpoint: Annotated[str, Meta(max_length=1_024, description="The store's URL. Empty: Amazon's.")] = ""
    region: Annotated[str, Meta(max_length=64, description="Its region, where it has one.")] = "us-east-1"
    prefix: Annotated[
        str, Meta(max_length=255, description='Before every object\'s name, as "clinic/"; one for each node.')
    ] = ""
    access_key_id: Annotated[str, Meta(max_length=255, description="Who this node is there.")] = ""
    secret_file: Annotated[Text, Meta(description="The secret access key; mode 0600.")] = "s3.secret"


class MempoolSection(Section, frozen=True):
    """What may wait for a block here."""

    transactions_max: Annotated[int, Meta(ge=1, le=1_000_000, description="Transactions that wait.")] = 4_096
    bytes_max: Annotated[int, Meta(ge=1024 * 1024, le=2**32, description="Bytes of them.")] = 64 * 1024 * 1024
    batch_delay_ms: Annotated[
        int, Meta(ge=0, le=10_000, description="After a batch, how long the next waits for company.")
    ] = 5


class CustodianSection(Section, frozen=True):
    """The institution's wallet, with which this node keeps shares and obeys decisions. Empty: it keeps none."""

    wallet_file: Annotated[str, Meta(max_length=1_024, description="The institution's wallet.")] = ""
    passphrase_file: Annotated[
        str,
        Meta(max_length=1_024, description="Its passphrase; mode 0600. Empty: CONSILIUM_WALLET_PASSPHRASE."),
    ] = ""
    release_staleness_max_ms: Annotated[
        int, Meta(ge=1_000, le=3_600_000, description="Nothing is released on a tip older than this.")
    ] = 60_000


class LogSection(Section, frozen=True):
    """Logs go to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least that is logged.")
    ] = "info"
    format: Annotated[
        Literal["json", "console"], Meta(description="One JSON object a line, or columns for a person.")
    ] = "json"


class Config(Section, frozen=True):
    """Everything. Made by `load_config` alone, which also resolves the paths."""

    folder: Path
    node: NodeSection
    p2p: P2pSection
    rpc: RpcSection
    consensus: ConsensusSection
    storage: StorageSection
    sync: SyncSection
    s3: S3Section
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


SECTIONS: Final[dict[str, type[Section]]] = {
    "node": NodeSection,
    "p2p": P2pSection,
    "rpc": RpcSection,
    "consensus": ConsensusSection,
    "storage": StorageSection,
    "sync": SyncSection,
    "s3": S3Section,
    "mempool": MempoolSection,
    "custodian": CustodianSection,
    "log": LogSection,
}


def host_and_port(address: str) -> tuple[str, int]:
    """Split `host:port` or `[IPv6]:port`. Raises ValueError with a sentence."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[3]) > 65_535:
        raise ValueError("Expected an address, `host:port` or `[IPv6]:port`")
    return match[1] or match[2], int(match[3])
