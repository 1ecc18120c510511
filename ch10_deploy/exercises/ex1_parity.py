"""Find the bug: an export with NaN is accepted (10 minutes)

The outputs a_i of an exported network are compared with those of the original, y_i. The export is accepted if

    max_i |a_i - y_i| / max(1, max_i |y_i|) <= tolerance.

The original has finite outputs. The function below accepts an export whose only output is NaN. Why?

Check: python -m ch10_deploy.exercises 1
"""


def accepted(exported: list[float], original: list[float], tolerance: float) -> bool:
    """Outputs of the export, outputs of the original, tolerance -> whether the export is accepted"""
    # Find the bug, then delete this comment.
    worst = max(abs(a - y) for a, y in zip(exported, original, strict=True))
    scale = max([1.0, *(abs(y) for y in original)])
    return not worst / scale > tolerance
