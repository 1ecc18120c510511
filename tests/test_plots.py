"""Figures: grids of images, and files that equal those of matplotlib itself."""

import numpy as np
import pytest
import torch
from PIL import Image

from common.drawing import plots, text_plots


def history():
    return [{"epoch": epoch, "train_loss": 1 / (epoch + 1), "valid_loss": 1 / (epoch + 2)} for epoch in range(9)]


FIGURES = {
    "curves": lambda: plots.curves(history(), {"loss": ["train_loss", "valid_loss"]}),
    "compared_curves": lambda: plots.compared_curves({"one": history(), "two": history()[:3]}, ["train_loss"]),
    "heat_map": lambda: plots.heat_map(torch.eye(4), [*"abcd"], [*"abcd"], rows="class", columns="guess"),
    "shades": lambda: plots.shades(torch.eye(3), [*"abc"], ["long", *"bc"], rows="r", columns="c", rings=[(0, 1)]),
    "bars": lambda: plots.bars(["one", "two"], [1.0, 2_000.0], title="rates", label="images/s"),
    "line_panels": lambda: plots.line_panels({"f": {"x": ([0, 1], [1, 2])}, "g": {"x": ([0, 1], [2, 1])}}, columns=2),
    "image_grid": lambda: plots.image_grid(torch.rand(4, 1, 8, 8), columns=2, row_names=["first", "second"]),
    "shaded_text": lambda: text_plots.shaded_text([*"some text"], {"unit 1": torch.linspace(-1, 1, 9)}, width=5),
    "shaded_words": lambda: text_plots.shaded_words([["a", "word"]], [torch.tensor([0.1, 0.9])], label="weight"),
}


@pytest.mark.figures
@pytest.mark.parametrize("name", FIGURES)
def test_files_equal_those_of_matplotlib(name, tmp_path):
    torch.manual_seed(0)
    FIGURES[name]().savefig(tmp_path / "expected.png")
    torch.manual_seed(0)
    plots.save(FIGURES[name](), tmp_path / "saved")
    expected, saved = (np.asarray(Image.open(tmp_path / file)) for file in ("expected.png", "saved"))
    np.testing.assert_array_equal(saved, expected)


def drawn(figure, path):
    """Return the pixels of a figure at 100 dots per inch."""
    figure.savefig(path, dpi=100)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_each_image_of_a_grid_is_in_its_cell(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
    images = torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 6, 6)
    pixels = drawn(plots.image_grid(images, columns=2, size=1.0), tmp_path / "grid.png")
    assert pixels.shape == (300, 200, 3)
    for number, colour in enumerate(colours):
        row, column = divmod(number, 2)
        cell = pixels[100 * row + 5 : 100 * row + 95, 100 * column + 5 : 100 * column + 95]
        assert (cell == colour).all()
    assert (pixels[205:, 105:] == 255).all(), "the sixth cell is empty"
    assert (pixels[:, 99:101] == 255).all(), "images do not touch"


def test_images_of_a_grid_are_upright_and_keep_their_proportions(tmp_path):
    image = torch.zeros(1, 3, 20, 40, dtype=torch.uint8)
    image[:, 0, :10, :20] = 255  # red, top left
    pixels = drawn(plots.image_grid(image, columns=1, size=2.0), tmp_path / "wide.png")
    red = (pixels == (255, 0, 0)).all(2).nonzero()
    assert red[0].max() < 100 and red[1].max() < 100
    inside = (pixels != 255).any(2).nonzero()
    height, width = (np.ptp(places) + 1 for places in inside)
    assert width == pytest.approx(2 * height, abs=2)
    assert width == pytest.approx(194, abs=2), "a cell without its gap"


@pytest.mark.parametrize("title", ["9 as 7", "a much longer title\n→ of two lines, which has to be small"])
def test_titles_stay_within_their_cells(title, tmp_path):
    images = torch.zeros(4, 1, 8, 8)
    pixels = drawn(plots.image_grid(images, columns=2, titles=[title, ""] * 2, size=1.0), tmp_path / "titles.png")
    written = (pixels[:, :, 0] < 200) & ~(pixels == 0).all(2)
    assert written[:, :100].any()
    assert not written[:, 102:].any(), "only the images of the left column have titles"
    assert (pixels[:, 98:102] == 255).all()
