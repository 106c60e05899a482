"""The hierarchy of purposes is a forest, and covering goes downwards only."""

from __future__ import annotations

import pytest

from consilium.contracts import purposes
from consilium.ledger.errors import Refused


def test_the_codes_are_those_of_the_value_set() -> None:
    # FHIR R4 publishes 60 concepts; the root itself is no purpose.
    assert len(purposes.PURPOSES) == 59
    assert all(len(code) <= purposes.PURPOSE_CHARS_MAX for code in purposes.PURPOSES)
    tops = sorted(code for code in purposes.PURPOSES if code not in purposes.PARENT)
    assert tops == ["HMARKT", "HOPERAT", "HPAYMT", "HRESCH", "PATRQT", "PUBHLTH", "TREAT"]


def test_no_code_has_two_parents() -> None:
    children = [child for parent in purposes.CHILDREN for child in purposes.CHILDREN[parent]]
    assert len(children) == len(set(children))


@pytest.mark.parametrize(
    ("granted", "asked", "covered"),
    [
        ("TREAT", "TREAT", True),
        ("TREAT", "ETREAT", True),
        ("TREAT", "BTG", True),
        ("ETREAT", "ERTREAT", True),
        ("ETREAT", "TREAT", False),
        ("BTG", "ETREAT", False),
        ("COC", "TREAT", False),
        ("TREAT", "HPAYMT", False),
        ("TREAT", "CAREMGT", False),
        ("HRESCH", "PRECLINTRCH", True),
        ("TREAT", "unknown", False),
    ],
)
def test_covering(granted: str, asked: str, covered: bool) -> None:
    assert purposes.covers(granted, asked) is covered


def test_covers_is_reflexive_antisymmetric_and_transitive() -> None:
    codes = purposes.PURPOSES
    below = {a: [b for b in codes if purposes.covers(a, b)] for a in codes}
    for a in codes:
        assert a in below[a]
        for b in below[a]:
            assert a == b or a not in below[b]
            assert all(c in below[a] for c in below[b])


def test_unknown_codes_are_refused() -> None:
    purposes.require_purpose("TREAT")
    for code in ("treat", "PurposeOfUse", "", "TREAT "):
        with pytest.raises(Refused, match=r"consent\.unknown_purpose"):
            purposes.require_purpose(code)
