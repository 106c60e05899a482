"""Evidence convinces whoever has nothing but the chain id, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from consilium.consensus.evidence import EVIDENCE_BYTES_MAX, Evidence, make_evidence, verify_evidence
from consilium.consensus.messages import (
    Signed,
    sign_commit,
    sign_pre_prepare,
    sign_prepare,
    sign_view_change,
)
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from tests.unit.consensus.parts import BLOCK, CHAIN, KEYS, OTHER, prepared

H = BLOCK.height
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "consensus" / "evidence.json"
KEY = KEYS[1]
PAIRS: dict[str, tuple[Signed, Signed]] = {
    "two prepares": (sign_prepare(KEY, CHAIN, H, 1, BLOCK.hash), sign_prepare(KEY, CHAIN, H, 1, OTHER.hash)),
    "a proposal and a prepare": (
        sign_pre_prepare(KEY, CHAIN, 0, BLOCK, None),
        sign_prepare(KEY, CHAIN, H, 0, OTHER.hash),
    ),
    "two seals": (sign_commit(KEY, CHAIN, H, 1, BLOCK.hash), sign_commit(KEY, CHAIN, H, 1, OTHER.hash)),
    "two view changes": (
        sign_view_change(KEY, CHAIN, H, 2, None),
        sign_view_change(KEY, CHAIN, H, 2, prepared(BLOCK, 1)),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_it_convinces_and_is_the_same_whichever_came_first(name: str) -> None:
    one, other = PAIRS[name]
    evidence = make_evidence(one, other)
    verify_evidence(evidence, CHAIN)
    assert evidence == make_evidence(other, one)
    raw = codec.encode(evidence)
    assert codec.decode(raw, Evidence, EVIDENCE_BYTES_MAX) == evidence


def test_golden() -> None:
    made = {name: codec.encode(make_evidence(*pair)).hex() for name, pair in PAIRS.items()}
    assert json.loads(GOLDEN.read_text()) == made


@pytest.mark.parametrize("name", PAIRS)
def test_every_changed_field_unconvinces(name: str) -> None:
    evidence = make_evidence(*PAIRS[name])
    for field in Evidence.__struct_fields__:
        value = getattr(evidence, field)
        wrong = (value + 1) % 3 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
        with pytest.raises(Refused) as refused:
            verify_evidence(msgspec.structs.replace(evidence, **{field: wrong}), CHAIN)
        assert refused.value.code == "evidence.invalid"
    with pytest.raises(Refused):
        verify_evidence(evidence, bytes(32))


def test_one_message_twice_is_no_evidence() -> None:
    vote = sign_prepare(KEY, CHAIN, H, 1, BLOCK.hash)
    with pytest.raises(ValueError, match="do not contradict"):
        make_evidence(vote, vote)
    evidence = Evidence(0, H, 1, KEY.public, BLOCK.hash, vote.signature, BLOCK.hash, vote.signature)
    with pytest.raises(Refused):
        verify_evidence(evidence, CHAIN)


@pytest.mark.parametrize(
    "other",
    [
        sign_prepare(KEY, CHAIN, H, 2, OTHER.hash),
        sign_prepare(KEY, CHAIN, H + 1, 1, OTHER.hash),
        sign_prepare(KEYS[2], CHAIN, H, 1, OTHER.hash),
        sign_commit(KEY, CHAIN, H, 1, OTHER.hash),
    ],
)
def test_votes_that_do_not_contradict_make_none(other: Signed) -> None:
    with pytest.raises(ValueError, match="do not contradict"):
        make_evidence(sign_prepare(KEY, CHAIN, H, 1, BLOCK.hash), other)
