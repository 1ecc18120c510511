"""Solution: the inputs of all layers, each once.

The output of a ReLU is the input of the next linear layer, so one tensor serves both. The pre-activations need not be
kept, and nobody needs the output of the last layer (a loss does).
"""


def activation_bytes(sizes: list[int], batch: int, size: int) -> int:
    """Sizes of the layers, B, bytes of a number -> bytes of the kept activations"""
    return batch * size * sum(sizes[:-1])
