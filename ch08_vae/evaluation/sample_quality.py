"""Measures of generated images: Fréchet distance, precision, recall, sharpness, classes and confidence.

All except sharpness are computed with this chapter's digit classifier (classifier.py), most of them in the feature
space of its 256 hidden units. Published Fréchet distances use the features of Inception-v3, so they cannot be compared
with the values here. Compare only values for the same data set and number of images.

Generated images are compared with one half of the real test images. Two references are measured in the same way, with
the same number of images:

    real          the other half of the test images
    class_mean    the mean image of each class, repeated: blurred images without variety within a class

Sources: Heusel et al. (2017), GANs Trained by a Two Time-Scale Update Rule, section 3 (Fréchet distance);
Kynkäänniemi et al. (2019), Improved Precision and Recall Metric for Assessing Generative Models, section 2.

Dimensions: N and M images, P pixels (784), F features (256), K classes (10).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch08_vae.evaluation.classifier import accuracy, features, probabilities
from ch08_vae.preprocessing import CLASSES, flat
from common.data.images.image_set import ImageSet, Split

NEIGHBOURS = 3
"""The distance to the k-th nearest neighbour is the radius of an image's ball (k = 3 in Kynkäänniemi et al.)."""

COVERED = 0.01
"""A class is covered if it is predicted for at least this fraction of the samples."""

LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def symmetric_root(matrix: Tensor) -> Tensor:
    """(F, F) symmetric positive semi-definite -> its square root; negative eigenvalues are rounding errors"""
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    return (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.mT


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """(N, F), (M, F) features -> squared Fréchet distance of the Gaussians N(mu_a, S_a), N(mu_b, S_b) fitted to them

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), in float64 (Heusel et al., equation 6). The trace of the root
    is computed from a symmetric matrix, tr (S_a S_b)^(1/2) = tr (S_a^(1/2) S_b S_a^(1/2))^(1/2), which has the same
    eigenvalues. The formula also holds for a singular S (fewer images than features).
    """
    a, b = a.double(), b.double()
    (mu_a, cov_a), (mu_b, cov_b) = ((x.mean(0), x.mT.cov(correction=0)) for x in (a, b))
    root_a = symmetric_root(cov_a)
    trace_of_root = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0).sqrt().sum()
    return float((mu_a - mu_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * trace_of_root)


def neighbour_radii(points: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """(N, F) -> (N,) distance of each point to its k-th nearest neighbour among the other points"""
    k = min(k, len(points) - 1)
    # The smallest distance is that of the point to itself, so the k-th neighbour has the (k + 1)-th smallest.
    return torch.cat([torch.cdist(part, points).kthvalue(k + 1, dim=1).values for part in points.split(1_000)])


def share_inside(points: Tensor, manifold: Tensor, k: int = NEIGHBOURS) -> float:
    """(N, F) points, (M, F) manifold -> share of points inside the ball of at least one point of the manifold"""
    points, manifold = points.double(), manifold.double()
    radii = neighbour_radii(manifold, k)
    inside = [(torch.cdist(part, manifold) <= radii).any(1) for part in points.split(1_000)]
    return float(torch.cat(inside).double().mean())


def precision_and_recall(real: Tensor, generated: Tensor, k: int = NEIGHBOURS) -> tuple[float, float]:
    """(N, F) real, (M, F) generated features -> precision and recall (Kynkäänniemi et al., equations 1 and 2)

    Precision: share of generated images inside the ball of any real image. Recall: share of real images inside the ball
    of any generated image.
    """
    return share_inside(generated, real, k), share_inside(real, generated, k)


def laplacian_variance(images: Tensor) -> float:
    """(N, P) images -> mean over the images of the variance of their Laplacian"""
    edges = F.conv2d(images.view(-1, 1, 28, 28), LAPLACIAN.view(1, 1, 3, 3))
    return float(edges.flatten(1).var(1, correction=0).mean())


def sharpness(images: Tensor, real: Tensor) -> float:
    """(N, P) images, (M, P) real images -> variance of the Laplacian, relative to that of the real images"""
    return laplacian_variance(images) / laplacian_variance(real)


def covered_classes(probability: Tensor) -> int:
    """(N, K) class probabilities of samples -> number of classes with at least 1 % of the predictions"""
    predicted = probability.argmax(1)
    return int((predicted.bincount(minlength=CLASSES) >= COVERED * len(predicted)).sum())


def halves(split: Split) -> tuple[Tensor, Tensor]:
    """Return two halves of a split as (N, P) pixels: images 0, 2, 4 ... and 1, 3, 5 ... (a single image twice).

    The halves alternate because the writers of the second half of MNIST's test set differ from those of the first.
    """
    images = flat(split.pixels)
    count = max(1, len(images) // 2)
    return images[::2][:count], images[1::2] if len(images) > 1 else images


def sample_size(data: ImageSet) -> int:
    """Return the number of images to generate, which is that of one half of the test images."""
    return len(halves(data.test)[0])


def measure_samples(classifier: nn.Sequential, samples: Tensor, data: ImageSet) -> dict[str, float]:
    """Return the metrics of (N, P) generated images in [0, 1], compared with one half of the real test images."""
    real, _ = halves(data.test)
    of_real, of_samples = features(classifier, real), features(classifier, samples)
    precision, recall = precision_and_recall(of_real, of_samples)
    probability = probabilities(classifier, samples)
    return {
        "frechet_distance": frechet_distance(of_real, of_samples),
        "precision": precision,
        "recall": recall,
        "sharpness": sharpness(samples, real),
        "classes": float(covered_classes(probability)),
        "confidence": float(probability.amax(1).mean()),
    }


def class_means(split: Split, count: int) -> Tensor:
    """Return (count, P) mean images of the classes of a split, repeated in order."""
    images = flat(split.pixels)
    means = torch.stack([images[split.labels == label].mean(0) for label in split.labels.unique()])
    return means[torch.arange(count) % len(means)]


def measure_references(classifier: nn.Sequential, data: ImageSet) -> dict[str, dict[str, float]]:
    """Return the metrics of the held-out half of the real test images and of class-mean images."""
    _, held_out = halves(data.test)
    real = measure_samples(classifier, held_out, data)
    real["accuracy"] = accuracy(classifier, flat(data.test.pixels), data.test.labels)
    means = class_means(data.train, sample_size(data))
    return {"real": real, "class_mean": measure_samples(classifier, means, data)}
