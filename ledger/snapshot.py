"""The format of snapshots, and how each piece of one is checked alone. Checks, and cannot build.

A *snapshot* is the state after one height, and what a node needs beside it to execute the next. It is believed for one
reason: the next header, sealed by a quorum, names the state root and the receipts root of that height. The manifest
carries that header with its seals, and what leads to their validator set from genesis, as a receipt does. Everything
else hangs below it by hashes: the state in *parts*, each a subtree of the trie with the hash that its parent named;
earlier blocks by their successors' `parent`; receipt leaves by the next header's receipts root. So a piece is
accepted or refused when it arrives, whoever sent it, and nothing is ever taken on a peer's word.

docs/snapshots.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from consilium.ledger import codec
from consilium.ledger.block import (
    BLOCK_BYTES_MAX,
    BLOCK_TRANSACTIONS_MAX,
    BLOCK_VERSION,
    Block,
    CommitCertificate,
    Header,
    check_block_form,
    check_certified,
)
from consilium.ledger.crypto import DIGEST_BYTES
from consilium.ledger.errors import Refused
from consilium.ledger.execution import LEAF_BYTES_MAX, ReceiptLeaf
from consilium.ledger.genesis import Genesis
from consilium.ledger.merkle import merkle_root
from consilium.ledger.receipt import certificate_of, set_after
from consilium.ledger.receipt_format import SET_CHANGES_MAX, Sealing, SetChange
from consilium.ledger.state import STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX
from consilium.ledger.trie_nodes import NodeRef
from consilium.ledger.trie_parts import Node, Pair, build, starts_with
from consilium.ledger.trie_proof import (
    BRANCH_SLOTS,
    BRANCH_TAG,
    BUCKET_KEYS_MAX,
    EMPTY_STATE_ROOT,
    key_hash,
    value_hash,
)
from consilium.ledger.validators import ValidatorSet

SNAPSHOT_VERSION: Final = 1
PART_ROWS_MAX: Final = 8_192
PART_ROWS_BYTES: Final = 1024 * 1024
"""A part with more rows or bytes than these is sent as a branch instead; a bucket alone may be larger."""
ROW_BYTES_MAX: Final = STATE_KEY_BYTES_MAX + STATE_VALUE_BYTES_MAX + 16
PART_BYTES_MAX: Final = PART_ROWS_BYTES + BUCKET_KEYS_MAX * ROW_BYTES_MAX + PART_ROWS_MAX * 16
MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
LEAVES_MAX: Final = BLOCK_TRANSACTIONS_MAX
BLOCKS_MAX: Final = 512
BLOCKS_BYTES_MAX: Final = 1024 * 1024 + BLOCK_BYTES_MAX
"""Of a run of blocks without their batches."""


class Manifest(codec.Wire, frozen=True):
    """The snapshot of the state after `height`: why it may be believed.

    `header` is the one at `height + 1`, with its sealing; `sealing_below` seals the one at `height`. `changes` are all
    changes of the validator set up to `height + 1` itself, the oldest first.
    """

    version: codec.Uint
    height: codec.Uint
    header: Header
    sealing: Sealing
    sealing_below: Sealing
    changes: Annotated[list[SetChange], msgspec.Meta(max_length=SET_CHANGES_MAX)]


class StateRow(codec.Wire, frozen=True):
    """A key of the state, and its value."""

    key: Annotated[bytes, msgspec.Meta(min_length=1, max_length=STATE_KEY_BYTES_MAX)]
    value: Annotated[bytes, msgspec.Meta(max_length=STATE_VALUE_BYTES_MAX)]


class RowsPart(codec.Wire, frozen=True, tag="rows"):
    """All keys below a prefix, by ascending key hash."""

    rows: Annotated[list[StateRow], msgspec.Meta(max_length=PART_ROWS_MAX)]


class BranchPart(codec.Wire, frozen=True, tag="branch"):
    """What stands at a prefix with more keys than one part holds: the hashes of its present slots, ascending."""

    bitmap: Annotated[int, msgspec.Meta(ge=1, le=0xFFFF)]
    hashes: Annotated[bytes, msgspec.Meta(max_length=BRANCH_SLOTS * DIGEST_BYTES)]


Part = RowsPart | BranchPart
Leaf = Annotated[bytes, msgspec.Meta(max_length=LEAF_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class Certified:
    """What a manifest that was checked proves.

    `sets` are all validator sets that headers up to `header` named, the newest last; `certificates` those of the
    headers that handed over, with the one of `header`; `voters` seal at `height`.
    """

    height: int
    header: Header
    sealing_below: Sealing
    voters: ValidatorSet
    sets: tuple[ValidatorSet, ...]
    certificates: tuple[CommitCertificate, ...]


def decode_manifest(raw: bytes) -> Manifest:
    """Raises Refused `codec.*`, `snapshot.wrong_version`."""
    if len(raw) > 1 and 0x91 <= raw[0] <= 0x9F and raw[1] < 0x80 and raw[1] != SNAPSHOT_VERSION:
        # Another version's manifest may have any other shape behind its number.
        raise Refused("snapshot.wrong_version", f"version {raw[1]}; known: {SNAPSHOT_VERSION}")
    manifest = codec.decode(raw, Manifest, MANIFEST_BYTES_MAX)
    if manifest.version != SNAPSHOT_VERSION:
        raise Refused("snapshot.wrong_version", f"version {manifest.version}; known: {SNAPSHOT_VERSION}")
    return manifest


def check_manifest(manifest: Manifest, genesis: Genesis) -> Certified:
    """Check that the manifest's header is one of this chain. Costs a verify per seal.

    Raises Refused `snapshot.wrong_chain`, `snapshot.invalid`.
    """
    headers = [manifest.header, *(change.header for change in manifest.changes)]
    for header in headers:
        if header.chain_id != genesis.chain_id:
            raise Refused("snapshot.wrong_chain", f"it is of chain {header.chain_id.hex()[:16]}…")
        if header.version != BLOCK_VERSION:
            raise Refused(
                "snapshot.invalid", f"a header has version {header.version}; known: {BLOCK_VERSION}"
            )
    if manifest.height < 1 or manifest.header.height != manifest.height + 1:
        raise Refused("snapshot.invalid", "its header is not the one that certifies its height")
    try:
        return _cross(manifest, genesis)
    except Refused as refusal:
        raise Refused("snapshot.invalid", refusal.detail or refusal.entry.cause) from None


def _cross(manifest: Manifest, genesis: Genesis) -> Certified:
    """Walk from the genesis set over the changes, as a receipt's verifier does, to the set that sealed the header."""
    top = manifest.header
    current, height = genesis.validator_set, 0
    voters, sealers = current, current
    sets, certificates = [current], list[CommitCertificate]()
    for change in manifest.changes:
        header = change.header
        if not height < header.height <= top.height or (header.height == top.height and header != top):
            raise Refused("snapshot.invalid", "the validator set changes are out of order")
        certificate = certificate_of(header, change.sealing)
        check_certified(header, certificate, current)
        following = set_after(current, change)
        if header.height < manifest.height:
            voters = following
        if header.height < top.height:
            sealers = following
        current, height = following, header.height
        sets.append(current)
        certificates.append(certificate)
    sealing = certificate_of(top, manifest.sealing)
    check_certified(top, sealing, sealers)
    if top.next_validators_hash != current.hash:
        raise Refused("snapshot.invalid", "a change of the validator set is missing")
    if height != top.height:
        certificates.append(sealing)
    return Certified(manifest.height, top, manifest.sealing_below, voters, tuple(sets), tuple(certificates))


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """Rows that are all of a subtree: with their paths, the subtree's branches, and how its parent refers to it."""

    rows: Sequence[StateRow]
    paths: Sequence[bytes]
    subtree: NodeRef
    nodes: Sequence[Node]


def check_rows(part: RowsPart, prefix: bytes, expected: bytes) -> CheckedRows:
    """Check that these are all keys below `prefix`, in a trie that has the hash `expected` there.

    Raises Refused `snapshot.invalid`.
    """
    pairs: list[Pair] = []
    previous = b""
    for row in part.rows:
        path = key_hash(row.key)
        if path <= previous or not starts_with(path, prefix):
            raise Refused("snapshot.invalid", "the rows of a part are out of order, or do not belong to it")
        pairs.append((path, value_hash(row.value)))
        previous = path
    if not pairs:
        if prefix or expected != EMPTY_STATE_ROOT:
            raise Refused("snapshot.invalid", "a part without rows")
        return CheckedRows((), (), NodeRef(EMPTY_STATE_ROOT, False), ())
    subtree, nodes = build(pairs, prefix)
    if subtree.hash != expected:
        raise Refused("snapshot.invalid", "the rows of a part do not have its hash")
    return CheckedRows(part.rows, [path for path, _ in pairs], subtree, nodes)


def check_branch(part: BranchPart, expected: bytes) -> list[tuple[int, bytes]]:
    """(slot, hash of the subtree) for each present slot. Raises Refused `snapshot.invalid`."""
    slots = [slot for slot in range(BRANCH_SLOTS) if part.bitmap >> slot & 1]
    if len(part.hashes) != len(slots) * DIGEST_BYTES:
        raise Refused("snapshot.invalid", "the hashes of a branch are not as many as its slots")
    if BRANCH_TAG.digest(part.bitmap.to_bytes(2, "big"), part.hashes) != expected:
        raise Refused("snapshot.invalid", "a branch does not have its hash")
    return [
        (slot, part.hashes[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES])
        for place, slot in enumerate(slots)
    ]


def check_run(blocks: Sequence[Block], last: int, expected: bytes) -> None:
    """Check a run of blocks, ascending, that ends with the block of hash `expected` at height `last`.

    Genesis is nobody's to send: a run that reaches down to it would be joined to nothing. Raises Refused
    `snapshot.invalid`.
    """
    if not blocks:
        raise Refused("snapshot.invalid", "a run without blocks")
    if len(blocks) > last:
        raise Refused("snapshot.invalid", f"{len(blocks)} blocks up to height {last}: genesis is not sent")
    for block in reversed(blocks):
        if block.height != last or block.header.hash != expected:
            raise Refused("snapshot.invalid", f"a block is not the one that belongs at height {last}")
        try:
            check_block_form(block)
        except Refused as refusal:
            raise Refused("snapshot.invalid", refusal.detail) from None
        last, expected = last - 1, block.header.parent


def check_leaves(leaves: Sequence[bytes], receipts_root: bytes) -> list[bytes]:
    """The ids of the transactions whose receipt leaves these are: all of a height's, in their order.

    `receipts_root` is the next header's. Raises Refused `snapshot.invalid`.
    """
    if merkle_root(leaves) != receipts_root:
        raise Refused("snapshot.invalid", "the receipts do not have their root")
    return [bytes(codec.decode(leaf, ReceiptLeaf, LEAF_BYTES_MAX).transaction) for leaf in leaves]


def certificate_below(certified: Certified, header: Header) -> CommitCertificate:
    """The certificate of the header at the snapshot's own height. Raises Refused `snapshot.invalid`."""
    try:
        certificate = certificate_of(header, certified.sealing_below)
        check_certified(header, certificate, certified.voters)
    except Refused as refusal:
        raise Refused("snapshot.invalid", refusal.detail or refusal.entry.cause) from None
    return certificate
