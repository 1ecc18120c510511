"""Render the tables of the READMEs from results/, so that no figure on a page is typed by hand.

In a README, a table is placed between two comment lines; the first names the records (rows) and the metrics (columns):

<!-- ledger: ch03/feedforward ch03/feedforward-quick | test_accuracy train_seconds -->
<!-- /ledger -->

A single record whose metrics are named `<row>_<column>` is shown as a table with an x between rows and columns:

<!-- ledger: ch02/compare-optimizers | sgd adam x valley_steps digits_steps -->
<!-- /ledger -->

For a metric whose values over the seeds are not unimodal, `metric:values` shows the value of every seed, and
`metric:median` the median with the smallest and the largest value:

<!-- ledger: ch02/fitting | degree_1_rmse degree_15_rmse:values -->
<!-- /ledger -->

The output of the first seed of a record, its first and last lines (as the record keeps them), is placed between

<!-- output: ch03/feedforward -->
<!-- /output -->

The comparison in results/landmarks.toml of records, the book's results and published results is placed between the
following lines, and the tables of device_table.py and peer_table.py between lines named `devices` and `peers`:

<!-- landmarks -->
<!-- /landmarks -->
"""

import math
import re
import statistics
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.files import read_json
from common.records.device_table import DEVICES, render_devices
from common.records.peer_table import CONDITIONS, PEERS, render_conditions, render_peers

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
TABLE = re.compile(
    r"(?P<first><!-- ledger: (?P<records>[^|>]+)\|(?P<measures>[^>]+)-->\n).*?(?P<last><!-- /ledger -->)", re.S
)

OUTPUT = re.compile(r"(?P<first><!-- output: (?P<record>[\w/-]+) -->\n).*?(?P<last><!-- /output -->)", re.S)

LANDMARKS = re.compile(r"(?P<first><!-- landmarks -->\n).*?(?P<last><!-- /landmarks -->)", re.S)

# Formats of metrics: name pattern, heading, factor and format; the first matching pattern is used.
FORMATS = [
    (r"rmse|mae$|noise_floor", "{name}", 1, "{:#.4g}"),
    (r"_at_10$|coverage", "{name}", 1, "{:.3f}"),
    (r"learning_rate$", "{name}", 1, "{:.2g}"),
    (r"accuracy|rate$|bleu$", "{name}, %", 100, "{:.2f}"),
    (r"_per_second(_\d+)?$|steps(_above)?$|parameters|gflops", "{name}", 1, "{:,.0f}"),
    (r"megaflops", "{name}", 1, "{:,.1f}"),
    (
        r"epoch_seconds|extra_seconds|estimated_seconds|measured_seconds|likelihood|annealing_error",
        "{name}",
        1,
        "{:.2f}",
    ),
    (r"microseconds", "{name}", 1, "{:,.2f}"),
    (r"effective_chains", "{name}", 1, "{:,.0f}"),
    (r"seconds", "{name}", 1, "{:.1f}"),
    (r"_ms$|_mb$|sent_mb", "{name}", 1, "{:,.1f}"),
    (r"_mb_", "{name}", 1, "{:,.0f}"),
    (r"exponent", "{name}", 1, "{:.2f}"),
    (r"^(factors|epochs|neighbours|shrinkage|penalty)$", "{name}", 1, "{:,.0f}"),
    (r"^decay$", "{name}", 1, "{:.2g}"),
    (r"ratio$", "{name}", 1, "{:.2f}"),
    (r"mse", "{name}", 1, "{:.5f}"),
    (r"r2$|^prediction", "{name}", 1, "{:.4f}"),
    (r"perplexity", "{name}", 1, "{:.2f}"),
    (r"bits_per_character|factor_a_step", "{name}", 1, "{:.3f}"),
    (r"elbo|bound_|reconstruction|grey_loss|_kl$", "{name}", 1, "{:.2f}"),
    (r"active_units|_classes$", "{name}", 1, "{:.1f}"),
    (r"confidence", "{name}, %", 100, "{:.1f}"),
    (r"frechet_distance$", "{name}", 1, "{:.1f}"),
    (r"(^|_)(precision|recall|sharpness|variety)$", "{name}", 1, "{:.3f}"),
    (r"over_shortest", "{name}", 1, "{:.3f}"),
    (r"efficiency|estimate_error", "{name}, %", 100, "{:.0f}"),
    (r"intensity", "{name}", 1, "{:.1f}"),
    (r"auroc", "{name}", 1, "{:.3f}"),
    (r"jobs$|^points$|^nodes_|(finite|zero)_(values|gradients)$", "{name}", 1, "{:,.0f}"),
    (r"^(requests|refused|errors|server_errors)$|_kilobytes$|^kilobytes$", "{name}", 1, "{:,.0f}"),
    (r"parity$|gradient_difference", "{name}", 1, "{:.1e}"),
    (r"", "{name}", 1, "{:.4g}"),
]


VIEWS = {"": "", "values": ", each seed", "median": ", median (range)"}
"""Ways to show the values of a metric over the seeds, each with the suffix of its heading."""


def split_view(measure: str) -> tuple[str, str]:
    """Split `metric:view` into the metric and its view; raise ValueError for an unknown view."""
    name, _, view = measure.partition(":")
    if view not in VIEWS:
        raise ValueError(f"{measure}: unknown view {view!r}; use :values, :median or no view")
    return name, view


def format_of(measure: str) -> tuple[str, float, str]:
    """Return the heading of a metric, the factor by which it is multiplied, and its format."""
    name, view = split_view(measure)
    heading, factor, text = next((h, f, t) for pattern, h, f, t in FORMATS if re.search(pattern, name))
    return heading.format(name=name.replace("_", " ")) + VIEWS[view], factor, text


def cell(entry: dict[str, Any], measure: str, *, unit: str = "") -> str:
    """Format a metric of a record as mean ± standard deviation; empty if the record does not have it."""
    name, view = split_view(measure)
    figure = entry["metrics"].get(name)
    if figure is None:
        return ""
    _, factor, text = format_of(measure)
    if view:
        values = [factor * value for value in figure["values"]]
        shown = values if view == "values" else [statistics.median(values), min(values), max(values)]
        words = [text.replace(":#.", ":.").format(value) + unit for value in shown]  # 4510, not 4510.
        return ", ".join(words) if view == "values" else f"{words[0]} ({words[1]} to {words[2]})"
    if entry["n"] == 1:
        return text.format(factor * figure["mean"]) + unit
    text = text.replace(":.4g", ":#.4g")  # 0.1600, not 0.16, which would also cut digits of the deviation
    mean, sd = text.format(factor * figure["mean"]), factor * figure["sd"]
    decimals = len(mean.partition(".")[2])
    return f"{mean} ± {text.format(sd) if 'e' in mean else f'{sd:,.{decimals}f}'}{unit}"


def read_record(name: str) -> dict[str, Any]:
    """Read a record."""
    return read_json(RESULTS / f"{name}.json")


def missed_targets() -> list[str]:
    """List the recorded figures that miss their target in results/targets.toml, one line each."""
    missed = []
    for name, targets in tomllib.loads((RESULTS / "targets.toml").read_text(encoding="utf-8")).items():
        entry = read_record(name)
        for measure, bounds in targets.items():
            mean, (_, factor, _) = entry["metrics"][measure]["mean"], format_of(measure)
            if mean < bounds.get("at_least", -math.inf):
                missed.append(f"{name} {measure}: {cell(entry, measure)}, at least {factor * bounds['at_least']:,g}")
            if mean > bounds.get("at_most", math.inf):
                missed.append(f"{name} {measure}: {cell(entry, measure)}, at most {factor * bounds['at_most']:,g}")
    return missed


def origin(entry: dict[str, Any]) -> tuple[str, str]:
    """Return a record's data set and command."""
    data = "" if entry["data"] is None else entry["data"]["name"] + " (embedded)" * entry["data"]["embedded"]
    return data, entry["command"].partition(".train ")[2] or entry["command"]


def place(entry: dict[str, Any]) -> str:
    """Return device, torch version and date of a record."""
    return f"{entry['device']}; torch {entry['versions']['torch']}; {entry['date']}"


def render_table(records: list[dict[str, Any]], measures: Sequence[str]) -> str:
    """Format records as a Markdown table, with a line below that names devices, versions and dates."""
    lines = [
        "| | " + " | ".join(format_of(name)[0] for name in measures) + " | runs | data | command |",
        "|---" + "|---:" * (len(measures) + 1) + "|---|---|",
    ]
    for entry in records:
        cells = " | ".join(cell(entry, name) for name in measures)
        data, command = origin(entry)
        lines.append(f"| {entry['title']} | {cells} | {entry['n']} | {data} | `{command}` |")
    places = dict.fromkeys(place(entry) for entry in records)
    means = any(not split_view(measure)[1] for measure in measures) and any(entry["n"] > 1 for entry in records)
    over = "Mean ± standard deviation over seeds. " * means
    return "\n".join(lines) + f"\n\n{over}{' / '.join(places)}.\n"


def render_grid(entry: dict[str, Any], rows: Sequence[str], columns: Sequence[str]) -> str:
    """Format one record, whose metrics are `<row>_<column>`, as a table of its own."""
    lines = [
        "| | " + " | ".join(format_of(column)[0] for column in columns) + " |",
        "|---" + "|---:" * len(columns) + "|",
    ]
    for row in rows:
        cells = " | ".join(cell(entry, f"{row}_{column}") for column in columns)
        lines.append(f"| {row.replace('_', ' ')} | {cells} |")
    data, command = origin(entry)
    over = f"Mean ± standard deviation over {entry['n']} seeds. " if entry["n"] > 1 else ""
    return "\n".join(lines) + f"\n\n{over}`{command}`{f' on {data}' if data else ''}. {place(entry)}.\n"


def render_landmarks() -> str:
    """Format results/landmarks.toml as a table: our records, the book's results and the best published results."""
    landmarks = tomllib.loads((RESULTS / "landmarks.toml").read_text(encoding="utf-8"))["landmark"]
    lines = ["| what | here | the book's program | published | source |", "|---|---:|---:|---:|---|"]
    for mark in landmarks:
        entry = read_record(mark["record"])
        here = cell(entry, mark["measure"], unit=" %" * format_of(mark["measure"])[0].endswith("%"))
        lines.append(
            f"| {mark['work']} | {here} | {mark.get('book', '')} | {mark.get('published', '')} "
            f"| {mark.get('source', '')} |"
        )
    return "\n".join(lines) + "\n"


def render_output(name: str) -> str:
    """Format the command and the output of a record's first run; raise ValueError if the record has no output."""
    entry = read_record(name)
    if not entry.get("output"):
        raise ValueError(f"results/{name}.json has no output: record it again")
    return "\n".join(["```text", f"$ {entry['command']}", *entry["output"], "```", ""])


def render(text: str, where: Path) -> str:
    """Render every table of a README from the records."""
    kinds = {
        "ledger:": TABLE,
        "output:": OUTPUT,
        "devices -->": DEVICES,
        "landmarks -->": LANDMARKS,
        "peers -->": PEERS,
        "peer-conditions -->": CONDITIONS,
    }
    for beginning, table in kinds.items():
        if text.count(f"<!-- {beginning}") != len(table.findall(text)):
            raise ValueError(f"{where} has a table whose first or last line is malformed")

    def replacement(match: re.Match[str]) -> str:
        names, measures = match["records"].split(), match["measures"].split()
        for name in names:
            if not (RESULTS / f"{name}.json").exists():
                raise FileNotFoundError(f"{where} names results/{name}.json, which does not exist")
        entries = [read_record(name) for name in names]
        grid = "x" in measures
        if grid:
            rows, columns = measures[: measures.index("x")], measures[measures.index("x") + 1 :]
            if len(names) != 1 or not rows or not columns:
                raise ValueError(f"{where}: a table of rows x columns needs one record, and names of rows and columns")
            measures = [f"{row}_{column}" for row in rows for column in columns]
        recorded = {name for entry in entries for name in entry["metrics"]}
        unknown = [measure for measure in measures if split_view(measure)[0] not in recorded]
        if unknown:
            raise ValueError(f"{where} names {', '.join(unknown)}, which no record of {', '.join(names)} has")
        table = render_grid(entries[0], rows, columns) if grid else render_table(entries, measures)
        return f"{match['first']}{table}{match['last']}"

    if DEVICES.search(text):
        text = render_devices(text, read_json(RESULTS / "devices.json"))
    text = PEERS.sub(lambda match: f"{match['first']}{render_peers(RESULTS, where)}{match['last']}", text)
    text = CONDITIONS.sub(lambda match: f"{match['first']}{render_conditions(RESULTS, where)}{match['last']}", text)
    text = LANDMARKS.sub(lambda match: f"{match['first']}{render_landmarks()}{match['last']}", text)
    text = OUTPUT.sub(lambda match: f"{match['first']}{render_output(match['record'])}{match['last']}", text)
    return TABLE.sub(replacement, text)


def readmes() -> list[Path]:
    """List the pages that may contain tables."""
    pages = (page for pattern in ("docs/*.md", "ch*/*.md", "ch*/exercises/*.md") for page in sorted(ROOT.glob(pattern)))
    return [*sorted(ROOT.glob("README*.md")), *pages]


def stale_readmes() -> list[Path]:
    """List the READMEs whose tables differ from the records."""
    return [path for path in readmes() if render(text := path.read_text(encoding="utf-8"), path) != text]
