"""Check of exercise 2: roofline of a matrix product."""

from collections.abc import Callable

from common.exercises.exercise import Arguments, Case, Exercise


def roofline_by_time(m: int, n: int, k: int, size: int, peak: float, bandwidth: float) -> tuple[float, float]:
    """Expected numbers: the longer one of computing and moving takes the time; count the operations in loops."""
    operations = sum(2 for _ in range(m) for _ in range(n) for _ in range(k))
    moved = size * sum(rows * columns for rows, columns in ((m, k), (k, n), (m, n)))
    seconds = max(operations / peak, moved / bandwidth)
    return operations / moved, operations / seconds


def wrong_roofline(
    *, per_product: int = 2, result: bool = True, sized: bool = True, bound: Callable[..., float] = min
) -> Callable[..., tuple[float, float]]:
    """Make a wrong function."""

    def wrong(m: int, n: int, k: int, size: int, peak: float, bandwidth: float) -> tuple[float, float]:
        intensity = per_product * m * n * k / ((size if sized else 1) * (m * k + k * n + m * n * result))
        return intensity, bound(peak, intensity * bandwidth)

    return wrong


def product(m: int, n: int, k: int, size: int = 4, peak: float = 100.0, bandwidth: float = 10.0) -> Arguments:
    """Arguments of the roofline."""
    return {"m": m, "n": n, "k": k, "size": size, "peak": peak, "bandwidth": bandwidth}


ROOFLINE = Exercise(
    file="ex2_roofline",
    function="roofline",
    reference=roofline_by_time,
    results=("the intensity", "the attainable rate"),
    cases=(
        Case(product(1, 1, 1, size=1), "one multiplication and one addition, three numbers of one byte"),
        Case(product(1, 1, 1, size=4), "three numbers of four bytes"),
        Case(product(2, 3, 1, size=1), "6 products, 12 operations; 2 + 3 numbers are read and 6 written"),
        Case(product(8, 8, 8, size=1, peak=10.0), "the peak rate is the smaller bound"),
        Case(product(8, 8, 8, size=1, bandwidth=0.1), "the bandwidth gives the smaller bound"),
    ),
    sample=lambda generator, size: product(
        *(generator.randint(1, 2 * size) for _ in range(3)),
        size=generator.choice([2, 4, 8]),
        peak=float(generator.choice([1, 10, 100])),
        bandwidth=float(generator.choice([1, 10])),
    ),
    hint="How many elements have the two matrices and the result? Each element of the result is a sum of K products.",
    mistakes={
        "a multiplication and an addition are two operations": wrong_roofline(per_product=1),
        "the result is written to memory as well": wrong_roofline(result=False),
        "the intensity is per byte, not per number": wrong_roofline(sized=False),
        "both bounds hold, so the smaller one is attainable": wrong_roofline(bound=max),
        "the second bound is intensity times bandwidth": wrong_roofline(bound=lambda peak, other: peak),  # noqa: ARG005
    },
)
