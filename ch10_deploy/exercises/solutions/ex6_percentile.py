"""Solution: a rank in whole numbers.

The rank, counted from 1, is q n / 100, rounded up. `math.ceil(q / 100 * n)` is wrong for q = 7 and n = 100, because
0.07 * 100 is slightly larger than 7 in floating point; whole numbers are exact. `numpy.percentile`, which the load test
uses, interpolates between two times instead.
"""


def percentile(times: list[float], q: int) -> float:
    """Times in any order, at least one; q -> q-th percentile"""
    rank = -(-q * len(times) // 100)
    return sorted(times)[rank - 1]
