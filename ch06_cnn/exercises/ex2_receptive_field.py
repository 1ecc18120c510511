"""Output size and receptive field (15 minutes)

Several convolutions follow each other. Along one axis, each has a kernel of size k, a stride s, and a padding of p
zeros on either side: `layers` lists (k, s, p) from the first layer to the last. For an image of n pixels along this
axis return two numbers:

    the size of the last output,
    the receptive field: the number of pixels from the first to the last one on which an element of the last output
    depends. The padding counts as pixels, so the border does not matter.

Check: python -m ch06_cnn.exercises 2
"""


def output_and_field(n: int, layers: list[tuple[int, int, int]]) -> tuple[int, int]:
    """Pixels of an axis, (kernel, stride, padding) of each layer -> size of the output, receptive field"""
    raise NotImplementedError
