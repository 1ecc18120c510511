"""Solution: each layer adds k - 1 steps of the strides before it.

Neighbouring elements of a layer's input are `jump` pixels apart, the product of all strides before. A kernel of size k
reaches k - 1 of these steps further. So the stride of a layer enlarges the receptive field of the layers after it, not
its own. The output has a position for each full stride that fits: floor((n + 2 p - k) / s) + 1.
"""


def output_and_field(n: int, layers: list[tuple[int, int, int]]) -> tuple[int, int]:
    """Pixels of an axis, (kernel, stride, padding) of each layer -> size of the output, receptive field"""
    field = jump = 1
    for kernel, stride, padding in layers:
        n = (n + 2 * padding - kernel) // stride + 1
        field += (kernel - 1) * jump
        jump *= stride
    return n, field
