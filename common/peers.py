"""Compare our programs with other software (peers) that does the same work.

All variants are measured interleaved in one run, and the rate of matrix products before and after shows whether the
machine was equally fast. A ratio says how many times as fast ours is as a peer: above 1, ours is faster. It is computed
within each round; the median over the rounds is reported with the lowest and the highest value.
"""

import importlib
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.benchmark import interleaved, matrix_product_rate
from common.progress import print_table, say
from common.run import Run

ROUNDS = 5


@dataclass(frozen=True)
class Variant:
    """Our program or a peer."""

    title: str
    measure: Callable[[], float]
    """Measures once; returns a rate or a duration."""


def import_peer(module: str, package: str, program: str, *, extra: str = "peers") -> Any:
    """Import a module of a peer; raise ValueError, with the command that installs its package, if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{program} needs {package}: pip install '.[{extra}]'") from error


def command_seconds(words: Sequence[str], *, folder: Path | None = None, environment: Any = None) -> float:
    """Return the duration of a command in seconds; raise ValueError, with its last line, if it fails."""
    before = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - before
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise ValueError(f"{' '.join(words)} failed: {lines[-1]}")
    return seconds


def is_duration(quantity: str) -> bool:
    """Return whether a quantity is a duration: `seconds`, but not `images_per_second`."""
    return quantity.endswith("seconds")


def ratios_of(name: str, ours: Sequence[float], theirs: Sequence[float], quantity: str) -> dict[str, float]:
    """Return how many times as fast ours is: the median over the rounds, the lowest and the highest ratio.

    For a duration, also the median over the rounds of ours minus theirs.
    """
    pairs = list(zip(ours, theirs, strict=True))
    ratios = [b / a if is_duration(quantity) else a / b for a, b in pairs]
    found = {
        f"{name}_ratio": statistics.median(ratios),
        f"{name}_lowest_ratio": min(ratios),
        f"{name}_highest_ratio": max(ratios),
    }
    if is_duration(quantity):
        found[f"{name}_extra_{quantity}"] = statistics.median(a - b for a, b in pairs)
    return found


def compare(
    run: Run, ours: Mapping[str, Variant], peers: Mapping[str, Variant], quantity: str, rounds: int = ROUNDS
) -> dict[str, float]:
    """Measure all variants interleaved, print and draw the comparison, and return its metrics.

    These are, for the quantity `images_per_second`, `<name>_images_per_second` of every variant (medians), and
    `<ours>_<peer>_ratio`, `<ours>_<peer>_lowest_ratio` and `<ours>_<peer>_highest_ratio` of every pair. The quantity
    `seconds` also has `<ours>_<peer>_extra_seconds`.
    """
    variants = {**peers, **ours}
    assert len(variants) == len(peers) + len(ours), "two variants have the same name"
    before = matrix_product_rate()
    figures = interleaved(variants, rounds, lambda variant: variant.measure())
    after = matrix_product_rate()
    say("machine", f"float32 matrix product: {before:,.0f} GFLOP/s before, {after:,.0f} GFLOP/s after")
    median = {name: statistics.median(values) for name, values in figures.items()}
    ratios: dict[str, float] = {}
    for name in ours:
        for peer in peers:
            ratios |= ratios_of(f"{name}_{peer}", figures[name], figures[peer], quantity)
    report(run, ours, peers, quantity, median, ratios)
    return {
        **{f"{name}_{quantity}": value for name, value in median.items()},
        **ratios,
        "before_matrix_product_gflops": before,
        "after_matrix_product_gflops": after,
    }


def report(
    run: Run,
    ours: Mapping[str, Variant],
    peers: Mapping[str, Variant],
    quantity: str,
    median: Mapping[str, float],
    ratios: Mapping[str, float],
) -> None:
    """Print the comparison as a table and draw it."""
    from common.drawing import plots

    unit, variants = quantity.replace("_", " "), {**peers, **ours}
    rows = []
    for name, variant in variants.items():
        compared = [range_of(ratios, f"{name}_{peer}") if name in ours else "" for peer in peers]
        value = median[name]
        rows.append([variant.title, f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}", *compared])
    print_table([unit, "median", *(f"times as fast as {peer.title}" for peer in peers.values())], rows)
    titles = [variant.title for variant in variants.values()]
    run.figure("comparison", plots.bars(titles, list(median.values()), title=run.program, label=unit))


def range_of(ratios: Mapping[str, float], name: str) -> str:
    """Format a ratio with its lowest and highest value: `1.33 (1.30 to 1.35)`."""
    low, high = ratios[f"{name}_lowest_ratio"], ratios[f"{name}_highest_ratio"]
    return f"{ratios[f'{name}_ratio']:.2f} ({low:.2f} to {high:.2f})"
