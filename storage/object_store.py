"""A bucket of an S3-compatible object store, for calls from threads.

aiobotocore lives on an event loop of its own, in a thread of its own: the port of envelopes is for blocking calls, and
the node's loop is not touched by uploads. Whatever goes wrong on the way is `vault.unavailable`: unlike a disk of
ours, a store over the network may be away for a while, and nothing about the node's own state is in doubt.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from consilium.ledger.errors import Refused

CALL_TIMEOUT_S: Final = 120.0
CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 60.0
CLOSE_TIMEOUT_S: Final = 10.0
ATTEMPTS_MAX: Final = 4
CONNECTIONS_MAX: Final = 16
PART_BYTES: Final = 8 * 1024 * 1024
"""Of a multipart upload; S3 wants 5 MiB at least, and takes 10,000 parts at most."""
DELETED_AT_ONCE: Final = 1_000
_NO_VERSIONS: Final = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
_ABSENT: Final = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload"})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Where the bucket is, and who we are there. An empty endpoint is Amazon's own."""

    endpoint: str
    region: str
    bucket: str
    prefix: str
    access_key_id: str
    secret_access_key: str = field(repr=False)


class Bucket:
    """See the module. Calls block, and raise Refused `vault.unavailable`."""

    def __init__(self, address: BucketAddress) -> None:
        """Raises Refused `vault.no_client` where aiobotocore is not installed, `vault.unavailable`."""
        try:
            from aiobotocore.config import AioConfig
            from aiobotocore.session import get_session
        except ImportError:
            raise Refused("vault.no_client", "pip install 'consilium[s3]'") from None
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="object-store", daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self._closed = False
        config = AioConfig(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            max_pool_connections=CONNECTIONS_MAX,
            retries={"max_attempts": ATTEMPTS_MAX, "mode": "standard"},
            s3={"addressing_style": "path"},
            # Digests of our own are checked end to end; some stores do not know these checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )

        async def connect() -> Any:
            client = get_session().create_client(
                "s3",
                region_name=address.region or None,
                endpoint_url=address.endpoint or None,
                aws_access_key_id=address.access_key_id,
                aws_secret_access_key=address.secret_access_key,
                config=config,
            )
            opened = await self._stack.enter_async_context(client)
            await opened.head_bucket(Bucket=address.bucket)
            return opened

        try:
            self._client = self._call(connect())
        except Refused:
            self.close()
            raise

    def put(self, name: str, body: bytes) -> None:
        """Keep an object, durably."""
        self._call(self._client.put_object(**self._named(name), Body=body))

    def get(self, name: str, first: int, length: int) -> bytes | None:
        """A range of an object; None where there is no such object, or it is not that long."""

        async def read() -> bytes | None:
            try:
                found = await self._client.get_object(
                    **self._named(name), Range=f"bytes={first}-{first + length - 1}"
                )
            except Exception as error:  # botocore makes its exceptions as it goes
                if _code(error) in _ABSENT | {"InvalidRange", "416"}:
                    return None
                raise
            async with found["Body"] as body:
                raw: bytes = await body.read()
            return raw

        return self._call(read())

    def read(self, name: str, piece_bytes: int) -> Iterator[bytes] | None:
        """An object's bytes in pieces of exactly `piece_bytes`, the last one shorter; None where there is none."""
        first = self.get(name, 0, piece_bytes)
        return None if first is None else self._pieces(name, first, piece_bytes)

    def _pieces(self, name: str, piece: bytes, piece_bytes: int) -> Iterator[bytes]:
        at = 0
        while piece:
            yield piece
            if len(piece) < piece_bytes:
                return
            at += piece_bytes
            piece = self.get(name, at, piece_bytes) or b""

    def delete(self, names: list[str]) -> None:
        """Delete objects, there or not."""
        for start in range(0, len(names), DELETED_AT_ONCE):
            keys = [{"Key": self._key(name)} for name in names[start : start + DELETED_AT_ONCE]]
            self._call(
                self._client.delete_objects(
                    Bucket=self._address.bucket, Delete={"Objects": keys, "Quiet": True}
                )
            )

    def purge(self, names: list[str]) -> None:
        """Delete objects with every version and delete marker that the bucket keeps of them, and the parts of uploads
        that were not completed. What the store refuses to delete is `vault.unavailable`."""
        self.delete(names)
        for name in names:
            self._abort_below(self._key(name))
            # After the plain deletion: what is listed now, one called "null" too, is what that only hid.
            for version in self._call(self._versions(self._key(name))):
                self._call(self._client.delete_object(**self._named(name), VersionId=version))

    async def _versions(self, key: str) -> list[str]:
        found: list[str] = []
        try:
            async for page in self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._address.bucket, Prefix=key
            ):
                listed = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                found += [one["VersionId"] for one in listed if one["Key"] == key]
        except Exception as error:  # botocore makes its exceptions as it goes
            if _code(error) not in _NO_VERSIONS:
                raise
        return found

    def begin(self, name: str) -> str:
        """Begin an upload in parts; nothing is there until `complete`. Returns its id."""
        begun: dict[str, str] = self._call(self._client.create_multipart_upload(**self._named(name)))
        return begun["UploadId"]

    def part(self, name: str, upload: str, number: int, body: bytes) -> str:
        """The part with this number, from 1. Returns its tag."""
        done: dict[str, str] = self._call(
            self._client.upload_part(**self._named(name), UploadId=upload, PartNumber=number, Body=body)
        )
        return done["ETag"]

    def complete(self, name: str, upload: str, tags: list[str]) -> None:
        """Make the parts an object, durably."""
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
        self._call(
            self._client.complete_multipart_upload(
                **self._named(name), UploadId=upload, MultipartUpload={"Parts": parts}
            )
        )

    def abort(self, name: str, upload: str) -> None:
        """Forget an upload's parts."""
        self._call(self._client.abort_multipart_upload(**self._named(name), UploadId=upload))

    def abort_all(self) -> int:
        """Forget all uploads that were begun under our prefix and not completed. Returns how many."""
        return self._abort_below(self._address.prefix)

    def _abort_below(self, prefix: str) -> int:
        async def unfinished() -> list[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            pages = self._client.get_paginator("list_multipart_uploads")
            async for page in pages.paginate(Bucket=self._address.bucket, Prefix=prefix):
                found += [(one["Key"], one["UploadId"]) for one in page.get("Uploads", [])]
            return found

        uploads = self._call(unfinished())
        for key, upload in uploads:
            self.abort(key.removeprefix(self._address.prefix), upload)
        return len(uploads)

    def names(self, after: str = "") -> Iterator[str]:
        """Names of the objects above `after`, in order."""

        async def page(start: str) -> list[str]:
            found = await self._client.list_objects_v2(
                Bucket=self._address.bucket, Prefix=self._address.prefix, StartAfter=self._key(start)
            )
            return [one["Key"].removeprefix(self._address.prefix) for one in found.get("Contents", [])]

        while names := self._call(page(after)):
            yield from names
            after = names[-1]

    def close(self) -> None:
        """Let go of connections and thread. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        future = asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop)
        try:
            future.result(CLOSE_TIMEOUT_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_TIMEOUT_S)
            self._loop.close()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._closed:
            work.close()
            raise Refused("vault.unavailable", "the object store was closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(CALL_TIMEOUT_S)
        except TimeoutError:
            future.cancel()
            raise Refused("vault.unavailable", f"no answer within {CALL_TIMEOUT_S:g} s") from None
        except Exception as error:  # noqa: BLE001  # botocore makes its exceptions as it goes
            raise Refused("vault.unavailable", f"{self._address.bucket}: {_said(error)}") from None

    def _key(self, name: str) -> str:
        return self._address.prefix + name

    def _named(self, name: str) -> dict[str, str]:
        return {"Bucket": self._address.bucket, "Key": self._key(name)}


def _code(error: Exception) -> str:
    """The code of an answer that is an error; empty for other errors."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _said(error: Exception) -> str:
    """Without addresses and keys, which botocore's messages may name."""
    return _code(error) or type(error).__name__
