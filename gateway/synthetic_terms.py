"""The words that invented patients are made of: names, places, and a few codes of the usual code systems."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

LOINC: Final = "http://loinc.org"
RXNORM: Final = "http://www.nlm.nih.gov/research/umls/rxnorm"
SNOMED: Final = "http://snomed.info/sct"
TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem"
UCUM: Final = "http://unitsofmeasure.org"


@dataclass(frozen=True, slots=True)
class Measure:
    """What can be measured: LOINC code, UCUM unit, and the values low, low + step, ... high."""

    code: str
    display: str
    unit: str
    low: Decimal
    high: Decimal
    step: Decimal


GIVEN_NAMES: Final = (
    "Ana Sofía",
    "Børge",
    "Chloé",
    "Dimitra",
    "Eamon",
    "Łucja",
    "Mårten",
    "Nguyên",
    "Olga",
    "Şebnem",
    "Θεόδωρος",
    "雪",
)
FAMILY_NAMES: Final = (
    "Äkkinäinen",
    "Brandsæter",
    "Calderón",
    "D’Angelo",
    "Fernández-Ruiz",
    "Grünwald",
    "Hašek",
    "Kowalczyk",
    "Oyelaran",
    "Τριανταφύλλου",
    "Yıldırım",
    "山本",
)
TOWNS: Final = (
    ("Åkerby", "SE"),
    ("Castelnuovo Immaginario", "IT"),
    ("Dorf am Steg", "AT"),
    ("Saint-Rien", "FR"),
    ("Villaquieta", "ES"),
)
ALLERGIES: Final = (
    ("91935009", "Allergy to peanut"),
    ("91936005", "Allergy to penicillin"),
    ("300916003", "Allergy to latex"),
)
CONDITIONS: Final = (
    ("38341003", "Hypertensive disorder"),
    ("44054006", "Type 2 diabetes mellitus"),
    ("195662009", "Acute viral pharyngitis"),
    ("195967001", "Asthma"),
    ("271737000", "Anemia"),
)
MEDICATIONS: Final = (
    ("197361", "amlodipine 5 MG Oral Tablet"),
    ("314076", "lisinopril 10 MG Oral Tablet"),
    ("860975", "metformin hydrochloride 500 MG Extended Release Oral Tablet"),
)
VACCINES: Final = (
    ("113", "Td (adult) preservative free"),
    ("140", "Influenza, seasonal, injectable, preservative free"),
)
PROCEDURES: Final = (
    ("73761001", "Colonoscopy"),
    ("430193006", "Medication reconciliation"),
)
VITAL_SIGNS: Final = (
    Measure("8302-2", "Body height", "cm", Decimal("148.0"), Decimal("197.0"), Decimal("0.5")),
    Measure("29463-7", "Body weight", "kg", Decimal("44.00"), Decimal("121.00"), Decimal("0.10")),
    Measure("8867-4", "Heart rate", "/min", Decimal("52"), Decimal("104"), Decimal("1")),
    Measure("8310-5", "Body temperature", "Cel", Decimal("35.8"), Decimal("39.4"), Decimal("0.1")),
)
LABORATORY: Final = (
    Measure(
        "2339-0", "Glucose [Mass/volume] in Blood", "mg/dL", Decimal("64.0"), Decimal("180.0"), Decimal("0.5")
    ),
    Measure(
        "4548-4",
        "Hemoglobin A1c/Hemoglobin in Blood",
        "%",
        Decimal("4.10"),
        Decimal("9.90"),
        Decimal("0.10"),
    ),
    Measure(
        "2160-0",
        "Creatinine [Mass/volume] in Serum",
        "mg/dL",
        Decimal("0.50"),
        Decimal("2.10"),
        Decimal("0.01"),
    ),
    Measure(
        "718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", Decimal("9.0"), Decimal("17.5"), Decimal("0.1")
    ),
)
DOCUMENTS: Final = (
    (
        "Consultation note",
        (
            "The patient feels well and sleeps through the night.",
            "Blood pressure was measured twice, at rest; the lower value counts.",
            "Heart and lungs without findings. Abdomen soft.",
            "Diet and movement were discussed; the patient wants to walk more.",
            "Contrôle dans trois mois, ou plus tôt en cas de fièvre (> 38,5 °C).",
        ),
    ),
    (
        "Laboratory letter",
        (
            "All values lie within the reference range, or close to it.",
            "Kreatinin leicht erhöht; Kontrolle in sechs Wochen.",
            "Please repeat the fasting glucose before the next visit.",
            "µg/L and mg/dL are both reported, for comparison with older letters.",
        ),
    ),
)
