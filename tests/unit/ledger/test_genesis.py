"""The genesis document: what the founders sign up to. The file has one reading, or is refused."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.ledger.errors import Refused
from consilium.ledger.genesis import (
    GENESIS_BYTES_MAX,
    Genesis,
    genesis_block,
    genesis_from_json,
    genesis_to_json,
)
from consilium.ledger.merkle import merkle_root
from consilium.ledger.transaction import Operation
from consilium.ledger.validators import Validator
from tests.unit.ledger.world import council, some

GENESIS = Genesis(1, "north and south", 1_700_000_000_000, council(4), [Operation("identity.found", b"\x90")])


def document(**changes: Any) -> dict[str, Any]:
    return {**json.loads(genesis_to_json(GENESIS)), **changes}


def code_of(raw: bytes) -> str:
    with pytest.raises(Refused) as raised:
        genesis_from_json(raw)
    return raised.value.code


def as_file(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
    st.integers(0, 2**53),
    st.integers(1, 9),
    st.lists(st.tuples(st.text(min_size=1, max_size=48), st.binary(max_size=60)), max_size=5),
)
def test_there_and_back(network: str, time_ms: int, size: int, operations: list[tuple[str, bytes]]) -> None:
    made = Genesis(1, network, time_ms, council(size), [Operation(name, body) for name, body in operations])
    again = genesis_from_json(genesis_to_json(made))
    assert again == made
    assert again.chain_id == made.chain_id


def test_the_chain_id_is_over_everything() -> None:
    tag = b"consilium/genesis/1"
    validators = [[validator.key, validator.institution] for validator in GENESIS.validators]
    fields = [1, "north and south", 1_700_000_000_000, validators, [["identity.found", b"\x90"]]]
    assert (
        GENESIS.chain_id == hashlib.sha256(bytes([len(tag)]) + tag + b"\x00" + msgpack.packb(fields)).digest()
    )


def test_people_can_read_it() -> None:
    text = genesis_to_json(GENESIS).decode()
    assert text.endswith("}\n")
    assert GENESIS.chain_id.hex() in text
    assert len(text.splitlines()) > 20


@pytest.mark.parametrize(
    "reformat", [lambda d: json.dumps(d).encode(), lambda d: json.dumps(d, indent=8).encode()]
)
def test_white_space_does_not_matter(reformat: Any) -> None:
    assert genesis_from_json(reformat(document())) == GENESIS
    assert genesis_from_json(genesis_to_json(GENESIS).replace(b"\n", b"\r\n")) == GENESIS


@pytest.mark.parametrize(
    "changes",
    [
        {"network": "north and sauth"},
        {"time_ms": 1_700_000_000_001},
        {"validators": document()["validators"][:3]},
        {"validators": document()["validators"][::-1]},
        {"operations": []},
        {"operations": [{"name": "identity.found", "body": "91"}]},
        {"chain_id": "00" * 32},
        {"chain_id": ""},
        {"chain_id": None},
        {"chain_id": GENESIS.chain_id.hex().upper()},
        {"format": "consilium-genesis/2"},
        {"format": None},
        {"network": ""},
        {"network": "n" * 65},
        {"network": None},
        {"time_ms": -1},
        {"time_ms": 1.5},
        {"time_ms": True},
        {"time_ms": 2**63},
        {"time_ms": 10**30},
        {"time_ms": "1700000000000"},
        {"validators": []},
        {"validators": "none"},
        {"validators": [{"key": "00"}]},
        {"validators": [{"key": "00", "institution": "00"}]},
        {"validators": [{"key": 1, "institution": 2}]},
        {"validators": [{"key": "zz" * 32, "institution": "00" * 16}]},
        {"validators": document()["validators"] * 16},
        {"validators": document()["validators"] + document()["validators"][:1]},
        {"validators": {}},
        {"operations": [{"name": "", "body": ""}]},
        {"operations": [{"name": "a" * 49, "body": ""}]},
        {"operations": [{"name": "a"}]},
        {"operations": [None]},
        {"operations": None},
        {"more": 1},
    ],
)
def test_a_changed_file(changes: dict[str, Any]) -> None:
    assert code_of(as_file(document(**changes))) == "genesis.malformed"


def test_what_the_refusal_says() -> None:
    for changes, words in (
        ({"time_ms": 1}, "the chain id does not match"),
        ({"format": "consilium-genesis/2"}, "the format is not"),
        ({"more": 1}, "do not belong there"),
    ):
        with pytest.raises(Refused, match=words):
            genesis_from_json(as_file(document(**changes)))
    with pytest.raises(Refused, match="the limit is"):
        genesis_from_json(genesis_to_json(GENESIS) + b" " * GENESIS_BYTES_MAX)


@pytest.mark.parametrize("missing", sorted(document()))
def test_a_member_left_out(missing: str) -> None:
    assert code_of(as_file({name: value for name, value in document().items() if name != missing})) == (
        "genesis.malformed"
    )


def test_two_readings() -> None:
    """A member twice, or one that only people read: what founders saw would not be what nodes run."""
    text = genesis_to_json(GENESIS).decode()
    twice = text.replace('"network"', '"network": "another name",\n  "network"', 1)
    inner = text.replace('"institution"', '"operator": "somebody",\n      "institution"', 1)
    spaced = text.replace('"body": "90"', '"body": " 90"')
    escaped = text.replace("north", "n\\u006frth", 1)
    for changed in (twice, inner, spaced, escaped):
        assert changed != text
        assert code_of(changed.encode()) == "genesis.malformed"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"\xef\xbb\xbf" + genesis_to_json(GENESIS),
        genesis_to_json(GENESIS)[:-3],
        genesis_to_json(GENESIS) + b"{}",
        b'{"a":' * 100_000,
        b"[" * 100_000,
        genesis_to_json(GENESIS).replace(b"north", b"\\ud800"),
        genesis_to_json(GENESIS).replace(b"1700000000000", b"1e400"),
        genesis_to_json(GENESIS).replace(b"1700000000000", b"9" * 5_000),
        b" " * (GENESIS_BYTES_MAX + 1),
    ],
    ids=range(14),
)
def test_what_is_no_genesis_file(raw: bytes) -> None:
    assert code_of(raw) == "genesis.malformed"


def test_any_changed_byte_is_refused_or_means_the_same() -> None:
    raw = genesis_to_json(GENESIS)
    survivors = []
    for at in range(len(raw)):
        for mask in (0x01, 0x20):
            changed = raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :]
            try:
                assert genesis_from_json(changed) == GENESIS
                survivors.append(raw[at : at + 1])
            except Refused as refusal:
                assert refusal.code == "genesis.malformed"  # noqa: PT017
    assert b"".join(survivors).strip() == b""  # white space only


def test_block_zero() -> None:
    block = genesis_block(GENESIS)
    header = block.header
    assert (header.height, header.time_ms, header.chain_id) == (0, GENESIS.time_ms, GENESIS.chain_id)
    assert header.validators_hash == header.next_validators_hash == GENESIS.validator_set.hash
    assert header.history_root == header.batches_root == merkle_root([]) == hashlib.sha256(b"").digest()
    assert header.state_root == header.receipts_root == header.parent == bytes(32)
    assert header.primary == GENESIS.validator_set.keys[0]
    assert block.batches == []


def test_the_order_of_validators_is_part_of_the_document() -> None:
    turned = Genesis(1, GENESIS.network, GENESIS.time_ms, GENESIS.validators[::-1], GENESIS.operations)
    assert turned.validator_set == GENESIS.validator_set
    assert turned.chain_id != GENESIS.chain_id


def test_two_networks_with_the_same_founders() -> None:
    other = Genesis(1, GENESIS.network, GENESIS.time_ms + 1, GENESIS.validators, GENESIS.operations)
    assert other.chain_id != GENESIS.chain_id
    assert Validator(some("k"), bytes(16)) not in GENESIS.validators
