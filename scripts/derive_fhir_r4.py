#!/usr/bin/env python3
"""Derive gateway/fhir_r4.json from HL7's FHIR R4 (4.0.1) definitions (public domain, CC0).

    scripts/derive_fhir_r4.py DEFINITIONS_DIR > gateway/fhir_r4.json

DEFINITIONS_DIR holds the unpacked `definitions.json.zip` of https://hl7.org/fhir/R4/downloads.html, of which it reads
profiles-types.json, profiles-resources.json, valuesets.json, v3-codesystems.json and v2-tables.json. Run it by hand:
the R4 definitions are final. What comes out are facts only: names of types and elements, cardinalities, targets of
references, and the codes of those required bindings that can be listed (mime types, currencies and units cannot).

The shape: `types[name] = {"base": name|null, "kind": "resource"|"complex"|"backbone", "abstract": bool, "elements":
{element: [[type, ...], min, max, value set|null, [target, ...]]}}`, where max 0 stands for "*", a type that is the
path of a backbone element is its own entry, and an element that ends with `[x]` is a choice of types.
`value_sets[name] = {system: [code, ...]}`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
PROFILE = "http://hl7.org/fhir/StructureDefinition/"
VALUE_SET = "http://hl7.org/fhir/ValueSet/"
VERSION = "4.0.1"


def _resources(folder: Path, *names: str) -> list[dict[str, Any]]:
    return [
        entry["resource"]
        for name in names
        for entry in json.loads((folder / name).read_text(encoding="utf-8"))["entry"]
    ]


def _codes(concepts: list[dict[str, Any]]) -> list[str]:
    found: list[str] = []
    for concept in concepts:
        found.append(concept["code"])
        found.extend(_codes(concept.get("concept", [])))
    return found


def _value_set(url: str, sets: dict[str, Any], systems: dict[str, Any]) -> dict[str, list[str]] | None:
    """The codes of a value set by system, or None where the definitions do not list them all."""
    found: dict[str, list[str]] = {}
    compose = sets.get(url, {}).get("compose")
    if compose is None or "exclude" in compose:
        return None
    for include in compose["include"]:
        if "filter" in include or "system" not in include:
            return None
        concepts = include.get("concept") or systems.get(include["system"], {}).get("concept")
        if not concepts:
            return None
        found.setdefault(include["system"], []).extend(_codes(concepts))
    return {system: sorted(set(codes)) for system, codes in sorted(found.items())}


def _type_codes(element: dict[str, Any]) -> list[str]:
    if "contentReference" in element:
        return [element["contentReference"].removeprefix("#")]
    codes = []
    for kind in element["type"]:
        code = kind["code"]
        if code.startswith("http://hl7.org/fhirpath/"):
            named = [x["valueUrl"] for x in kind.get("extension", []) if x["url"] == FHIR_TYPE]
            code = "id" if element["path"] == "Resource.id" else named[0]
        codes.append(element["path"] if code in ("BackboneElement", "Element") else code)
    return codes


def derive(folder: Path) -> dict[str, Any]:
    sets = {r["url"]: r for r in _resources(folder, "valuesets.json") if r["resourceType"] == "ValueSet"}
    systems = {
        r["url"]: r
        for r in _resources(folder, "valuesets.json", "v3-codesystems.json", "v2-tables.json")
        if r["resourceType"] == "CodeSystem"
    }
    types: dict[str, Any] = {}
    value_sets: dict[str, Any] = {}
    for definition in _resources(folder, "profiles-types.json", "profiles-resources.json"):
        if (
            definition["resourceType"] != "StructureDefinition"
            or definition.get("derivation") == "constraint"
        ):
            continue
        if definition["kind"] not in ("resource", "complex-type") or definition["fhirVersion"] != VERSION:
            continue
        for element in definition["snapshot"]["element"]:
            owner, _, name = element["path"].rpartition(".")
            if not owner:
                base = definition.get("baseDefinition", "").removeprefix(PROFILE) or None
                kind = "resource" if definition["kind"] == "resource" else "complex"
                entry = {"base": base, "kind": kind, "abstract": definition["abstract"], "elements": {}}
                types[element["path"]] = entry
                continue
            codes = _type_codes(element)
            if codes == [element["path"]]:
                base = element["type"][0]["code"]
                entry = {"base": base, "kind": "backbone", "abstract": False, "elements": {}}
                types[element["path"]] = entry
            if element["base"]["path"] != element["path"]:
                continue  # inherited: it stands at its own type
            bound = None
            if element.get("binding", {}).get("strength") == "required":
                url = element["binding"]["valueSet"].split("|")[0]
                codes_by_system = _value_set(url, sets, systems)
                if codes_by_system is not None:
                    bound = url.removeprefix(VALUE_SET)
                    value_sets[bound] = codes_by_system
            targets = sorted(
                {
                    target.removeprefix(PROFILE)
                    for kind in element.get("type", [])
                    if kind["code"] == "Reference"
                    for target in kind.get("targetProfile", [])
                }
            )
            maximum = 0 if element["max"] == "*" else int(element["max"])
            types[owner]["elements"][name] = [codes, element["min"], maximum, bound, targets]
    return {"version": VERSION, "types": types, "value_sets": dict(sorted(value_sets.items()))}


def main() -> None:
    table = derive(Path(sys.argv[1]))
    for part in ("types", "value_sets"):  # one line an entry: a change of the table can be read as a diff
        rows = [
            f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in sorted(table[part].items())
        ]
        table[part] = ",\n".join(rows)
    sys.stdout.write(
        f'{{"version":"{VERSION}",\n"types":{{\n{table["types"]}\n}},\n"value_sets":{{\n{table["value_sets"]}\n}}}}\n'
    )


if __name__ == "__main__":
    main()
