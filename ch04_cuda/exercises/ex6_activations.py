"""Memory of the activations (15 minutes)

A multilayer perceptron has linear layers with `sizes[0]` inputs and `sizes[1]`, `sizes[2]`, ... outputs, and a ReLU
between two linear layers, not after the last one. For the backward pass autograd keeps

    the input of every linear layer, for the gradient of its weights,
    the output of every ReLU, for the sign of its input.

A tensor that is needed twice is kept once. Weights do not count. Return the bytes that a forward pass of B samples
keeps, with numbers of `size` bytes.

Check: python -m ch04_cuda.exercises 6
"""


def activation_bytes(sizes: list[int], batch: int, size: int) -> int:
    """Sizes of the layers, B, bytes of a number -> bytes of the kept activations"""
    raise NotImplementedError
