"""The limits are those of the document, which says why each has its value."""

from __future__ import annotations

import re
from fractions import Fraction
from types import ModuleType

import pytest

from consilium.consensus import evidence, limits, messages, promise, restart
from consilium.ledger import block, validators, weight
from consilium.node import complaints, driver, showing
from consilium.storage import promise as promise_file
from tests.conftest import PROJECT

SECTION = (PROJECT / "docs" / "consensus.md").read_text(encoding="utf-8").split("\n## Limits\n")[1]
OF_THE_MACHINE, OF_THE_HOST = SECTION.split("\nThe host's own, in ")
OF_A_BLOCK = OF_THE_MACHINE.split("\nWhat a block may hold ")[1]
UNITS = {"": 1, "KiB": 1024, "MiB": 1024 * 1024}


def documented(table: str) -> dict[str, Fraction]:
    """Value by name, from the table's rows: names in backquotes, one value for each, `a KiB`, `a/b` or `a,bcd`."""
    found = {}
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|", table, flags=re.MULTILINE):
        names = re.findall(r"`(\w+)`", row[0])
        values = re.findall(r"\d+(?:,\d{3})*(?:/\d+)?(?: [KM]iB)?", row[1])
        assert len(names) == len(values), row
        for name, value in zip(names, values, strict=True):
            number, _, unit = value.replace(",", "").partition(" ")
            found[name] = Fraction(number) * UNITS[unit]
    return found


MODULES = [
    *((module, OF_THE_MACHINE) for module in (limits, messages, evidence, promise, restart, validators)),
    *((module, OF_A_BLOCK) for module in (block, weight)),
    *((module, OF_THE_HOST) for module in (complaints, driver, showing, promise_file)),
]


@pytest.mark.parametrize(("module", "table"), MODULES, ids=[module.__name__ for module, _ in MODULES])
def test_every_limit_has_the_value_that_the_document_gives(module: ModuleType, table: str) -> None:
    given = documented(table)
    ours = {
        name: Fraction(*value) if isinstance(value, tuple) else value
        for name, value in vars(module).items()
        if name in given and isinstance(value, int | tuple)
    }
    assert ours
    assert ours == {name: given[name] for name in ours}


@pytest.mark.parametrize("module", [limits, driver, showing, weight])
def test_every_limit_is_documented(module: ModuleType) -> None:
    written = re.findall(r"^([A-Z][A-Z_]+): Final", (PROJECT / _path(module)).read_text(), flags=re.MULTILINE)
    assert written
    whole = documented(OF_THE_MACHINE) | documented(OF_THE_HOST)
    assert {name for name in written if name.endswith(("_MAX", "_MS", "_HEIGHTS"))} <= set(whole)


def _path(module: ModuleType) -> str:
    return "/".join(module.__name__.split(".")[1:]) + ".py"


def test_a_network_that_chooses_nothing_has_these_limits() -> None:
    config = limits.ReplicaConfig()
    for name in config.__dataclass_fields__:
        assert getattr(config, name) == getattr(limits, name.upper())


def test_the_least_that_a_network_may_choose() -> None:
    least = limits.ReplicaConfig(1, 1, 1, 1, 0, 0)
    assert least.view_timeout_max_ms == least.resend_ms == 1
    for wrong in ((0, 1, 1, 1, 0, 0), (2, 1, 1, 1, 0, 0), (1, 1, 0, 1, 0, 0), (1, 1, 2, 1, 0, 0)):
        with pytest.raises(ValueError, match="must hold"):
            limits.ReplicaConfig(*wrong)
    for wrong in ((1, 1, 1, 1, -1, 0), (1, 1, 1, 1, 1, 0)):
        with pytest.raises(ValueError, match="clock_bound_ms"):
            limits.ReplicaConfig(*wrong)
