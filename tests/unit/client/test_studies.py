"""Studies: sealed in pieces to a file, kept, anchored, and read back under a name only when all of it was right."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consilium.client import studies
from consilium.client.envelope import HeaderFields, envelope_digest, envelope_hasher
from consilium.client.session import Session
from consilium.ledger.errors import InvariantBroken
from consilium.node.config_sections import RpcSection
from consilium.node.metrics import Metrics
from consilium.node.rpc import RpcServer
from consilium.node.streams import VaultStreams
from consilium.storage.kv import MemoryKV
from consilium.storage.vault import Vault
from tests.unit.client.acting import code_of, network
from tests.unit.node.care import Ward
from tests.unit.node.fake_node import FakeNode

TOKEN = "t" * 32
HEADER = HeaderFields("ImagingStudy", "1", "application/dicom")
SIZE = 3 * 1024 * 1024 + 17


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def small(path: Path) -> None:
    """So that it is sent before the node has said no."""
    path.write_bytes(b"small")


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


@asynccontextmanager
async def recorder(care: Ward) -> AsyncIterator[tuple[Session, Vault]]:
    """`north`, with a vault that takes streams, and that vault."""
    vault = Vault(MemoryKV(), envelope_digest, create=True, hasher=envelope_hasher)
    broken: list[InvariantBroken] = []
    server = RpcServer(
        FakeNode(),
        RpcSection(),
        TOKEN,
        metrics=Metrics(),
        on_broken=broken.append,
        streams=VaultStreams(vault, broken.append).routes,
    )
    care.rpc.urls = [f"http://127.0.0.1:{await server.start()}/rpc"]  # type: ignore[attr-defined]
    try:
        yield care.north, vault
    finally:
        await server.stop()
    assert broken == []


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study"
    path.write_bytes(os.urandom(SIZE))
    return path


async def test_a_study_is_recorded_and_read_back_by_its_author(study: Path, tmp_path: Path) -> None:
    async with network() as care, recorder(care) as (session, vault):
        done = await studies.record_study(session, TOKEN, care.petra.identity, study, HEADER, tmp_path)
        assert names(tmp_path) == ["study"], "the scratch file is gone"
        size = vault.size(done.seals.digest)
        assert size is not None
        assert size > SIZE
        await care.tick()
        target = tmp_path / "read"
        header = await studies.read_study(session, TOKEN, done.record, target)
        assert same(target, study)
        assert (header.fields.resource_type, header.fields.media_type) == (
            "ImagingStudy",
            "application/dicom",
        )
        assert names(tmp_path) == ["read", "study"]


async def test_what_does_not_check_gets_no_name(study: Path, tmp_path: Path) -> None:
    async with network() as care, recorder(care) as (session, vault):
        done = await studies.record_study(session, TOKEN, care.petra.identity, study, HEADER, tmp_path)
        await care.tick()
        stranger = care.south
        unread = studies.read_study(stranger, TOKEN, done.record, tmp_path / "read")
        assert await code_of(unread) != "ok"
        vault.forget([done.seals.digest])
        unread = studies.read_study(session, TOKEN, done.record, tmp_path / "read")
        assert await code_of(unread) == "vault.unknown"
        unread = studies.read_study(session, TOKEN, bytes(16), tmp_path / "read")
        assert await code_of(unread) == "vault.unknown"
        assert names(tmp_path) == ["study"]


async def test_without_the_token_nothing_is_anchored(study: Path, tmp_path: Path) -> None:
    async with network() as care, recorder(care) as (session, vault):
        small(study)
        refused = studies.record_study(session, None, care.petra.identity, study, HEADER, tmp_path)
        assert await code_of(refused) == "rpc.unauthorised"
        assert vault.totals().envelopes == 0
        assert names(tmp_path) == ["study"]
