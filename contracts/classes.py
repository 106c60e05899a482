"""The network's sensitivity classes: every patient has one compartment of each, from the first day.

The chain does not say which compartment is of which class. It knows the general one, because rules differ there (one
custodian may do, managers and policy reach it), and it has a commitment for each: whoever was given the patient's
class map (`client.classes`) checks it against the commitments. So the chain shows that a patient has sensitive
records at most, never of what kind.

The classes follow what law singles out: psychotherapy notes (45 CFR 164.508), substance use disorder records
(42 CFR Part 2), and the sensitivities that states protect beside these (HIV, reproductive health, genetics, domestic
and sexual violence, what an adolescent tells in confidence). The last class is for what is confidential without being
of a kind, and for free text that nobody could classify.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

CLASSES_MAX: Final = 32

GENERAL: Final = 0
PSYCHIATRY: Final = 1
SUBSTANCE_USE: Final = 2
HIV: Final = 3
REPRODUCTIVE: Final = 4
GENETICS: Final = 5
VIOLENCE: Final = 6
ADOLESCENT: Final = 7
RESTRICTED: Final = 8

NAMES: Final[dict[int, str]] = {
    GENERAL: "general",
    PSYCHIATRY: "psychiatry",
    SUBSTANCE_USE: "substance-use",
    HIV: "hiv",
    REPRODUCTIVE: "reproductive",
    GENETICS: "genetics",
    VIOLENCE: "violence",
    ADOLESCENT: "adolescent-confidential",
    RESTRICTED: "restricted",
}
"""Each class with the name by which tables and people call it."""
CLASSES: Final = tuple(NAMES)
SENSITIVE: Final = CLASSES[1:]

ClassCode = Annotated[int, msgspec.Meta(ge=0, lt=CLASSES_MAX)]
