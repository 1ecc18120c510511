"""Solution: each process sends one part and adds another one.

The parts that a process sends and receives in the same turn are different, so the order of the senders does not matter.
`ring_average` in `data_parallel.py` does the same with tensors, then passes the sums on in
N - 1 further turns: 2 (N - 1) parts of 1/N of the gradient are sent.
"""


def ring_turn(parts: list[list[float]], t: int) -> list[list[float]]:
    """Values of N parts in N processes before turn t -> values after it"""
    count = len(parts)
    after = [list(values) for values in parts]
    for sender in range(count):
        part = (sender - t) % count
        after[(sender + 1) % count][part] += parts[sender][part]
    return after
