"""Solution: a window that starts with the first request.

If the window started again with each request, a steady stream of requests would let the first one wait until the batch
is full. So a request waits for at most `window` ms.
"""


def batches(arrivals: list[float], window: float, largest: int) -> list[list[int]]:
    """Times of the requests in ms, window in ms, largest number of requests of a batch -> batches"""
    found: list[list[int]] = []
    for number, time in enumerate(arrivals):
        if found and len(found[-1]) < largest and time <= arrivals[found[-1][0]] + window:
            found[-1].append(number)
        else:
            found.append([number])
    return found
