"""Batches: the digest fixes every byte but the author's signature; one bad transaction condemns the batch."""

from __future__ import annotations

import hashlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consilium.ledger import codec
from consilium.ledger.batch import (
    BATCH_BYTES_MAX,
    BATCH_TRANSACTIONS_MAX,
    Batch,
    VerifiedBatch,
    batch_digest,
    batch_of,
    open_batch,
    seal_batch,
    verify_batch,
)
from consilium.ledger.crypto import Digest, SigningKey
from consilium.ledger.errors import Refused
from consilium.ledger.merkle import merkle_root
from consilium.ledger.transaction import (
    Operation,
    Transaction,
    Verified,
    sign_transaction,
    verify_transaction,
)
from tests.unit.ledger.world import some

AUTHOR, CLERK = SigningKey(some("author")), SigningKey(some("clerk"))
CHAIN = some("chain")


def transaction(number: int, size: int = 10, chain_id: bytes = CHAIN) -> Verified[Transaction]:
    return sign_transaction(
        CLERK,
        chain_id=chain_id,
        sender=bytes(16),
        nonce=some(f"nonce {number}", 16),
        valid_until=1,
        operations=[Operation("put", bytes(size))],
    )


def sealed(count: int = 3, sequence: int = 7) -> VerifiedBatch:
    return seal_batch(AUTHOR, CHAIN, sequence, [transaction(number) for number in range(count)])


def decoded(batch: VerifiedBatch) -> Batch:
    return codec.decode(batch.raw, Batch, BATCH_BYTES_MAX)


def signed_again(batch: Batch) -> bytes:
    """The author vouches for something else."""
    digest = batch.digest()
    tag = b"consilium/batch-signature/1"
    to_sign = hashlib.sha256(bytes([len(tag)]) + tag + b"\x00" + digest).digest()
    return codec.encode(replace(batch, signature=AUTHOR.sign(Digest(to_sign))))


def code_of(raw: bytes, chain_id: bytes = CHAIN) -> str:
    with pytest.raises(Refused) as raised:
        verify_batch(raw, chain_id)
    return raised.value.code


@given(st.integers(1, 9), st.integers(0, 2**63 - 1))
def test_there_and_back(count: int, sequence: int) -> None:
    made = sealed(count, sequence)
    opened = verify_batch(made.raw, CHAIN)
    assert (opened.digest, opened.author, opened.raw) == (made.digest, AUTHOR.public, made.raw)
    assert [one.id for one in opened.transactions] == [one.id for one in made.transactions]
    assert open_batch(made.raw, CHAIN)[1] == made.digest
    assert made.digest.hex()[:12] in repr(made)


def test_what_the_digest_is_over() -> None:
    made = sealed()
    tag = b"consilium/batch/1"
    root = merkle_root([one.raw for one in made.transactions])
    preimage = bytes([len(tag)]) + tag + b"\x00" + CHAIN + AUTHOR.public + (7).to_bytes(8, "big") + root
    assert made.digest == hashlib.sha256(preimage).digest()
    assert made.digest == batch_digest(CHAIN, AUTHOR.public, 7, root)


def test_equal_contents_are_distinct_by_their_sequence() -> None:
    assert sealed(sequence=1).digest != sealed(sequence=2).digest


def test_any_changed_byte_is_refused() -> None:
    raw = sealed(2).raw
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :]
        assert code_of(changed).startswith(("codec.", "batch.malformed"))


def test_what_is_malformed() -> None:
    good = decoded(sealed())
    for changed in (
        replace(good, version=2),
        replace(good, chain_id=bytes(32)),
        replace(good, author=CLERK.public),
        replace(good, sequence=8),
        replace(good, transactions=good.transactions[:-1]),
        replace(good, transactions=good.transactions[::-1]),
        replace(good, signature=bytes(64)),
    ):
        assert code_of(codec.encode(changed)) == "batch.malformed"
    assert code_of(sealed().raw, bytes(32)) == "batch.malformed"


@pytest.mark.parametrize("count", [0, BATCH_TRANSACTIONS_MAX + 1])
def test_numbers_of_transactions(count: int) -> None:
    with pytest.raises(Refused) as raised:
        seal_batch(AUTHOR, CHAIN, 1, [transaction(1)] * count)
    assert raised.value.code == "codec.oversized"
    good = decoded(sealed())
    raw = signed_again(replace(good, transactions=[good.transactions[0]] * count))
    assert code_of(raw) == "codec.malformed"


def test_the_most_transactions() -> None:
    made = seal_batch(AUTHOR, CHAIN, 1, [transaction(1)] * BATCH_TRANSACTIONS_MAX)
    assert len(verify_batch(made.raw, CHAIN).transactions) == BATCH_TRANSACTIONS_MAX


def test_too_many_bytes() -> None:
    large = transaction(1, 16_000)
    with pytest.raises(Refused) as raised:
        seal_batch(AUTHOR, CHAIN, 1, [large] * (BATCH_BYTES_MAX // len(large.raw) + 1))
    assert raised.value.code == "codec.oversized"


def test_the_most_bytes() -> None:
    empty = len(transaction(1, 0).raw)
    many = [transaction(1, 16_000)] * (BATCH_BYTES_MAX // (16_000 + empty + 10))
    spare = BATCH_BYTES_MAX - len(seal_batch(AUTHOR, CHAIN, 1, many).raw)
    filler = transaction(2, spare - empty - 5)
    for _ in range(4):  # heads of three widths make the sum uneven: close in on it
        spare = BATCH_BYTES_MAX - len(seal_batch(AUTHOR, CHAIN, 1, [*many, filler]).raw)
        filler = transaction(2, len(filler.value.operations[0].body) + spare)
    full = seal_batch(AUTHOR, CHAIN, 1, [*many, filler])
    assert len(full.raw) == BATCH_BYTES_MAX
    assert verify_batch(full.raw, CHAIN).digest == full.digest


def test_one_bad_transaction_condemns_the_batch() -> None:
    good = decoded(sealed())
    forged = good.transactions[1][:-1] + bytes([good.transactions[1][-1] ^ 1])
    foreign = transaction(1, chain_id=bytes(32)).raw
    for bad, code in (
        (forged, "transaction.bad_signature"),
        (foreign, "transaction.wrong_chain"),
        (b"", "codec.malformed"),
    ):
        raw = signed_again(replace(good, transactions=[good.transactions[0], bad]))
        assert open_batch(raw, CHAIN)
        assert code_of(raw) == code


def test_what_is_known_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sealed()
    seen: list[bytes] = []

    def counted(raw: bytes, chain_id: bytes) -> Verified[Transaction]:
        seen.append(raw)
        return verify_transaction(raw, chain_id)

    monkeypatch.setattr("consilium.ledger.batch.verify_transaction", counted)
    first = made.transactions[0]
    opened = verify_batch(made.raw, CHAIN, {first.raw: first})
    assert opened.transactions[0] is first
    assert seen == [one.raw for one in made.transactions[1:]]


def test_only_verifying_makes_one() -> None:
    with pytest.raises(TypeError, match="verify_batch or seal_batch"):
        VerifiedBatch(AUTHOR.public, Digest(bytes(32)), b"", (), _proof=object())


def test_it_is_message_pack() -> None:
    version, chain, author, sequence, transactions, signature = msgpack.unpackb(sealed().raw)
    assert (version, chain, author, sequence, len(transactions), len(signature)) == (
        1,
        CHAIN,
        AUTHOR.public,
        7,
        3,
        64,
    )


def test_a_batch_takes_no_transactions_but_its_own_in_their_order() -> None:
    made = sealed(3)
    batch, digest = open_batch(made.raw, CHAIN)
    found = batch_of(batch, digest, made.raw, made.transactions)
    assert (found.author, found.digest, found.raw) == (made.author, made.digest, made.raw)
    assert found.transactions == made.transactions
    first, second, third = made.transactions
    for wrong in ([first, second], [first, third, second], [first, second, transaction(9)]):
        with pytest.raises(ValueError, match="not the transactions of the batch"):
            batch_of(batch, digest, made.raw, wrong)
