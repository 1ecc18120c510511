"""Roofline of a matrix product (10 minutes)

A product of a matrix of shape (M, K) and one of shape (K, N) takes M N K multiplications and as many additions. It
reads both matrices and writes the result, once each; a number has `size` bytes. Return

    the arithmetic intensity, in operations per byte,
    the attainable rate in operations per second, min(peak rate, intensity * bandwidth).

Check: python -m ch04_cuda.exercises 2
"""


def roofline(m: int, n: int, k: int, size: int, peak: float, bandwidth: float) -> tuple[float, float]:
    """M, N, K, bytes of a number, operations per second, bytes per second -> intensity, attainable rate"""
    raise NotImplementedError
