"""Payloads too large for memory, such as imaging studies: recorded and read by their author in pieces.

An envelope's digest is known only when all of it is sealed, and vaults ask for it first: so a study is sealed to a
scratch file (ciphertext), sent from there, and anchored once the vault has it durably. What is read back is provisional
until all of it has been checked; `read_study` therefore gives a file its name only then.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final, NamedTuple

from consilium.client.envelope import Context, HeaderFields, Seals, SignedHeader
from consilium.client.recording import general_compartment
from consilium.client.sealing_streams import open_pieces_as_author, seal_pieces
from consilium.client.session import Session, new_id
from consilium.client.streaming import get_envelope, put_envelope
from consilium.contracts import records
from consilium.contracts.registry import operation
from consilium.ledger.errors import Refused

READ_BYTES: Final = 1024 * 1024
PART_SUFFIX: Final = ".part"


class RecordedStudy(NamedTuple):
    """What recording a study did."""

    record: bytes
    seals: Seals
    transaction: bytes
    height: int


async def record_study(
    session: Session, token: str | None, patient: bytes, source: Path, header: HeaderFields, scratch: Path
) -> RecordedStudy:
    """Seal a file to the patient's general compartment, store it in the institution's vault, anchor it.

    `token` is the node's; `scratch` a folder with room for the file once more. Raises Refused as `import_records` does,
    `vault.*`, `rpc.*`; OSError for the files.
    """
    compartment, number, epoch = await general_compartment(session, patient)
    custodians = [(await session.identity_of(one)).encryption_key for one in epoch.custodians]
    identifier = new_id()
    context = Context(session.chain_id, identifier, compartment, number, session.identity)
    with TemporaryDirectory(dir=scratch) as made:
        sealed = Path(made) / "sealed"
        seals = await asyncio.to_thread(
            _seal, session, source, sealed, context, epoch.point, custodians, header
        )
        await put_envelope(session.rpc.urls[0], seals.digest, token, _read(sealed))
    body = records.AnchorRecord(
        record=identifier,
        compartment=compartment,
        also=[],
        epoch=number,
        bundle=new_id(),
        position=0,
        count=1,
        anchor=seals.anchor,
        envelope=seals.digest,
    )
    committed = await session.submit([operation("records.anchor", body)], certified=True)
    return RecordedStudy(identifier, seals, committed.id, committed.height)


async def read_study(session: Session, token: str | None, record: bytes, target: Path) -> SignedHeader:
    """Read a study that this session's institution recorded into a new file, which gets its name once all is checked.

    Raises Refused `vault.unknown`, `sealing.*`, `vault.*`, `rpc.*`; OSError for the files.
    """
    known = await session.state(records.RECORDS, record)
    if known is None:
        raise Refused("vault.unknown", f"the chain has no record {record.hex()}")
    context = Context(session.chain_id, record, known.compartment, known.epoch, known.author)
    part = target.with_name(target.name + PART_SUFFIX)
    fetched = target.with_name(target.name + ".sealed")
    try:
        with fetched.open("xb") as file:
            async for piece in get_envelope(session.rpc.urls[0], known.envelope, token):
                await asyncio.to_thread(file.write, piece)
        header = await asyncio.to_thread(_open, session, fetched, part, context, known.anchor)
        part.rename(target)
        return header
    finally:
        fetched.unlink(missing_ok=True)
        part.unlink(missing_ok=True)


def _seal(
    session: Session,
    source: Path,
    target: Path,
    context: Context,
    point: bytes,
    custodians: list[bytes],
    header: HeaderFields,
) -> Seals:
    with source.open("rb") as file, target.open("xb") as sealed:
        size = os.fstat(file.fileno()).st_size
        pieces, seals = seal_pieces(
            _pieces(file), size, context, point, session.wallet.author_keys, custodians, header
        )
        sealed.writelines(pieces)
    return seals()


def _open(session: Session, source: Path, target: Path, context: Context, anchor: bytes) -> SignedHeader:
    with source.open("rb") as sealed, target.open("xb") as file:
        opened = open_pieces_as_author(_pieces(sealed), context, anchor, session.wallet.point_secret)
        file.writelines(opened.pieces)
        file.flush()
        os.fsync(file.fileno())
    return opened.header


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(READ_BYTES):
        yield piece


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, READ_BYTES):
            yield piece
