"""Export trained networks as ONNX graphs and torch.export programs, and compare each with the original.

    python -m ch10_deploy.train export                          # train each network for seconds, export, compare
    python -m ch10_deploy.train export --full                   # train with the chapters' settings, for minutes
    python -m ch10_deploy.train export --runs runs              # export the newest runs
    python -m ch10_deploy.train export --models digits decoder  # export only these

The server loads `models/NAME.onnx` and its card `models/NAME.json`; `models/NAME.md` is a model card for readers, and
`programs/NAME.pt2` the same graph for PyTorch.
An export whose outputs differ from the original's is not written.
"""

import hashlib
import logging
import statistics
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ch10_deploy.exporting.graphs import Graph
from ch10_deploy.exporting.model_card import model_card
from ch10_deploy.exporting.sources import SOURCES
from ch10_deploy.inference.cards import CARDS, checksum
from ch10_deploy.inference.models import NAMES, PRIVATE, Model, Name
from common.benchmark import interleaved
from common.config import RunOptions, require
from common.data.source import option_of
from common.device import versions
from common.files import read_json, write_json, write_text
from common.progress import print_table, say
from common.run import Run

TOLERANCE = 1e-5
"""Maximum difference of an output, relative to max(1, largest absolute value of the original); see `distance`."""

COLUMNS = ("parity", "eager_microseconds", "onnx_microseconds", "kilobytes")

ROUNDS, CALLS = 15, 5
"""Rounds of the speed measurement, in which the variants are interleaved, and calls per round."""


@dataclass(frozen=True)
class Config:
    """Settings of the export."""

    models: tuple[Name, ...] = NAMES
    """Networks to export."""
    runs: Path | None = None
    """Folder of earlier runs: export the newest suitable run of each program, and train only what is missing."""
    data: Literal["auto", "embedded"] = "auto"
    """Training data: auto uses the published data sets if available, embedded never does."""
    full: bool = False
    """Train with the chapters' default settings (minutes) instead of short ones (seconds)."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require(len(self.models) > 0, "--models needs at least one of " + ", ".join(NAMES), "none")


@dataclass(frozen=True)
class Parity:
    """Largest relative differences between the original and its exports; see `distance`."""

    onnx: float
    program: float
    examples: int


def trace(graph: Graph) -> torch.export.ExportedProgram:
    """Trace the network with dynamic dimensions."""
    sizes = sorted({size for dimensions in graph.dynamic.values() for size in dimensions.values()})
    symbols = {size: torch.export.Dim(size, min=1) for size in sizes} | graph.sizes
    shapes = tuple(
        {dimension: symbols[size] for dimension, size in graph.dynamic.get(name, {}).items()} for name in graph.inputs
    )
    with torch.no_grad(), torch.backends.opt_einsum.flags(enabled=False):  # opt_einsum would fix the dynamic dimensions
        program = torch.export.export(graph.module.eval(), tuple(graph.inputs.values()), dynamic_shapes=shapes)
    return program.run_decompositions(graph.decompositions) if graph.decompositions else program


def write_onnx(program: torch.export.ExportedProgram, graph: Graph, path: Path) -> None:
    """Write a traced network as ONNX, without the exporter's metadata, which contain local file names."""
    import onnx

    made = torch.onnx.export(
        program,
        input_names=[*graph.inputs],
        output_names=[*graph.outputs],
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert made is not None
    proto = made.model_proto
    for part in (proto.graph, *proto.functions):
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    del proto.metadata_props[:], proto.graph.metadata_props[:]
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def distance(found: Tensor, expected: Tensor) -> float:
    """Compute max |found - expected| / max(1, max |expected|); infinite for NaN."""
    difference = (found.double() - expected.double()).abs() / expected.double().abs().max().clamp(min=1)
    return float(difference.nan_to_num(nan=torch.inf).max())


@torch.no_grad()
def compare(name: str, graph: Graph, model: Model, program: Callable[..., Sequence[Tensor]]) -> Parity:
    """Compare both exports with the original on a batch of all examples and on a batch of one.

    Raises ValueError if an output differs by more than TOLERANCE.
    """
    worst = {"ONNX": 0.0, "torch.export": 0.0}
    for count in (None, 1):
        inputs = {key: value[:count] for key, value in graph.inputs.items()}
        by_name = model(**{key: value.numpy() for key, value in inputs.items()})
        answers = {
            "ONNX": [torch.from_numpy(by_name[output]) for output in graph.outputs],
            "torch.export": program(*inputs.values()),
        }
        expected = graph.original(*inputs.values())
        for side, found in answers.items():
            for output, one, other in zip(graph.outputs, found, expected, strict=True):
                difference = distance(one, other)
                if not difference <= TOLERANCE:
                    raise ValueError(
                        f"{name}: the {side} graph's {output} differ from the network's by {difference:.1e}, "
                        f"more than {TOLERANCE:g}: not exported"
                    )
                worst[side] = max(worst[side], difference)
    return Parity(worst["ONNX"], worst["torch.export"], len(next(iter(graph.inputs.values()))))


def describe(tensors: dict[str, Tensor], dynamic: dict[str, dict[int, str]]) -> dict[str, Any]:
    """Describe inputs by type and shape, with names for dynamic dimensions."""
    return {
        name: {
            "type": str(tensor.dtype).removeprefix("torch."),
            "shape": [dynamic.get(name, {}).get(place, size) for place, size in enumerate(tensor.shape)],
        }
        for name, tensor in tensors.items()
    }


def make_card(
    name: str, folder: Path, summary: dict[str, Any], graph: Graph, model: Model, parity: Parity
) -> dict[str, Any]:
    """Build the card of an exported network."""
    weights = (folder / "model.safetensors").read_bytes()
    named = {
        symbol: graph.dynamic.get(value.name, {}).get(place)
        for value in model.session.get_inputs()
        for place, symbol in enumerate(value.shape)
    }
    outputs = {
        value.name: {"type": value.type[7:-1], "shape": [named.get(size) or size for size in value.shape]}
        for value in model.session.get_outputs()
    }
    return {
        "name": name,
        "chapter": summary["chapter"],
        "program": summary["program"],
        "run": folder.name,
        "data": summary["data"],
        "metrics": summary["metrics"],
        "inputs": describe(graph.inputs, graph.dynamic),
        "outputs": outputs,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "parity": {"tolerance": TOLERANCE, **vars(parity)},
        "versions": {**versions(), **{package: metadata.version(package) for package in ("onnx", "onnxruntime")}},
        "exported": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        PRIVATE: graph.serving,
    }


def microseconds(call: Callable[[], object]) -> float:
    """Return the mean time of a call in microseconds, after one call that warms up the cache."""
    call()
    return 1e6 * timeit.timeit(call, number=CALLS) / CALLS


@torch.inference_mode()
def speeds(graph: Graph, model: Model) -> dict[str, float]:
    """Return the median time of one input in PyTorch and in onnxruntime, in microseconds, measured interleaved."""
    inputs = {key: value[:1] for key, value in graph.inputs.items()}
    arrays = {key: value.numpy() for key, value in inputs.items()}
    variants = {"eager": lambda: graph.module(*inputs.values()), "onnx": lambda: model(**arrays)}
    times = interleaved(variants, ROUNDS, microseconds, quiet=True)
    return {f"{name}_microseconds": statistics.median(rounds) for name, rounds in times.items()}


def export(name: str, folder: Path, run: Run) -> dict[str, float]:
    """Export the network of a run together with its card; return parity, times and size."""
    summary = read_json(folder / "summary.json")
    graph = SOURCES[name].graph(folder, option_of(summary["data"]))
    program = trace(graph)
    with run.writing(f"models/{name}.onnx") as onnx_path, run.writing(f"programs/{name}.pt2") as program_path:
        write_onnx(program, graph, onnx_path)
        torch.export.save(program, program_path)
        model = Model(onnx_path.read_bytes())  # without its card, which contains the result of the comparison
        logging.getLogger("torch._export").setLevel(logging.ERROR)  # it warns about an unused dimension
        loaded = torch.export.load(program_path).module()
        parity = compare(name, graph, model, loaded)
        card = make_card(name, folder, summary, graph, model, parity)
        card["sha256"] = checksum(card, onnx_path.read_bytes())
        CARDS[name].model_validate(card)
        size = onnx_path.stat().st_size
    write_json(run.folder / "models" / f"{name}.json", card)
    write_text(run.folder / "models" / f"{name}.md", model_card(card, SOURCES[name].program))
    difference = max(parity.onnx, parity.program)
    return {"parity": difference, **speeds(graph, model), "kilobytes": size / 1e3}


def find_or_train(name: str, config: Config, run: Run) -> Path:
    """Find the run to export; train one if there is none."""
    source = SOURCES[name]
    folder = source.newest(config.runs) if config.runs else None
    if folder is None:
        say("model", f"{name}: training {source.program.__name__}")
        folder = source.train(config.run, run.folder / "training", embedded=config.data == "embedded", full=config.full)
    else:
        say("model", f"{name}: from {folder}")
    return folder


def train(config: Config) -> dict[str, float]:
    """Find or train the networks and export them; return parity, times and size of each."""
    if config.runs is not None and not config.runs.is_dir():
        raise FileNotFoundError(
            f"--runs {config.runs} is not a folder: name one with earlier runs, or omit it to train now"
        )
    of = {"auto": "published data sets if available, else embedded ones", "embedded": "embedded data sets"}
    say("data", f"{of[config.data]}; each card names its data set")
    with Run.open(__name__, config, arithmetic="fp32") as run:
        rows, metrics = [], {}
        for name in dict.fromkeys(config.models):
            folder = find_or_train(name, config, run)
            measures = export(name, folder, run)
            metrics |= {f"{name}_{measure}": value for measure, value in measures.items()}
            rows.append([name, f"{measures['parity']:.1e}", *(f"{measures[column]:,.0f}" for column in COLUMNS[1:])])
        print_table(["model", *(column.replace("_", " ") for column in COLUMNS)], rows)
        say(
            "serve",
            "python -m ch10_deploy.serve" + ("" if str(config.run.out) == "runs" else f" --out {config.run.out}"),
        )
        return run.finish(run=metrics)
