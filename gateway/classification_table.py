"""The table by which records are classified: data, read from `classification_table.json`, that an institution extends.

An extension is a JSON document of the same shape with some of its members. It adds: codes, labels, links, documents
that were looked at and are not sensitive. It takes nothing away, so that no institution is laxer than the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Final

import msgspec

from consilium.contracts.classes import NAMES
from consilium.ledger.errors import Refused

TABLE_VERSION: Final = 1
TABLE_BYTES_MAX: Final = 4 * 1024 * 1024

CODE_OF: Final[Mapping[str, int]] = {name: code for code, name in NAMES.items()}

Codes = dict[str, dict[str, list[str]]]
"""Code system -> class name -> codes."""


class Minor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From and until which age (whole years, half-open) records of these classes are the adolescent's own as well."""

    from_years: Annotated[int, msgspec.Meta(ge=0, le=150)]
    until_years: Annotated[int, msgspec.Meta(ge=0, le=150)]
    classes: list[str]


class TableFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's shape; its members are told in `docs/classification.md`."""

    version: int
    confidentiality_system: str = ""
    sensitivity_system: str = ""
    indifferent_systems: list[str] = []
    parents: dict[str, str] = {}
    whole_class: list[str] = []
    sensitivities: dict[str, list[str]] = {}
    codes: Codes = {}
    code_prefixes: Codes = {}
    links: list[str] = []
    no_links_to: list[str] = []
    administrative: list[str] = []
    free_text: list[str] = []
    structured_by: dict[str, list[str]] = {}
    cleared_documents: dict[str, list[str]] = {}
    minor: Minor | None = None


class Table:
    """The table, ready to be asked. Class names of the file are class codes here."""

    def __init__(self, *parts: TableFile) -> None:
        """Merge the network's table and extensions. Raises Refused `classification.bad_table`."""
        self.confidentiality_system = parts[0].confidentiality_system
        self.sensitivity_system = parts[0].sensitivity_system
        self.minor = parts[0].minor
        self.indifferent: frozenset[str] = frozenset(
            one for part in parts for one in part.indifferent_systems
        )
        self.links = frozenset(one for part in parts for one in part.links)
        self.no_links_to = frozenset(one for part in parts for one in part.no_links_to)
        self.administrative = frozenset(one for part in parts for one in part.administrative)
        self.free_text = frozenset(one for part in parts for one in part.free_text)
        self.whole_class = frozenset(one for part in parts for one in part.whole_class)
        """Labels that mean all of their classes, so that a consent to the label is one to the compartments."""
        self.structured_by: dict[str, list[str]] = {}
        self._parents: dict[str, str] = {}
        self._sensitivities: dict[str, frozenset[int]] = {}
        self._codes: dict[tuple[str, str], frozenset[int]] = {}
        self._prefixes: dict[str, list[tuple[str, int]]] = {}
        self._cleared: set[tuple[str, str]] = set()
        for part in parts:
            self._add(part)

    def classes_of_label(self, label: str) -> frozenset[int]:
        """The classes of a sensitivity label: its own, or those of the nearest label above it; none if unknown."""
        current: str | None = label
        for _ in range(len(self._parents) + 1):
            if current is None:
                break
            if current in self._sensitivities:
                return self._sensitivities[current]
            current = self._parents.get(current)
        return frozenset()

    def classes_of_code(self, system: str, code: str) -> frozenset[int]:
        """The classes of a clinical code; none if it is not listed."""
        found = self._codes.get((system, code), frozenset())
        plain = code.replace(".", "")
        return found | {name for prefix, name in self._prefixes.get(system, ()) if plain.startswith(prefix)}

    def is_cleared(self, system: str, code: str) -> bool:
        """Whether documents of this type were looked at, and are not sensitive for being free text."""
        return (system, code) in self._cleared

    def _add(self, part: TableFile) -> None:
        if part.version != TABLE_VERSION:
            raise Refused("classification.bad_table", f"version {part.version}, not {TABLE_VERSION}")
        self._parents = {**part.parents, **self._parents}
        for label, names in part.sensitivities.items():
            self._sensitivities[label] = self._sensitivities.get(label, frozenset()) | _codes(names)
        for system, by_class in part.codes.items():
            for name, codes in by_class.items():
                for code in codes:
                    key = (system, code)
                    self._codes[key] = self._codes.get(key, frozenset()) | _codes([name])
        for system, by_class in part.code_prefixes.items():
            for name, prefixes in by_class.items():
                (code_,) = _codes([name])
                self._prefixes.setdefault(system, []).extend((p.replace(".", ""), code_) for p in prefixes)
        for kind, elements in part.structured_by.items():
            self.structured_by.setdefault(kind, []).extend(elements)
        for system, cleared in part.cleared_documents.items():
            self._cleared |= {(system, code) for code in cleared}


def _codes(names: list[str]) -> frozenset[int]:
    unknown = [name for name in names if name not in CODE_OF]
    if unknown:
        raise Refused("classification.bad_table", f"{unknown[0]!r} is no class of the network")
    return frozenset(CODE_OF[name] for name in names)


def read_table(raw: bytes) -> TableFile:
    """One document. Raises Refused `classification.bad_table`."""
    if len(raw) > TABLE_BYTES_MAX:
        raise Refused("classification.bad_table", f"{len(raw)} bytes; the limit is {TABLE_BYTES_MAX}")
    try:
        return msgspec.json.decode(raw, type=TableFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("classification.bad_table", str(error)) from None


@cache
def network_table() -> Table:
    """The network's own table."""
    return Table(_network_file())


def extended_table(*extensions: bytes) -> Table:
    """The network's table with an institution's extensions. Raises Refused `classification.bad_table`."""
    return Table(_network_file(), *(read_table(raw) for raw in extensions))


@cache
def _network_file() -> TableFile:
    return read_table(files("consilium.gateway").joinpath("classification_table.json").read_bytes())
