"""The drill of erasure for institutions that keep their envelopes in an object store.

The bucket keeps versions, an upload into it broke off, and later it is restored from a copy of before: while the node
runs, and together with the node's own backup. After the erasure no byte of what was erased is in any version of any
object; what returns is never served, and goes again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consilium.client import erasing, recording
from consilium.client.envelope import Context, HeaderFields
from consilium.client.recording import Payload
from consilium.client.studies import record_study
from consilium.client.wallet import Wallet
from consilium.contracts import records
from consilium.node.testing import LocalCluster
from consilium.storage.object_store import PART_BYTES, Bucket, BucketAddress
from consilium.storage.s3 import name_of
from tests.cluster import erasure_needles as needles
from tests.cluster.erasure_needles import Needles
from tests.cluster.test_erasure import (
    back_up,
    canary,
    code_of,
    holds,
    never_served_until_gone,
    restored,
    settle,
    until,
)
from tests.object_server import make_bucket, object_server

pytest.importorskip("aiobotocore", reason="the s3 extra is not installed")
pytest.importorskip("moto", reason="moto's server is not installed")
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

BUCKET, KEY, SECRET = "envelopes", "key", "secret"
STUDY_BYTES = PART_BYTES + 500_000
"""Two parts of an upload."""
CUSTODIAN, AUTHOR = 0, 1


class Store:
    """The bucket of all nodes, looked at from outside: every version of every object."""

    def __init__(self, endpoint: str) -> None:
        self.bucket = Bucket(BucketAddress(endpoint, "us-east-1", BUCKET, "", KEY, SECRET))
        self._client: Any = self.bucket._client
        enabled = {"Status": "Enabled"}
        self._call(self._client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=enabled))

    def _call(self, work: Any) -> Any:
        return self.bucket._call(work)

    def versions(self) -> list[tuple[str, str, bytes]]:
        """(name, version, bytes); a delete marker has none."""
        listed = self._call(self._client.list_object_versions(Bucket=BUCKET))
        found = [(one["Key"], one["VersionId"], b"") for one in listed.get("DeleteMarkers", [])]
        for one in listed.get("Versions", []):
            found.append((one["Key"], one["VersionId"], self._read(one["Key"], one["VersionId"])))
        return found

    def _read(self, name: str, version: str) -> bytes:
        async def read() -> bytes:
            got = await self._client.get_object(Bucket=BUCKET, Key=name, VersionId=version)
            async with got["Body"] as body:
                raw: bytes = await body.read()
            return raw

        return bytes(self._call(read()))

    def uploads(self) -> list[str]:
        listed = self._call(self._client.list_multipart_uploads(Bucket=BUCKET))
        return [one["Key"] for one in listed.get("Uploads", [])]

    def found(self, sought: Needles, folder: Path) -> set[str]:
        """What of it is in any version of any object. `folder` is for the copies that are looked through."""
        folder.mkdir()
        for number, (_, _, raw) in enumerate(self.versions()):
            (folder / str(number)).write_bytes(raw)
        return set(sought.found(folder))

    def names_of(self, digests: list[bytes]) -> list[str]:
        """Objects, hidden ones and delete markers that are there under these digests."""
        wanted = {name_of(digest) for digest in digests}
        return [name for name, _, _ in self.versions() if name.split("/", 1)[1] in wanted]


@pytest.fixture
def endpoint() -> Iterator[str]:
    with object_server() as url:
        make_bucket(url, BUCKET)
        yield url


def into_buckets(cluster: LocalCluster) -> None:
    """A prefix and a secret for each node; the rest is in their settings."""
    for node in cluster.nodes:
        file = node.path / "consilium.toml"
        before = file.read_text("utf-8")
        after = before.replace('# prefix = ""', f'prefix = "{node.name}/"')
        assert after != before
        file.write_text(after, "utf-8")
        secret = node.path / "s3.secret"
        secret.touch(mode=0o600)
        secret.write_text(SECRET, "utf-8")


async def test_what_is_erased_leaves_the_bucket_and_does_not_return(endpoint: str, tmp_path: Path) -> None:
    settings = {"s3": {"bucket": BUCKET, "endpoint": endpoint, "access_key_id": KEY}}
    store = await asyncio.to_thread(Store, endpoint)
    async with LocalCluster(nodes=4, settings=settings, prepare=into_buckets) as cluster:
        custodian, author = cluster.session(CUSTODIAN), cluster.session(AUTHOR)
        patient = Wallet.create("patient")
        await recording.enrol(custodian, "patient", patient)
        owner = cluster.session(CUSTODIAN, patient)
        await recording.open_compartments(owner, patient, custodian.identity, lambda kept: None)
        small, kept = canary("small", 2_000), canary("kept", 2_000)
        imported = await recording.import_records(
            author,
            patient.identity,
            [Payload(raw, HeaderFields("Binary", "1", "x")) for raw in (small, kept)],
        )
        study = tmp_path / "study"
        study.write_bytes(os.urandom(STUDY_BYTES))
        token = cluster.nodes[AUTHOR].token()
        header = HeaderFields("ImagingStudy", "2", "application/dicom")
        recorded = await record_study(author, token, patient.identity, study, header, tmp_path)
        await settle(cluster)

        sought, staying, digests = Needles({}), Needles({}), []
        for name, identifier in zip(
            ("small", "kept", "study"), [*imported.records, recorded.record], strict=True
        ):
            known = await author.state(records.RECORDS, identifier)
            assert known is not None
            digests.append(known.envelope)
            await until(lambda digest=known.envelope: holds(cluster, CUSTODIAN, digest))  # type: ignore[misc]
            raw = await cluster.clients[AUTHOR].get_envelope(known.envelope)
            context = Context(author.chain_id, identifier, known.compartment, known.epoch, known.author)
            found = needles.of_envelope(name, raw, context, author.wallet)
            sought, staying = (sought, found) if name == "kept" else (sought.joined(found), staying)
        erased = [digests[0], digests[2]]

        # --- before: two vaults have each of them, an upload broke off, and there are backups of node and bucket
        assert await asyncio.to_thread(store.found, sought, tmp_path / "before") == sought.names()
        copies = [one for one in await asyncio.to_thread(store.versions) if one[2]]
        broken = f"{cluster.nodes[CUSTODIAN].name}/{name_of(digests[2])}"
        upload = await asyncio.to_thread(store.bucket.begin, broken)
        part = next(raw for name, _, raw in copies if name == broken)[:PART_BYTES]
        await asyncio.to_thread(store.bucket.part, broken, upload, 1, part)
        backup = await back_up(cluster, CUSTODIAN, tmp_path / "backup" / "0")

        # --- erased: attested only when no version, marker or part of an upload is left
        verdict, _ = await erasing.request(
            owner, "consent-withdrawn", record_ids=[imported.records[0], recorded.record]
        )

        async def attested() -> bool:
            return not (await erasing.status(owner, verdict.erasure)).missing

        await until(attested)
        assert await asyncio.to_thread(store.names_of, erased) == []
        assert await asyncio.to_thread(store.uploads) == []
        assert await asyncio.to_thread(store.found, sought, tmp_path / "after") == set()
        assert await asyncio.to_thread(store.found, staying, tmp_path / "stays") == staying.names()
        for folder in (node.path for node in cluster.nodes):
            assert sought.found(folder) == {}

        # --- the bucket is restored from a copy of before, under nodes that run
        for name, _, raw in copies:
            await asyncio.to_thread(store.bucket.put, name, raw)
        for node in (CUSTODIAN, AUTHOR):
            for digest in erased:
                assert await code_of(cluster.clients[node].get_envelope(digest)) == "vault.deleted"
        assert await asyncio.to_thread(store.names_of, erased) != []
        await cluster.restart(AUTHOR)  # looks through its bucket at every start, and each hour

        # --- and with it, a node's own backup of before
        await cluster.kill(CUSTODIAN)
        await asyncio.to_thread(restored, cluster, CUSTODIAN, backup)
        await cluster.restart(CUSTODIAN)
        await never_served_until_gone(cluster, CUSTODIAN, erased)

        async def gone() -> bool:
            return not await asyncio.to_thread(store.names_of, erased)

        await until(gone)
        assert await asyncio.to_thread(store.found, sought, tmp_path / "again") == set()
        assert await holds(cluster, CUSTODIAN, digests[1])
        assert await holds(cluster, AUTHOR, digests[1])
    await asyncio.to_thread(store.bucket.close)
