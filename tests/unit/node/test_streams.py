"""Envelopes of any length over HTTP: in, out, refused, broken off, and never in memory as a whole."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import structlog.testing

from consilium.client.envelope import (
    Context,
    HeaderFields,
    Seals,
    envelope_digest,
    envelope_hasher,
)
from consilium.client.sealing import AuthorKeys
from consilium.client.sealing_streams import open_pieces_as_author, seal_pieces
from consilium.client.sharing import make_compartment
from consilium.client.streaming import get_envelope, put_envelope
from consilium.ledger.crypto import SigningKey
from consilium.ledger.errors import InvariantBroken, Refused
from consilium.node.config_sections import RpcSection
from consilium.node.metrics import Metrics
from consilium.node.rpc import RpcServer
from consilium.node.streams import VaultStreams
from consilium.storage import schema
from consilium.storage.kv import KeyValue, MemoryKV
from consilium.storage.leveldb import LevelKV
from consilium.storage.vault import Totals, Vault
from tests.unit.node.fake_node import FakeNode

TOKEN = "t" * 32
SECRET = make_compartment(threshold=1, custodians=1)
AUTHOR = AuthorKeys(SigningKey(b"s" * 32), SECRET.point)
CONTEXT = Context(b"c" * 32, b"r" * 16, b"p" * 16, 0, b"a" * 16)
BLOCK = bytes(range(256)) * 4_096
MIB = 1024 * 1024


def study(mebibytes: int) -> tuple[Iterator[bytes], Seals]:
    """An envelope's pieces, made twice the same: once for its digest."""

    def payload() -> Iterator[bytes]:
        for _ in range(mebibytes):
            yield BLOCK

    pieces, seals = seal_pieces(
        payload(), mebibytes * MIB, CONTEXT, SECRET.point, AUTHOR, [], HeaderFields("ImagingStudy", "1", "x")
    )
    kept = list(pieces)
    return iter(kept), seals()


async def aiter_of(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@asynccontextmanager
async def serving(store: KeyValue) -> AsyncIterator[tuple[str, Vault, list[InvariantBroken]]]:
    vault = Vault(store, envelope_digest, create=True, hasher=envelope_hasher)
    broken: list[InvariantBroken] = []
    server = RpcServer(
        FakeNode(),
        RpcSection(),
        TOKEN,
        metrics=Metrics(),
        on_broken=broken.append,
        streams=VaultStreams(vault, broken.append).routes,
    )
    port = await server.start()
    try:
        yield f"http://127.0.0.1:{port}/rpc", vault, broken
    finally:
        await server.stop()


async def code_of(url: str, digest: bytes, pieces: AsyncIterator[bytes], token: str | None = TOKEN) -> str:
    with pytest.raises(Refused) as refused:
        await put_envelope(url, digest, token, pieces)
    return refused.value.code


async def test_an_envelope_goes_in_and_comes_out_and_opens(tmp_path: Path) -> None:
    pieces, seals = study(5)
    async with serving(LevelKV(tmp_path / "vault", create=True)) as (url, vault, broken):
        await put_envelope(url, seals.digest, TOKEN, aiter_of(pieces))
        assert vault.size(seals.digest) is not None
        with structlog.testing.capture_logs() as lines:
            found = [piece async for piece in get_envelope(url, seals.digest, TOKEN)]
        # Whoever has the token may have stolen it: what was fetched with it can be told.
        assert [(line["event"], line["digest"]) for line in lines] == [
            ("vault.handed_out", seals.digest.hex())
        ]
        scalar = SECRET.shares[0].scalar
        opened = open_pieces_as_author(found, CONTEXT, seals.anchor, scalar)
        assert b"".join(opened.pieces) == BLOCK * 5
        assert broken == []


async def test_what_does_not_check_is_refused_and_leaves_nothing() -> None:
    pieces, seals = study(2)
    whole = b"".join(pieces)
    store = MemoryKV()
    async with serving(store) as (url, vault, _):
        assert await code_of(url, seals.digest, aiter_of(iter([whole[:-1]]))) == "vault.damaged"
        assert await code_of(url, seals.digest, aiter_of(iter([b"\xff" * 2_000_000]))) == "sealing.damaged"
        assert await code_of(url, seals.digest, aiter_of(iter([b"\x00\x00"]))) == "sealing.damaged"
        assert (await code_of(url, seals.digest, aiter_of(iter([b"\x00\x00\x00\x05hello"])))).startswith(
            "codec."
        )
        assert await code_of(url, seals.digest, aiter_of(iter([whole])), "wrong") == "rpc.unauthorised"
        vault.erase([seals.digest])
        assert await code_of(url, seals.digest, aiter_of(iter([whole]))) == "vault.deleted"
        assert vault.totals() == Totals(0, 0)
        for kind in (schema.PIECE, schema.RECEIVING, schema.ENVELOPE):
            assert list(store.iterate(kind)) == []


async def test_a_sender_that_breaks_off_leaves_nothing() -> None:
    store = MemoryKV()
    started = asyncio.Event()

    async def stalls() -> AsyncIterator[bytes]:
        pieces, _ = study(3)
        for piece in pieces:
            yield piece
        started.set()
        await asyncio.sleep(3600)

    async with serving(store) as (url, vault, _):
        task = asyncio.create_task(put_envelope(url, bytes(32), TOKEN, stalls()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            while list(store.iterate(schema.RECEIVING)):  # noqa: ASYNC110  # the server notices when it reads
                await asyncio.sleep(0.005)
        assert list(store.iterate(schema.PIECE)) == []
        assert vault.totals() == Totals(0, 0)


async def test_a_damaged_envelope_breaks_off_and_is_never_presented_as_whole() -> None:
    pieces, seals = study(3)
    store = MemoryKV()
    async with serving(store) as (url, _, _):
        await put_envelope(url, seals.digest, TOKEN, aiter_of(pieces))
        key, piece = next(iter(store.iterate(schema.PIECE)))
        store.write([(key, b"?" + piece[1:])], sync=True)
        with pytest.raises(Refused) as refused:
            [_ async for _ in get_envelope(url, seals.digest, TOKEN)]
        assert refused.value.code == "rpc.unreachable"


async def test_unknown_envelopes_and_odd_paths() -> None:
    async with serving(MemoryKV()) as (url, _, _), aiohttp.ClientSession() as http:
        with pytest.raises(Refused) as refused:
            [_ async for _ in get_envelope(url, bytes(32), TOKEN)]
        assert refused.value.code == "vault.unknown"
        for path in ("/vault/", "/vault/..%2f..", "/vault/" + "A" * 64, "/vault/" + "a" * 63):
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with http.get(url.removesuffix("/rpc") + path, headers=headers) as response:
                assert response.status == 404


async def test_a_disk_that_fails_halts_the_node() -> None:
    pieces, seals = study(1)
    store = MemoryKV()
    async with serving(store) as (url, _, broken):
        store.fail_next_write = True
        assert await code_of(url, seals.digest, aiter_of(pieces)) == "rpc.internal"
        assert len(broken) == 1


@pytest.mark.slow
async def test_a_study_of_200_mb_does_not_sit_in_memory(tmp_path: Path) -> None:
    """Sealed, sent, stored, fetched and opened in this one process: at no time much more than a few pieces."""
    size = 200
    found: list[Seals] = []

    def envelope() -> Iterator[bytes]:
        pieces, seals = seal_pieces(
            (BLOCK for _ in range(size)),
            size * MIB,
            CONTEXT,
            SECRET.point,
            AUTHOR,
            [],
            HeaderFields("ImagingStudy", "1", "application/dicom"),
        )
        yield from pieces
        found.append(seals())

    sealed = tmp_path / "sealed"
    await asyncio.to_thread(_write, sealed, envelope())
    (seals,) = found
    async with serving(LevelKV(tmp_path / "vault", create=True, write_buffer_bytes=4 * MIB)) as (
        url,
        vault,
        _,
    ):
        gc.collect()
        tracemalloc.start()
        await put_envelope(url, seals.digest, TOKEN, _file(sealed))
        received = tmp_path / "received"
        with received.open("wb") as file:
            async for piece in get_envelope(url, seals.digest, TOKEN):
                await asyncio.to_thread(file.write, piece)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 24 * MIB
        assert vault.size(seals.digest) == received.stat().st_size > size * MIB
    assert await asyncio.to_thread(_opens, received, seals) == size * MIB


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)


def _opens(path: Path, seals: Seals) -> int:
    with path.open("rb") as file:
        pieces = iter(lambda: file.read(MIB), b"")
        opened = open_pieces_as_author(pieces, CONTEXT, seals.anchor, SECRET.shares[0].scalar)
        return sum(len(piece) for piece in opened.pieces)


async def _file(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, MIB):
            yield piece
