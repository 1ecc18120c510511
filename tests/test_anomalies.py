"""A held-out class, the baselines that detect it, and the figures of anomaly detection."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from common.data.anomalies import baselines
from common.data.anomalies.held_out import anomalous, require_classes, without
from common.data.images.image_set import ImageSet, Split
from common.data.images.loading import load_images
from common.drawing import anomaly_plots


@pytest.fixture(scope="module")
def small() -> ImageSet:
    return load_images("digits", limit=120)


def test_the_held_out_class_is_removed_and_marked():
    split = Split(torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1), torch.tensor([3, 1, 3, 0, 1]))
    rest = without(split, 3)
    assert rest.labels.tolist() == [1, 0, 1]
    assert rest.pixels.flatten().tolist() == [1, 3, 4]
    assert anomalous(split, 3).tolist() == [True, False, True, False, False]


def test_classes_that_cannot_be_held_out_are_rejected(small):
    require_classes(small, range(10))
    with pytest.raises(ValueError, match="--classes must be between 0 and 9, got 10"):
        require_classes(small, [3, 10])
    with pytest.raises(ValueError, match="--classes must be between 0 and 9, got -1"):
        require_classes(small, [-1])
    fours, others = small.test[small.test.labels == 4], small.test[small.test.labels != 4]
    rule = "--limit must leave test images of class 4 and of others, got"
    for test in (fours, others):
        with pytest.raises(ValueError, match=rule):
            require_classes(replace(small, test=test), [4])
    rule = "--limit must leave validation images of class 4 and of others, got"
    with pytest.raises(ValueError, match=rule):
        require_classes(replace(small, valid=others), [4])
    with pytest.raises(ValueError, match="--limit must leave 2 training images of other classes, got 4"):
        require_classes(replace(small, train=fours), [4])


def test_pca_scores_are_distances_from_the_span_of_the_largest_eigenvectors(small):
    pixels, other = baselines.grey(small.train.pixels), baselines.grey(small.test.pixels)
    pca = baselines.PrincipalComponents(pixels)
    mean = pixels.mean(0).double()
    _, vectors = torch.linalg.eigh((pixels - mean).T @ (pixels - mean))
    for size in (4, 32):
        kept = vectors[:, -size:]
        rest = (other - mean) - (other - mean) @ kept @ kept.T
        torch.testing.assert_close(pca.scores(other, size), rest.square().mean(1).float(), rtol=1e-3, atol=1e-6)
    assert float(pca.scores(pixels, 256).max()) < 1e-6, "120 images have at most 119 components"


def test_forest_scores_are_those_of_scikit_learn(small):
    pixels, other = baselines.grey(small.train.pixels), baselines.grey(small.test.pixels)
    forests = baselines.IsolationForests(pixels, seed=3)
    for size in baselines.TREES:
        forest = IsolationForest(n_estimators=size, random_state=3).fit(pixels.numpy())
        expected = -torch.from_numpy(forest.score_samples(other.numpy())).float()
        torch.testing.assert_close(forests.scores(other, size), expected)
    assert float(forests.scores(torch.ones(1, 784), 200)) > float(forests.scores(pixels, 200).mean())


def test_baselines_are_fitted_without_the_class_and_their_size_is_chosen_on_the_validation_set(small, monkeypatch):
    fitted = []

    class Watch(baselines.PrincipalComponents):
        def __init__(self, pixels):
            fitted.append(pixels)
            super().__init__(pixels)

    monkeypatch.setattr(baselines, "PrincipalComponents", Watch)
    monkeypatch.setattr(baselines, "TREES", (2, 5))
    monkeypatch.setattr(baselines.IsolationForests, "sizes", (2, 5))
    scores, chosen = baselines.baseline_scores(small, [1, 4], seed=0)
    for label, pixels in zip([1, 4], fitted, strict=True):
        assert torch.equal(pixels, baselines.grey(small.train.pixels[small.train.labels != label]))
    valid, test = baselines.grey(small.valid.pixels), baselines.grey(small.test.pixels)

    def mean_auroc(size):
        parts = [Watch(pixels).scores(valid, size) for pixels in fitted[:2]]
        return sum(roc_auc_score(small.valid.labels == k, s) for k, s in zip([1, 4], parts, strict=True))

    assert chosen["pca"] == max(baselines.COMPONENTS, key=mean_auroc)
    assert chosen["forest"] in (2, 5)
    expected = Watch(fitted[1]).scores(test, chosen["pca"])
    torch.testing.assert_close(scores["pca"][4], expected)
    assert torch.equal(scores["ink"][1], test.mean(1))
    assert {name: [*of_class] for name, of_class in scores.items()} == {
        name: [1, 4] for name in ("pca", "forest", "ink")
    }


class Fixed:
    """A baseline whose scores are perfect for one size, and reversed for the other."""

    sizes: Sequence[int] = (1, 2)

    def __init__(self, good: int) -> None:
        self.good = good

    def scores(self, pixels, size):
        return pixels[:, 0] if size == self.good else -pixels[:, 0]


def test_the_size_is_that_with_the_highest_mean_over_the_classes(small):
    labels = torch.tensor([1, 0, 1, 0])
    data = replace(small, valid=Split(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), labels))
    pixels = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    for good in (1, 2):
        assert baselines.choose_size(data, {1: Fixed(good)}, pixels) == good
    assert baselines.choose_size(data, {0: Fixed(1)}, pixels) == 2


def test_extremes_are_the_largest_and_the_smallest_scores(small, monkeypatch):
    drawn = {}
    monkeypatch.setattr(anomaly_plots.plots, "image_grid", lambda images, **words: drawn.update(words, images=images))
    test = small.test
    scores = {4: torch.arange(len(test)).float(), 7: -torch.arange(len(test)).float()}
    anomaly_plots.draw_extremes(test.pixels, test.labels, small.class_names, scores, rows=2)
    first, last = list(range(6)), list(range(len(test) - 6, len(test)))
    shown = [*last[::-1], *first[::-1], *first, *last]
    assert torch.equal(drawn["images"], test.pixels[shown])
    assert drawn["titles"][:12] == [f"[{k}]" if k == 4 else str(k) for k in test.labels[shown[:12]].tolist()]
    assert drawn["row_names"] == ["without 4", "without 7"]
    assert drawn["columns"] == 12


@pytest.mark.figures
def test_figures_are_drawn(small):
    test = small.test
    scores = dict.fromkeys(range(2), torch.rand(len(test)))
    anomaly_plots.draw_extremes(test.pixels, test.labels, small.class_names, scores)
    panels = {"a": (torch.rand(50), torch.rand(9)), "same": (torch.ones(5), torch.ones(2)), "c": (torch.rand(3),) * 2}
    bars: Any = anomaly_plots.draw_auroc(["1", "7"], {"pca": [0.3, 0.8], "forest": [0.2, 0.9]}).axes[0]
    assert [patch.get_height() for patch in bars.patches] == [0.3, 0.8, 0.2, 0.9]
    assert [round(patch.get_x() + patch.get_width() / 2, 2) for patch in bars.patches] == [-0.21, 0.79, 0.21, 1.21]
    figure = anomaly_plots.draw_histograms(panels, label="score")
    assert [axes.get_title() for axes in figure.axes] == ["a", "same", "c", ""]
