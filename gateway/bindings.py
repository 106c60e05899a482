"""Required bindings: elements whose codes R4 fixes, and which the models of fhir.resources do not check.

A `code` must be one of the value set's codes. A CodeableConcept must have at least one coding from the value set,
with its system: text alone is not from the value set. An element without any coding that carries an extension says
with it why the code is absent (data-absent-reason), and passes.

Source: FHIR R4 terminologies.html#required.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from consilium.gateway.definitions import ValueSet
from consilium.gateway.problems import shown

CODES_SHOWN_MAX: Final = 12


def unbound(value: Any, type_name: str, value_set: ValueSet) -> str | None:
    """None if the value keeps the binding, else the reason why it does not.

    `type_name` is the element's type; a type that carries no codes keeps every binding.
    """
    if type_name in ("code", "string", "uri"):
        if value in value_set.codes:
            return None
        return f"{shown(value)} is no code of {value_set.name}{_listed(value_set)}"
    if type_name == "CodeableConcept":
        codings = value.get("coding")
        if not isinstance(codings, list):
            return (
                None if "extension" in value else f"has no coding from {value_set.name}{_listed(value_set)}"
            )
        if any(_is_bound(coding, value_set) for coding in codings):
            return None
        return f"has no coding from {value_set.name}{_listed(value_set)} with its system"
    if type_name == "Coding" and not _is_bound(value, value_set):
        return f"is no coding from {value_set.name}{_listed(value_set)} with its system"
    return None


def _is_bound(coding: Any, value_set: ValueSet) -> bool:
    if not isinstance(coding, Mapping):
        return False
    system, code = coding.get("system"), coding.get("code")
    return isinstance(system, str) and code in value_set.by_system.get(system, ())


def _listed(value_set: ValueSet) -> str:
    if len(value_set.codes) > CODES_SHOWN_MAX:
        return ""
    return f" ({', '.join(sorted(value_set.codes))})"
