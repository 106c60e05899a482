"""One node, whole, on its own disk: it starts, commits, stops, starts again; and when a part dies, it dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from consilium.client import recording
from consilium.client.rpc import RpcClient
from consilium.client.session import Session
from consilium.client.wallet import Wallet, load
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.ledger.genesis import Genesis
from consilium.node import cluster, opening, wire
from consilium.node.cluster import NodeFolder
from consilium.node.config import Config, read_ports
from consilium.node.driver import Driver
from consilium.node.eraser import Eraser
from consilium.node.files import create_token, load_node_key, read_secret
from consilium.node.promises import promise_owner
from consilium.node.service import Service
from consilium.node.stores import Stores, open_stores, read_genesis
from consilium.node.sync import Synchroniser
from consilium.node.wire import run_node
from consilium.p2p.mesh import Mesh
from consilium.storage.chain import ChainStore
from consilium.storage.kv import MemoryKV, Write
from consilium.storage.owed import OwedErasures
from tests.unit.client.conftest import build
from tests.unit.node.harness import until


@pytest.fixture
def folder(tmp_path: Path) -> NodeFolder:
    """A network of one."""
    (node,) = cluster.create_cluster(tmp_path / "cluster", 1)
    return node


class Running:
    """A node that runs in this process."""

    def __init__(self, folder: NodeFolder, config: Config, task: asyncio.Task[None]) -> None:
        self.config = config
        self.task = task
        self.genesis: Genesis = read_genesis(config)
        self.institution: Wallet = load(
            folder.path / "institution.wallet", read_secret(folder.path / cluster.PASSPHRASE_FILE)
        )

    def session(self, rpc: RpcClient) -> Session:
        return Session(rpc, self.genesis, self.institution)


@asynccontextmanager
async def started(folder: NodeFolder) -> AsyncIterator[tuple[Running, RpcClient]]:
    config = folder.config()
    config.ports_path.unlink(missing_ok=True)
    stop = asyncio.Event()
    task = asyncio.create_task(run_node(config, stop))
    try:
        await until(lambda: config.ports_path.exists() or task.done())
        if task.done():
            await task
        async with RpcClient(folder.url(), folder.token()) as rpc:
            yield Running(folder, config, task), rpc
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


def tip_of(config: Config) -> tuple[int, bytes]:
    """Where a stopped node's chain stands."""
    genesis = read_genesis(config)
    owner = promise_owner(genesis.chain_id, load_node_key(config.key_path).public)
    with ExitStack() as stack:
        stores = open_stores(config, owner, stack)
        tip = ChainStore(stores.chain, genesis.chain_id).tip
        return tip.height, tip.block_hash


async def test_a_node_starts_commits_stops_and_goes_on(folder: NodeFolder) -> None:
    async with started(folder) as (node, rpc):
        doctor = Wallet.create("doctor")
        await recording.enrol(node.session(rpc), "practitioner", doctor)
        status = await rpc.status()
        assert status["height"] >= 2
        assert status["healthy"]
        assert read_ports(node.config.ports_path)["rpc"] > 0
    # It let go of every lock, and what was committed is there.
    height, block_hash = tip_of(folder.config())
    assert height >= status["height"]
    async with started(folder) as (node, rpc):
        again = await rpc.status()
        assert (await rpc.block(height)).block.hash == block_hash
        assert (await node.session(rpc).identity_of(doctor.identity)).kind == "practitioner"
    assert again["height"] >= height


async def test_a_restart_proposes_nothing_that_was_decided_before(folder: NodeFolder) -> None:
    """The promise keeps the batches of the last proposal: they are decided, and not work any more."""
    async with started(folder) as (node, rpc):
        await recording.enrol(node.session(rpc), "practitioner", Wallet.create("doctor"))
    height, _ = tip_of(folder.config())
    async with started(folder) as (_, rpc):
        status = await rpc.status()
        assert status["mempool"] == {"pending": 0, "batches": 0, "transactions": 0}
    assert tip_of(folder.config())[0] == height


class FailingKV(MemoryKV):
    """Stands in front of a store, and fails at a write when told."""

    def __init__(self, inner: object) -> None:
        super().__init__()
        self.inner = inner
        self.fails = False

    def __getattribute__(self, name: str) -> object:
        if name in ("inner", "fails", "write", "__class__"):
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "inner"), name)

    def write(self, writes: list[Write], *, sync: bool) -> None:  # type: ignore[override]
        if self.fails:
            raise InvariantBroken("the disk is gone")
        self.inner.write(writes, sync=sync)  # type: ignore[attr-defined]


@pytest.mark.parametrize("broken", ["chain", "vault"])
async def test_a_disk_that_fails_ends_the_node(folder: NodeFolder, broken: str) -> None:
    config = folder.config()
    made: list[FailingKV] = []

    def failing(config: Config, owner: bytes, stack: ExitStack) -> Stores:
        opened = open_stores(config, owner, stack)
        made.append(FailingKV(getattr(opened, broken)))
        parts = {"chain": opened.chain, "vault": opened.vault, broken: made[0]}
        return Stores(parts["chain"], opened.promises, parts["vault"], opened.shares)  # type: ignore[arg-type]

    task = asyncio.create_task(run_node(config, asyncio.Event(), failing))
    await until(lambda: config.ports_path.exists() or task.done())
    async with RpcClient(folder.url(), folder.token()) as rpc:
        node = Running(folder, config, task)
        await recording.enrol(node.session(rpc), "practitioner", Wallet.create("one"))
        made[0].fails = True
        if broken == "chain":
            session = node.session(rpc)
            one = recording.enrolment(session, "practitioner", Wallet.create("two"))
            asking: asyncio.Task[object] = asyncio.create_task(session.submit([one]))
        else:
            asking = asyncio.create_task(rpc.put_envelopes([build(1, 1).record.envelope]))
        await asyncio.wait({asking, task}, return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        with suppress(asyncio.CancelledError, Refused):
            await asking
    with pytest.raises(InvariantBroken, match="the disk is gone"):
        await asyncio.wait_for(task, 20)
    tip_of(config)  # its locks are free


@pytest.mark.parametrize("part", ["driver", "_synchroniser", "_mesh", "_tick"])
async def test_when_a_part_dies_the_node_dies_of_it(
    folder: NodeFolder, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async def die(*given: object) -> None:
        raise InvariantBroken(f"{part} is no more")

    target = {
        "driver": (Driver, "run"),
        "_synchroniser": (Synchroniser, "run"),
        "_mesh": (Mesh, "run"),
        "_tick": (wire._Node, "_tick"),
    }[part]
    monkeypatch.setattr(*target, die)
    with pytest.raises(InvariantBroken, match=f"{part} is no more"):
        await asyncio.wait_for(run_node(folder.config(), asyncio.Event()), 20)
    tip_of(folder.config())


async def test_a_part_that_just_ends_is_a_fault_too(
    folder: NodeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(*given: object) -> None:
        return None

    monkeypatch.setattr(wire._Node, "_tick", end)
    with pytest.raises(InvariantBroken, match="ended by itself"):
        await asyncio.wait_for(run_node(folder.config(), asyncio.Event()), 20)


async def test_a_fault_that_a_request_met_ends_the_node(
    folder: NodeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*given: object) -> None:
        raise InvariantBroken("a part of height 1 is not in the store")

    monkeypatch.setattr(Service, "block", broken)
    task = asyncio.create_task(run_node(folder.config(), asyncio.Event()))
    await until(lambda: folder.config().ports_path.exists())
    async with RpcClient(folder.url()) as rpc:
        with pytest.raises(Refused):
            await rpc.block(1)
    with pytest.raises(InvariantBroken, match="height 1"):
        await asyncio.wait_for(task, 20)


async def refusal(config: Config) -> str:
    with pytest.raises(Refused) as refused:
        await asyncio.wait_for(run_node(config, asyncio.Event()), 20)
    return refused.value.code


async def test_a_node_that_lacks_a_part_does_not_start(folder: NodeFolder) -> None:
    config = folder.config()
    for path, code in (
        (config.genesis_path, "config.missing"),
        (config.token_path, "config.missing"),
        (config.data_dir / "chain", "store.missing"),
        (config.data_dir / "vault", "store.missing"),
        (config.data_dir / "shares", "store.missing"),
        (config.data_dir / "promise", "promise.missing"),
        (folder.path / "institution.wallet", "wallet.missing"),
    ):
        away = path.with_name(f"{path.name}.away")
        path.rename(away)
        assert await refusal(config) == code, path.name
        away.rename(path)
    async with started(folder):
        pass


async def test_a_wallet_needs_its_passphrase(folder: NodeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = folder.path / cluster.PASSPHRASE_FILE
    right = read_secret(secret)
    secret.write_text("not the passphrase of this wallet")
    assert await refusal(folder.config()) == "wallet.wrong_passphrase"
    toml = folder.path / "consilium.toml"
    toml.write_text(toml.read_text().replace(f'"{cluster.PASSPHRASE_FILE}"', '""'))
    monkeypatch.delenv(opening.PASSPHRASE_VARIABLE, raising=False)
    assert await refusal(folder.config()) == "config.missing"
    monkeypatch.setenv(opening.PASSPHRASE_VARIABLE, right)
    secret.write_text(right)
    async with started(folder) as (_, rpc):
        assert (await rpc.status())["custodian"]["enabled"]


async def answer_to(folder: NodeFolder, token: str) -> str:
    """What the node says to a privileged question with this token: the code of its refusal."""
    async with RpcClient(folder.url(), token) as rpc:
        with pytest.raises(Refused) as refused:
            await rpc.get_envelope(bytes(32))
        return refused.value.code


async def test_another_token_file_counts_from_the_next_start(folder: NodeFolder) -> None:
    stolen, path = folder.token(), folder.config().token_path
    aside = path.with_name("rpc.token.new")
    async with started(folder):
        new = create_token(aside)
        aside.replace(path)
        assert await answer_to(folder, stolen) == "vault.unknown"
        assert await answer_to(folder, new) == "rpc.unauthorised"
    async with started(folder):
        assert await answer_to(folder, new) == "vault.unknown"
        assert await answer_to(folder, stolen) == "rpc.unauthorised"


async def test_erasures_that_wait_to_be_attested_show(
    folder: NodeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = promise_owner(
        read_genesis(folder.config()).chain_id, load_node_key(folder.config().key_path).public
    )
    with ExitStack() as stack:
        owed = OwedErasures(open_stores(folder.config(), owner, stack).vault)
        for number in range(3):
            owed.add(bytes([number]) * 16)
    monkeypatch.setattr(Eraser, "settle", lambda self: [])  # the disk still has something of them
    async with started(folder) as (_, rpc), aiohttp.ClientSession() as http:
        assert (await rpc.status())["custodian"]["unattested"] == 3
        async with http.get(folder.url().removesuffix("/rpc") + "/metrics") as response:
            assert "consilium_erasures_unattested 3.0" in await response.text()


async def test_two_nodes_do_not_share_a_folder(folder: NodeFolder) -> None:
    async with started(folder):
        assert await refusal(folder.config()) == "store.locked"


async def test_being_cancelled_frees_everything(folder: NodeFolder) -> None:
    task = asyncio.create_task(run_node(folder.config(), asyncio.Event()))
    await until(lambda: folder.config().ports_path.exists())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 20)
    tip_of(folder.config())
