"""Splits as torch Datasets: samples equal the tensors of the split, in a DataLoader with and without workers."""

import math
import re

import pytest
import torch
from torch.utils.data import DataLoader

from common.data.boxes.boxed import NO_BOX
from common.data.boxes.loading import load_boxes
from common.data.captions.loading import load_captions
from common.data.datasets import as_dataset
from common.data.images.loading import load_images
from common.data.masks.loading import load_masks
from common.data.ratings.loading import load_ratings
from common.data.sentence_pairs.translations import load_translations
from common.data.series.series import load_series
from common.data.tables.loading import load_table
from common.data.tables.table import Numbers
from common.data.text.corpora import load_corpus
from common.data.text.sentences import load_sentences
from common.data.text.stories import load_stories
from conftest import ROOT


@pytest.mark.parametrize("workers", [0, 1])
def test_images_in_a_loader_equal_the_split(workers):
    split = load_images("digits", limit=300).train
    loader = DataLoader(  # spawn: a fork is unsafe if another test has started JAX's threads in this process
        as_dataset(split), batch_size=64, num_workers=workers, multiprocessing_context="spawn" if workers else None
    )
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert images.dtype == torch.float32 and images.shape == split.pixels.shape
    assert torch.equal((images * 255).round().to(torch.uint8), split.pixels)
    assert torch.equal(labels, split.labels)


def test_transform_receives_the_sample():
    split = load_images("digits", limit=300).train
    halved = as_dataset(split, transform=lambda sample: (sample[0][:, ::2, ::2], sample[1] + 100))
    image, label = halved[3]
    assert image.shape == (1, 14, 14) and label == int(split.labels[3]) + 100


def test_indices_as_in_a_sequence():
    dataset = as_dataset(load_images("digits", limit=300).train)
    assert torch.equal(dataset[-1][0], dataset[len(dataset) - 1][0])
    assert torch.equal(dataset[-len(dataset)][0], dataset[0][0])
    for index in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError, match=f"sample {index} of a data set with {len(dataset)}"):
            dataset[index]
    assert len(list(zip(dataset, range(10_000), strict=False))) == len(dataset)  # iteration ends


def test_boxes_are_those_of_the_image_only():
    split = load_boxes("scenes", size=(64, 64), limit=20).train
    dataset = as_dataset(split)
    assert len(dataset) == len(split)
    counts = set()
    for (image, found), labels, boxes in zip(dataset, split.labels, split.boxes, strict=True):
        assert image.shape == (3, 64, 64) and image.min() >= 0 and image.max() <= 1
        real = [place for place, label in enumerate(labels.tolist()) if label != NO_BOX]
        assert found["labels"].tolist() == [int(labels[place]) for place in real]
        assert torch.equal(found["boxes"], boxes[real]) and found["difficult"].shape == (len(real),)
        counts.add(len(real))
    assert len(counts) > 1, "all images have the same number of boxes"


def test_masks_are_classes_of_the_pixels():
    split = load_masks("scenes", size=(64, 64), limit=4).train
    image, mask = as_dataset(split)[2]
    assert mask.dtype == torch.int64 and torch.equal(mask, split.masks[2].long())
    assert image.shape[1:] == mask.shape


def test_texts_are_returned_as_they_are():
    sentences = load_sentences("grammar", limit=50).train
    assert as_dataset(sentences)[7] == (sentences.texts[7], sentences.labels[7])
    pairs = load_translations("german", limit=50).train
    assert as_dataset(pairs)[7] == (pairs.sources[7], pairs.targets[7])
    captions = load_captions("scenes", limit=20).train
    assert as_dataset(captions)[7][1] == captions.captions[7]
    stories = load_stories(limit=50).train
    asked = stories[7]
    assert as_dataset(stories)[7] == (list(asked.story), asked.text, asked.answer)


def test_ratings_are_in_stars():
    ratings = load_ratings("planted", limit=500).train
    users, films, stars = next(iter(DataLoader(as_dataset(ratings), batch_size=100)))
    assert torch.equal(users, ratings.users[:100].long()) and torch.equal(films, ratings.films[:100].long())
    assert torch.equal(stars.float(), ratings.stars[:100])


def test_windows_of_a_text_do_not_overlap_and_targets_are_one_later():
    part = load_corpus("pydoc", limit=5_000).train
    dataset = as_dataset(part, window=35)
    windows = list(dataset)
    assert len(windows) == (len(part) - 1) // 35
    inputs, targets = (torch.cat(parts) for parts in zip(*windows, strict=True))
    assert torch.equal(inputs, part.tokens[: len(inputs)].long())
    assert torch.equal(targets, part.tokens[1 : len(inputs) + 1].long())


@pytest.mark.parametrize(
    ("length", "window", "samples"), [(10, 3, 3), (11, 5, 2), (5, 5, 0), (6, 5, 1), (0, 1, 0), (1, 1, 0)]
)
def test_number_of_windows_of_a_text(length, window, samples):
    from common.data.text.corpora import Part

    dataset = as_dataset(Part(torch.arange(length), 1.0), window=window)
    assert len(dataset) == len(list(dataset)) == samples


def test_windows_of_a_series():
    values = load_series("curve", limit=400).values
    dataset = as_dataset(values, window=16, horizon=4)
    assert len(dataset) == len(values) - 19
    past, future = dataset[5]
    assert torch.equal(past, values[5:21].float()) and torch.equal(future, values[21:25].float())
    assert torch.equal(dataset[len(dataset) - 1][1], values[-4:].float())
    assert len(as_dataset(values[:10], window=16, horizon=4)) == 0


def test_rows_of_a_table():
    data = load_table("houses")
    cells, target = as_dataset(data)[11]
    assert list(cells) == list(data.inputs.columns) and target == float(data.target[11])
    for name, cell in cells.items():
        column = data.inputs.columns[name]
        value = (column.values if isinstance(column, Numbers) else column.codes)[11]
        assert cell == value or (math.isnan(cell) and math.isnan(value)), name
    assert {type(cell) for cell in cells.values()} == {int, float}


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match=re.escape("takes a split such as load_images('digits').train, got ImageSet")):
        as_dataset(load_images("digits", limit=300))
    with pytest.raises(TypeError, match="lists of questions only"):
        as_dataset([1, 2])
    with pytest.raises(ValueError, match="one dimension"):
        as_dataset(torch.zeros(3, 3), window=1)
    with pytest.raises(ValueError, match="must be positive"):
        as_dataset(torch.zeros(3), window=0)


def test_loaders_of_the_docstring_exist():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "common" / "data").rglob("*.py"))
    listed = set(re.findall(r"load_\w+", as_dataset.__doc__ or ""))
    assert len(listed) > 8
    assert [name for name in listed if f"def {name}(" not in sources] == []
