"""Arguments for the cases of an exercise: small tensors that are easy to compute with by hand, fixed or random."""

from random import Random

import torch
from torch import Tensor


def vector(*values: float) -> Tensor:
    """Return a float64 vector."""
    return torch.tensor(values, dtype=torch.float64)


def single(*values: float) -> Tensor:
    """Return a float32 vector."""
    return torch.tensor(values, dtype=torch.float32)


def matrix(*rows: list[float]) -> Tensor:
    """Return a float64 matrix."""
    return torch.tensor(rows, dtype=torch.float64)


def flags(*values: int) -> Tensor:
    """Return a vector of booleans."""
    return torch.tensor(values, dtype=torch.bool)


def boolean_matrix(*rows: list[int]) -> Tensor:
    """Return a matrix of booleans."""
    return torch.tensor(rows, dtype=torch.bool)


def integers(generator: Random, *shape: int, low: int = -3, high: int = 3) -> Tensor:
    """Return a float64 tensor of random integers."""
    count = torch.Size(shape).numel()
    values = [generator.randint(low, high) for _ in range(count)]
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def sample_flags(generator: Random, size: int, probability: float = 0.3) -> Tensor:
    """Return a vector of random booleans."""
    return torch.tensor([generator.random() < probability for _ in range(size)])
