"""Tables of the comparisons with other software: results/peers.toml names the records.

In a page, the table of the ratios, with one column per machine, is placed between the first two of these lines, and the
table of the conditions under which they were recorded between the last two:

<!-- peers -->
<!-- /peers -->

<!-- peer-conditions -->
<!-- /peer-conditions -->

Each row of results/peers.toml has the fields `work`, `ours` and `peer` (texts), `ratio` (a metric that says how many
times as fast ours is) and `records` (one for each machine).
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from common.files import read_json

PEERS = re.compile(r"(?P<first><!-- peers -->\n).*?(?P<last><!-- /peers -->)", re.S)
CONDITIONS = re.compile(r"(?P<first><!-- peer-conditions -->\n).*?(?P<last><!-- /peer-conditions -->)", re.S)


def machine_of(entry: dict[str, Any]) -> str:
    """Describe the machine of a record in a few words: processor, cores, and the GPU if the record used one."""
    machine = entry["machine"]
    if entry["device"].startswith("cuda"):
        return machine["gpu"]
    return f"{machine['cpu']}, {machine['cores']} cores"


def ratio_cell(entry: dict[str, Any], ratio: str) -> str:
    """Format a ratio with its range: over the rounds of all runs if the record has it, else over the runs."""
    metrics, name = entry["metrics"], ratio.removesuffix("ratio")
    low, high = metrics.get(f"{name}lowest_ratio"), metrics.get(f"{name}highest_ratio")
    values = metrics[ratio]["values"]
    lowest = min(low["values"] if low else values)
    highest = max(high["values"] if high else values)
    over = "" if low and high else " over runs"
    spread = f" ({lowest:.2f} to {highest:.2f}{over})" if highest > lowest else ""
    return f"{metrics[ratio]['mean']:.2f}{spread}"


def peer_rows(results: Path, where: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Read the rows of results/peers.toml, and their records by name.

    Raises FileNotFoundError or ValueError, naming the page, for a record or a metric that does not exist.
    """
    rows = tomllib.loads((results / "peers.toml").read_text(encoding="utf-8"))["row"]
    entries: dict[str, dict[str, Any]] = {}
    for row in rows:
        for name in row["records"]:
            path = results / f"{name}.json"
            if not path.exists():
                raise FileNotFoundError(f"{where} names results/{name}.json, which does not exist")
            entries[name] = read_json(path)
            if row["ratio"] not in entries[name]["metrics"]:
                raise ValueError(f"{where} names {row['ratio']}, which results/{name}.json does not have")
    return rows, entries


def render_peers(results: Path, where: Path) -> str:
    """Format the ratios as a table with one column per machine."""
    rows, entries = peer_rows(results, where)
    machines = list(dict.fromkeys(map(machine_of, entries.values())))
    lines = [
        "| work | ours | compared with | " + " | ".join(machines) + " |",
        "|---|---|---|" + "---:|" * len(machines),
    ]
    for row in rows:
        cells = dict.fromkeys(machines, "")
        for name in row["records"]:
            cells[machine_of(entries[name])] = ratio_cell(entries[name], row["ratio"])
        lines.append(f"| {row['work']} | {row['ours']} | {row['peer']} | {' | '.join(cells.values())} |")
    return "\n".join(lines) + "\n"


def render_conditions(results: Path, where: Path) -> str:
    """Format the conditions of each record as a table: runs, device, versions, matrix-product rates and date."""
    _, entries = peer_rows(results, where)
    lines = [
        "| command | runs | device | versions | matrix product before, after, GFLOP/s | date |",
        "|---|---:|---|---|---|---|",
    ]
    for entry in entries.values():
        command = entry["command"].removeprefix("python -m ")
        versions = ", ".join(f"{name} {version}" for name, version in entry["versions"].items())
        rates = ", ".join(f"{rate:,.0f}" for rate in entry.get("matrix_product_gflops", {}).values()) or "not recorded"
        lines.append(f"| `{command}` | {entry['n']} | {entry['device']} | {versions} | {rates} | {entry['date']} |")
    return "\n".join(lines) + "\n"
