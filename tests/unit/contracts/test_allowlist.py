"""Nothing reaches the chain that the allow-list does not name; every field is bounded; the docs say the same."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import msgspec
import pytest

from consilium.contracts.allowlist import ALLOWED
from consilium.contracts.registry import default_registry
from consilium.ledger import codec

DOCS = Path(__file__).resolve().parents[3] / "docs" / "contracts.md"


def _inside(kind: object) -> list[type[codec.Wire]]:
    if isinstance(kind, type) and issubclass(kind, codec.Wire):
        return [kind]
    return [found for argument in typing.get_args(kind) for found in _inside(argument)]


def wire_types() -> dict[str, type[codec.Wire]]:
    """Every type that contracts put on the chain, with those inside it."""
    known = default_registry()
    todo: list[type[codec.Wire]] = [spec.body for spec in known.operations.values()]
    todo += [spec.result for spec in known.operations.values() if spec.result is not None]
    todo += [slot.kind for slot in known.slots.values()]
    todo += [kind.data for kind in known.events.values()]
    found: dict[str, type[codec.Wire]] = {}
    while todo:
        kind = todo.pop()
        if found.setdefault(kind.__name__, kind) is not kind:
            raise AssertionError(f"two types are called {kind.__name__}")
        hints = typing.get_type_hints(kind, include_extras=True)
        new = [inner for field in kind.__struct_fields__ for inner in _inside(hints[field])]
        todo += [inner for inner in new if inner.__name__ not in found]
    return found


TYPES = wire_types()


def test_the_list_names_every_field_and_no_other() -> None:
    actual = {name: list(kind.__struct_fields__) for name, kind in TYPES.items()}
    assert {name: list(fields) for name, fields in ALLOWED.items()} == actual


def test_every_reason_says_something() -> None:
    for name, fields in ALLOWED.items():
        for field, reason in fields.items():
            assert len(reason) >= 4, (name, field)


@pytest.mark.parametrize("name", sorted(TYPES))
def test_every_field_is_bounded(name: str) -> None:
    info = msgspec.inspect.type_info(TYPES[name])
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        assert _unbounded(field.type) == [], f"{name}.{field.name}"


def _unbounded(kind: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    match kind:
        case msgspec.inspect.NoneType() | msgspec.inspect.BoolType() | msgspec.inspect.LiteralType():
            return []
        case msgspec.inspect.StructType():
            return []  # looked at under its own name
        case msgspec.inspect.UnionType(types=types):
            return [found for one in types for found in _unbounded(one)]
        case msgspec.inspect.ListType(item_type=item, max_length=longest):
            return ([kind] if longest is None else []) + _unbounded(item)
        case msgspec.inspect.BytesType(max_length=longest) | msgspec.inspect.StrType(max_length=longest):
            return [kind] if longest is None else []
        case msgspec.inspect.IntType(ge=least, le=most, lt=below):
            return [kind] if least is None or (most is None and below is None) else []
    return [kind]


def test_the_only_free_strings_are_codes() -> None:
    """A field of text is a closed list, or one of these few, which the contract checks against a table."""
    free = set()
    for name, kind in TYPES.items():
        info = msgspec.inspect.type_info(kind)
        assert isinstance(info, msgspec.inspect.StructType)
        free |= {
            field.name
            for field in info.fields
            if "StrType" in repr(field.type) and name in TYPES and "StructType" not in repr(field.type)
        }
    assert free == {"purpose", "purposes", "policy_purposes", "basis"}


def test_the_documentation_has_the_same_table() -> None:
    text = DOCS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \| (.+) \|$", text, flags=re.MULTILINE)
    expected = [(name, field, reason) for name, fields in ALLOWED.items() for field, reason in fields.items()]
    assert rows == expected


def test_the_documentation_has_a_section_for_every_operation_and_event() -> None:
    text = DOCS.read_text(encoding="utf-8")
    known = default_registry()
    assert sorted(re.findall(r"^### `([a-z_.]+)`$", text, flags=re.MULTILINE)) == sorted(known.operations)
    for kind in known.events:
        assert f"`{kind}`" in text
