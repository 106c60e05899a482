"""Which faults are made: those chosen by hand, and those drawn; and which of the drawn ones are no faults."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.operators import draw, every

FOLDER: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault. `origin` is `hand` or `random`; `test` the one test that must notice it, if one is named."""

    name: str
    origin: str
    file: str
    line: int
    faulty: bytes
    test: str = ""


@dataclass(frozen=True, slots=True)
class Drawn:
    """`wanted` real faults, and the equivalents that came up before them, of `places` in all."""

    mutants: list[Mutant]
    equivalent: list[dict[str, str]]
    places: int


def drawn_files(root: Path) -> list[str]:
    """Where faults are drawn: the machine, the promise's file, the driver and what it has others do for it."""
    found = [
        *(root / "consensus").glob("*.py"),
        *(root / "node").glob("driver*.py"),
        root / "node" / "showing.py",
        root / "storage" / "promise.py",
    ]
    return sorted(path.relative_to(root).as_posix() for path in found)


def by_hand(root: Path) -> list[Mutant]:
    """Raises ValueError where a fault no longer has exactly one place."""
    mutants = []
    for entry in tomllib.loads((FOLDER / "hand.toml").read_text(encoding="utf-8"))["fault"]:
        source = (root / entry["file"]).read_text(encoding="utf-8")
        find = entry["find"]
        if source.count(find) != 1:
            raise ValueError(f"{entry['name']!r} has {source.count(find)} places in {entry['file']}, not one")
        at = source.index(find)
        faulty = source[:at] + entry["text"] + source[at + len(find) :]
        line = source.count("\n", 0, at) + 1
        mutants.append(
            Mutant(entry["name"], "hand", entry["file"], line, faulty.encode(), entry.get("test", ""))
        )
    return mutants


def equivalents() -> dict[str, str]:
    """Reason by name."""
    listed = tomllib.loads((FOLDER / "equivalent.toml").read_text(encoding="utf-8")).get("equivalent", [])
    return {entry["name"]: entry["reason"] for entry in listed}


def at_random(root: Path, wanted: int, seed: int) -> Drawn:
    """The first `wanted` faults that are not equivalent, in the order of the seed."""
    faults = every(root, drawn_files(root))
    reasons = equivalents()
    mutants: list[Mutant] = []
    skipped: list[dict[str, str]] = []
    for fault in draw(faults, seed):
        if len(mutants) == wanted:
            break
        if fault.name in reasons:
            skipped.append({"name": fault.name, "reason": reasons[fault.name]})
            continue
        faulty = fault.apply((root / fault.file).read_bytes())
        mutants.append(Mutant(fault.name, "random", fault.file, fault.line, faulty))
    return Drawn(mutants, skipped, len(faults))


def chosen(mutants: Sequence[Mutant], names: Sequence[str]) -> list[Mutant]:
    """Those whose name contains one of these, or all where there are none."""
    return [one for one in mutants if not names or any(name in one.name for name in names)]
