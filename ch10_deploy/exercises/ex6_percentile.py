"""Find the bug: a percentile of latencies (10 minutes)

The q-th percentile of measured times is the smallest of them for which at least q % of all times are not larger. The
99th percentile of 1, 2, ..., 100 ms is 99 ms.

The function below returns 100 ms instead, and raises an error for q = 100. Correct it for all q = 1, 2, ..., 100 and
for any number of times.

Check: python -m ch10_deploy.exercises 6
"""


def percentile(times: list[float], q: int) -> float:
    """Times in any order, at least one; q -> q-th percentile"""
    # Find the bug, then delete this comment.
    return sorted(times)[int(len(times) * q / 100)]
