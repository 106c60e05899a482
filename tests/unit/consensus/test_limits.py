"""The limits are those of the document, which says why each has its value."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from consilium.consensus import limits, messages, restart
from consilium.ledger import validators
from consilium.node import driver
from consilium.storage import promise
from tests.conftest import PROJECT

SECTION = (PROJECT / "docs" / "consensus.md").read_text(encoding="utf-8").split("\n## Limits\n")[1]

UNITS = {"": 1, "KiB": 1024, "MiB": 1024 * 1024}


def documented() -> dict[str, Fraction]:
    """Value by name, from the tables' rows: names in backquotes, one value for each, `a KiB`, `a/b` or `a,bcd`."""
    found = {}
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|", SECTION, flags=re.MULTILINE):
        names = re.findall(r"`(\w+)`", row[0])
        values = re.findall(r"\d+(?:,\d{3})*(?:/\d+)?(?: [KM]iB)?", row[1])
        assert len(names) == len(values), row
        for name, value in zip(names, values, strict=True):
            number, _, unit = value.replace(",", "").partition(" ")
            found[name] = Fraction(number) * UNITS[unit]
    return found


DOCUMENTED = documented()


@pytest.mark.parametrize("module", [limits, messages, restart, validators, driver, promise])
def test_every_limit_has_the_value_that_the_document_gives(module: object) -> None:
    ours = {
        name: value
        for name, value in vars(module).items()
        if name in DOCUMENTED and isinstance(value, int | tuple)
    }
    assert ours
    for name, value in ours.items():
        assert DOCUMENTED[name] == (Fraction(*value) if isinstance(value, tuple) else value), name


def test_every_limit_of_the_machine_is_documented() -> None:
    named = {name for name in vars(limits) if re.fullmatch(r"[A-Z][A-Z0-9_]+", name)}
    assert named <= set(DOCUMENTED)


def test_a_network_that_chooses_nothing_has_these_limits() -> None:
    config = limits.ReplicaConfig()
    for name in config.__dataclass_fields__:
        assert getattr(config, name) == getattr(limits, name.upper())
