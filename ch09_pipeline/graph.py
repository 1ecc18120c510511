"""Draw the jobs of the pipeline, their dependencies, and which of them are due.

    python -m ch09_pipeline.train graph

Jobs of a stage with the same dependencies share a box. Orange boxes are due, white boxes are up to date.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ch09_pipeline import engine, names, status
from ch09_pipeline.engine import Job
from ch09_pipeline.pipeline import list_names
from common.config import RunOptions
from common.files import read_json
from common.progress import say
from common.run import Run

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Config:
    """Settings of the drawing."""

    data: Path | None = None
    """Folder of batches of the pipeline; by default the embedded shapes."""
    run: RunOptions = field(default_factory=RunOptions)


def job_graph(jobs: Iterable[Job], due: Collection[str]) -> "nx.DiGraph":
    """Build a graph with an edge from the job that writes a file to those that read it; `due` names the due jobs."""
    import networkx as nx

    graph = nx.DiGraph()
    jobs = list(jobs)
    writers = {file: job.number for job in jobs for file in job.outputs}
    for job in jobs:
        graph.add_node(job.number, rule=job.rule, item=job.item, due=job.name in due)
    for job in jobs:
        graph.add_edges_from((writers[file], job.number) for file in job.inputs if file in writers)
    return graph


def merge_equal_jobs(jobs: "nx.DiGraph") -> "nx.DiGraph":
    """Merge the jobs of a stage with the same neighbours and state into one box; add the attributes for drawing."""
    import networkx as nx

    places = {
        number: (job["rule"], job["due"], frozenset(jobs.predecessors(number)), frozenset(jobs.successors(number)))
        for number, job in jobs.nodes.items()
    }
    members: dict[tuple, list[int]] = {}
    for number, place in places.items():
        members.setdefault(place, []).append(number)
    boxes = nx.DiGraph()
    for (rule, due, *_), numbers in members.items():
        listed = sorted(jobs.nodes[number]["item"] for number in numbers)
        lines = [rule if len(numbers) == 1 else f"{rule}: {len(numbers)} jobs", *filter(None, [list_names(listed)])]
        boxes.add_node(numbers[0], lines=[*lines, *["due"] * due], kind="gradient" if due else "operation")
    for tail, head in jobs.edges:
        boxes.add_edge(members[places[tail]][0], members[places[head]][0], backward=False)
    return boxes


def pipeline_diagram(work: Path) -> tuple["nx.DiGraph", dict[str, float]]:
    """Build the diagram of the pipeline in a work folder; return it with the numbers of jobs and of due jobs."""
    data, new = status.folders(read_json(work / engine.SETTINGS))
    jobs = job_graph(engine.plan(work, "--forceall"), {job.name for job in engine.plan(work)})
    boxes = merge_equal_jobs(jobs)
    batches, pictures = names.batches(data), names.pictures(new)
    stages = {box: boxes.nodes[box]["lines"][0].partition(":")[0] for box in boxes}
    for name, stage, text in (
        ("data", "prepare", f"{len(batches)} batches"),
        ("new", "predict", f"{len(pictures)} images"),
    ):
        boxes.add_node(name, lines=[f"{name}: {text}"], kind="input")
        boxes.add_edges_from(((name, box) for box in stages if stages[box] == stage), backward=False)
    return boxes, {"jobs": len(jobs), "due": sum(job["due"] for job in jobs.nodes.values())}


def train(config: Config) -> dict[str, float]:
    """Draw the jobs of a pipeline that has run; return the number of jobs and of due jobs."""
    from common.drawing import graphs

    work = status.find_work(status.Config(config.data, config.run))
    boxes, counts = pipeline_diagram(work)
    data, _ = status.folders(read_json(work / engine.SETTINGS))
    with Run.open(__name__, config) as run:
        for name in ("pipeline.png", "pipeline.dot"):
            with run.writing(name) as path:
                graphs.save(boxes, path)
        say("data", f"{names.decode(work.name)}: {data}")
        return run.finish(run=counts)
