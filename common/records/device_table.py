"""Table of CPU and GPU throughput: the training steps of every chapter on every device of one machine.

    python -m common.records.ledger devices  # time them (some minutes) and save results/devices.json

In a README, the table is placed between these two lines:

<!-- devices -->
<!-- /devices -->
"""

import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from common.benchmark import Variant
from common.device import describe_machine, versions
from common.files import read_json

DEVICES = re.compile(r"(?P<first><!-- devices -->\n).*?(?P<last><!-- /devices -->)", re.S)


def timed_chapters(root: Path) -> list[str]:
    """List the chapters that have a training step to time."""
    return [
        folder.name
        for folder in sorted(root.glob("ch*"))
        if any("\ndef workload(" in path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    ]


def time_chapters(root: Path) -> dict[str, Any]:
    """Time the core programs of each chapter in a process of its own; return the record.

    Raises ValueError if a chapter fails.
    """
    out, timings = root / "runs" / "ledger" / "devices", []
    shutil.rmtree(out, ignore_errors=True)
    for chapter in timed_chapters(root):
        words = [sys.executable, "-m", f"{chapter}.train", "--benchmark", "--out", str(out)]
        if subprocess.run(words, cwd=root, check=False).returncode:
            raise ValueError(f"the benchmark of {chapter} failed; nothing was recorded")
        (path,) = (out / chapter / "benchmark").glob("*/benchmark.json")
        timings += [{"chapter": chapter} | timing for timing in read_json(path)["timings"]]
    return {
        "machine": describe_machine(),
        "versions": versions(),
        "date": date.today().isoformat(),
        "timings": timings,
    }


def render_devices(text: str, entry: dict[str, Any]) -> str:
    """Insert the recorded table into a README."""
    return DEVICES.sub(lambda match: f"{match['first']}{table_of(entry)}{match['last']}", text)


def table_of(entry: dict[str, Any]) -> str:
    """Format the record as a Markdown table: throughput on the first device, and the others relative to it."""
    rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for timing in entry["timings"]:
        variant = Variant(**timing["variant"])
        row = rows.setdefault((timing["chapter"], variant.program), {})
        row[f"{variant.place}, {variant.precision}"] = timing
    places = list(dict.fromkeys(place for row in rows.values() for place in row))
    reference, *others = places
    lines = ["| | " + " | ".join([reference, *others]) + " |", "|---" + "|---:" * len(places) + "|"]
    for (chapter, program), row in rows.items():
        first = f"{row[reference]['items_per_second']:,.0f} {row[reference]['unit']}/s"
        ratios = [f"{row[place]['ratio']:.2f}" if place in row else "" for place in others]
        lines.append(f"| {int(chapter[2:4])}: {program} | " + " | ".join([first, *ratios]) + " |")
    machine = entry["machine"]
    devices = machine["cpu"] + (f"; {machine['gpu']}" if "gpu" in machine else "; no GPU")
    return "\n".join(lines) + f"\n\n`--benchmark`. {devices}; torch {entry['versions']['torch']}; {entry['date']}.\n"
