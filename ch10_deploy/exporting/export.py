"""Trained networks leave Python: as ONNX graphs and torch.export programs, each held against the original.

    python -m ch10_deploy.train export                          # train each for seconds, export, check
    python -m ch10_deploy.train export --full                   # train as the chapters do: minutes
    python -m ch10_deploy.train export --runs runs              # take what was trained before
    python -m ch10_deploy.train export --models digits decoder  # some of them

`models/NAME.onnx` is what the server loads, `models/NAME.json` its card, `programs/NAME.pt2` the same for PyTorch. A
network whose export does not answer as the original does is not written.
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
from ch10_deploy.exporting.sources import SOURCES
from ch10_deploy.inference.cards import CARDS, checksum
from ch10_deploy.inference.models import NAMES, PRIVATE, Model
from common.benchmark import by_turns
from common.config import RunOptions, require
from common.data.source import option_of
from common.device import versions
from common.files import read_json, write_json
from common.progress import print_table, say
from common.run import Run

TOLERANCE = 1e-5
"""How far an output's numbers may be from the original's, as a share of the largest of them, or of one."""

COLUMNS = ("parity", "eager_microseconds", "onnx_microseconds", "kilobytes")

ROUNDS, CALLS = 15, 5
"""How often the networks are asked, to see how fast they are."""

Name = Literal["digits", "pictures", "decoder", "text", "films", "maze"]


@dataclass(frozen=True)
class Config:
    """What is exported, and where it comes from."""

    models: tuple[Name, ...] = NAMES
    """Which networks."""
    runs: Path | None = None
    """Folder of earlier runs: the newest that suits is taken, and only what is missing there is trained."""
    data: Literal["auto", "embedded"] = "auto"
    """What is trained on: the published sets where they can be had, or what is embedded."""
    full: bool = False
    """Train with the chapters' own settings, for minutes, instead of seconds."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        require(len(self.models) > 0, "--models needs at least one of " + ", ".join(NAMES), "none")


@dataclass(frozen=True)
class Parity:
    """How far an export is from the original: the largest differences of its outputs, on the tolerance's scale."""

    onnx: float
    program: float
    examples: int


def trace(graph: Graph) -> torch.export.ExportedProgram:
    """Follow the network's arithmetic once, with dimensions left open."""
    sizes = sorted({size for dimensions in graph.dynamic.values() for size in dimensions.values()})
    symbols = {size: torch.export.Dim(size, min=1) for size in sizes}
    shapes = tuple(
        {dimension: symbols[size] for dimension, size in graph.dynamic.get(name, {}).items()} for name in graph.inputs
    )
    with torch.no_grad(), torch.backends.opt_einsum.flags(enabled=False):  # it would fix the dimensions that are open
        program = torch.export.export(graph.module.eval(), tuple(graph.inputs.values()), dynamic_shapes=shapes)
    return program.run_decompositions(graph.decompositions) if graph.decompositions else program


def write_onnx(program: torch.export.ExportedProgram, graph: Graph, path: Path) -> None:
    """Write a traced network as ONNX; what the exporter notes of this machine and its files stays behind."""
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
    """Give the largest difference as a share of the largest number, or of one; what is no number is infinitely far."""
    difference = (found.double() - expected.double()).abs() / expected.double().abs().max().clamp(min=1)
    return float(difference.nan_to_num(nan=torch.inf).max())


@torch.no_grad()
def compare(name: str, graph: Graph, model: Model, program: Callable[..., Sequence[Tensor]]) -> Parity:
    """Ask the original and both exports the same, all examples at once and one alone.

    Raises ValueError where an output differs by more than TOLERANCE.
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
                        f"more than {TOLERANCE:g}: it was not written"
                    )
                worst[side] = max(worst[side], difference)
    return Parity(worst["ONNX"], worst["torch.export"], len(next(iter(graph.inputs.values()))))


def describe(tensors: dict[str, Tensor], dynamic: dict[str, dict[int, str]]) -> dict[str, Any]:
    """Say what goes in: type and shape, dimensions of any size by name."""
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
    """Say of a network what one must know who uses it."""
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


def microseconds(ask: Callable[[], object]) -> float:
    """Time a call, on average over a few, once what the other way has pushed out of the cache is back."""
    ask()
    return 1e6 * timeit.timeit(ask, number=CALLS) / CALLS


@torch.inference_mode()
def speeds(graph: Graph, model: Model) -> dict[str, float]:
    """Take the median microseconds for one input in PyTorch and in onnxruntime, by turns."""
    inputs = {key: value[:1] for key, value in graph.inputs.items()}
    arrays = {key: value.numpy() for key, value in inputs.items()}
    ways = {"eager": lambda: graph.module(*inputs.values()), "onnx": lambda: model(**arrays)}
    times = by_turns(ways, ROUNDS, microseconds, quiet=True)
    return {f"{name}_microseconds": statistics.median(rounds) for name, rounds in times.items()}


def export(name: str, folder: Path, run: Run) -> dict[str, float]:
    """Export a run's network into the export's own folder, with its card; return its measures."""
    summary = read_json(folder / "summary.json")
    graph = SOURCES[name].graph(folder, option_of(summary["data"]))
    program = trace(graph)
    with run.writing(f"models/{name}.onnx") as onnx_path, run.writing(f"programs/{name}.pt2") as program_path:
        write_onnx(program, graph, onnx_path)
        torch.export.save(program, program_path)
        model = Model(onnx_path.read_bytes())  # it has no card yet
        logging.getLogger("torch._export").setLevel(logging.ERROR)  # it warns of a dimension that nothing uses any more
        loaded = torch.export.load(program_path).module()
        parity = compare(name, graph, model, loaded)
        card = make_card(name, folder, summary, graph, model, parity)
        card["sha256"] = checksum(card, onnx_path.read_bytes())
        CARDS[name].model_validate(card)
        size = onnx_path.stat().st_size
    write_json(run.folder / "models" / f"{name}.json", card)
    difference = max(parity.onnx, parity.program)
    return {"parity": difference, **speeds(graph, model), "kilobytes": size / 1e3}


def find(name: str, config: Config, run: Run) -> Path:
    """Give the folder of the run that a network is taken from; train one where there is none."""
    source = SOURCES[name]
    folder = source.newest(config.runs) if config.runs else None
    if folder is None:
        say("model", f"{name}: training {source.program.__name__}")
        folder = source.train(config.run, run.folder / "training", embedded=config.data == "embedded", full=config.full)
    else:
        say("model", f"{name}: from {folder}")
    return folder


def train(config: Config) -> dict[str, float]:
    """Find or train the networks, export them, and return how far and how fast each is, beside its original."""
    if config.runs is not None and not config.runs.is_dir():
        raise FileNotFoundError(f"--runs {config.runs} is no folder: name that of earlier runs, or none to train now")
    of = {"auto": "published sets where they can be had, else embedded ones", "embedded": "embedded sets"}
    say("data", f"{of[config.data]}, as each card says")
    with Run.open(__name__, config, arithmetic="fp32") as run:
        rows, metrics = [], {}
        for name in dict.fromkeys(config.models):
            folder = find(name, config, run)
            measures = export(name, folder, run)
            metrics |= {f"{name}_{measure}": value for measure, value in measures.items()}
            rows.append([name, f"{measures['parity']:.1e}", *(f"{measures[column]:,.0f}" for column in COLUMNS[1:])])
        print_table(["model", *(column.replace("_", " ") for column in COLUMNS)], rows)
        say(
            "serve",
            "python -m ch10_deploy.serve" + ("" if str(config.run.out) == "runs" else f" --out {config.run.out}"),
        )
        return run.finish(run=metrics)
