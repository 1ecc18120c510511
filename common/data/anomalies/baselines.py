"""Baselines of anomaly detection: reconstruction error of PCA, isolation forest, amount of ink.

PCA and the forests are scikit-learn's, fitted to the images of the other classes. The number of components and the
number of trees have the highest mean AUROC over the held-out classes on the validation set.

Dimensions: N images, P pixels.
"""

import statistics
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from common.data.anomalies.held_out import anomalous, without
from common.data.images.image_set import ImageSet
from common.progress import track

COMPONENTS = (4, 8, 16, 32, 64, 128, 256)
"""Numbers of principal components to try."""

TREES = (50, 200)
"""Numbers of trees to try."""


class Baseline(Protocol):
    """A fitted baseline in several sizes."""

    sizes: Sequence[int]

    def scores(self, pixels: Tensor, size: int) -> Tensor:
        """(N, P) pixels -> (N,) scores; higher is more anomalous"""
        ...


class PrincipalComponents:
    """Mean squared error of the projection on the principal components of (N, P) training images."""

    sizes: Sequence[int] = COMPONENTS

    def __init__(self, pixels: Tensor) -> None:
        from sklearn.decomposition import PCA

        count = min(max(self.sizes), *pixels.shape)
        pca = PCA(count, svd_solver="covariance_eigh").fit(pixels.numpy())
        self.mean, self.components = (torch.from_numpy(part).float() for part in (pca.mean_, pca.components_))

    def scores(self, pixels: Tensor, size: int) -> Tensor:
        """(N, P) pixels -> (N,) mean squared error with `size` components"""
        centred = pixels - self.mean
        codes = centred @ self.components[:size].T
        return (centred - codes @ self.components[:size]).square().mean(1)


class IsolationForests:
    """Isolation forests (Liu, Ting & Zhou 2008): random trees isolate anomalies after few splits."""

    sizes: Sequence[int] = TREES

    def __init__(self, pixels: Tensor, seed: int) -> None:
        from sklearn.ensemble import IsolationForest

        self.forests = {
            size: IsolationForest(n_estimators=size, random_state=seed % 2**32).fit(pixels.numpy())
            for size in self.sizes
        }

    def scores(self, pixels: Tensor, size: int) -> Tensor:
        """(N, P) pixels -> (N,) anomaly scores between 0 and 1"""
        return -torch.from_numpy(self.forests[size].score_samples(pixels.numpy())).float()


def ink(pixels: Tensor) -> Tensor:
    """(N, P) pixels -> (N,) mean grey level, a score that needs no training"""
    return pixels.mean(1)


def grey(images: Tensor) -> Tensor:
    """(N, 1, H, W) uint8 -> (N, P) grey levels in [0, 1]"""
    return images.flatten(1).float().div(255)


def baseline_scores(
    data: ImageSet, classes: Sequence[int], seed: int
) -> tuple[dict[str, dict[int, Tensor]], dict[str, int]]:
    """Return the (N,) scores of the test images by method and held-out class, and the chosen size of each method."""
    from threadpoolctl import threadpool_limits

    fitted: dict[str, dict[int, Baseline]] = {"pca": {}, "forest": {}}
    valid, test = grey(data.valid.pixels), grey(data.test.pixels)
    scores: dict[str, dict[int, Tensor]] = {}
    chosen: dict[str, int] = {}
    with threadpool_limits(torch.get_num_threads()):  # scikit-learn uses all cores otherwise
        for label in track(classes, "baselines"):
            pixels = grey(without(data.train, label).pixels)
            fitted["pca"][label] = PrincipalComponents(pixels)
            fitted["forest"][label] = IsolationForests(pixels, seed)
        for method, baselines in fitted.items():
            chosen[method] = choose_size(data, baselines, valid)
            scores[method] = {label: baselines[label].scores(test, chosen[method]) for label in classes}
    return {**scores, "ink": {label: ink(test) for label in classes}}, chosen


def choose_size(data: ImageSet, baselines: dict[int, Baseline], valid: Tensor) -> int:
    """Return the size with the highest mean AUROC of the (N, P) validation images over the held-out classes."""
    from sklearn.metrics import roc_auc_score

    def auroc(label: int, size: int) -> float:
        scores = baselines[label].scores(valid, size)
        return float(roc_auc_score(anomalous(data.valid, label).numpy(), scores.numpy()))

    sizes = next(iter(baselines.values())).sizes
    return max(sizes, key=lambda size: statistics.fmean(auroc(label, size) for label in baselines))
