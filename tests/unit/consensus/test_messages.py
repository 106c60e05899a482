"""Messages: their bytes, what each signature covers, and everything that verification must refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgpack
import msgspec
import pytest

from consilium.consensus.messages import (
    MESSAGE_BYTES_MAX,
    Claim,
    Commit,
    Decided,
    Justification,
    Message,
    Prepare,
    Prepared,
    PreparedAt,
    PreparedCertificate,
    PrePrepare,
    VerifiedMessage,
    ViewChange,
    claim_hash,
    decode_message,
    encode_message,
    prepare_digest,
    sign_commit,
    sign_pre_prepare,
    sign_prepare,
    sign_view_change,
    verify_message,
    view_change_digest,
)
from consilium.ledger.block import (
    BLOCK_BATCHES_MAX,
    Block,
    CommitCertificate,
    Seal,
    batches_root,
    seal_digest,
    sign_seal,
)
from consilium.ledger.crypto import verify
from consilium.ledger.errors import PeerFault, Refused
from consilium.ledger.validators import VALIDATORS_MAX
from tests.unit.consensus.parts import (
    BLOCK,
    CHAIN,
    KEYS,
    OTHER,
    STRANGER,
    VALIDATORS,
    commit_certificate,
    justification,
    keys_of,
    prepared,
    prepared_certificate,
    set_of,
)

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "consensus" / "messages.json"
H = BLOCK.height
replace = msgspec.structs.replace


def good() -> dict[str, Message]:
    """One valid message of each shape."""
    lock = prepared(BLOCK, 1)
    return {
        "pre-prepare": sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None),
        "pre-prepare, afresh": sign_pre_prepare(
            KEYS[1], CHAIN, 1, BLOCK, justification(1, {0: None, 1: None, 3: None}, None)
        ),
        "pre-prepare, again": sign_pre_prepare(
            KEYS[2],
            CHAIN,
            2,
            BLOCK,
            justification(2, {0: None, 1: lock, 2: prepared(OTHER, 0)}, lock.certificate),
        ),
        "prepare": sign_prepare(KEYS[1], CHAIN, H, 0, BLOCK.hash),
        "commit": sign_commit(KEYS[2], CHAIN, H, 3, BLOCK.hash),
        "view change": sign_view_change(KEYS[3], CHAIN, H, 1, None),
        "view change, prepared": sign_view_change(KEYS[3], CHAIN, H, 2, lock),
        "decided": Decided(BLOCK, commit_certificate(BLOCK, 1, [0, 2, 3])),
    }


def check(message: Message) -> VerifiedMessage:
    return verify_message(decode_message(encode_message(message)), CHAIN, VALIDATORS)


@pytest.mark.parametrize("name", good())
def test_a_good_message_travels_and_verifies(name: str) -> None:
    message = good()[name]
    verified = check(message)
    assert verified.message == message
    assert verified.validators_hash == VALIDATORS.hash
    assert verified.message.height == H


def test_golden_messages_are_what_the_code_makes() -> None:
    made = {name: encode_message(message).hex() for name, message in good().items()}
    assert json.loads(GOLDEN.read_text()) == made


def test_golden_messages_decode_and_verify() -> None:
    for name, raw in json.loads(GOLDEN.read_text()).items():
        assert verify_message(decode_message(bytes.fromhex(raw)), CHAIN, VALIDATORS).message == good()[name]


def test_golden_messages_are_plain_messagepack_arrays() -> None:
    """An independent decoder reads the same fields."""
    for name, raw in json.loads(GOLDEN.read_text()).items():
        (fields,) = msgpack.unpackb(bytes.fromhex(raw))
        assert isinstance(fields, list)
        expected = good()[name]
        if not isinstance(expected, Decided):
            assert fields[1:4] == [expected.height, expected.view, expected.sender]


@pytest.mark.parametrize("name", good())
def test_every_flipped_bit_is_refused(name: str) -> None:
    """Nothing in a message is outside its signatures, its hashes or its form, but what one flip turns into another
    valid message: the quorum's own choice of signers cannot be."""
    raw = encode_message(good()[name])
    for place in range(0, len(raw), 3):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << (place % 8)
        with pytest.raises((Refused, PeerFault)):
            verify_message(decode_message(bytes(damaged)), CHAIN, VALIDATORS)


def test_bytes_beyond_the_limit_are_refused_before_decoding() -> None:
    with pytest.raises(Refused) as refused:
        decode_message(bytes(MESSAGE_BYTES_MAX + 1))
    assert refused.value.code == "codec.oversized"


@pytest.mark.parametrize("raw", [b"", b"\x90", b"\x91\x90", b"\x91\x91\x09", b"\xc1", b"\x91\xc0"])
def test_nonsense_is_malformed(raw: bytes) -> None:
    with pytest.raises(Refused) as refused:
        decode_message(raw)
    assert refused.value.code == "codec.malformed"


def test_trailing_bytes_and_longer_encodings_are_refused() -> None:
    raw = encode_message(good()["prepare"])
    with pytest.raises(Refused):
        decode_message(raw + b"\x00")
    assert raw[3] == H  # the height, as a positive fixint
    with pytest.raises(Refused) as refused:
        decode_message(raw[:3] + b"\xcc" + raw[3:])
    assert refused.value.code == "codec.not_canonical"


def test_only_verification_makes_a_verified_message() -> None:
    with pytest.raises(TypeError):
        VerifiedMessage(good()["prepare"], VALIDATORS.hash, _proof=object())


def test_the_largest_message_fits() -> None:
    keys = keys_of(VALIDATORS_MAX)
    quorum = list(range(set_of(keys).quorum))
    batches = [bytes([index]) * 32 for index in range(BLOCK_BATCHES_MAX)]
    big = 2**63 - 1
    header = replace(BLOCK.header, height=big, time_ms=big, lost=big, batches_root=batches_root(batches))
    block = Block(header, batches)
    seals = [Seal(index, bytes(64)) for index in quorum]
    certificate = PreparedCertificate(big, block.hash, seals)
    claims = [Claim(index, PreparedAt(big, block.hash), bytes(64)) for index in quorum]
    largest: list[Message] = [
        PrePrepare(big, big, bytes(32), block, Justification(claims, certificate), bytes(64)),
        ViewChange(big, big, bytes(32), Prepared(certificate, block), bytes(64)),
        Decided(block, CommitCertificate(big, big, block.hash, seals)),
    ]
    for message in largest:
        raw = encode_message(message)
        assert len(raw) <= MESSAGE_BYTES_MAX
        assert decode_message(raw) == message


# What is signed ---------------------------------------------------------------------------------------------------


def test_votes_of_different_kinds_heights_views_and_chains_sign_different_digests() -> None:
    digests = [
        make(chain, height, view, content)
        for make in (prepare_digest, seal_digest, view_change_digest)
        for chain in (CHAIN, bytes(32))
        for height in (1, 2)
        for view in (1, 2)
        for content in (BLOCK.hash, OTHER.hash)
    ]
    assert len(set(digests)) == len(digests)


def test_claims_differ_in_view_and_block_and_from_none() -> None:
    claims = [None, *(PreparedAt(view, block.hash) for view in (0, 1) for block in (BLOCK, OTHER))]
    assert len({claim_hash(claim) for claim in claims}) == len(claims)


def test_a_pre_prepare_is_a_prepare() -> None:
    message = sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None)
    assert message.signature == sign_prepare(KEYS[0], CHAIN, H, 0, BLOCK.hash).signature


# What verification refuses ----------------------------------------------------------------------------------------


WRONG_CHAIN = bytes(32)
LOCK = prepared(BLOCK, 1)


def claims_with(view: int, change: Callable[[list[Claim]], list[Claim]]) -> Justification:
    whole = justification(view, {0: None, 1: None, 3: None}, None)
    return Justification(change(whole.claims), None)


def justified(view: int, reason: Justification | None, block: Block = BLOCK) -> PrePrepare:
    return sign_pre_prepare(KEYS[view % 4], CHAIN, view, block, reason)


def decided_elsewhere() -> Decided:
    """A true certificate of all the validators, on another network that they run."""
    block = Block(replace(BLOCK.header, chain_id=WRONG_CHAIN), BLOCK.batches)
    seals = [Seal(i, sign_seal(KEYS[i], WRONG_CHAIN, H, 0, block.hash)) for i in range(3)]
    return Decided(block, CommitCertificate(H, 0, block.hash, seals))


def prepared_at_height(block: Block, height: int) -> PreparedCertificate:
    """What no honest quorum signs: prepares for a block under another height than its own."""
    signed = [sign_prepare(KEYS[place], CHAIN, height, 1, block.hash).signature for place in range(3)]
    return PreparedCertificate(1, block.hash, [Seal(place, one) for place, one in enumerate(signed)])


BAD: dict[str, Message] = {
    "prepare of a stranger": sign_prepare(STRANGER, CHAIN, H, 0, BLOCK.hash),
    "prepare for another chain": sign_prepare(KEYS[1], WRONG_CHAIN, H, 0, BLOCK.hash),
    "prepare under another's name": replace(
        sign_prepare(KEYS[1], CHAIN, H, 0, BLOCK.hash), sender=KEYS[2].public
    ),
    "prepare moved to another view": replace(sign_prepare(KEYS[1], CHAIN, H, 0, BLOCK.hash), view=1),
    "prepare signed as a seal": Prepare(
        H, 0, KEYS[1].public, BLOCK.hash, sign_commit(KEYS[1], CHAIN, H, 0, BLOCK.hash).signature
    ),
    "commit signed as a prepare": Commit(
        H, 0, KEYS[1].public, BLOCK.hash, sign_prepare(KEYS[1], CHAIN, H, 0, BLOCK.hash).signature
    ),
    "commit moved to another view": replace(sign_commit(KEYS[1], CHAIN, H, 0, BLOCK.hash), view=1),
    "pre-prepare with another block": replace(sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None), block=OTHER),
    "pre-prepare at another height": replace(sign_pre_prepare(KEYS[0], CHAIN, 0, BLOCK, None), height=H + 1),
    "pre-prepare of another chain's block": sign_pre_prepare(
        KEYS[0], CHAIN, 0, Block(replace(BLOCK.header, chain_id=WRONG_CHAIN), BLOCK.batches), None
    ),
    "pre-prepare whose batches are not the header's": sign_pre_prepare(
        KEYS[0], CHAIN, 0, Block(BLOCK.header, []), None
    ),
    "pre-prepare of view 0 with a justification": sign_pre_prepare(
        KEYS[0], CHAIN, 0, BLOCK, justification(1, {0: None, 1: None, 2: None}, None)
    ),
    "pre-prepare of view 1 without": justified(1, None),
    "justification of another view": justified(2, justification(1, {0: None, 1: None, 3: None}, None)),
    "justification of too few": justified(1, justification(1, {0: None, 1: None}, None)),
    "justification of too many": justified(1, justification(1, {0: None, 1: None, 2: None, 3: None}, None)),
    "justification not sorted": justified(1, claims_with(1, lambda claims: claims[::-1])),
    "justification with one claim twice": justified(
        1, claims_with(1, lambda claims: [claims[0], claims[0], claims[2]])
    ),
    "justification with a place beyond the set": justified(
        1, claims_with(1, lambda claims: [*claims[:2], replace(claims[2], validator=59)])
    ),
    "justification with a claim under another's name": justified(
        1, claims_with(1, lambda claims: [*claims[:2], replace(claims[2], validator=2)])
    ),
    "justification with a certificate that no claim names": justified(
        2, justification(2, {0: None, 1: None, 3: None}, LOCK.certificate)
    ),
    "justification whose claim has no certificate": justified(
        2, justification(2, {0: None, 1: LOCK, 3: None}, None)
    ),
    "justification with the certificate of a lower claim": justified(
        3,
        justification(
            3, {0: prepared(BLOCK, 0), 1: prepared(OTHER, 1), 3: None}, prepared(BLOCK, 0).certificate
        ),
    ),
    # A liar's claim to a high view, "proved" by an old certificate of its block, would hide what was prepared between.
    "justification whose highest claim has an older certificate of its block": justified(
        4,
        justification(
            4, {0: prepared(BLOCK, 2), 1: prepared(OTHER, 1), 3: None}, prepared(BLOCK, 0).certificate
        ),
    ),
    "justification whose highest claims differ": justified(
        3, justification(3, {0: LOCK, 1: prepared(OTHER, 1), 3: None}, LOCK.certificate)
    ),
    "justification of a claim from no earlier view": justified(
        1, justification(1, {0: LOCK, 1: None, 3: None}, LOCK.certificate)
    ),
    "justification that demands another block": justified(
        2, justification(2, {0: None, 1: LOCK, 3: None}, LOCK.certificate), OTHER
    ),
    "justification with a forged certificate": justified(
        2,
        justification(
            2,
            {0: None, 1: LOCK, 3: None},
            replace(LOCK.certificate, signatures=[Seal(i, bytes(64)) for i in range(3)]),
        ),
    ),
    "view change to view 0": sign_view_change(KEYS[3], CHAIN, H, 0, None),
    "view change whose proof was taken away": replace(
        sign_view_change(KEYS[3], CHAIN, H, 2, LOCK), prepared=None
    ),
    "view change with a proof that was not signed": replace(
        sign_view_change(KEYS[3], CHAIN, H, 2, None), prepared=LOCK
    ),
    "view change with a certificate of no earlier view": sign_view_change(KEYS[3], CHAIN, H, 1, LOCK),
    "view change with another block than certified": sign_view_change(
        KEYS[3], CHAIN, H, 2, Prepared(LOCK.certificate, OTHER)
    ),
    "view change with a certificate of too few": sign_view_change(
        KEYS[3], CHAIN, H, 2, prepared(BLOCK, 1, [0, 1])
    ),
    "view change with a certificate that repeats one signer": sign_view_change(
        KEYS[3], CHAIN, H, 2, prepared(BLOCK, 1, [0, 1, 1])
    ),
    "view change with a certificate of another view": sign_view_change(
        KEYS[3], CHAIN, H, 3, Prepared(replace(LOCK.certificate, view=2), BLOCK)
    ),
    "view change with another height's block": sign_view_change(
        KEYS[3],
        CHAIN,
        H + 1,
        2,
        LOCK,
    ),
    "view change whose quorum prepared a block of another height": sign_view_change(
        KEYS[3], CHAIN, H + 1, 2, Prepared(prepared_at_height(BLOCK, H + 1), BLOCK)
    ),
    "view change whose quorum prepared a block of another chain": sign_view_change(
        KEYS[3], CHAIN, H, 2, prepared(Block(replace(BLOCK.header, chain_id=WRONG_CHAIN), BLOCK.batches), 1)
    ),
    "view change with a block whose batches are not the header's": sign_view_change(
        KEYS[3], CHAIN, H, 2, Prepared(LOCK.certificate, Block(BLOCK.header, []))
    ),
    "decided by too few": Decided(BLOCK, commit_certificate(BLOCK, 0, [0, 1])),
    "decided by too many": Decided(BLOCK, commit_certificate(BLOCK, 0, [0, 1, 2, 3])),
    "decided by seals of two views": Decided(
        BLOCK,
        CommitCertificate(
            H,
            0,
            BLOCK.hash,
            [*commit_certificate(BLOCK, 0, [0, 1]).seals, *commit_certificate(BLOCK, 1, [2]).seals],
        ),
    ),
    "decided on another chain of the same validators": decided_elsewhere(),
    "decided another block": Decided(OTHER, commit_certificate(BLOCK, 0, [0, 1, 2])),
}


@pytest.mark.parametrize("name", BAD)
def test_verification_refuses(name: str) -> None:
    with pytest.raises(PeerFault):
        check(BAD[name])


def test_a_message_of_another_set_is_refused() -> None:
    others = set_of(keys_of(5)[1:])
    with pytest.raises(PeerFault):
        verify_message(good()["decided"], CHAIN, others)


def test_an_invalid_lower_claim_changes_nothing() -> None:
    """concord-bft#50: one view change with an invalid certificate must not hide the valid ones. A claim below the
    highest needs no proof; it can be wrong, and the proposal still stands."""
    lie = prepared(OTHER, 0, [0, 1])
    reason = justification(2, {0: lie, 1: LOCK, 3: None}, LOCK.certificate)
    assert check(justified(2, reason))


def test_certificates_verify_with_the_verifier_that_is_given() -> None:
    calls = []

    def counting(key: bytes, digest: bytes, signature: bytes) -> bool:
        calls.append(key)
        return verify(key, digest, signature)  # type: ignore[arg-type]

    verify_message(good()["pre-prepare, again"], CHAIN, VALIDATORS, counting)
    assert len(calls) == 1 + 3 + 3
    calls.clear()
    verify_message(good()["decided"], CHAIN, VALIDATORS, counting)
    assert len(calls) == 3


def test_a_prepared_certificate_of_a_bigger_set_does_not_fit_a_smaller_one() -> None:
    keys = keys_of(7)
    certificate = prepared_certificate(BLOCK, 0, [0, 1, 2, 3, 4], keys)
    change = sign_view_change(keys[0], CHAIN, H, 1, Prepared(certificate, BLOCK))
    assert verify_message(change, CHAIN, set_of(keys))
    with pytest.raises(PeerFault):
        verify_message(change, CHAIN, set_of(keys[:6]))
