"""A local cluster: N institutions in one folder, a real process each.

    DIR/genesis.json       what offline verification needs
    DIR/node-0 … node-N-1  a node's folder each, see founding.py; also `pid` and `node.log`

Everything that is known about a cluster stands in its files: a command that starts, shows or stops it needs no
other program to be alive. Creating happens beside the place and is moved there in one step, so that a folder is a whole
cluster or none.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from consilium.client.rpc import RpcClient
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import Genesis, genesis_to_json
from consilium.ledger.validators import VALIDATORS_MAX
from consilium.node import files, founding, processes, terms
from consilium.node.config import Config, load_config, read_ports, write_peers
from consilium.node.config_sections import Peer, host_and_port
from consilium.node.founding import CONFIG_FILE, FoundingCard, Place
from consilium.node.ports import LOOPBACK, Reservation, is_free
from consilium.node.processes import ProcessMark

GENESIS_FILE: Final = "genesis.json"
PASSPHRASE_FILE: Final = "passphrase"
PASSPHRASE_BYTES: Final = 32
ALL_INTERFACES: Final = "0.0.0.0"
HOST_P2P_PORT: Final = 7100
HOST_RPC_PORT: Final = 7200
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
STATUS_TIMEOUT_S: Final = 2.0
HEALTH_TIMEOUT_S: Final = 2.0
HEALTH_POLL_S: Final = 0.05
"""A node is another process: whether it is ready can only be asked."""


@dataclass(frozen=True, slots=True)
class NodeFolder:
    """One node of a local cluster, as its files tell."""

    index: int
    path: Path

    @property
    def name(self) -> str:
        """The folder's name, `node-0`."""
        return self.path.name

    def config(self) -> Config:
        """Its configuration, without what the environment says to one node. Raises Refused `config.*`."""
        return load_config(self.path / CONFIG_FILE, {})

    def running(self) -> ProcessMark | None:
        """Its process, if one runs."""
        return processes.running(self.path)

    def card(self) -> FoundingCard:
        """What its institution made public."""
        return founding.read_card(self.path / founding.CARD_FILE)

    def url(self) -> str:
        """Its RPC's address. Raises Refused `rpc.unreachable` where it does not run."""
        return rpc_url(self.config())

    def token(self) -> str:
        """The token of its RPC's privileged methods."""
        return files.load_token(self.config().token_path)


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node for the status table; `status` is its own answer, None where it gave none."""

    index: int
    name: str
    pid: int | None
    rpc: str | None
    status: dict[str, Any] | None
    error: str | None


def rpc_url(config: Config) -> str:
    """Where a started node's RPC is, as its `ports.json` says. Raises Refused `rpc.unreachable` where it does not run,
    `config.*`."""
    try:
        port = read_ports(config.ports_path)["rpc"]
    except Refused as refusal:
        if refusal.code != "config.missing":
            raise
        raise Refused(
            "rpc.unreachable",
            f"the node is not running: start it with `consilium node start {config.folder}`",
        ) from None
    host = LOOPBACK if config.rpc.host in (ALL_INTERFACES, "::") else config.rpc.host
    scheme = "https" if config.rpc.tls_certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def create_cluster(
    folder: Path,
    nodes: int,
    *,
    network: str = "local",
    hosts: str | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    ports: Sequence[int] | None = None,
    places: Sequence[Place] | None = None,
    decided: Mapping[str, Any] = terms.NO_CHANGES,
    progress: Callable[[str], None] = lambda step: None,
) -> list[NodeFolder]:
    """Found a network of `nodes` institutions in a new or empty folder.

    Without `hosts` all nodes listen on loopback, at ports that the system gave. With `hosts`, such as `node-{}`, each
    is meant for a host or container of this name, and listens there on all interfaces, at HOST_P2P_PORT and
    HOST_RPC_PORT. `settings` are further keys of every configuration, by section; `ports` are 2 * nodes ports that the
    caller has reserved, to be used in place of the system's; `places`, one of each node, take the place of all three.
    `decided` are settings of the network that differ from those of `terms.local_terms`, by name.

    Raises Refused `founding.folder_taken`, `founding.bad_cards`, `founding.bad_terms`, `config.*`.
    """
    if not 1 <= nodes <= VALIDATORS_MAX:
        raise Refused("founding.bad_cards", f"{nodes} nodes; a network has 1 to {VALIDATORS_MAX}")
    founding.make_empty(folder)
    building = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    building.mkdir(mode=0o700)
    try:
        with Reservation(0 if hosts or ports or places else 2 * nodes) as reserved:
            chosen = places or _places(nodes, hosts, ports or reserved.ports, settings or {})
            _build(building, network, chosen, decided, progress)
        building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return open_cluster(folder)


def open_cluster(folder: Path) -> list[NodeFolder]:
    """The nodes of a cluster's folder. Raises Refused `cluster.missing`."""
    found = {path.name: path for path in folder.glob("node-*") if (path / CONFIG_FILE).is_file()}
    nodes = [NodeFolder(index, folder / f"node-{index}") for index in range(len(found))]
    if not nodes or not (folder / GENESIS_FILE).is_file() or any(node.name not in found for node in nodes):
        raise Refused("cluster.missing", str(folder))
    return nodes


def cluster_genesis(folder: Path) -> Genesis:
    """The cluster's genesis document."""
    return founding.read_genesis(folder / GENESIS_FILE)


async def start_cluster(
    folder: Path,
    *,
    only: Sequence[int] | None = None,
    timeout_s: float = START_TIMEOUT_S,
    progress: Callable[[str], None] = lambda step: None,
) -> list[NodeFolder]:
    """Start the nodes that do not run (`only` these), on their own, and wait until each answers that it is healthy.

    Returns those that were started. Where one dies or is not healthy in time, those started here are stopped again,
    and Refused `cluster.node_died` or `cluster.not_ready` says which, with the end of its log.
    """
    nodes = open_cluster(folder)
    chosen = [node for node in nodes if only is None or node.index in only]
    starting = [node for node in chosen if node.running() is None]
    await asyncio.to_thread(_settle_ports, nodes, starting)
    marks: dict[int, ProcessMark] = {}
    try:
        for node in starting:
            forget_ports(node.config())
            marks[node.index] = processes.start_node(node.path, owned=False).mark
        progress(f"{len(starting)} {'process' if len(starting) == 1 else 'processes'} started")
        async with asyncio.timeout(timeout_s):
            for node in starting:
                await wait_healthy(node, marks[node.index])
                progress(f"{node.name} is ready")
    except BaseException as error:
        await asyncio.shield(
            _end_all([(node, marks[node.index]) for node in starting if node.index in marks])
        )
        if isinstance(error, TimeoutError):
            slow = next((node for node in starting if not _answers(node)), starting[0])
            tail = processes.log_tail(slow.path)
            raise Refused(
                "cluster.not_ready", f"{slow.name} is not healthy after {timeout_s:g} s\n{tail}"
            ) from None
        raise
    return starting


async def stop_cluster(
    folder: Path, *, only: Sequence[int] | None = None, timeout_s: float = STOP_TIMEOUT_S
) -> list[tuple[NodeFolder, bool]]:
    """Stop the nodes that run (`only` these): asked first, forced after the time. Returns each and whether it went by
    itself."""
    chosen = [node for node in open_cluster(folder) if only is None or node.index in only]
    pairs = [(node, mark) for node in chosen if (mark := node.running()) is not None]
    return await _end_all(pairs, timeout_s)


async def cluster_status(folder: Path) -> list[NodeReport]:
    """Ask every node, at the same time, how it is."""
    return list(await asyncio.gather(*(_report(node) for node in open_cluster(folder))))


async def wait_healthy(node: NodeFolder, mark: ProcessMark, *, only_answering: bool = False) -> None:
    """Wait until a node that was just started says that it serves and follows the chain, or `only_answering`: says
    anything at all; the caller sets the time.

    Raises Refused `cluster.node_died` with the end of its log.
    """
    timeout = aiohttp.ClientTimeout(total=HEALTH_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while not await _is_healthy(session, node, only_answering):
            if not await asyncio.to_thread(lambda: mark.alive):
                raise Refused("cluster.node_died", f"{node.name}\n{processes.log_tail(node.path)}")
            await asyncio.sleep(HEALTH_POLL_S)


def forget_ports(config: Config) -> None:
    """Remove the ports of the last run, which the next one will write anew."""
    config.ports_path.unlink(missing_ok=True)


def _places(
    nodes: int, hosts: str | None, ports: Sequence[int], settings: Mapping[str, Mapping[str, Any]]
) -> list[Place]:
    if hosts is not None:
        if nodes > 1 and hosts.format("0") == hosts.format("1"):
            raise Refused("founding.bad_address", f"{hosts!r}: needs {{}} where the node's number stands")
        return [
            Place(
                f"{hosts.format(index)}:{HOST_P2P_PORT}",
                (ALL_INTERFACES, HOST_P2P_PORT),
                (ALL_INTERFACES, HOST_RPC_PORT),
                settings=settings,
            )
            for index in range(nodes)
        ]
    return [
        Place(
            f"{LOOPBACK}:{ports[2 * index]}",
            (LOOPBACK, ports[2 * index]),
            (LOOPBACK, ports[2 * index + 1]),
            settings=settings,
        )
        for index in range(nodes)
    ]


def _build(
    folder: Path,
    network: str,
    places: Sequence[Place],
    decided: Mapping[str, Any],
    progress: Callable[[str], None],
) -> None:
    # It brings in the whole node, which nobody else here needs.
    from consilium.node.stores import init_stores

    cards = []
    for index, place in enumerate(places):
        path = folder / f"node-{index}"
        passphrase = secrets.token_hex(PASSPHRASE_BYTES)
        cards.append(
            founding.make_folder(
                path,
                path.name,
                place,
                passphrase,
                passphrase_file=PASSPHRASE_FILE,
                cost=founding.LOCAL_COST,
            )
        )
        files.create_secret(path / PASSPHRASE_FILE, passphrase)
        progress(f"{path.name}: keys")
    agreed = terms.local_terms([card.institution for card in cards], decided)
    genesis = founding.found(network, cards, time.time_ns() // 1_000_000, agreed)
    files.write_atomically(folder / GENESIS_FILE, genesis_to_json(genesis))
    for index in range(len(places)):
        init_stores(founding.join(folder / f"node-{index}", genesis, cards, {}))
        progress(f"node-{index}: stores")


def _settle_ports(nodes: Sequence[NodeFolder], starting: Sequence[NodeFolder]) -> None:
    """Give new ports to a stopped cluster whose ports were taken by others meanwhile.

    Raises Refused `cluster.port_taken` where other nodes of it run: these know the old addresses.
    """
    taken = [node for node in starting if not _ports_free(node.config())]
    if not taken:
        return
    if len(starting) < len(nodes):
        raise Refused("cluster.port_taken", taken[0].name)
    with Reservation(2 * len(taken)) as reserved:
        for place, node in enumerate(taken):
            p2p, rpc = reserved.ports[2 * place : 2 * place + 2]
            _move_ports(node.path / CONFIG_FILE, {"[p2p]": p2p, "[rpc]": rpc})
    peers = [_peer(node) for node in nodes]
    for node, own in zip(nodes, peers, strict=True):
        write_peers(node.config().peers_path, [peer for peer in peers if peer is not own])


def _move_ports(path: Path, ports: Mapping[str, int]) -> None:
    """Change `port` in sections of a configuration, and leave every other line as it is."""
    section = ""
    lines = path.read_text("utf-8").splitlines()
    for place, line in enumerate(lines):
        if line.startswith("["):
            section = line.strip()
        elif line.startswith("port = ") and section in ports:
            lines[place] = f"port = {ports[section]}"
    files.write_atomically(path, ("\n".join(lines) + "\n").encode())


def _peer(node: NodeFolder) -> Peer:
    """Where a node of this machine is now; its card keeps the address of the founding."""
    card, config = node.card(), node.config()
    host, _ = host_and_port(card.address)
    return Peer(key=card.node_key, address=f"{host}:{config.p2p.port}", name=card.name)


def _ports_free(config: Config) -> bool:
    wanted = [(config.p2p.host, config.p2p.port), (config.rpc.host, config.rpc.port)]
    return all(port == 0 or is_free(host, port) for host, port in wanted)


async def _is_healthy(session: aiohttp.ClientSession, node: NodeFolder, only_answering: bool) -> bool:
    if not _answers(node):
        return False
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with session.get(f"{node.url()}/healthz", ssl=False) as response:
            return only_answering or response.status == 200
    return False


def _answers(node: NodeFolder) -> bool:
    """Whether the node has said where it listens."""
    return node.config().ports_path.exists()


async def _end_all(
    pairs: Sequence[tuple[NodeFolder, ProcessMark]], timeout_s: float = STOP_TIMEOUT_S
) -> list[tuple[NodeFolder, bool]]:
    went = await asyncio.gather(*(asyncio.to_thread(mark.end, timeout_s) for _, mark in pairs))
    for node, _ in pairs:
        processes.forget(node.path)
        with contextlib.suppress(Refused):
            forget_ports(node.config())
    return [(node, by_itself) for (node, _), by_itself in zip(pairs, went, strict=True)]


async def _report(node: NodeFolder) -> NodeReport:
    mark = node.running()
    if mark is None:
        return NodeReport(node.index, node.name, None, None, None, "stopped")
    try:
        url = node.url()
    except Refused:
        return NodeReport(node.index, node.name, mark.pid, None, None, "starting")
    try:
        async with RpcClient(url, timeout_s=STATUS_TIMEOUT_S) as rpc:
            return NodeReport(node.index, node.name, mark.pid, url, await rpc.status(), None)
    except Refused as refusal:
        return NodeReport(node.index, node.name, mark.pid, url, None, refusal.code)
