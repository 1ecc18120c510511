"""Check of exercise 7: find the bug: a variance without significant digits."""

from common.exercises.arguments import integers, single
from common.exercises.exercise import Case, Exercise

VARIANCE = Exercise(
    file="ex7_variance",
    function="variance",
    reference=lambda x: x.double().var(correction=0).float(),
    tolerance=1e-3,
    cases=(
        Case({"x": single(1, 2, 3)}, "small numbers"),
        Case({"x": single(10_000, 10_001, 10_002)}, "the same numbers plus 9,999 have the same variance"),
        Case({"x": single(20_003, 20_003, 20_003)}, "equal numbers have the variance 0"),
        Case({"x": single(-30_001, -30_000, -29_999)}, "negative numbers"),
    ),
    sample=lambda generator, size: {"x": integers(generator, size + 1).float() + 10_000 * generator.randint(-2, 2)},
    sample_note="numbers with a large mean and a small variance",
    hint="Which numbers cancel in mean(x^2) - mean(x)^2? The variance does not change if the same number is subtracted "
    "from every element: subtract one before squaring.",
    mistakes={
        "the two large means cancel: their leading digits agree, and float32 has only seven": lambda x: (
            (x * x).mean() - x.mean() ** 2
        ),
        "divide by N, not by N - 1": lambda x: (x - x.mean()).square().sum() / (len(x) - 1),
        "this is the standard deviation, the root of the variance": lambda x: (x - x.mean()).square().mean().sqrt(),
    },
)
