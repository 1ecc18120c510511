"""Which stages are due (10 minutes)

`stages` lists the stages of a pipeline in an order in which they can run: for each stage the names of its inputs, which
are files or earlier stages. If the content of some files or the code of some stages has changed, a stage is due if

    its own code has changed, or one of its inputs has changed, or one of its inputs is a stage that is due.

Return the names of the due stages in the order of `stages`.

Check: python -m ch09_pipeline.exercises 1
"""


def due_stages(stages: dict[str, list[str]], changed: set[str]) -> list[str]:
    """Inputs of each stage, names of changed files and stages -> names of the due stages"""
    raise NotImplementedError
