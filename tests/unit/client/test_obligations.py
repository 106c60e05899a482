"""Sealed conditions: opened by the custodians they are for, as the one document that the consent names."""

from __future__ import annotations

import pytest

from consilium.client import boxes, obligations
from consilium.client.envelope import HeaderFields, envelope_digest, parse, reference_tag
from consilium.client.obligations import facts_of, is_sealed_conditions, open_conditions, seal_conditions
from consilium.contracts.conditions import Condition
from consilium.ledger import codec
from consilium.ledger.errors import Refused

CHAIN, CONSENT = b"c" * 32, b"k" * 16
CONDITIONS = [Condition(0, resource_types=["Observation"]), Condition(2, period_end_ms=5)]
ONE, TWO, STRANGER = boxes.new_box_key(), boxes.new_box_key(), boxes.new_box_key()


@pytest.fixture(scope="module")
def sealed() -> tuple[bytes, bytes]:
    return seal_conditions(CHAIN, CONSENT, CONDITIONS, [ONE.public, TWO.public])


def test_every_custodian_reads_the_same_document(sealed: tuple[bytes, bytes]) -> None:
    raw, digest = sealed
    found = [open_conditions(raw, digest, CHAIN, [CONSENT], key) for key in (ONE, TWO)]
    assert found[0] == found[1]
    assert found[0].conditions == CONDITIONS
    assert found[0].of(2) == CONDITIONS[1]
    assert found[0].of(1) is None


def test_nobody_else_reads_it(sealed: tuple[bytes, bytes]) -> None:
    raw, digest = sealed
    with pytest.raises(Refused, match="wrong_key"):
        open_conditions(raw, digest, CHAIN, [CONSENT], STRANGER)
    assert b"Observation" not in raw


def test_it_is_of_one_consent_network_and_digest(sealed: tuple[bytes, bytes]) -> None:
    raw, digest = sealed
    for chain, consents, named in (
        (bytes(32), [CONSENT], digest),
        (CHAIN, [bytes(16)], digest),
        (CHAIN, [CONSENT], bytes(32)),
    ):
        with pytest.raises(Refused, match="damaged"):
            open_conditions(raw, named, chain, consents, ONE)
    # What was passed on has its parent's.
    open_conditions(raw, digest, CHAIN, [bytes(16), CONSENT], ONE)


def test_every_changed_byte_shows(sealed: tuple[bytes, bytes]) -> None:
    raw, digest = sealed
    for place in range(0, len(raw), 97):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises(Refused, match="not the conditions"):
            open_conditions(changed, digest, CHAIN, [CONSENT], ONE)
    # And where the consent named the changed bytes, the cipher's own tag.
    changed = raw[:-1] + bytes([raw[-1] ^ 1])
    with pytest.raises(Refused, match="damaged"):
        open_conditions(changed, envelope_digest(changed), CHAIN, [CONSENT], ONE)


def test_one_key_commitment_for_all_custodians(sealed: tuple[bytes, bytes]) -> None:
    """A patient who gives two custodians two keys is found out by the one whose key is not committed to."""
    other, _ = seal_conditions(CHAIN, CONSENT, CONDITIONS[:1], [TWO.public])
    first = obligations.parse_sealed(sealed[0])
    mixed = obligations._Sealed(
        (first.slots[0], obligations.parse_sealed(other).slots[0]), first.key_commitment, first.body
    )
    raw = obligations.MAGIC + codec.encode(mixed)
    digest = envelope_digest(raw)
    open_conditions(raw, digest, CHAIN, [CONSENT], ONE)
    with pytest.raises(Refused, match="damaged"):
        open_conditions(raw, digest, CHAIN, [CONSENT], TWO)


def test_the_length_says_little() -> None:
    short, _ = seal_conditions(CHAIN, CONSENT, CONDITIONS[:1], [ONE.public])
    long, _ = seal_conditions(CHAIN, CONSENT, [Condition(0, instances=[b"i" * 16] * 20)], [ONE.public])
    assert len(short) == len(long)


def test_no_envelope_passes_for_conditions_nor_the_reverse(sealed: tuple[bytes, bytes]) -> None:
    assert is_sealed_conditions(sealed[0])
    with pytest.raises(Refused):
        parse(sealed[0])
    with pytest.raises(Refused):
        obligations.parse_sealed(b"\x00\x00\x00\x01x")


def test_facts_are_what_the_header_says() -> None:
    fields = HeaderFields(
        "Observation", "7", "x", "urn:uuid:1", 1, 2, ("R",), (b"a" * 16,), (b"r" * 16,), True
    )
    facts = facts_of(b"i" * 16, fields)
    assert facts.instances == (reference_tag("urn:uuid:1"), reference_tag("Observation/7"))
    assert (facts.institution, facts.labels, facts.is_cut) == (b"i" * 16, ("R",), True)
    assert facts_of(b"i" * 16, HeaderFields("Observation", "", "x")).instances == ()
