"""What a node answers, as values: `node.api` gives them to the RPC, and `rpc.RpcClient` to applications."""

from __future__ import annotations

from dataclasses import dataclass

from consilium.client import rpc_values as values
from consilium.client.rpc_transport import printable
from consilium.client.rpc_values import Cursor
from consilium.ledger.block import Block, CommitCertificate
from consilium.ledger.catalogue import CATALOGUE
from consilium.ledger.execution import Event, ReceiptLeaf


@dataclass(frozen=True, slots=True)
class Submission:
    """The answer to one submitted transaction: its id (None where the bytes were none, or were not looked at), or why
    it was refused: `code` is None where it was admitted."""

    id: bytes | None
    code: str | None
    detail: str
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """Where a transaction is in the chain and what became of it.

    `certified` says that the next header, which certifies the roots of this height's execution, is committed too.
    `detail` has what the contract said with a refusal, where the node still knows: for people, and no part of what
    the chain proves.
    """

    id: bytes
    height: int
    index: int
    time_ms: int
    leaf: ReceiptLeaf
    certified: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block with its certificate (None for genesis) and the ids of what it executed, in order."""

    block: Block
    certificate: CommitCertificate | None
    transactions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class EventAt:
    """An event and its place in the chain."""

    cursor: Cursor
    event: Event


@dataclass(frozen=True, slots=True)
class Withheld:
    """A record that an allow names and a custodian does not release, or (`record` None) a whole verdict of it, and
    why. `verdict` is its index in the decision."""

    verdict: int
    record: bytes | None
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Released:
    """A page of what a custodian hands out on a committed decision: partials sealed to the request's ephemeral key, and
    the envelopes (ciphertext) that they open, in the decision's order of records; and what it withholds, by name.

    `next` is the place to go on from, None where this is the last page.
    """

    sealed_partials: bytes
    envelopes: tuple[bytes, ...]
    withheld: tuple[Withheld, ...] = ()
    next: int | None = None


@dataclass(frozen=True, slots=True)
class AccountingRow:
    """A line of a patient's accounting: its number, the height that it is of, its digest, and its bytes; `line` is None
    where only the digest may be seen."""

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
    return Committed(
        bytes(found.id),
        found.height,
        found.index,
        found.time_ms,
        leaf,
        found.certified,
        printable(found.detail),
    )


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
