"""Figures for people: tables on the terminal, and a picture."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDTH_MAX: Final = 1_000
"""No table needs so many columns of a terminal."""


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The options of a run, as its figures repeat them."""
    return {name: value for name, value in vars(options).items() if isinstance(value, int | float | str)}


def show(title: str, found: dict[str, Any]) -> None:
    """Print a run: one column for each round, and the median; or one of those with delay and of the others."""
    columns = found.get("rounds", [])
    names = ("median_without_delay", "median_with_delay") if "median_with_delay" in found else ("median",)
    table = Table(title=f"scripts/bench {title}")
    table.add_column("figure", no_wrap=True)
    for number in range(1, len(columns) + 1):
        table.add_column(f"round {number}" if len(columns) > 1 else "value", justify="right")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right", style="bold")
    every = [flat(column) for column in [*columns, *(found[name] for name in names)]]
    for name in dict.fromkeys([*flat(found["median"]), *itertools.chain.from_iterable(every)]):
        table.add_row(name, *(shown(one.get(name)) for one in every))
    # Without a terminal rich takes 80 columns, and cuts names to fit: half of them would read the same.
    console = Console()
    whole = Measurement.get(console, console.options.update(max_width=WIDTH_MAX), table).maximum
    Console(width=max(console.width, whole)).print(table)
    if "delayed_to_plain" in found:
        print(
            f"delayed_to_plain {shown(found['delayed_to_plain'])}: ratio_to_ceiling with delay, by that without"
        )


def flat(found: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested figures with dotted names; what is no number is left out."""
    result: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            result[f"{prefix}{name}"] = value
    return result


def shown(value: float | None) -> str:
    """A number with as many digits as mean something."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def require_plots() -> None:
    """Ends the program where the picture could not be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit(
            "error: --plot needs matplotlib, which is not part of the project: pip install matplotlib"
        )


def plot(found: dict[str, Any], path: Path) -> None:
    """Throughput over time of each round beside the ceiling, and latencies."""
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, (speed, delay) = pyplot.subplots(1, 2, figsize=(12, 4.5))
    for number, one in enumerate(found["rounds"], 1):
        points = one["sampled"]
        pairs = itertools.pairwise(points)
        steps = [(t1, (n1 - n0) / (t1 - t0)) for (t0, n0), (t1, n1) in pairs if t1 > t0]
        speed.plot([t for t, _ in steps], [v for _, v in steps], label=f"round {number}")
    speed.axhline(
        found["median"]["verify_ceiling_tps"], linestyle="--", color="black", label="verify ceiling"
    )
    speed.set(xlabel="seconds", ylabel="transactions/s answered", ylim=(0, None), title="throughput")
    speed.legend(fontsize=8)
    names = ("p50", "p95", "p99")
    for place, name in enumerate(names):
        values = [one["latency_ms"][name] for one in found["rounds"] if one["latency_ms"][name] is not None]
        delay.scatter([place] * len(values), values)
    delay.set(
        xticks=range(len(names)),
        xticklabels=names,
        ylabel="ms",
        ylim=(0, None),
        title="submit to commit notice",
    )
    figure.tight_layout()
    figure.savefig(path, dpi=120)
