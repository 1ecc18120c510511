"""Collect requests to batches (15 minutes)

A network computes a batch faster than its images one by one, so a server may wait for more requests. A request that
arrives while no batch is open opens one. The batch is closed

    when it has `largest` requests, or
    `window` milliseconds after it was opened; a request that arrives exactly then still belongs to it.

`arrivals` are the times of the requests in ascending order. Return the batches as lists of request numbers 0, 1, ...

Check: python -m ch10_deploy.exercises 7
"""


def batches(arrivals: list[float], window: float, largest: int) -> list[list[int]]:
    """Times of the requests in ms, window in ms, largest number of requests of a batch -> batches"""
    raise NotImplementedError
