"""What is wrong with a bundle, said so that its sender can mend it: which entry, which element, why.

A bundle is refused whole, with the code of its first problem; the others are listed up to a limit. Reasons name
elements and codes, and never repeat free text or identifiers of the patient: they end in logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consilium.ledger.errors import DETAIL_CHARS_MAX, Refused

PROBLEMS_MAX: Final = 20
VALUE_CHARS_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: a code of the catalogue, where it is, and why it is one.

    `entry_index` counts from 0, as FHIRPath does, and is None for the bundle itself; `path` is as in
    `Observation.component[0].valueQuantity.value`.
    """

    code: str
    path: str
    reason: str
    entry_index: int | None = None
    full_url: str | None = None

    def __str__(self) -> str:
        place = f"{self.path}: {self.reason}" if self.path else self.reason
        if self.entry_index is None:
            return place
        named = f" ({self.full_url})" if self.full_url else ""
        return f"entry[{self.entry_index}]{named} {place}"


class BundleRefused(Refused):
    """A bundle that is refused whole. `problems` holds up to PROBLEMS_MAX of what is wrong, the first one first."""

    def __init__(self, code: str, detail: str = "", problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(code, detail)
        self.problems = problems


def refuse(problems: Sequence[Problem]) -> BundleRefused:
    """The refusal for a non-empty list of problems."""
    listed = tuple(problems[:PROBLEMS_MAX])
    more = len(problems) - len(listed)
    text = ""
    for position, problem in enumerate(listed):
        addition = f"; {problem}" if text else str(problem)
        if len(text) + len(addition) > DETAIL_CHARS_MAX - 40:
            more += len(listed) - position
            break
        text += addition
    if more:
        text += f"; and {more} more" if text else ""
    return BundleRefused(listed[0].code, text or str(listed[0]), listed)


def shown(value: object) -> str:
    """A code or URL from the input, shortened and made printable for a message."""
    text = repr(value)
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + "…"
