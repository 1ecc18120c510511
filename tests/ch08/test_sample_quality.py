"""Metrics of generated images, compared with scipy, closed forms and values computed by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from ch08_vae import preprocessing
from ch08_vae.evaluation import sample_quality
from ch08_vae.evaluation.classifier import fit_classifier
from common.data.images.loading import load_images


def gaussian(mean, deviations, count=2_000):
    """Return points with exactly the given sample mean and standard deviations, uncorrelated."""
    points = torch.randn(count, len(mean), dtype=torch.float64)
    points = points - points.mean(0)
    points = points @ torch.linalg.inv(torch.linalg.cholesky(points.mT.cov(correction=0))).mT
    return torch.tensor(mean, dtype=torch.float64) + points * torch.tensor(deviations, dtype=torch.float64)


@pytest.mark.parametrize(("count", "width"), [(500, 12), (12, 30)])
def test_frechet_distance_equals_the_formula_with_scipys_matrix_root(count, width):
    """Full covariances; in the second case they are singular (fewer points than features)."""
    torch.manual_seed(0)
    a = torch.randn(count, width, dtype=torch.float64) @ torch.randn(width, width, dtype=torch.float64)
    b = torch.randn(count, width, dtype=torch.float64) @ torch.randn(width, width, dtype=torch.float64) + 1
    cov_a, cov_b = a.mT.cov(correction=0), b.mT.cov(correction=0)
    if count < width:
        eigenvalues = np.linalg.eigvals((cov_a @ cov_b).numpy())
        root = float(np.sqrt(eigenvalues.real.clip(min=0)).sum())
    else:
        root = float(np.trace(np.real(scipy.linalg.sqrtm((cov_a @ cov_b).numpy()))))
    expected = float((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace()) - 2 * root
    assert sample_quality.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert sample_quality.frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_known_gaussians():
    """With diagonal covariances it is |mu_a - mu_b|^2 + sum (sigma_a - sigma_b)^2."""
    torch.manual_seed(0)
    a, b = gaussian([0.0, 1.0, 2.0], [1.0, 2.0, 3.0]), gaussian([3.0, 1.0, -2.0], [1.0, 5.0, 0.5])
    assert sample_quality.frechet_distance(a, b) == pytest.approx(9 + 16 + 9 + 6.25)
    assert sample_quality.frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-9)
    assert sample_quality.frechet_distance(a, a + 2) == pytest.approx(12)


def test_frechet_distance_of_single_images_is_that_of_their_features():
    a, b = torch.zeros(1, 4), torch.full((1, 4), 2.0)
    assert sample_quality.frechet_distance(a, b) == pytest.approx(16)
    assert sample_quality.frechet_distance(a, a) == 0


def points_on_a_line(*places):
    return torch.tensor(places).unsqueeze(1)


def test_precision_and_recall_by_hand():
    """Points on a line and k = 1, where the radius is the distance to the nearest other point."""
    real = points_on_a_line(0.0, 1.0, 10.0, 12.0)  # radii 1, 1, 2, 2: covers [-1, 2] and [8, 14]
    generated = points_on_a_line(0.5, 1.75, 3.0, 20.0, 21.0)  # radii 1.25, 1.25, 1.25, 1, 1: [-0.75, 4.25], [19, 22]
    precision, recall = sample_quality.precision_and_recall(real, generated, k=1)
    assert precision == pytest.approx(2 / 5), "0.5 and 1.75 are inside the balls of real images"
    assert recall == pytest.approx(2 / 4), "0 and 1 are inside the balls of generated images"


def test_the_radius_is_the_distance_to_the_third_other_point():
    points = points_on_a_line(0.0, 1.0, 3.0, 7.0, 20.0)
    assert sample_quality.neighbour_radii(points).tolist() == [7, 6, 4, 7, 19]
    assert sample_quality.neighbour_radii(points[:2]).tolist() == [1, 1], (
        "with fewer points, the distance to the farthest"
    )
    assert sample_quality.neighbour_radii(points[:1]).tolist() == [0]


def test_precision_and_recall_do_not_depend_on_the_chunks():
    torch.manual_seed(0)
    real, generated = torch.randn(2_300, 4), 1.5 * torch.randn(1_100, 4)
    precision, recall = sample_quality.precision_and_recall(real, generated)
    radii = [torch.cdist(x, x).double().sort(dim=1).values[:, 3] for x in (real, generated)]
    distance = torch.cdist(generated, real).double()
    assert precision == pytest.approx(float((distance <= radii[0]).any(1).double().mean()), abs=0.002)
    assert recall == pytest.approx(float((distance.mT <= radii[1]).any(1).double().mean()), abs=0.002)
    assert precision < recall - 0.05


def test_collapse_decreases_recall_and_noise_decreases_precision():
    torch.manual_seed(0)
    real = torch.randn(500, 3)
    collapsed, noisy = 0.05 * torch.randn(500, 3), 8 * torch.randn(500, 3)
    precision, recall = sample_quality.precision_and_recall(real, collapsed)
    assert precision == 1
    assert recall < 0.05
    precision, recall = sample_quality.precision_and_recall(real, noisy)
    assert precision < 0.2
    assert recall > 0.9


def test_laplacian_variance_by_hand():
    """One bright pixel: the Laplacian is -4 there and 1 at four neighbours; a linear ramp has none."""
    images = torch.zeros(2, 28, 28)
    images[0, 14, 14] = 1
    images[1] = torch.arange(28) / 28
    expected = (16 + 4) / 26**2 / 2  # the mean of the Laplacian is 0; the second image contributes 0
    assert sample_quality.laplacian_variance(images.flatten(1)) == pytest.approx(expected, rel=1e-5)


def test_blurred_images_are_less_sharp(digits):
    images = preprocessing.flat(digits.test.pixels)
    blurred = nn.functional.avg_pool2d(images.view(-1, 1, 28, 28), 5, stride=1, padding=2).flatten(1)
    assert sample_quality.sharpness(images, images) == 1
    assert sample_quality.sharpness(images / 2, images) == pytest.approx(0.25)
    assert sample_quality.sharpness(blurred, images) < 0.5
    assert sample_quality.sharpness(images, blurred) > 2


def test_a_class_is_covered_from_one_percent_of_the_predictions():
    predicted = torch.tensor([0] * 195 + [4] * 3 + [7] * 2)  # 97.5, 1.5 and 1 %
    probability = nn.functional.one_hot(predicted, 10).float()
    assert sample_quality.covered_classes(probability) == 3
    assert sample_quality.covered_classes(torch.cat([probability, probability[:1]])) == 2


def test_the_halves_alternate_and_do_not_overlap(digits):
    first, second = sample_quality.halves(digits.test[:7])
    pixels = preprocessing.flat(digits.test.pixels)
    assert torch.equal(first, pixels[[0, 2, 4]])
    assert torch.equal(second, pixels[[1, 3, 5]])
    first, second = sample_quality.halves(digits.test[:1])
    assert torch.equal(first, pixels[:1])
    assert torch.equal(second, pixels[:1])


def test_references_are_measured_like_samples(digits):
    classifier = fit_classifier(digits, torch.device("cpu"))
    state = torch.get_rng_state()
    references = sample_quality.measure_references(classifier, digits)
    assert torch.equal(state, torch.get_rng_state())
    real, means = references["real"], references["class_mean"]
    first, second = sample_quality.halves(digits.test)
    assert len(first) == len(second) == sample_quality.sample_size(digits)
    samples = sample_quality.measure_samples(classifier, second, digits)
    assert samples.items() <= real.items()
    assert real["accuracy"] > 0.95
    assert means["confidence"] > 0.95, "class means have a high confidence"
    assert means["frechet_distance"] > 2 * real["frechet_distance"], "but a larger Fréchet distance"
    assert means["recall"] < 0.1 < 0.7 < real["recall"], "a recall near 0"
    assert means["sharpness"] < 0.8 < real["sharpness"] < 1.2, "and a lower sharpness"


def test_class_means_repeat_the_classes_in_order(digits):
    means = sample_quality.class_means(digits.train, 23)
    images = preprocessing.flat(digits.train.pixels)
    torch.testing.assert_close(means[13], images[digits.train.labels == 3].mean(0))
    assert torch.equal(means[:3], means[20:])
    few = replace(digits, train=digits.train[(digits.train.labels > 7).nonzero().flatten()])
    assert torch.equal(sample_quality.class_means(few.train, 3), means[[8, 9, 8]])


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_metrics_of_few_images_are_finite(limit):
    data = load_images("digits", limit=limit)
    classifier = fit_classifier(data, torch.device("cpu"))
    for measures in sample_quality.measure_references(classifier, data).values():
        assert all(math.isfinite(value) for value in measures.values())
