"""Purposes of use, and which contains which: a consent to treatment covers emergency treatment, never the reverse.

The codes and their hierarchy are HL7's PurposeOfUse (the concepts below `PurposeOfUse` in the code system v3-ActReason,
as FHIR R4 4.0.1 publishes it). A code that is not here is refused: nobody can know what it would permit.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from consilium.ledger.errors import Refused

PURPOSE_CHARS_MAX: Final = 16

Purpose = Annotated[str, msgspec.Meta(min_length=1, max_length=PURPOSE_CHARS_MAX)]

CHILDREN: Final[dict[str, tuple[str, ...]]] = {
    "CLINTRCH": ("CLINTRCHNPC", "CLINTRCHPC", "PRECLINTRCH"),
    "COVERAGE": ("ELIGDTRM", "ELIGVER", "ENROLLM", "MILDCRG"),
    "ETREAT": ("BTG", "ERTREAT"),
    "HMARKT": (),
    "HOPERAT": (
        *("CAREMGT", "DONAT", "FRAUD", "GOV", "HACCRED", "HCOMPL", "HDECD", "HDIRECT", "HDM", "HLEGAL"),
        *("HOUTCOMS", "HPRGRP", "HQUALIMP", "HSYSADMIN", "MEMADMIN", "MILCDM", "PATADMIN", "PATSFTY"),
        *("PERFMSR", "RECORDMGT", "SYSDEV", "TRAIN"),
    ),
    "HPAYMT": ("CLMATTCH", "COVAUTH", "COVERAGE", "REMITADV"),
    "HRESCH": ("BIORCH", "CLINTRCH", "DSRCH", "POARCH", "TRANSRCH"),
    "HSYSADMIN": ("LABELING", "METAMGT"),
    "PATRQT": ("FAMRQT", "PWATRNY", "SUPNWK"),
    "PUBHLTH": ("DISASTER", "THREAT"),
    "SYSDEV": ("HTEST",),
    "TREAT": ("CLINTRL", "COC", "ETREAT", "POPHLTH"),
}
"""Each purpose that contains others, or stands alone, and what it directly contains."""

PARENT: Final[dict[str, str]] = {child: parent for parent in CHILDREN for child in CHILDREN[parent]}
PURPOSES: Final[tuple[str, ...]] = tuple(sorted({*CHILDREN, *PARENT}))
_KNOWN: Final[dict[str, bool]] = dict.fromkeys(PURPOSES, True)


def require_purpose(purpose: str) -> None:
    """Raises Refused `consent.unknown_purpose`."""
    if purpose not in _KNOWN:
        raise Refused("consent.unknown_purpose", purpose)


def covers(granted: str, asked: str) -> bool:
    """Whether `asked` is `granted` or lies below it."""
    return granted in upwards(asked)


def upwards(asked: str) -> tuple[str, ...]:
    """The purpose itself, and those that contain it: whoever was granted one of them was granted `asked`."""
    return _UPWARDS.get(asked, (asked,))


def _upwards(purpose: str) -> tuple[str, ...]:
    parent = PARENT.get(purpose)
    return (purpose,) if parent is None else (purpose, *_upwards(parent))


_UPWARDS: Final[dict[str, tuple[str, ...]]] = {purpose: _upwards(purpose) for purpose in PURPOSES}
"""By each purpose: one request may ask thousands of times."""
