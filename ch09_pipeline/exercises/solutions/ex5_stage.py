"""Solution: results of this run only.

The function kept the results of files that had been removed, and did not look at files that had changed. If nothing is
taken from the last run, the result depends on the inputs only. What need not be computed again is decided outside, by
the checksums of the inputs.
"""


def prepare(inputs: dict[str, str], folder: dict[str, int]) -> dict[str, int]:  # noqa: ARG001
    """Texts of the input files by name, old results by name -> results by name"""
    return {name: len(text.splitlines()) for name, text in inputs.items()}
