"""Check of exercise 2: output size and receptive field."""

from collections.abc import Callable
from random import Random

from common.exercises.exercise import Arguments, Case, Exercise

Layers = list[tuple[int, int, int]]


def counted(n: int, layers: Layers) -> tuple[int, int]:
    """Count the positions of each layer, and follow the inputs of output 0 back to the pixels."""
    for kernel, stride, padding in layers:
        n = len(range(-padding, n + padding - kernel + 1, stride))
    first = last = 0
    for kernel, stride, _ in reversed(layers):
        first, last = first * stride, last * stride + kernel - 1
    return n, last - first + 1


def wrong_count(
    *,
    own_stride: bool = False,
    strides: bool = True,
    product: bool = False,
    sides: int = 2,
    last: int = 1,
    ceil: bool = False,
) -> Callable[[int, Layers], tuple[int, int]]:
    """Make a wrong function."""

    def wrong(n: int, layers: Layers) -> tuple[int, int]:
        field = jump = 1
        for kernel, stride, padding in layers:
            n = (n + sides * padding - kernel + (stride - 1) * ceil) // stride + last
            jump *= stride if own_stride else 1
            field = field * kernel if product else field + (kernel - 1) * (jump if strides else 1)
            jump *= 1 if own_stride else stride
        return n, field

    return wrong


def sample_layers(generator: Random, size: int) -> Arguments:
    """Random layers on an axis that is long enough."""
    layers = []
    for _ in range(min(size, 3)):
        kernel = generator.randint(1, 4)
        layers.append((kernel, generator.randint(1, 3), generator.randint(0, kernel // 2)))
    return {"n": generator.randint(60, 80) if size > 1 else generator.randint(4, 9), "layers": layers}


RECEPTIVE_FIELD = Exercise(
    file="ex2_receptive_field",
    function="output_and_field",
    reference=counted,
    results=("the size of the output", "the receptive field"),
    cases=(
        Case({"n": 4, "layers": [(1, 1, 0)]}, "a kernel of one pixel changes nothing"),
        Case({"n": 5, "layers": [(3, 1, 0)]}, "three pixels fit at three positions"),
        Case({"n": 5, "layers": [(3, 1, 1)]}, "a padding of 1 on either side keeps the size"),
        Case({"n": 5, "layers": [(3, 2, 0)]}, "stride 2: the positions 0 and 2; the field is still the kernel"),
        Case({"n": 6, "layers": [(3, 2, 0)]}, "the window at 4 would need a pixel 6: two positions"),
        Case({"n": 9, "layers": [(3, 1, 0), (3, 1, 0)]}, "two layers: 3 + 2 pixels"),
        Case({"n": 9, "layers": [(3, 2, 1), (3, 1, 1)]}, "the second kernel moves in steps of two pixels: 3 + 2 * 2"),
        Case({"n": 20, "layers": [(2, 2, 0), (2, 2, 0), (3, 1, 0)]}, "after two strides of 2 a step is 4 pixels"),
    ),
    sample=sample_layers,
    hint=(
        "Draw two layers with kernel 3 and stride 2. How many pixels apart are neighbouring elements between the "
        "layers? Keep this distance in a variable: it is multiplied by each stride."
    ),
    mistakes={
        "the stride of a layer counts for the layers after it, not for itself": wrong_count(own_stride=True),
        "after a stride the elements are further apart, so the next kernel reaches further": wrong_count(strides=False),
        "kernels overlap: each one adds k - 1 steps; the sizes are not multiplied": wrong_count(product=True),
        "the padding is on both sides": wrong_count(sides=1),
        "the first position counts as well: floor((n + 2 p - k) / s) + 1": wrong_count(last=0),
        "a position that does not fit completely is left out: round down": wrong_count(ceil=True),
    },
)
