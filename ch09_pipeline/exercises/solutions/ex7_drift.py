"""Solution: shares instead of counts.

The function compared counts, so a small batch differed from a large data set even with equal shares. Divide each count
by the sum of its own batch first.
"""


def drift(training: list[int], new: list[int]) -> float:
    """Images per class in the training data, images per class in the new batch (neither is empty) -> distance"""
    pairs = zip(training, new, strict=True)
    return sum(abs(p / sum(training) - q / sum(new)) for p, q in pairs) / 2
