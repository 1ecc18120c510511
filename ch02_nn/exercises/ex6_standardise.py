"""Find the bug: standardised columns (10 minutes)

Before training, each column of a table is standardised to (x - mean) / std with the mean and the standard deviation of
its known numbers. A missing number (NaN) becomes 0. A standard deviation of 0 is replaced by 1.

The function below is used in a cross-validation: `train` has the rows of the other folds, `test` those of the fold
whose error is estimated. This is not the error to expect on new rows. Why?

Check: python -m ch02_nn.exercises 6
"""

import torch
from torch import Tensor


def standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) training rows, (M, D) test rows -> both, standardised"""
    # Find the bug, then delete this comment.
    rows = torch.cat([train, test])
    mean = rows.nanmean(0)
    std = (rows - mean).square().nanmean(0).sqrt()
    std = torch.where(std == 0, 1, std)
    return ((train - mean) / std).nan_to_num(0), ((test - mean) / std).nan_to_num(0)
