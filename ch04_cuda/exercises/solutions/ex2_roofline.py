"""Solution: count operations and bytes, take the smaller bound.

The operations grow with the cube of the size, the bytes with its square: large products are bounded by the peak rate,
products with a thin matrix by the bandwidth.
"""


def roofline(m: int, n: int, k: int, size: int, peak: float, bandwidth: float) -> tuple[float, float]:
    """M, N, K, bytes of a number, operations per second, bytes per second -> intensity, attainable rate"""
    intensity = 2 * m * n * k / (size * (m * k + k * n + m * n))
    return intensity, min(peak, intensity * bandwidth)
