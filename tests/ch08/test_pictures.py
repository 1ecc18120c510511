"""The animation of the training, and the figures of a variational autoencoder."""

import numpy as np
import pytest
import torch
from PIL import Image

from ch08_vae import preprocessing as pixels
from ch08_vae.autoencoding import pictures
from ch08_vae.autoencoding.networks import VAE
from ch08_vae.film import Film
from common.drawing import plots

CPU = torch.device("cpu")


def frames(film) -> int:
    return film.n_frames


def test_the_film_restores_its_pages_and_writes_a_gif(tmp_path):
    film = Film(epochs=100, pages=3)
    assert film.epochs == {1, 10, 100}
    for epoch in range(1, 13):
        film.take(epoch, lambda epoch=epoch: torch.full((20, 784), epoch / 100))
    restored = Film(epochs=100, pages=3)
    restored.load_state_dict(film.state_dict())
    assert list(restored.pages) == [1, 10]
    names, images = restored.first_rows(2)
    assert names == ["epoch 1", "epoch 10"]
    assert images.shape == (20, 1, 28, 28)
    assert float(images[10].max()) == pytest.approx(0.1, abs=0.01)
    restored.write(tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as written:
        assert frames(written) == 2
        assert written.size == (600, 16 + 120)
        assert written.info["loop"] == 0
        written.seek(1)
        frame = torch.from_numpy(np.array(written.convert("L")))
        assert abs(int(frame[46, 30]) - 26) <= 2  # 0.1 * 255, in the centre of the first image


def test_film_pages_use_the_same_images_and_latent_samples(digits):
    torch.manual_seed(0)
    x = pixels.fixed(digits.valid.pixels[:10], "dynamic")
    model = VAE(3, hidden=(8,))
    one, two = pictures.film_page(model, x, None), pictures.film_page(model, x, None)
    assert one.shape == (50, 784)
    assert torch.equal(one, two)
    assert torch.equal(one[:10], x)
    torch.testing.assert_close(one[10:20], model.decode(model.encode(x)[0]).sigmoid().detach())
    assert pictures.film_page(model, x[:4], None).shape == (50, 784)


def test_the_axes_of_the_latent_plane(monkeypatch):
    """The first unit increases to the right, the second upwards; tiles are equally probable under the prior."""
    model, seen = VAE(2), {}
    monkeypatch.setattr(
        pictures, "decoded", lambda model, z, condition=None: seen.setdefault("z", z)[:, :1].repeat(1, 784)
    )
    pictures.draw_manifold(model, CPU, edge=5)
    z = seen["z"].view(5, 5, 2)
    assert bool((z[:, 1:, 0] > z[:, :-1, 0]).all())
    assert bool((z[1:, :, 1] < z[:-1, :, 1]).all())
    probability = torch.special.ndtr(z[0, :, 0])
    torch.testing.assert_close(probability, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    torch.testing.assert_close(z[2, 2], torch.zeros(2), rtol=0, atol=1e-6)


def test_a_traversal_varies_one_unit_per_row_in_order_of_kl(monkeypatch):
    model, seen = VAE(3), {}
    monkeypatch.setattr(
        pictures, "decoded", lambda model, z, condition=None: seen.setdefault("z", z)[:, :1].repeat(1, 784)
    )
    mu = torch.tensor([[0.5, 0.6, 0.7]])
    pictures.draw_traversal(model, None, mu, torch.tensor([0.1, 3.0, 1.0]))
    z = seen["z"].view(3, 11, 3)
    for row, unit in enumerate((1, 2, 0)):
        torch.testing.assert_close(z[row, :, unit], torch.linspace(-3, 3, 11))
        others = [other for other in range(3) if other != unit]
        torch.testing.assert_close(z[row][:, others], mu[:, others].expand(11, 2))


def test_positions_of_the_tiles_of_a_mosaic():
    images = torch.arange(6).view(6, 1, 1, 1).expand(6, 1, 4, 4) / 10
    (axes,) = plots.mosaic(images, columns=3, row_names=["a", "b"], title="t").axes
    sheet = np.asarray(axes.images[0].get_array())
    assert sheet.shape == (9, 14)
    assert sheet[0, 0] == 0
    assert sheet[0, 5] == pytest.approx(0.1)
    assert sheet[8, 13] == pytest.approx(0.5)
    assert sheet[4, 0] == 1, "no white line between the rows"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_a_latent_space_of_many_units_is_projected_to_its_principal_components(digits, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "scatter", lambda points, *_, **__: drawn.append(points))
    mu = torch.randn(len(digits.test), 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5, 2, 3, 4])
    pictures.draw_latent(digits, mu)
    centred = (mu - mu.mean(0)).double()
    _, eigenvectors = torch.linalg.eigh(centred.T @ centred)  # ascending
    expected = centred @ eigenvectors.flip(1)[:, :2]
    torch.testing.assert_close(drawn[0].double().abs(), expected.abs(), rtol=1e-4, atol=1e-4)
