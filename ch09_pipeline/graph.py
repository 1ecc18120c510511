"""A picture of the pipeline: its jobs, what each hands on to which, and which of them are due.

    python -m ch09_pipeline.train graph

Jobs of a stage that stand at the same place are one box. Orange ones are due, white ones up to date.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ch09_pipeline import engine, repository, status
from ch09_pipeline.pipeline import list_names
from common.config import RunOptions
from common.files import read_json
from common.progress import say
from common.run import Run

if TYPE_CHECKING:
    import networkx as nx

NODE = re.compile(r'\s*(?P<number>\d+)\[label = "(?P<label>[^"]*)".*style="(?P<style>[^"]*)"')
EDGE = re.compile(r"\s*(?P<tail>\d+) -> (?P<head>\d+)$")


@dataclass(frozen=True)
class Config:
    """Which pipeline."""

    data: Path | None = None
    """Folder of batches that the pipeline was run on; by default the embedded shapes."""
    run: RunOptions = field(default_factory=RunOptions)


def read_jobs(lines: Iterable[str]) -> "nx.DiGraph":
    """Read the jobs that Snakemake writes in Graphviz's language; those that are up to date have dashed boxes."""
    import networkx as nx

    jobs = nx.DiGraph()
    for line in lines:
        if node := NODE.match(line):
            rule, _, wildcards = node["label"].partition("\\n")
            jobs.add_node(
                int(node["number"]), rule=rule, of=wildcards.partition(": ")[2], due="dashed" not in node["style"]
            )
        elif edge := EDGE.match(line):
            jobs.add_edge(int(edge["tail"]), int(edge["head"]))
    jobs.remove_nodes_from([number for number, job in jobs.nodes.items() if job["rule"] == "all"])
    for number, job in jobs.nodes.items():  # Snakemake names a variant only where it first appears
        trained = {
            jobs.nodes[before]["of"] for before in jobs.predecessors(number) if jobs.nodes[before]["rule"] == "train"
        }
        if job["rule"] == "evaluate" and len(trained) == 1:
            job["of"] = trained.pop()
    return jobs


def fold(jobs: "nx.DiGraph") -> "nx.DiGraph":
    """Make one box of the jobs of a stage that have the same neighbours and the same state, ready to be drawn."""
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
        names = sorted(jobs.nodes[number]["of"] for number in numbers)
        lines = [rule if len(numbers) == 1 else f"{rule}: {len(numbers)} jobs", *filter(None, [list_names(names)])]
        boxes.add_node(numbers[0], lines=[*lines, *["due"] * due], kind="gradient" if due else "operation")
    for tail, head in jobs.edges:
        boxes.add_edge(members[places[tail]][0], members[places[head]][0], backward=False)
    return boxes


def train(config: Config) -> dict[str, float]:
    """Draw the jobs of a pipeline that has run, as they stand now; return how many there are, and how many are due."""
    work = status.find_work(status.Config(config.data, config.run))
    from common import graphs

    jobs = read_jobs(engine.ask(work, "--dag", "dot"))
    boxes = fold(jobs)
    settings = read_json(work / engine.SETTINGS)
    batches, pictures = Path(settings["data"]).glob("[!.]*.bin"), repository.pictures(Path(settings["new"]))
    stages = {box: boxes.nodes[box]["lines"][0].partition(":")[0] for box in boxes}
    for name, stage, text in (
        ("data", "prepare", f"{len(list(batches))} batches"),
        ("new", "predict", f"{len(pictures)} pictures"),
    ):
        boxes.add_node(name, lines=[f"{name}: {text}"], kind="input")
        boxes.add_edges_from(((name, box) for box in stages if stages[box] == stage), backward=False)
    with Run.open(__name__, config) as run:
        for name in ("pipeline.png", "pipeline.dot"):
            with run.writing(name) as path:
                graphs.save(boxes, path)
        say("data", f"{work.name}: {settings['data']}")
        return run.finish(run={"jobs": len(jobs), "due": sum(job["due"] for job in jobs.nodes.values())})
