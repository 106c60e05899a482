"""The second opinion: fhir.resources' models of R4B, the release nearest to R4 that the library has.

`structure` checks R4 itself; the models were derived from the specification by other people, and whatever either of
them refuses is refused. Resources that R4B renamed, removed or rebuilt have no model that knows their R4 form: for
these the first opinion stands alone. The library imports a module per resource: the first use of each takes time.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Final

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

REASON_CHARS_MAX: Final = 200

TOO_STRICT: Final = frozenset({"extra_forbidden", "string_pattern_mismatch", "uuid_version"})
"""Errors of the models that say nothing here, for they also hit valid R4, and `structure` judges the same exactly:
the `_valueId` of an extension is unknown to them, a string of no-break spaces no string, a uuid of version 1 no uuid.
"""

WITHOUT_MODEL: Final = frozenset(
    {
        "EffectEvidenceSynthesis",
        "Evidence",
        "EvidenceVariable",
        "MedicinalProduct",
        "MedicinalProductAuthorization",
        "MedicinalProductContraindication",
        "MedicinalProductIndication",
        "MedicinalProductIngredient",
        "MedicinalProductInteraction",
        "MedicinalProductManufactured",
        "MedicinalProductPackaged",
        "MedicinalProductPharmaceutical",
        "MedicinalProductUndesirableEffect",
        "RiskEvidenceSynthesis",
        "SubstanceNucleicAcid",
        "SubstancePolymer",
        "SubstanceProtein",
        "SubstanceReferenceInformation",
        "SubstanceSourceMaterial",
        "SubstanceSpecification",
    }
)
"""Resources of R4 that R4B does not have (its own successors have other names), or has with other elements."""


def model_faults(resource: Mapping[str, Any], seen_types: Set[str]) -> list[tuple[str, str]]:
    """(path, reason) of what the model of the resource's type refuses.

    `resource` has passed `structure.check_resource`; `seen_types` are the types of the resources in it. A resource
    that is or holds one of WITHOUT_MODEL has no faults here.
    """
    if not seen_types.isdisjoint(WITHOUT_MODEL):
        return []
    name = resource["resourceType"]
    try:
        get_fhir_model_class(name).model_validate(resource)
    except ValidationError as refusal:
        return [
            (_path(name, error["loc"]), error["msg"][:REASON_CHARS_MAX])
            for error in refusal.errors(include_url=False, include_context=False, include_input=False)
            if error["type"] not in TOO_STRICT
        ]
    return []


def _path(name: str, location: tuple[int | str, ...]) -> str:
    path = name
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path
