"""A patient's accounting of disclosures: asking for it, checking that no line is missing, and proving that offline.

Asking is a transaction, and a line of the accounting itself. The lines are a node's word until they are checked: they
are numbered and chained, and a receipt of the chain's head proves all of them at once, those included of which only
the digest is shown. So an exported accounting needs no node to be believed: `Accounting.to_json` is its proof.

45 CFR 164.528; Regulation (EU) 2025/327, article 9. docs/accounting.md.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from consilium.client.classes import ClassMap
from consilium.client.rpc import BEFORE_ALL
from consilium.client.session import Session
from consilium.contracts import access, accounting, records
from consilium.contracts.accounting import AccountingHead, Line
from consilium.contracts.classes import NAMES
from consilium.contracts.disclosures import ConsultAccounting, Consultation
from consilium.contracts.registry import operation
from consilium.ledger import codec
from consilium.ledger.crypto import Digest, Tag
from consilium.ledger.errors import Refused
from consilium.ledger.execution import RESULT_BYTES_MAX
from consilium.ledger.genesis import Genesis
from consilium.ledger.receipt import verify_receipt

PROOF_FORMAT: Final = "consilium-accounting"
PROOF_VERSION: Final = 1
PROOF_BYTES_MAX: Final = 512 * 1024 * 1024
LINES_PER_CALL: Final = 1_000
SENSITIVE: Final = "sensitive"
GENERAL: Final = "general"

_REQUEST_TAG: Final = Tag("consilium/accounting-request/1")


def accounting_digest(chain_id: bytes, transaction: bytes, operation_index: int) -> Digest:
    """What is signed to ask a node for the accounting that a consultation opens, with the key that consulted."""
    return _REQUEST_TAG.digest(
        chain_id, transaction, operation_index.to_bytes(access.OPERATION_INDEX_BYTES, "big")
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an accounting. `line` is None where only its digest may be seen."""

    number: int
    digest: bytes
    line: Line | None
    height: int | None = None
    """Where the ledger has it: the node's word, None in what was read from a file."""


@dataclass(frozen=True, slots=True)
class Accounting:
    """A whole accounting: every line up to `head`, which `receipt` proves as of block time `time_ms`.

    `categories` says of which class the compartments are, as far as who exported it knows.
    """

    chain_id: bytes
    patient: bytes
    entries: tuple[Entry, ...]
    head: AccountingHead
    time_ms: int
    receipt: bytes
    categories: Mapping[bytes, str] = field(default_factory=dict)

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines that may be seen."""
        return tuple(entry.line for entry in self.entries if entry.line is not None)

    def to_json(self) -> bytes:
        """The proof: all lines, and the receipt of their head. `verify` reads it."""
        proof = _Proof(
            format=PROOF_FORMAT,
            version=PROOF_VERSION,
            patient=self.patient.hex(),
            entries=[
                _ProofEntry(
                    entry.number,
                    None if entry.line is not None else entry.digest.hex(),
                    None if entry.line is None else _text(codec.encode(entry.line)),
                )
                for entry in self.entries
            ],
            receipt=_text(self.receipt),
            categories={one.hex(): name for one, name in self.categories.items()},
        )
        return msgspec.json.format(msgspec.json.encode(proof), indent=1)


class _ProofEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: int
    digest: str | None
    line: str | None


class _Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    version: int
    patient: Annotated[str, msgspec.Meta(min_length=32, max_length=32)]
    entries: list[_ProofEntry]
    receipt: str
    categories: dict[str, str]


# --- asking ---------------------------------------------------------------------------------------------------------


async def consult(
    session: Session,
    patient: bytes,
    credential: bytes | None = None,
    class_map: ClassMap | None = None,
) -> Accounting:
    """Ask the ledger for a patient's accounting, fetch it, and check that it is whole.

    `credential` is an auditor's; with `class_map` (the patient's) the sensitive classes have their names. Raises
    Refused `accounting.denied` where it is not this session's to see (which stands in the accounting),
    `accounting.broken` where the node leaves out or changes a line, and the node's codes.
    """
    body = ConsultAccounting(patient, credential)
    committed = await session.submit([operation("disclosure.consult", body)], certified=True)
    decided = codec.decode(committed.leaf.results[0], Consultation, RESULT_BYTES_MAX)
    if not decided.allow:
        raise Refused("accounting.denied", f"transaction {committed.id.hex()}")
    signature = session.wallet.signing.sign(accounting_digest(session.chain_id, committed.id, 0))
    # First the head, then the lines: what is entered meanwhile is beyond the head.
    receipt = await session.rpc.state_receipt(accounting.HEADS.key(patient))
    head, time_ms = _proved_head(receipt, session.genesis, patient)
    entries: list[Entry] = []
    after, more = BEFORE_ALL, True
    while more and len(entries) < head.lines:
        rows, after, more = await session.rpc.accounting(committed.id, 0, signature, after, LINES_PER_CALL)
        entries += [_entry(row.number, row.digest, row.line, row.height) for row in rows]
    entries = entries[: head.lines]
    check_chain(entries, head, patient)
    categories = await _categories(session, entries, class_map)
    return Accounting(session.chain_id, patient, tuple(entries), head, time_ms, receipt, categories)


def check_chain(entries: Sequence[Entry], head: AccountingHead, patient: bytes) -> None:
    """Whether these are all lines of the patient, in order, as the head commits to them.

    Raises Refused `accounting.broken`.
    """
    running: bytes = accounting.EMPTY_HEAD
    for number, entry in enumerate(entries, 1):
        line = entry.line
        if line is not None:
            own = (line.patient, line.number) == (patient, number)
            if not own or accounting.line_digest(line) != entry.digest:
                raise Refused("accounting.broken", f"line {number} is not what it says")
        if entry.number != number:
            raise Refused("accounting.broken", f"line {number} is missing")
        running = accounting.link(running, entry.digest)
    if len(entries) != head.lines:
        raise Refused("accounting.broken", f"{len(entries)} of {head.lines} lines")
    if running != head.head:
        raise Refused("accounting.broken", "the lines do not lead to the head")


async def _categories(
    session: Session, entries: Sequence[Entry], class_map: ClassMap | None
) -> dict[bytes, str]:
    """Of which class each compartment is, in words: from the class map, else as much as the chain says."""
    found: dict[bytes, str] = {}
    lines = (entry.line for entry in entries if entry.line is not None)
    for place in dict.fromkeys(one for line in lines for one in accounting.compartments_of(line)):
        code = None if class_map is None else class_map.class_of(place)
        if code is not None:
            found[place] = NAMES[code]
            continue
        known = await session.state(records.COMPARTMENTS, place)
        found[place] = GENERAL if known is not None and known.general else SENSITIVE
    return found


def _entry(number: int, digest: bytes, raw: bytes | None, height: int | None) -> Entry:
    line = None if raw is None else codec.decode(raw, Line, accounting.LINE_BYTES_MAX)
    return Entry(number, digest, line, height)


def _proved_head(receipt: bytes, genesis: Genesis, patient: bytes) -> tuple[AccountingHead, int]:
    """The head that a receipt proves, and as of which block time. Raises Refused `receipt.*`, `accounting.broken`."""
    proved = verify_receipt(receipt, genesis)
    if proved.kind != "state" or proved.key != accounting.HEADS.key(patient):
        raise Refused("accounting.broken", "the receipt is of something else")
    if proved.value is None:
        return AccountingHead(0, accounting.EMPTY_HEAD), proved.time_ms
    return accounting.HEADS.decode(proved.value), proved.time_ms


# --- proving offline ------------------------------------------------------------------------------------------------


def verify(raw: bytes, genesis: Genesis) -> Accounting:
    """An exported accounting, checked with the genesis document alone: every line, their order, and that none is
    missing up to the time of its receipt. The categories are the exporter's word.

    Raises Refused `codec.*`, `accounting.broken`, `receipt.*`.
    """
    if len(raw) > PROOF_BYTES_MAX:
        raise Refused("codec.oversized", f"an accounting has at most {PROOF_BYTES_MAX} bytes")
    try:
        proof = msgspec.json.decode(raw, type=_Proof)
        patient = bytes.fromhex(proof.patient)
        receipt = base64.b64decode(proof.receipt, validate=True)
        entries = [_read(one) for one in proof.entries]
        categories = {bytes.fromhex(one): name for one, name in proof.categories.items()}
    except (msgspec.DecodeError, ValueError) as error:
        raise Refused("codec.malformed", f"no proof of an accounting: {error}") from None
    if (proof.format, proof.version) != (PROOF_FORMAT, PROOF_VERSION):
        raise Refused("codec.malformed", f"{proof.format} version {proof.version}")
    head, time_ms = _proved_head(receipt, genesis, patient)
    check_chain(entries, head, patient)
    return Accounting(genesis.chain_id, patient, tuple(entries), head, time_ms, receipt, categories)


def _read(entry: _ProofEntry) -> Entry:
    if entry.line is not None:
        raw = base64.b64decode(entry.line, validate=True)
        line = codec.decode(raw, Line, accounting.LINE_BYTES_MAX)
        return Entry(entry.number, accounting.line_digest(line), line)
    return Entry(entry.number, bytes.fromhex(entry.digest or ""), None)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
