"""Every key of the stores, with its sentence, and the store's format version. No key is built anywhere else.

A key starts with one byte that says its kind. Numbers are big-endian, so that keys sort as numbers do; what belongs to
a height has the height first, so that a block's rows are written side by side, and old ones are found and deleted
without looking for them. `+` is concatenation.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from consilium.ledger.errors import Refused
from consilium.ledger.merkle import NodePosition
from consilium.ledger.trie_nodes import NodeRef
from consilium.storage.kv import KeyValueReader

STORE_FORMAT: Final = 3
"""Of the chain's store. It grows with every change that an older program would misread."""

PROOF_HEIGHTS: Final = 512
"""State of so many heights below the tip can be read and proved; what leads back further is deleted."""
BRANCH_HEIGHTS_MAX: Final = 64
"""A branch of the trie is written so many heights after it changed, at the latest."""

# ---- the chain's store
FORMAT: Final = b"F"  # -> STORE_FORMAT:u32
MIGRATING: Final = (
    b"m"  # -> format:u32 that is being left + next height:u64; only while storage.migration is at work
)
TIP: Final = b"T"  # -> storage.chain.Tip: the last committed height, and all that the next one builds on
LOWEST: Final = (
    b"P"  # -> height:u64: the lowest one that is kept whole; missing while all are (storage.pruning)
)
BASE: Final = (
    b"g"  # -> height:u64 of the snapshot that this store began with; missing where it began with genesis
)
BLOCK: Final = b"b"  # height:u64 -> ledger.block.Block
BATCH: Final = b"B"  # height:u64 + place in the block:u16 -> ledger.batch.Batch, as it was signed
BATCH_PLACE: Final = b"d"  # batch digest:32 -> height:u64 + place:u16
HEIGHT_OF: Final = b"h"  # block hash:32 -> height:u64
CERTIFICATE: Final = b"c"  # height:u64 -> ledger.block.CommitCertificate (none for genesis)
LEAVES: Final = (
    b"r"  # height:u64 -> [ledger.execution.ReceiptLeaf as bytes]: the receipts of the block's execution
)
TRANSACTION: Final = b"t"  # transaction id:32 -> height:u64 + index of its receipt leaf:u32
SEEN: Final = b"i"  # height:u64 -> block time, ms:u64 + ids:32 each
SET_CHANGE: Final = (
    b"a"  # height:u64 -> nothing: the header at this height hands over to another validator set
)
VALIDATORS: Final = b"v"  # hash of a validator set:32 -> [ledger.validators.Validator]
STATE: Final = b"s"  # key hash:32 -> length of the key:u8 + key + value: state after the tip
ROOT: Final = (
    b"R"  # height:u64 -> root hash:32 + whether it is a branch:u8, or empty where the state is empty
)
BRANCH: Final = (
    b"k"  # depth:u8 + packed nibbles -> branch of the trie (ledger.trie_nodes), as of its last write
)
BUCKET: Final = (
    b"q"  # depth:u8 + packed nibbles -> bucket of the trie without its tag, as of its last write, if any
)
MOVES: Final = b"o"  # height:u64 -> {node key: move (ledger.trie_nodes)}: how this height changed the trie
UNDO: Final = b"u"  # height:u64 -> {key hash: value before this height, or nil}, by ascending key hash
HISTORY: Final = b"H"  # level:u8 + number:u64 -> hash of a perfect subtree over the headers (ledger.merkle)
EVENT: Final = (
    b"e"  # height:u64 + index of the first:u32 -> [ledger.execution.Event as bytes], EVENTS_PER_ROW of them
)
SUBJECT: Final = b"l"  # subject:16 + height:u64 -> indexes of its events there, u32 each (local index)

# ---- a chain's store in the making (storage.staging): gone once it is one
SYNC_FORMAT: Final = b"f"  # -> STORE_FORMAT:u32 of the program that began it
SYNC_PART: Final = b"y"  # nibbles of a prefix, a byte each -> hash:32 + whether it is a branch:u8 + keys:u64
SYNC_RUNS: Final = b"Y"  # -> [[lowest height, highest]] of the runs of blocks that are here

CHAIN_KINDS: Final = {
    "blocks": (BLOCK, HEIGHT_OF),
    "batches": (BATCH, BATCH_PLACE),
    "certificates": (CERTIFICATE,),
    "receipts": (LEAVES, TRANSACTION, SEEN),
    "state": (STATE, ROOT, UNDO),
    "trie": (BRANCH, BUCKET, MOVES),
    "history": (HISTORY, VALIDATORS, SET_CHANGE),
    "events": (EVENT, SUBJECT),
}
"""What the chain's store is made of, as people are told of it."""

# ---- formats 1 and 2 had these (storage.migration)
OLD_NODE: Final = b"n"  # version:u64 + depth:u8 + packed nibbles -> node of the trie
OLD_STALE: Final = b"x"  # height:u64 -> [node keys] that this height replaced

# ---- the vault's store
VAULT_FORMAT: Final = 1
ENVELOPE: Final = b"V"  # digest of the envelope:32 -> envelope
ENVELOPE_SIZE: Final = (
    b"Z"  # digest:32 -> length:u64 + when it came, ms:u64 + id of its pieces:8, where it has pieces
)
PIECE: Final = b"W"  # id:8 + number:u32 -> a piece of an envelope that came as a stream
RECEIVING: Final = b"U"  # id:8 -> nothing: its pieces belong to no envelope yet
ANCHORED: Final = b"N"  # digest of an envelope:32 -> id of the record that anchors it on the chain:16
ANCHORED_IN: Final = (
    b"G"  # compartment:16 + when, ms:u64 + record:16 -> nothing: what a snapshot's state anchored
)
ANCHORS_SEEN: Final = b"C"  # -> height:u64 + index:u32: events up to here have been followed
TOMBSTONE: Final = b"X"  # digest of an erased envelope:32 -> nothing: it does not come back
DELETED: Final = b"D"  # beginning of deleted keys -> nothing: their bytes may still be in the store's files
ERASURE_OWED: Final = b"A"  # erasure:16 -> nothing: this institution has not attested to it yet
VAULT_TOTALS: Final = b"S"  # -> envelopes:u64 + their bytes:u64


# ---- a custodian's store of shares
SHARE: Final = b"K"  # compartment:16 + epoch:u64 -> share parcel, sealed to the institution's encryption key
RELEASED: Final = (
    b"J"  # transaction:32 + operation:u16 + verdict:u16 -> what was released on it (storage.releases)
)


def at_height(kind: bytes, height: int) -> bytes:
    """The key of what a kind keeps once per height."""
    return kind + height.to_bytes(8, "big")


def height_in(key: bytes) -> int:
    """The height in a key made by `at_height`, `batch_key` or `event_key`."""
    return int.from_bytes(key[1:9], "big")


def batch_key(height: int, place: int) -> bytes:
    """The batch at a place of a block."""
    return BATCH + height.to_bytes(8, "big") + place.to_bytes(2, "big")


def event_key(height: int, index: int) -> bytes:
    """The row of events that begins with this index of a height."""
    return EVENT + height.to_bytes(8, "big") + index.to_bytes(4, "big")


def subject_key(subject: bytes, height: int) -> bytes:
    """The row that leads from a subject (16 bytes) to its events at a height."""
    return SUBJECT + subject + height.to_bytes(8, "big")


def piece_key(stream: bytes, number: int) -> bytes:
    """A piece of an envelope that came as a stream."""
    return PIECE + stream + number.to_bytes(4, "big")


def share_key(compartment: bytes, epoch: int) -> bytes:
    """The share of one epoch of a compartment."""
    return SHARE + compartment + epoch.to_bytes(8, "big")


def release_key(transaction: bytes, operation: int, verdict: int) -> bytes:
    """What was released on one verdict of a decision."""
    return RELEASED + transaction + operation.to_bytes(2, "big") + verdict.to_bytes(2, "big")


def history_key(position: NodePosition) -> bytes:
    """A perfect subtree over the headers."""
    return HISTORY + position.level.to_bytes(1, "big") + position.number.to_bytes(8, "big")


def format_bytes(number: int) -> bytes:
    """The value under FORMAT."""
    return number.to_bytes(4, "big")


class PartRow(NamedTuple):
    """A part of the state that is here, and how many keys it has."""

    subtree: NodeRef
    keys: int


def part_row(row: PartRow) -> bytes:
    """The value under SYNC_PART."""
    return root_row(row.subtree) + row.keys.to_bytes(8, "big")


def part_of(raw: bytes) -> PartRow:
    """Read back what `part_row` made."""
    return PartRow(NodeRef(raw[:32], bool(raw[32])), int.from_bytes(raw[33:41], "big"))


def root_row(root: NodeRef | None) -> bytes:
    """The value under ROOT."""
    return b"" if root is None else root.hash + bytes((root.branch,))


def root_of(row: bytes) -> NodeRef | None:
    """Read back what `root_row` made."""
    return NodeRef(row[:32], bool(row[32])) if row else None


def state_row(key: bytes, value: bytes) -> bytes:
    """The value under STATE."""
    return bytes((len(key),)) + key + value


def state_of(row: bytes) -> tuple[bytes, bytes]:
    """Read back what `state_row` made: key and value."""
    return row[1 : 1 + row[0]], row[1 + row[0] :]


def check_format(store: KeyValueReader, known: int, key: bytes = FORMAT) -> None:
    """Refuse a store of another format.

    Raises Refused: `store.newer_format`, `store.older_format`, and `store.corrupt` where the number is not there.
    """
    raw = store.get(key)
    if raw is None or len(raw) != 4:
        raise Refused("store.corrupt", "the store does not say which format it has")
    found = int.from_bytes(raw, "big")
    if found > known:
        raise Refused("store.newer_format", f"the store has format {found}; this program knows {known}")
    if key == FORMAT and store.get(MIGRATING) is not None:
        raise Refused("store.older_format", "its migration was interrupted")
    if found < known:
        raise Refused("store.older_format", f"the store has format {found}; this program reads {known}")
