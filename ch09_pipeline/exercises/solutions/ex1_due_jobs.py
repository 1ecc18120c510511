"""Solution: one pass in the order of the stages.

When a stage is reached, it is known which of its inputs are due: they are earlier in the order. So a set of everything
that has changed so far is enough. Snakemake finds the order from the names of inputs and outputs.
"""


def due_stages(stages: dict[str, list[str]], changed: set[str]) -> list[str]:
    """Inputs of each stage, names of changed files and stages -> names of the due stages"""
    due: list[str] = []
    for stage, inputs in stages.items():
        if any(name in changed or name in due for name in (stage, *inputs)):
            due.append(stage)
    return due
