"""Receipts: what each kind proves, every byte of them, and what must be refused, by two verifiers.

The golden file holds them all; a receipt there without `proves` must be refused. `CONSILIUM_REWRITE_GOLDEN=1` writes it
anew: a change in it changes the format.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import genesis_from_json, genesis_to_json
from consilium.ledger.merkle import inclusion_proof, merkle_root
from consilium.ledger.receipt import Proved, verify_receipt
from consilium.ledger.receipt_format import RECEIPT_BYTES_MAX, Receipt, decode_receipt, encode_receipt
from consilium.node.receipts import merkle_path
from tests.twins import receipt_verifier as twin
from tests.unit.ledger.receipts_forged import Forged, forged, forked_receipt
from tests.unit.ledger.receipts_world import ABSENT, KEY, Case, builder, cases, header_hash, quiet, restless
from tests.unit.ledger.world import council, found, put, validator

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "ledger" / "receipts.json"
CASES = cases()
FORGED = forged()
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
by_forged = pytest.mark.parametrize("case", FORGED, ids=lambda case: case.name)


def by_product(case: Case | Forged, raw: bytes) -> Proved | None:
    try:
        return verify_receipt(raw, case.genesis, case.trusted)
    except Refused:
        return None


def by_twin(case: Case | Forged, raw: bytes) -> dict[str, Any] | None:
    try:
        return twin.verify(raw, genesis_to_json(case.genesis), case.trusted)
    except twin.Wrong:
        return None


def flips(raw: bytes, masks: tuple[int, ...]) -> list[bytes]:
    return [raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :] for at in range(len(raw)) for mask in masks]


# ---- good ones


@by_case
def test_it_proves_what_it_should(case: Case) -> None:
    proved = dataclasses.asdict(verify_receipt(case.receipt, case.genesis, case.trusted))
    for name, value in case.proves.items():
        assert proved[name] == value
    assert proved["chain_id"] == case.genesis.chain_id
    told = twin.verify(case.receipt, genesis_to_json(case.genesis), case.trusted)
    code = told.pop("code", None)
    assert {name: proved[name] for name in told} == told
    assert code == (proved["leaf"] and proved["leaf"].code)


def test_the_kinds_are_all_there() -> None:
    receipts = [decode_receipt(case.receipt) for case in CASES]
    assert {type(receipt.statement).__name__ for receipt in receipts} == {
        "TransactionStatement",
        "VerdictStatement",
        "StateStatement",
    }
    for part in ("extension", "sealing", "start", "changes"):
        assert {bool(getattr(receipt, part)) for receipt in receipts} == {True, False}


def test_state_is_proved_as_of_each_height() -> None:
    world = quiet()
    build = builder(world)
    held = [
        verify_receipt(build.state(KEY, height), world.genesis) for height in range(world.store.tip.height)
    ]
    assert [proved.value for proved in held] == [None] + [b"granted"] * 3 + [b"revoked"] * 3
    assert [proved.height for proved in held] == list(range(7))
    assert [proved.time_ms for proved in held] == [
        world.store.header(height + 1).time_ms for height in range(7)
    ]


def test_the_words_of_a_verdict_come_with_it() -> None:
    proved = verify_receipt(CASES[2].receipt, CASES[2].genesis)
    assert proved.leaf is not None
    assert (proved.leaf.code, proved.leaf.failed, proved.leaf.results) == ("identity.last_key", 0, [])
    assert proved.transaction is not None
    assert proved.transaction.operations[0].name == "refuse"


@pytest.mark.parametrize("case", [case for case in CASES if case.trusted is None], ids=lambda case: case.name)
def test_a_trusted_header_on_the_way_is_no_hindrance(case: Case) -> None:
    receipt = decode_receipt(case.receipt)
    on_the_way = [receipt.header, receipt.top, *(change.header for change in receipt.changes)]
    for header in on_the_way:
        assert verify_receipt(case.receipt, case.genesis, header.hash).trusted_height == header.height


# ---- bad ones


@by_forged
def test_what_is_wrong_is_refused(case: Forged) -> None:
    with pytest.raises(Refused) as raised:
        verify_receipt(case.receipt, case.genesis, case.trusted)
    assert raised.value.code == case.code
    assert by_twin(case, case.receipt) is None


@by_case
def test_any_changed_byte_makes_it_worthless(case: Case) -> None:
    changed = flips(case.receipt, (0x01, 0x80, 0xFF))
    assert [raw for raw in changed if by_product(case, raw)] == []
    assert [raw for raw in changed[::3] if by_twin(case, raw)] == []


@by_case
def test_the_checksum_is_not_what_protects(case: Case) -> None:
    """With the checksum put right after each change, nothing verifies but the absence of another key.

    Every byte of each small receipt, and of each large one so many.
    """
    length = len(case.receipt) - 34
    stride = 1 if length < 2_000 else 7
    key = case.proves["key"] if case.name == "state absent" else None
    for at in range(0, length, stride):
        changed = case.receipt[:at] + bytes([case.receipt[at] ^ 1 << at % 8]) + case.receipt[at + 1 :]
        try:
            mended = encode_receipt(_unchecked(changed))
        except Refused:
            continue
        proved = by_product(case, mended)
        assert proved is None or (key is not None and proved.value is None and proved.key != key)


def _unchecked(raw: bytes) -> Receipt:
    """Decoded, whatever its checksum says."""
    return codec.decode(raw, Receipt, RECEIPT_BYTES_MAX)


@by_case
def test_cut_or_lengthened(case: Case) -> None:
    for size in range(0, len(case.receipt), 7):
        assert by_product(case, case.receipt[:size]) is None
    assert by_product(case, case.receipt + case.receipt) is None


@settings(max_examples=300)
@given(st.data())
def test_the_two_verifiers_agree_on_anything(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    raw = bytearray(case.receipt)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    changed = bytes(raw)
    with contextlib.suppress(Refused):
        changed = encode_receipt(_unchecked(changed))
    one, other = by_product(case, changed), by_twin(case, changed)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert (one.kind, one.height, one.key, one.value) == (
            other["kind"],
            other["height"],
            other.get("key"),
            other.get("value"),
        )


def test_old_keys_can_forge_and_a_trusted_header_narrows_it() -> None:
    """The assumption that docs/receipts.md states: it is real, and this is what `trusted` is for."""
    world = quiet()
    raw = forked_receipt(world)
    assert verify_receipt(raw, world.genesis).value == b"never happened"
    for height in range(1, world.store.tip.height + 1):
        with pytest.raises(Refused, match="trusted header"):
            verify_receipt(raw, world.genesis, header_hash(world, height))


# ---- crossing changes of the validator set


def test_every_height_of_a_restless_chain_from_everywhere() -> None:
    world = restless()
    build, text = builder(world), genesis_to_json(world.genesis)
    tip = world.store.tip.height
    for height in range(tip):
        expected = world.store.prove(KEY, height)[0]
        for since in (None, *range(tip + 1)):
            trusted = None if since is None else header_hash(world, since)
            raw = build.state(KEY, height, since)
            proved = verify_receipt(raw, world.genesis, trusted)
            assert (proved.value, proved.height, proved.trusted_height) == (expected, height, since)
            assert proved.top_height == max(height + 1, since or 0)
            assert twin.verify(raw, text, trusted)["value"] == expected


SETS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=7, unique=True), min_size=1, max_size=4)


@settings(max_examples=25)
@given(SETS)
def test_any_sequence_of_sets(sets: list[list[int]]) -> None:
    world = found([validator(f"v{number}") for number in sets[0]])
    world.block([world.sign("value", put((KEY, b"here")))])
    for number, members in enumerate(sets[1:]):
        world.change_set(f"change {number}", [validator(f"v{member}") for member in members])
    world.idle(2)
    differing = sum(1 for one, other in itertools.pairwise(sets) if {*one} != {*other})
    raw = builder(world).state(KEY, None)
    proved = verify_receipt(raw, world.genesis)
    assert (proved.value, proved.set_changes) == (b"here", differing)
    assert twin.verify(raw, genesis_to_json(world.genesis), None)["value"] == b"here"


def test_a_change_costs_what_changed() -> None:
    """Sixty validators, one of whom changes: the receipt carries one validator, not sixty."""
    sixty = council(60, "many")
    world = found(sixty)
    world.change_set("one", [*sixty[1:], validator("newcomer")])
    world.idle(2)
    receipt = decode_receipt(builder(world).state(ABSENT, None))
    assert [(len(change.removed), len(change.added)) for change in receipt.changes] == [(1, 1)]
    assert verify_receipt(encode_receipt(receipt), world.genesis).value is None


# ---- paths


@pytest.mark.parametrize("size", [*range(1, 18), 31, 32, 33, 64, 65])
def test_paths_lead_to_the_root(size: int) -> None:
    leaves = [b"leaf %d" % number for number in range(size)]
    for index, leaf in enumerate(leaves):
        path = merkle_path(leaf, inclusion_proof(leaves, index))
        assert twin.top_of_path(leaf, [path.left, path.siblings]) == merkle_root(leaves)


@given(st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=12), st.data())
def test_paths_among_equal_leaves(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle_path(leaves[index], inclusion_proof(leaves, index))
    assert twin.top_of_path(leaves[index], [path.left, path.siblings]) == merkle_root(leaves)


# ---- golden


def golden() -> dict[str, Any]:
    genesis_names: dict[str, str] = {}

    def entry(case: Case | Forged) -> dict[str, Any]:
        text = genesis_to_json(case.genesis).decode()
        shown: dict[str, Any] = {
            "name": case.name,
            "genesis": genesis_names.setdefault(text, f"network {len(genesis_names) + 1}"),
            "trusted": None if case.trusted is None else case.trusted.hex(),
            "receipt": case.receipt.hex(),
        }
        if isinstance(case, Case):
            proved = verify_receipt(case.receipt, case.genesis, case.trusted)
            shown["proves"] = {
                "kind": proved.kind,
                "height": proved.height,
                "certified_height": proved.certified_height,
                "time_ms": proved.time_ms,
                "top_height": proved.top_height,
                "set_changes": proved.set_changes,
                "trusted_height": proved.trusted_height,
                "transaction": proved.transaction_id and proved.transaction_id.hex(),
                "code": proved.leaf and proved.leaf.code,
                "key": proved.key and proved.key.hex(),
                "value": proved.value and proved.value.hex(),
            }
        else:
            shown["refused"] = case.code
        return shown

    entries = [*map(entry, CASES), *map(entry, FORGED)]
    return {"genesis": {name: text for text, name in genesis_names.items()}, "receipts": entries}


def test_the_golden_file_is_what_the_code_makes() -> None:
    made = golden()
    if os.environ.get("CONSILIUM_REWRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    assert json.loads(GOLDEN.read_text(encoding="utf-8")) == made


@pytest.mark.parametrize("name", ["product", "twin"])
def test_from_the_golden_file_alone(name: str) -> None:
    document = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for entry in document["receipts"]:
        text = document["genesis"][entry["genesis"]].encode()
        trusted = None if entry["trusted"] is None else bytes.fromhex(entry["trusted"])
        raw = bytes.fromhex(entry["receipt"])
        verified = True
        try:
            if name == "twin":
                twin.verify(raw, text, trusted)
            else:
                verify_receipt(raw, genesis_from_json(text), trusted)
        except (Refused, twin.Wrong):
            verified = False
        assert verified == ("proves" in entry), entry["name"]
