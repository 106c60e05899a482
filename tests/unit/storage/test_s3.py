"""The object store behind the vault's port, against a real S3 server in a process of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest

from consilium.ledger.errors import Refused
from consilium.storage import object_store, schema
from consilium.storage.envelopes import PIECE_BYTES, EnvelopeStore
from consilium.storage.kv import MemoryKV
from consilium.storage.object_store import Bucket, BucketAddress
from consilium.storage.s3 import RETURNED_EVERY_MS, S3Vault, name_of
from consilium.storage.vault import Totals
from tests.object_server import make_bucket, object_server

pytest.importorskip("aiobotocore", reason="the s3 extra is not installed")
pytest.importorskip("moto", reason="moto's server is not installed")

SMALL, OTHER, EMPTY = b"a small envelope", b"another", b""
LARGE = os.urandom(1 << 20) * 18 + b"and a tail"  # two parts and a half, eighteen pieces and a bit


class Hasher:
    def __init__(self) -> None:
        self._inner = hashlib.sha256(b"test envelope")

    def update(self, piece: bytes, /) -> None:
        self._inner.update(piece)

    def digest(self) -> bytes:
        return self._inner.digest()


def digest_of(envelope: bytes) -> bytes:
    return hashlib.sha256(b"test envelope" + envelope).digest()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with object_server() as url:
        yield url


@pytest.fixture
def address(endpoint: str, request: pytest.FixtureRequest) -> BucketAddress:
    name = "bucket-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    make_bucket(endpoint, name)
    return BucketAddress(endpoint, "us-east-1", name, "clinic/", "key", "secret")


@pytest.fixture
def bucket(address: BucketAddress) -> Iterator[Bucket]:
    opened = Bucket(address)
    yield opened
    opened.close()


@pytest.fixture
def index() -> MemoryKV:
    return MemoryKV({schema.FORMAT: schema.format_bytes(schema.VAULT_FORMAT)})


@pytest.fixture
def vault(index: MemoryKV, bucket: Bucket) -> S3Vault:
    return S3Vault(index, bucket, Hasher, clock_ms=lambda: 77)


def keep_versions(bucket: Bucket, address: BucketAddress) -> None:
    enabled = {"Status": "Enabled"}
    bucket._call(bucket._client.put_bucket_versioning(Bucket=address.bucket, VersioningConfiguration=enabled))


def versions(bucket: Bucket, address: BucketAddress) -> list[str]:
    """Of what the bucket keeps versions or delete markers."""
    listed = bucket._call(bucket._client.list_object_versions(Bucket=address.bucket))
    return [one["Key"] for one in (*listed.get("Versions", []), *listed.get("DeleteMarkers", []))]


def code_of(refused: pytest.ExceptionInfo[Refused]) -> str:
    return refused.value.code


def pour(into: EnvelopeStore, envelope: bytes, digest: bytes | None = None) -> int:
    with into.receive(digest or digest_of(envelope)) as incoming:
        for at in range(0, len(envelope), 700_000):
            incoming.write(envelope[at : at + 700_000])
        return incoming.finish()


def test_what_is_put_comes_back_and_is_counted(vault: S3Vault, index: MemoryKV, bucket: Bucket) -> None:
    entries = [(digest_of(one), one) for one in (SMALL, OTHER, EMPTY)]
    vault.put_many(entries)
    vault.put_many(entries[:1])
    again = S3Vault(index.crash(), bucket, Hasher)
    for digest, envelope in entries:
        assert again.get(digest) == envelope
        assert (again.size(digest), again.came_ms(digest)) == (len(envelope), 77)
    assert again.totals() == Totals(3, len(SMALL) + len(OTHER))
    assert again.digests() == sorted((digest, len(envelope)) for digest, envelope in entries)
    assert [again.get(bytes(32)), again.read(bytes(32)), again.piece(bytes(32), 0)] == [None] * 3
    assert list(index.iterate(schema.RECEIVING)) == []


def test_a_stream_goes_in_parts_and_comes_in_pieces(vault: S3Vault) -> None:
    digest = digest_of(LARGE)
    assert pour(vault, LARGE) == len(LARGE)
    pieces = vault.read(digest)
    assert pieces is not None
    found = list(pieces)
    assert b"".join(found) == LARGE
    assert {len(piece) for piece in found[:-1]} == {PIECE_BYTES}
    assert vault.piece(digest, 18) == b"and a tail"
    assert vault.piece(digest, 19) is None
    assert pour(vault, SMALL) == len(SMALL)
    assert pour(vault, LARGE[: 2 * object_store.PART_BYTES]) == 2 * object_store.PART_BYTES
    assert vault.totals().envelopes == 3


@pytest.mark.parametrize("envelope", [SMALL, LARGE])
def test_a_stream_that_is_not_what_it_says_leaves_nothing(
    vault: S3Vault, bucket: Bucket, envelope: bytes
) -> None:
    with pytest.raises(Refused) as refused:
        pour(vault, envelope, digest_of(OTHER))
    assert code_of(refused) == "vault.damaged"
    with vault.receive(digest_of(envelope)) as incoming:
        incoming.write(envelope)
    assert list(bucket.names()) == []
    assert bucket.abort_all() == 0
    assert vault.totals() == Totals(0, 0)
    pour(vault, envelope)
    with pytest.raises(Refused):
        pour(vault, envelope + b"!", digest_of(envelope))
    assert vault.get(digest_of(envelope)) == envelope


def test_what_somebody_else_changed_in_the_bucket_is_found_out(vault: S3Vault, bucket: Bucket) -> None:
    for envelope in (SMALL, LARGE):
        digest = digest_of(envelope)
        pour(vault, envelope)
        for altered in (envelope[:-1], envelope + b"!", envelope[:-1] + b"?", b"?" + envelope[1:], b""):
            bucket.put(name_of(digest), altered)
            with pytest.raises(Refused) as refused:
                vault.get(digest)
            assert code_of(refused) == "vault.damaged"
        bucket.delete([name_of(digest)])
        with pytest.raises(Refused) as refused:
            vault.get(digest)
        assert code_of(refused) == "vault.damaged"
        vault.put_many([(digest, envelope)])
        assert vault.get(digest) == envelope
    bucket.put(name_of(digest_of(OTHER)), OTHER)
    assert not vault.has(digest_of(OTHER))  # it never came through here


def test_what_is_erased_leaves_the_bucket_and_does_not_come_back(
    vault: S3Vault, index: MemoryKV, bucket: Bucket
) -> None:
    digest = digest_of(SMALL)
    vault.put_many([(digest, SMALL), (digest_of(OTHER), OTHER)])
    assert vault.forget([digest_of(OTHER)]) == 1
    assert vault.erase([digest, digest_of(LARGE)]) == 1
    assert list(bucket.names()) == []
    again = S3Vault(index.crash(), bucket, Hasher)
    for erased in (SMALL, LARGE):
        with pytest.raises(Refused) as refused:
            again.put_many([(digest_of(erased), erased)])
        assert code_of(refused) == "vault.deleted"
        with pytest.raises(Refused) as refused:
            again.receive(digest_of(erased))
        assert code_of(refused) == "vault.deleted"
    again.put_many([(digest_of(OTHER), OTHER)])
    assert again.totals() == Totals(1, len(OTHER))


def test_erased_while_it_came(vault: S3Vault, bucket: Bucket) -> None:
    incoming = vault.receive(digest_of(SMALL))
    incoming.write(SMALL)
    vault.erase([digest_of(SMALL)])
    with pytest.raises(Refused) as refused:
        incoming.finish()
    assert code_of(refused) == "vault.deleted"
    assert list(bucket.names()) == []


def test_what_a_crash_leaves_in_the_bucket_is_swept(vault: S3Vault, index: MemoryKV, bucket: Bucket) -> None:
    vault.put_many([(digest_of(SMALL), SMALL)])
    vault._announce([digest_of(OTHER), digest_of(SMALL)])
    bucket.put(name_of(digest_of(OTHER)), OTHER)  # and then the power went
    upload = bucket.begin(name_of(digest_of(LARGE)))
    bucket.part(name_of(digest_of(LARGE)), upload, 1, LARGE[: object_store.PART_BYTES])
    again = S3Vault(index.crash(), bucket, Hasher)
    assert list(bucket.names()) == [name_of(digest_of(SMALL))]
    assert again.get(digest_of(SMALL)) == SMALL
    assert bucket.abort_all() == 0


def test_what_is_erased_leaves_no_version_behind(
    address: BucketAddress, vault: S3Vault, bucket: Bucket
) -> None:
    """Though the bucket should keep none."""
    keep_versions(bucket, address)
    for _ in range(2):
        vault.put_many([(digest_of(SMALL), SMALL), (digest_of(OTHER), OTHER)])
    vault.erase([digest_of(SMALL)])
    assert vault.scrub()
    assert vault.scrub()
    listed = bucket._call(bucket._client.list_object_versions(Bucket=address.bucket))
    assert listed.get("DeleteMarkers", []) == []
    names = [address.prefix + name_of(digest_of(OTHER))] * 2
    assert [one["Key"] for one in listed["Versions"]] == names
    assert vault.get(digest_of(OTHER)) == OTHER
    assert vault.erased(digest_of(SMALL))


def test_what_was_there_before_the_bucket_kept_versions_goes_too(
    address: BucketAddress, vault: S3Vault, bucket: Bucket
) -> None:
    """Its version is called "null", and a plain deletion only hides it."""
    vault.put_many([(digest_of(SMALL), SMALL)])
    keep_versions(bucket, address)
    vault.erase([digest_of(SMALL)])
    assert vault.scrub()
    assert versions(bucket, address) == []


def test_a_crash_before_the_versions_went_forgets_none(
    address: BucketAddress, vault: S3Vault, index: MemoryKV, bucket: Bucket
) -> None:
    keep_versions(bucket, address)
    vault.put_many([(digest_of(SMALL), SMALL)])
    vault.erase([digest_of(SMALL)])
    again = S3Vault(index.crash(), bucket, Hasher)
    assert again.scrub()
    assert versions(bucket, address) == []


def test_what_is_erased_leaves_no_unfinished_upload_behind(vault: S3Vault, bucket: Bucket) -> None:
    """One that broke while the store did not answer cannot be given up at once."""
    for digest in (digest_of(LARGE), digest_of(OTHER)):
        upload = bucket.begin(name_of(digest))
        bucket.part(name_of(digest), upload, 1, LARGE[: object_store.PART_BYTES])
    vault.erase([digest_of(LARGE)])
    assert vault.scrub()
    assert bucket.abort_all() == 1, "the other one's"


def test_what_returns_to_the_bucket_is_not_served_and_goes_again(index: MemoryKV, bucket: Bucket) -> None:
    """Somebody restored the bucket from a backup of before."""
    now = [0]
    vault = S3Vault(index, bucket, Hasher, clock_ms=lambda: now[0])
    vault.put_many([(digest_of(SMALL), SMALL), (digest_of(OTHER), OTHER)])
    vault.erase([digest_of(SMALL)])
    assert vault.scrub()
    foreign = ("envelopes/readme", "elsewhere", name_of(digest_of(EMPTY)))
    for name in (name_of(digest_of(SMALL)), *foreign):
        bucket.put(name, SMALL)
    assert vault.get(digest_of(SMALL)) is None
    assert not vault.has(digest_of(SMALL))
    assert vault.scrub()
    assert name_of(digest_of(SMALL)) in bucket.names(), "not looked for each time: listing costs"
    now[0] += RETURNED_EVERY_MS
    assert vault.scrub()
    assert sorted(bucket.names()) == sorted([name_of(digest_of(OTHER)), *foreign])
    bucket.put(name_of(digest_of(SMALL)), SMALL)
    again = S3Vault(index.crash(), bucket, Hasher)
    assert again.scrub(), "and at every start"
    assert sorted(bucket.names()) == sorted([name_of(digest_of(OTHER)), *foreign])


def test_prefixes_keep_nodes_of_one_bucket_apart(address: BucketAddress, vault: S3Vault) -> None:
    vault.put_many([(digest_of(SMALL), SMALL)])
    other = Bucket(BucketAddress(address.endpoint, address.region, address.bucket, "other/", "key", "secret"))
    assert list(other.names()) == []
    other.close()


def test_a_store_that_is_not_there_is_unavailable_and_not_a_crash(address: BucketAddress) -> None:
    for broken in (
        BucketAddress("http://127.0.0.1:9", "us-east-1", address.bucket, "", "key", "secret"),
        BucketAddress(address.endpoint, "us-east-1", "no-such-bucket", "", "key", "secret"),
    ):
        with pytest.raises(Refused) as refused:
            Bucket(broken)
        assert code_of(refused) == "vault.unavailable"
        assert "secret" not in str(refused.value)
        assert "secret" not in repr(broken).replace("secret_access_key", "")


def test_a_closed_bucket_says_so(address: BucketAddress) -> None:
    closed = Bucket(address)
    closed.close()
    closed.close()
    with pytest.raises(Refused) as refused:
        closed.put("name", b"")
    assert code_of(refused) == "vault.unavailable"
