"""Every data set as a `torch.utils.data.Dataset`, for a training loop with a DataLoader.

    from torch.utils.data import DataLoader

    from common.data.datasets import as_dataset
    from common.data.images.loading import load_images

    loader = DataLoader(as_dataset(load_images("digits").train), batch_size=128, shuffle=True)
    for images, labels in loader: ...                                    # (128, 1, 28, 28) in [0, 1], (128,)

The chapters' own loops take their batches from whole tensors instead (batches.py), which is faster.

Dimensions: C channels, H height, W width, M boxes, T tokens or values of a window, F values of a forecast.
"""

from collections.abc import Callable, Iterator
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from common.config import require
from common.data.boxes.boxed import NO_BOX, BoxedImages
from common.data.captions.captioned import CaptionedImages
from common.data.images.image_set import Split
from common.data.masks.masked import MaskedImages
from common.data.ratings.collection import Ratings
from common.data.sentence_pairs.pairs import Pairs
from common.data.tables.loading import TableSet
from common.data.tables.table import Numbers
from common.data.text.corpora import Part
from common.data.text.sentences import Sentences
from common.data.text.stories import Question


class SampleDataset(Dataset):
    """Samples 0 to `length` - 1 of a data set; `sample` returns one of them, `transform` changes it."""

    def __init__(
        self, data: Any, length: int, sample: Callable[[Any, int], Any], transform: Callable[[Any], Any] | None = None
    ) -> None:
        self.data, self.length, self.sample, self.transform = data, length, sample, transform

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(self.length))

    def __getitem__(self, index: int) -> Any:
        if not -self.length <= index < self.length:
            raise IndexError(f"sample {index} of a data set with {self.length}")
        sample = self.sample(self.data, int(index) % self.length)
        return sample if self.transform is None else self.transform(sample)


@singledispatch
def as_dataset(data: Any, *, transform: Callable[[Any], Any] | None = None) -> SampleDataset:
    """Return a split as a Dataset; `transform` is applied to each sample, a tuple.

    | split of                      | sample                                                                          |
    |-------------------------------|---------------------------------------------------------------------------------|
    | load_images                   | (C, H, W) float32 image in [0, 1], label                                        |
    | load_boxes                    | image, {"boxes": (M, 4) edges in pixels, "labels": (M,), "difficult": (M,)}     |
    | load_masks                    | image, (H, W) int64 classes                                                     |
    | load_captions                 | image, list of captions                                                         |
    | load_ratings                  | user, film, stars                                                               |
    | load_sentences                | sentence, label                                                                 |
    | load_pairs, load_translations | source sentence, target sentence                                                |
    | load_stories                  | statements, question, answer                                                    |
    | load_corpus, with `window`    | (T,) tokens, (T,) next tokens: consecutive windows of the text                  |
    | load_table (all rows)         | {column: number, or code of a category}, target                                 |
    | values of a series, `window`  | (T,) values, (F,) values after them, F is the `horizon`: windows at every step  |

    Boxes are left, top, right and bottom edge. A missing number of a table is NaN. Raises TypeError for other objects.
    """
    del transform
    raise TypeError(f"as_dataset takes a split such as load_images('digits').train, got {type(data).__name__}")


def image_at(data: Any, index: int) -> Tensor:
    """Return an image, (C, H, W) float32 in [0, 1]."""
    return data.pixels[index].float() / 255


def image_and_label(data: Split, index: int) -> tuple[Tensor, int]:
    """Return an image and its label."""
    return image_at(data, index), int(data.labels[index])


def image_and_boxes(data: BoxedImages, index: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return an image and its boxes, without the places of the tensors that have none."""
    real = data.labels[index] != NO_BOX
    parts = {"boxes": data.boxes, "labels": data.labels, "difficult": data.difficult}
    return image_at(data, index), {name: part[index][real] for name, part in parts.items()}


def image_and_mask(data: MaskedImages, index: int) -> tuple[Tensor, Tensor]:
    """Return an image and the classes of its pixels."""
    return image_at(data, index), data.masks[index].long()


def image_and_captions(data: CaptionedImages, index: int) -> tuple[Tensor, list[str]]:
    """Return an image and its captions."""
    return image_at(data, index), data.captions[index]


def rating(data: Ratings, index: int) -> tuple[int, int, float]:
    """Return user, film and stars of a rating."""
    return int(data.users[index]), int(data.films[index]), int(data.half_stars[index]) / 2


def sentence_and_label(data: Sentences, index: int) -> tuple[str, int]:
    """Return a sentence and its label."""
    return data.texts[index], data.labels[index]


def source_and_target(data: Pairs, index: int) -> tuple[str, str]:
    """Return a sentence and its translation."""
    return data.sources[index], data.targets[index]


def question(data: list[Question], index: int) -> tuple[list[str], str, str]:
    """Return the statements of a story, a question and its answer."""
    return list(data[index].story), data[index].text, data[index].answer


def row_and_target(data: TableSet, index: int) -> tuple[dict[str, float | int], float]:
    """Return the cells of a row by column, and the target."""
    cells: dict[str, float | int] = {}
    for name, column in data.inputs.columns.items():
        cells[name] = float(column.values[index]) if isinstance(column, Numbers) else int(column.codes[index])
    return cells, float(data.target[index])


SAMPLES: dict[type, Callable[[Any, int], Any]] = {
    Split: image_and_label,
    BoxedImages: image_and_boxes,
    MaskedImages: image_and_mask,
    CaptionedImages: image_and_captions,
    Ratings: rating,
    Sentences: sentence_and_label,
    Pairs: source_and_target,
}
"""Sample of each type of split whose length is its number of samples."""


@as_dataset.register(Split)
@as_dataset.register(BoxedImages)
@as_dataset.register(MaskedImages)
@as_dataset.register(CaptionedImages)
@as_dataset.register(Ratings)
@as_dataset.register(Sentences)
@as_dataset.register(Pairs)
def _(data: Any, *, transform: Callable[[Any], Any] | None = None) -> SampleDataset:
    return SampleDataset(data, len(data), SAMPLES[type(data)], transform)


@as_dataset.register
def _(data: list, *, transform: Callable[[Any], Any] | None = None) -> SampleDataset:
    if not all(isinstance(element, Question) for element in data):
        raise TypeError("as_dataset takes lists of questions only, as load_stories().train")
    return SampleDataset(data, len(data), question, transform)


@as_dataset.register
def _(data: TableSet, *, transform: Callable[[Any], Any] | None = None) -> SampleDataset:
    return SampleDataset(data, len(data.inputs), row_and_target, transform)


@as_dataset.register
def _(data: Part, *, window: int, transform: Callable[[Any], Any] | None = None) -> SampleDataset:
    require(window >= 1, "the window must be positive", window)
    return SampleDataset((data.tokens, window), max(len(data) - 1, 0) // window, next_tokens, transform)


def next_tokens(data: tuple[Tensor, int], index: int) -> tuple[Tensor, Tensor]:
    """Return window number `index` of a text, and the same window one token later."""
    tokens, window = data
    piece = tokens[index * window : (index + 1) * window + 1].long()
    return piece[:-1], piece[1:]


@as_dataset.register
def _(data: Tensor, *, window: int, horizon: int = 1, transform: Callable[[Any], Any] | None = None) -> SampleDataset:
    require(data.ndim == 1, "the values of a series have one dimension", tuple(data.shape))
    require(window >= 1 and horizon >= 1, "window and horizon must be positive", (window, horizon))
    return SampleDataset((data, window, horizon), max(len(data) - window - horizon + 1, 0), next_values, transform)


def next_values(data: tuple[Tensor, int, int], index: int) -> tuple[Tensor, Tensor]:
    """Return the window that starts at a step, and the values after it."""
    values, window, horizon = data
    piece = values[index : index + window + horizon].to(torch.float32)
    return piece[:window], piece[window:]
