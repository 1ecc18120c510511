"""Sum a gradient over broadcast dimensions (10 minutes)

In y = a + b, a vector b of shape (3,) is broadcast to a matrix a of shape (2, 3): each b_j is used in both rows. So its
gradient is the sum of the gradients of both rows,

    dL/db_j = sum_i g_ij    with g = dL/dy.

In general an operand is broadcast if it lacks leading dimensions, or if it has size 1 where the result has another
size. Return the gradient with respect to an operand of the given shape.

Check: python -m ch01_graphs.exercises 1
"""

from torch import Tensor


def sum_to(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Gradient g with respect to the result, shape of the operand -> gradient with respect to the operand

    Do not use `Tensor.sum_to_size`, which does the same.
    """
    raise NotImplementedError
