"""The erasure certificate: one file that proves what was ordered to be forgotten, and who attests to have destroyed it.

It is made of receipts, and so verifies with the genesis file alone: of the order (and of its carrying out, where it
could be contested first), of each holder's attestation, and of the sharing of each compartment's key that is meant. It
says *attested*, not *destroyed*: nobody can prove that a copy does not exist. Who has not attested is named, and so is
how many of each key's custodians suffice that fewer are left than it takes to open (n - k + 1).

The past recipients are the word of the node that was asked, each with the transaction that a receipt proves.

The format is in docs/erasure.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

import msgspec

from consilium.contracts import keys, records
from consilium.contracts.forgetting import (
    HOLDERS_MAX,
    AttestErasure,
    CarryOutErasure,
    ErasureVerdict,
    KeptBack,
    RequestErasure,
)
from consilium.contracts.operation import ID_BYTES
from consilium.ledger import codec
from consilium.ledger.crypto import DIGEST_BYTES, Tag
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OK, RESULT_BYTES_MAX
from consilium.ledger.genesis import Genesis
from consilium.ledger.receipt import Proved, verify_receipt
from consilium.ledger.receipt_format import RECEIPT_BYTES_MAX
from consilium.ledger.transaction import OPERATION_BODY_BYTES_MAX

CERTIFICATE_VERSION: Final = 1
CERTIFICATE_BYTES_MAX: Final = 64 * 1024 * 1024
EPOCHS_MAX: Final = 512
RECIPIENTS_MAX: Final = 10_000
MAGIC: Final = b"consilium erasure certificate 1\n"

_CHECKSUM: Final = Tag("consilium/erasure-certificate/1")

RawReceipt = Annotated[bytes, msgspec.Meta(max_length=RECEIPT_BYTES_MAX)]
_W = TypeVar("_W", bound=codec.Wire)


class Recipient(codec.Wire, frozen=True):
    """Somebody who was allowed to read what is erased: in `requests` requests, `transaction` the last, at `last_ms`."""

    reader: codec.Bytes16
    institution: codec.Bytes16 | None
    requests: codec.Uint
    last_ms: codec.Uint
    transaction: codec.Bytes32


class Certificate(codec.Wire, frozen=True):
    """See the module. `carried_out` is None where nobody could contest. `checksum` is over all bytes before it, against
    damage."""

    version: codec.Uint
    erasure: codec.Bytes16
    order: RawReceipt
    carried_out: RawReceipt | None
    attestations: Annotated[list[RawReceipt], msgspec.Meta(max_length=HOLDERS_MAX)]
    epochs: Annotated[list[RawReceipt], msgspec.Meta(max_length=EPOCHS_MAX)]
    recipients: Annotated[list[Recipient], msgspec.Meta(max_length=RECIPIENTS_MAX)]
    checksum: codec.Bytes32


@dataclass(frozen=True, slots=True)
class KeyShares:
    """The custodians (n) of one epoch's key, how many open it (k), and which of them attested.

    While fewer than k are left, nobody opens anything sealed to it, whatever copies turn up.
    """

    compartment: bytes
    epoch: int
    custodians: tuple[bytes, ...]
    threshold: int
    attested: tuple[bytes, ...]

    @property
    def suffice(self) -> int:
        """How many attestations suffice: n - k + 1."""
        return len(self.custodians) - self.threshold + 1

    @property
    def destroyed(self) -> bool:
        """Whether so many attested."""
        return len(self.attested) >= self.suffice


@dataclass(frozen=True, slots=True)
class Certified:
    """What a certificate proves. Times are block time in milliseconds; `attested` is by holder."""

    erasure: bytes
    patient: bytes
    ordered_by: bytes
    records: tuple[bytes, ...] | None
    compartment: bytes | None
    epoch: int | None
    basis: str
    outcome: str
    kept: tuple[KeptBack, ...]
    ordered_ms: int
    holders: tuple[bytes, ...]
    attested: dict[bytes, int]
    keys: tuple[KeyShares, ...]
    recipients: tuple[Recipient, ...]

    @property
    def missing(self) -> tuple[bytes, ...]:
        """The holders that have not attested."""
        return tuple(one for one in self.holders if one not in self.attested)

    @property
    def complete(self) -> bool:
        """Whether it was carried out, and every holder attested."""
        return self.outcome in ("carried-out", "partly") and not self.missing


def encode_certificate(certificate: Certificate) -> bytes:
    """The bytes of a certificate's file, with its checksum put right. Raises Refused `codec.*` beyond its bounds."""
    raw = _with_checksum(codec.encode(certificate))
    codec.decode(raw, Certificate, CERTIFICATE_BYTES_MAX)
    return MAGIC + raw


def decode_certificate(raw: bytes) -> Certificate:
    """Raises Refused `codec.*`, `erasure.bad_certificate`."""
    if not raw.startswith(MAGIC):
        raise Refused("erasure.bad_certificate", "it is no erasure certificate of a version that is known")
    body = raw[len(MAGIC) :]
    certificate = codec.decode(body, Certificate, CERTIFICATE_BYTES_MAX)
    if certificate.version != CERTIFICATE_VERSION or _with_checksum(body) != body:
        raise Refused("erasure.bad_certificate", "the checksum is wrong: the file was damaged or changed")
    return certificate


def verify_certificate(raw: bytes, genesis: Genesis, trusted: bytes | None = None) -> Certified:
    """Check a certificate with the genesis document alone. `trusted` as `ledger.receipt.verify_receipt` has it.

    Raises Refused `erasure.bad_certificate`, and as `verify_receipt`.
    """
    certificate = decode_certificate(raw)
    order = verify_receipt(certificate.order, genesis, trusted)
    body, verdict = _operation(order, "erasure.request", RequestErasure, ErasureVerdict)
    if body.erasure != certificate.erasure or verdict.erasure != certificate.erasure:
        raise Refused("erasure.bad_certificate", "the order is of another erasure")
    if certificate.carried_out is not None:
        done = verify_receipt(certificate.carried_out, genesis, trusted)
        carried, verdict = _operation(done, "erasure.carry_out", CarryOutErasure, ErasureVerdict)
        if carried.erasure != certificate.erasure:
            raise Refused("erasure.bad_certificate", "what was carried out is another erasure")
    attested: dict[bytes, int] = {}
    for receipt in certificate.attestations:
        proved = verify_receipt(receipt, genesis, trusted)
        said, _ = _operation(proved, "erasure.attest", AttestErasure, None)
        holder = _sender(proved)
        if said.erasure != certificate.erasure or holder not in verdict.holders or holder in attested:
            raise Refused("erasure.bad_certificate", f"an attestation by {holder.hex()} does not belong here")
        attested[holder] = proved.time_ms
    shared = [
        _key_shares(verify_receipt(receipt, genesis, trusted), attested) for receipt in certificate.epochs
    ]
    return Certified(
        erasure=certificate.erasure,
        patient=body.patient,
        ordered_by=_sender(order),
        records=None if body.records is None else tuple(body.records),
        compartment=body.compartment,
        epoch=body.epoch,
        basis=body.basis,
        outcome=verdict.outcome,
        kept=tuple(verdict.kept),
        ordered_ms=order.time_ms,
        holders=tuple(verdict.holders),
        attested=attested,
        keys=tuple(shared),
        recipients=tuple(certificate.recipients),
    )


def _operation(
    proved: Proved, name: str, body: type[_W], result: type[ErasureVerdict] | None
) -> tuple[_W, ErasureVerdict]:
    """The operation of this name in a transaction that took effect, and its result, where a type of it is asked for."""
    if proved.transaction is None or proved.leaf is None or proved.leaf.code != OK:
        raise Refused("erasure.bad_certificate", f"no receipt of {name} taking effect")
    for operation, raw in zip(proved.transaction.operations, proved.leaf.results, strict=True):
        if operation.name == name:
            found = codec.decode(operation.body, body, OPERATION_BODY_BYTES_MAX)
            if result is None:
                return found, ErasureVerdict(bytes(16), "pending", 0, [], [])
            return found, codec.decode(raw, result, RESULT_BYTES_MAX)
    raise Refused("erasure.bad_certificate", f"the transaction holds no {name}")


def _sender(proved: Proved) -> bytes:
    if proved.transaction is None:
        raise Refused("erasure.bad_certificate", "a receipt of another kind")
    return proved.transaction.sender


def _key_shares(proved: Proved, attested: dict[bytes, int]) -> KeyShares:
    width = len(keys.EPOCH) + ID_BYTES + records.EPOCH_BYTES
    if proved.key is None or proved.value is None or proved.key[:1] != keys.EPOCH or len(proved.key) != width:
        raise Refused("erasure.bad_certificate", "a receipt is of no compartment's key")
    epoch = records.EPOCHS.decode(proved.value)
    return KeyShares(
        compartment=proved.key[1 : 1 + ID_BYTES],
        epoch=int.from_bytes(proved.key[1 + ID_BYTES :], "big"),
        custodians=tuple(epoch.custodians),
        threshold=epoch.threshold,
        attested=tuple(one for one in epoch.custodians if one in attested),
    )


def recipients_of(lines: Sequence[Recipient]) -> list[Recipient]:
    """One line for each reader, from one for each request, oldest first."""
    merged: dict[bytes, Recipient] = {}
    for line in lines:
        earlier = merged.get(line.reader)
        count = line.requests + (earlier.requests if earlier is not None else 0)
        merged[line.reader] = msgspec.structs.replace(line, requests=count)
    return list(merged.values())[-RECIPIENTS_MAX:]


def _with_checksum(raw: bytes) -> bytes:
    """The checksum is the last field: two bytes of MessagePack, then 32."""
    return raw[:-DIGEST_BYTES] + _CHECKSUM.digest(raw[: -DIGEST_BYTES - 2])
