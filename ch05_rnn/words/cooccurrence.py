"""Sparse co-occurrence counts of words, their mutual information, and word vectors by singular value decomposition.

Dimensions: N tokens, V vocabulary size, C cells that are not zero, D vector size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from common.device import widest_float
from common.progress import track

CONTEXT_POWER = 0.75
"""Exponent of the counts of context words in the mutual information."""

SMALL = 2_000
"""Number of words up to which the exact singular value decomposition is computed."""

OVERSAMPLED = 16
"""Number of additional singular values, which make the randomised decomposition more accurate."""


@dataclass(frozen=True)
class Counts:
    """Cells of the co-occurrence matrix X that are not zero, ordered by row and column."""

    rows: Tensor
    """(C,) int64, words i"""
    columns: Tensor
    """(C,) int64, context words j"""
    values: Tensor
    """(C,) float64, X_ij"""

    def __len__(self) -> int:
        return len(self.values)


def count_pairs(tokens: Tensor, line_numbers: Tensor, words: int, window: int) -> Counts:
    """(N,) tokens and their line numbers -> symmetric counts, in which a pair at distance d counts 1 / d

    Pairs do not cross lines (Pennington, Socher & Manning 2014, section 4.2). The pair i, j becomes the number i V + j,
    so that `unique`, which sorts the numbers, counts all pairs of one distance at once.
    """
    cells, weights = [tokens[:0]], [torch.zeros(0, dtype=torch.float64)]
    for distance in track(range(1, min(window, len(tokens) - 1) + 1), "counting pairs"):
        same_line = line_numbers[distance:] == line_numbers[:-distance]
        left, right = tokens[:-distance][same_line], tokens[distance:][same_line]
        for i, j in ((left, right), (right, left)):
            cell, counts = (i * words + j).unique(return_counts=True)
            cells.append(cell)
            weights.append(counts.double() / distance)
    cell, place = torch.cat(cells).unique(return_inverse=True)
    values = torch.zeros(len(cell), dtype=torch.float64).index_add_(0, place, torch.cat(weights))
    return Counts(cell // words, cell % words, values)


def positive_pmi(counts: Counts, words: int) -> Counts:
    """Return the positive pointwise mutual information of the cells, max(0, log p(i, j) / (p(i) p(j))).

    p(j) is proportional to count^0.75, so that pairs with rare context words do not dominate (Levy, Goldberg & Dagan
    2015, section 3.1).
    """
    total = torch.zeros(words, dtype=torch.float64).index_add_(0, counts.rows, counts.values)
    p_i, p_j = total / total.sum(), total**CONTEXT_POWER / (total**CONTEXT_POWER).sum()
    p_ij = counts.values / counts.values.sum()
    pmi = (p_ij / (p_i[counts.rows] * p_j[counts.columns])).log()
    positive = pmi > 0
    return Counts(counts.rows[positive], counts.columns[positive], pmi[positive])


def factorise(matrix: Counts, words: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """Return (V, D) vectors U sqrt(S), with the D largest singular values of the decomposition U S V^T of a matrix.

    Skip-gram with negative sampling factorises a similar matrix implicitly (Levy & Goldberg 2014). The decomposition of
    a large matrix is that of its product with random vectors (Halko, Martinsson & Tropp 2011).
    """
    rows, columns = matrix.rows.to(device), matrix.columns.to(device)
    values = matrix.values.to(rows.device, widest_float(rows.device))
    if words <= SMALL:
        dense = values.new_zeros(words, words)
        dense[rows, columns] = values
        u, s, _ = torch.linalg.svd(dense)
    else:
        with torch.sparse.check_sparse_tensor_invariants():
            sparse = torch.sparse_coo_tensor(torch.stack([rows, columns]), values, (words, words)).coalesce()
        u, s, _ = torch.svd_lowrank(sparse, q=min(words, size + OVERSAMPLED), niter=4)
    vectors = u[:, :size] * s[:size].sqrt()
    return F.pad(vectors, (0, size - vectors.shape[1])).float().cpu()
