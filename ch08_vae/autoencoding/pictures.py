"""Figures of a variational autoencoder: samples, reconstructions, interpolations, traversals, latent space.

Dimensions: N images, P pixels (784), Z latent units, K classes (10).
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ch08_vae.autoencoding.networks import VAE, kl_divergence
from ch08_vae.evaluation.likelihood import decoded, posterior
from ch08_vae.film import ROW, Film
from ch08_vae.preprocessing import CLASSES, flat
from common.data.images.image_set import ImageSet
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def classes_in_turn(rows: int, model: VAE, device: torch.device | str = "cpu") -> Tensor | None:
    """Return (rows * K, K) one-hot classes, one class per column of the figure, or None for an unconditional model."""
    return (
        F.one_hot(torch.arange(rows * CLASSES, device=device) % CLASSES, CLASSES).float() if model.conditional else None
    )


def film_page(model: VAE, x: Tensor, classes: Tensor | None) -> Tensor:
    """Return a page of the animation: the first ten of (N, P) images, their reconstructions, samples from fixed z."""
    x, classes = x[:ROW], None if classes is None else classes[:ROW]
    z = torch.randn(3 * ROW, model.latent_size, generator=torch.Generator().manual_seed(0))
    mu, _ = posterior(model, x, classes)
    reconstructions = decoded(model, mu, classes)
    samples = decoded(model, z.to(x.device), classes_in_turn(3, model, x.device))
    padding = x.new_zeros(ROW - len(x), x.shape[1]).cpu()  # if the validation set has fewer than ten images
    return torch.cat([x.cpu(), padding, reconstructions, padding, samples])


def report(
    run: Run,
    data: ImageSet,
    model: VAE,
    film: Film,
    x: Tensor,
    classes: Tensor | None,
    posteriors: tuple[Tensor, Tensor],
) -> None:
    """Draw all figures of a run, and write the animation of the training."""
    from common.drawing import plots

    mu, logvar = posteriors
    kl = kl_divergence(mu, logvar).mean(0)
    run.figure("samples", draw_samples(model, mu.device))
    run.figure("reconstructions", draw_reconstructions(model, data.test.pixels[:ROW], x[:ROW], classes, mu))
    if len(mu) > 1:
        run.figure("interpolation", draw_interpolation(model, data.test.labels, classes, mu))
    run.figure("traversal", draw_traversal(model, classes, mu, kl))
    if model.latent_size == 2:
        run.figure("manifold", draw_manifold(model, mu.device))
    if len(mu) > 1 and model.latent_size > 1:
        run.figure("latent", draw_latent(data, mu))
    names = [f"unit {number}" for number in range(model.latent_size)]
    run.figure(
        "units", plots.bars(names, kl.tolist(), title="KL divergence of each latent unit", label="nats per image")
    )
    if "valid_elbo" in run.history[0]:
        panels = {"ELBO, nats per image": ["valid_elbo"]}
    else:
        panels = {"loss on grey levels": ["valid_grey_loss"]}
    panels["KL divergence, nats per image"] = ["valid_kl"]
    run.figure("curves", plots.curves(run.history, panels))
    with run.writing("training.gif") as path:
        film.write(path)


def tiles(images: Tensor) -> Tensor:
    """(N, P) -> (N, 1, 28, 28) on the CPU"""
    return images.cpu().view(-1, 1, 28, 28)


def draw_samples(model: VAE, device: torch.device | str) -> "Figure":
    """Draw 100 decoded samples of the prior; with a conditional model, one class per column."""
    from common.drawing import plots

    z = torch.randn(ROW * ROW, model.latent_size, device=device)
    samples = decoded(model, z, classes_in_turn(ROW, model, device))
    return plots.mosaic(tiles(samples), columns=ROW, title="decoded samples of the prior, z ~ N(0, I)")


def draw_reconstructions(model: VAE, images: Tensor, x: Tensor, classes: Tensor | None, mu: Tensor) -> "Figure":
    """Draw images, the binarised inputs of the encoder, and the decoded posterior means."""
    from common.drawing import plots

    reconstructions = decoded(model, mu[: len(x)], None if classes is None else classes[: len(x)])
    rows = torch.cat([tiles(flat(images)), tiles(x), tiles(reconstructions)])
    return plots.mosaic(rows, columns=len(x), row_names=["image", "input", "reconstruction"], size=0.6)


def path_between(start: Tensor, end: Tensor, steps: int = 11) -> Tensor:
    """(Z,), (Z,) -> (steps, Z) equally spaced points on the line between them, including both ends"""
    return torch.lerp(start, end, torch.linspace(0, 1, steps, device=start.device).unsqueeze(1))


def draw_interpolation(model: VAE, labels: Tensor, classes: Tensor | None, mu: Tensor, pairs: int = 6) -> "Figure":
    """Draw linear interpolations in the latent space, each between two test images of different classes."""
    from common.drawing import plots

    rows = []
    for start in range(pairs):
        others = (labels != labels[start]).nonzero().flatten() if start < len(labels) else labels[:0]
        if len(others):
            end = int(others[(7 * start + 1) % len(others)])
            condition = None if classes is None else path_between(classes[start], classes[end])
            rows.append(decoded(model, path_between(mu[start], mu[end]), condition))
    if not rows:  # all images have the same class
        rows = [decoded(model, path_between(mu[0], mu[1]), None if classes is None else classes[:1].repeat(11, 1))]
    return plots.mosaic(tiles(torch.cat(rows)), columns=11, title="interpolation between test images", size=0.5)


def draw_traversal(model: VAE, classes: Tensor | None, mu: Tensor, kl: Tensor) -> "Figure":
    """Draw the first test image with one latent unit varied from -3 to 3; one row per unit, by decreasing KL."""
    from common.drawing import plots

    steps = torch.linspace(-3, 3, 11, device=mu.device)
    order = kl.argsort(descending=True).tolist()
    z = mu[0].repeat(len(order), len(steps), 1)
    for row, unit in enumerate(order):
        z[row, :, unit] = steps
    condition = None if classes is None else classes[:1].repeat(len(order) * len(steps), 1)
    images = decoded(model, z.flatten(0, 1), condition)
    names = [f"unit {unit}: {float(kl[unit]):.2f} nats" for unit in order]
    values = [f"{round(value, 1) + 0.0:+.1f}" for value in steps.tolist()]  # + 0.0 turns -0.0 into 0.0
    return plots.mosaic(tiles(images), columns=len(steps), row_names=names, column_names=values, size=0.5)


def draw_manifold(model: VAE, device: torch.device | str, edge: int = 20) -> "Figure":
    """Draw decoded points of the plane of two latent units, at equally spaced quantiles of the prior."""
    from common.drawing import plots

    quantiles = torch.linspace(0.5 / edge, 1 - 0.5 / edge, edge, device=device)
    across = torch.special.ndtri(quantiles)
    z = torch.stack(torch.meshgrid(-across, across, indexing="ij"), dim=2).flip(2).flatten(0, 1)  # (edge^2, 2)
    condition = None
    if model.conditional:
        condition = F.one_hot(torch.full((len(z),), 3, device=device), CLASSES).float()
    title = "decoded points of the latent plane" + ", class 3" * model.conditional
    return plots.mosaic(tiles(decoded(model, z, condition)), columns=edge, title=title, size=0.34)


def draw_latent(data: ImageSet, mu: Tensor, shown: int = 3_000) -> "Figure":
    """Draw the latent means of test images, coloured by class; with more than two units, two principal components."""
    from sklearn.decomposition import PCA

    from common.drawing import plots

    points, title = mu[:shown].cpu(), f"latent means of {min(shown, len(mu)):,} test images"
    if points.shape[1] > 2:
        points = torch.from_numpy(PCA(2, svd_solver="full").fit_transform(points.numpy()))
        title += ", two principal components"
    return plots.scatter(points, data.test.labels[:shown], data.class_names, title=title)
