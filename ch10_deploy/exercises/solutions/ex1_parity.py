"""Solution: state what is accepted, not what is refused.

Every comparison with NaN is false, so `not worst > tolerance` is true. `max` is no help: it skips a NaN behind a
number, because the NaN is not larger. Requiring that each difference is at most the tolerance refuses NaN by itself.
"""


def accepted(exported: list[float], original: list[float], tolerance: float) -> bool:
    """Outputs of the export, outputs of the original, tolerance -> whether the export is accepted"""
    scale = max([1.0, *(abs(y) for y in original)])
    return all(abs(a - y) / scale <= tolerance for a, y in zip(exported, original, strict=True))
