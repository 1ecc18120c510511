"""Check of exercise 1: which stages are due."""

from random import Random

import networkx as nx

from common.exercises.exercise import Arguments, Case, Exercise

Stages = dict[str, list[str]]


def due_by_paths(stages: Stages, changed: set[str]) -> list[str]:
    """Expected stages: those that a path of the graph of inputs connects with a change."""
    graph = nx.DiGraph([(name, stage) for stage, inputs in stages.items() for name in inputs])
    graph.add_nodes_from([*stages, *changed])
    return [stage for stage in stages if changed & ({stage} | nx.ancestors(graph, stage))]


def direct_only(stages: Stages, changed: set[str]) -> list[str]:
    """Typical mistake: stages whose own inputs or code have changed."""
    return [stage for stage, inputs in stages.items() if changed & {stage, *inputs}]


def without_code(stages: Stages, changed: set[str]) -> list[str]:
    """Typical mistake: a change of a stage's code does not count."""
    due: list[str] = []
    for stage, inputs in stages.items():
        if any(name in changed - set(stages) or name in due for name in inputs):
            due.append(stage)
    return due


def all_after(stages: Stages, changed: set[str]) -> list[str]:
    """Typical mistake: all stages after the first due one."""
    due = due_by_paths(stages, changed)
    order = list(stages)
    return order[order.index(due[0]) :] if due else []


def later_only(stages: Stages, changed: set[str]) -> list[str]:
    """Typical mistake: a stage whose code has changed is left out, the stages after it are not."""
    return [stage for stage in due_by_paths(stages, changed) if stage not in changed]


def sample_stages(generator: Random, size: int) -> Arguments:
    """Random stages with one or two inputs among two files and the earlier stages."""
    names = ["file-1", "file-2"]
    stages = {}
    for number in range(size):
        stages[f"stage-{number}"] = sorted(set(generator.choices(names, k=2)))
        names.append(f"stage-{number}")
    return {"stages": stages, "changed": {generator.choice(names)}}


PIPELINE = {"prepare": ["batches"], "train": ["prepare"], "test": ["images"], "publish": ["train", "test"]}

DUE_JOBS = Exercise(
    file="ex1_due_jobs",
    function="due_stages",
    reference=due_by_paths,
    cases=(
        Case({"stages": {"train": ["data"]}, "changed": set()}, "nothing has changed"),
        Case({"stages": {"train": ["data"]}, "changed": {"data"}}, "an input has changed"),
        Case({"stages": {"train": ["data"]}, "changed": {"train"}}, "the code of the stage has changed"),
        Case({"stages": {"prepare": ["data"], "train": ["prepare"]}, "changed": {"data"}}, "an input is a due stage"),
        Case({"stages": PIPELINE, "changed": {"images"}}, "`prepare` and `train` do not depend on the images"),
        Case({"stages": PIPELINE, "changed": {"prepare"}}, "`test` does not depend on `prepare`"),
    ),
    sample=sample_stages,
    hint=(
        "Go through the stages in order, and keep the due ones in a list. Which two places must be searched for an "
        "input?"
    ),
    mistakes={
        "a stage is due as well if one of its inputs is a stage that is due": direct_only,
        "a stage whose code has changed is due": without_code,
        "a stage whose code has changed is due itself, not only the stages after it": later_only,
        "stages that do not depend on the change are not due": all_after,
    },
)
