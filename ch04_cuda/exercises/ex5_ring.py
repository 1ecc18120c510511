"""One turn of a ring all-reduce (20 minutes)

N processes in a ring add their gradients. Each gradient is split into N parts. In turn t = 0, 1, ..., N - 2 all
processes send at the same time: process r sends its part (r - t) mod N to process (r + 1) mod N, which adds it to its
own part of this number. After N - 1 turns, process r has the sum of part (r + 1) mod N.

`parts[r][p]` is the current value of part p in process r (one number per part is enough here). Return the values after
turn t.

Check: python -m ch04_cuda.exercises 5
"""


def ring_turn(parts: list[list[float]], t: int) -> list[list[float]]:
    """Values of N parts in N processes before turn t -> values after it"""
    raise NotImplementedError
