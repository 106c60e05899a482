"""What a node's RPC answers, as values for applications: `rpc.RpcClient` returns them."""

from __future__ import annotations

from dataclasses import dataclass

from consilium.client import rpc_values as values
from consilium.client.rpc_transport import printable
from consilium.ledger.block import Block, CommitCertificate
from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.execution import ReceiptLeaf


@dataclass(frozen=True, slots=True)
class Submission:
    """The answer to one transaction: its id (None where the bytes were none); `code` is None where admitted."""

    id: bytes | None
    code: str | None
    detail: str
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """Where a transaction is in the chain and what became of it."""

    id: bytes
    height: int
    index: int
    time_ms: int
    leaf: ReceiptLeaf
    certified: bool


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block, its certificate (None for genesis), and the ids of what it executed."""

    block: Block
    certificate: CommitCertificate | None
    transactions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Withheld:
    """What a custodian does not release of what was allowed, by name, and why: a record, or (None) a whole verdict."""

    verdict: int
    record: bytes | None
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Released:
    """A page of what a custodian handed out: sealed partials, envelopes in the decision's order of records, and what it
    withholds. `next` is where the next page starts, None after the last one."""

    sealed_partials: bytes
    envelopes: tuple[bytes, ...]
    withheld: tuple[Withheld, ...] = ()
    next: int | None = None


@dataclass(frozen=True, slots=True)
class AccountingRow:
    """A line of a patient's accounting: number, height, digest, and its bytes where they may be seen."""

    number: int
    height: int
    digest: bytes
    line: bytes | None


def submission_of(answer: values.SubmissionValue) -> Submission:
    """From its JSON form."""
    identifier = None if answer.id is None else bytes(answer.id)
    if answer.accepted:
        return Submission(identifier, None, "")
    if answer.error is None:
        return Submission(identifier, "rpc.remote_error", "refused without a reason")
    error = answer.error
    return Submission(identifier, error.code, error.detail, error.retry_after_ms)


def committed_of(found: values.CommittedValue) -> Committed:
    """From its JSON form."""
    leaf = ReceiptLeaf(bytes(found.id), found.code, found.failed, list(found.results))
    return Committed(bytes(found.id), found.height, found.index, found.time_ms, leaf, found.certified)


def released_of(found: values.ReleaseValue) -> Released:
    """From its JSON form. A reason that is unknown here becomes `rpc.remote_error`."""
    withheld = tuple(
        Withheld(
            one.verdict,
            None if one.record is None else bytes(one.record),
            one.code if one.code in CATALOGUE else "rpc.remote_error",
            printable(one.detail),
        )
        for one in found.withheld
    )
    return Released(found.sealed_partials, tuple(found.envelopes), withheld, found.next)
