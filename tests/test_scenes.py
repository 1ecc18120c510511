"""Generated scenes with boxes and masks: boxes, masks, occlusion and splits; the captions' scenes keep their pixels."""

import pytest
import torch

from common.data.captions import scenes as captions
from common.data.captions.loading import draw_split
from common.data.captions.scenes import split_combinations
from common.data.images.shapes import SHAPES
from common.data.scenes import drawing
from common.data.scenes.drawing import MINIMUM_VISIBLE, MOST_OBJECTS, RADII, SIZE, draw_scenes, enclosing_boxes
from common.data.scenes.loading import load_scene_set
from common.data.scenes.painting import COLOURS, SHAPE_NAMES, edge_distance, shape_numbers
from common.data.scenes.scene_set import NO_BOX


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(300, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [32, 48])
def test_captioned_scenes_have_the_pixels_of_the_records(size):
    """The pixels equal those of the formula with which the records of chapter 5 were made, bit by bit."""
    pixels = draw_split(split_combinations()[0], 20, 5, size=size)
    generator = torch.Generator().manual_seed(5)
    axis = (torch.arange(size) + 0.5) * captions.SIZE / size
    grey = 0.35 + 0.3 * torch.rand(20, 1, 1, 1, generator=generator)
    drawn = grey.expand(20, 3, size, size).clone()
    for place in range(2):
        objects = [scene[place] for scene in pixels.scenes]
        base = torch.tensor([COLOURS[each.colour] for each in objects]).view(20, 3, 1, 1)
        paint = base + captions.COLOUR_JITTER * (2 * torch.rand(20, 3, 1, 1, generator=generator) - 1)
        angle = captions.TILT * (2 * torch.rand(20, 1, 1, generator=generator) - 1)
        x0, y0, radius = (
            torch.tensor([getattr(each, name) for each in objects]).view(-1, 1, 1) for name in ("x", "y", "radius")
        )
        right, up = axis.view(1, 1, size) - x0, y0 - axis.view(1, size, 1)
        x = (right * angle.cos() + up * angle.sin()) / radius
        y = (up * angle.cos() - right * angle.sin()) / radius
        distance = torch.stack([SHAPES[each.shape](x[n], y[n]) for n, each in enumerate(objects)])
        cover = (0.5 - distance * radius * size / captions.SIZE).clamp(0, 1)
        drawn = torch.lerp(drawn, paint, cover.unsqueeze(1))
    noise = captions.NOISE * torch.randn(20, 3, size, size, generator=generator)
    assert torch.equal(pixels.pixels, (drawn + noise).clamp(0, 1).mul(255).round().to(torch.uint8))


def test_a_box_encloses_the_visible_pixels_exactly(scenes):
    for image in range(len(scenes)):
        for place in range(MOST_OBJECTS):
            if scenes.labels[image, place] == NO_BOX:
                assert scenes.boxes[image, place].tolist() == [0, 0, 0, 0]
                continue
            rows, columns = (scenes.instance_masks[image] == place + 1).nonzero(as_tuple=True)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert scenes.boxes[image, place].tolist() == [int(edge) for edge in box]


def test_masks_and_labels_agree(scenes):
    classes = torch.cat([torch.zeros(len(scenes), 1), scenes.shapes + 1.0], dim=1).long()
    expected = classes.gather(1, scenes.instance_masks.flatten(1).long()).view(-1, SIZE, SIZE)
    assert torch.equal(scenes.class_masks.long(), expected)
    has_box = scenes.labels != NO_BOX
    assert torch.equal(scenes.labels[has_box], scenes.shapes[has_box])
    assert torch.equal(has_box, (scenes.visible >= MINIMUM_VISIBLE) & (scenes.shapes != NO_BOX))


def test_objects_hide_earlier_ones(scenes):
    present = scenes.shapes != NO_BOX
    assert present.sum(1).unique().tolist() == list(range(1, MOST_OBJECTS + 1))
    assert not (present[:, 1:] & ~present[:, :-1]).any(), "the places are filled from the first"
    assert (scenes.visible[~present] == 0).all() and (scenes.visible <= 1).all()
    last = scenes.visible.gather(1, present.sum(1, keepdim=True) - 1)
    first = scenes.visible[present.sum(1) > 4, 0]
    assert last.mean() > first.mean() + 0.05
    assert 0.005 < ((scenes.labels == NO_BOX) & present).sum() / present.sum() < 0.1, "a few have no box"
    radii = scenes.radii[present]
    assert RADII[0] <= radii.min() and radii.max() <= RADII[1]


def test_pixels_show_the_colour_of_the_object(scenes):
    """The mean colour of the visible pixels of an object is nearest to its own colour."""
    paints, right, count = torch.tensor(list(COLOURS.values())), 0, 0
    for image in range(60):
        for place in range(MOST_OBJECTS):
            here = scenes.instance_masks[image] == place + 1
            if here.sum() > 30:
                mean = scenes.pixels[image][:, here].float().mean(1) / 255
                right += int((paints - mean).norm(dim=1).argmin() == scenes.colours[image, place])
                count += 1
    assert count > 200 and right > 0.95 * count


def test_a_window_is_large_enough(monkeypatch):
    """With windows and margins of twice the size the masks are the same."""
    small = draw_scenes(8, torch.Generator().manual_seed(2))
    monkeypatch.setattr(drawing, "MARGIN", 32)
    large = draw_scenes(8, torch.Generator().manual_seed(2))
    assert torch.equal(small.instance_masks, large.instance_masks)
    torch.testing.assert_close(small.visible, large.visible)


def test_boxes_of_masks_by_hand():
    masks = torch.zeros(2, 5, 6, dtype=torch.uint8)
    masks[0, 1:3, 2:6] = 2
    masks[0, 2, 3] = 1
    boxes, counts = enclosing_boxes(masks, 3)
    assert boxes[0].tolist() == [[3, 2, 4, 3], [2, 1, 6, 3], [0, 0, 0, 0]]
    assert counts.tolist() == [[1, 7, 0], [0, 0, 0]]
    assert boxes[1].abs().sum() == 0


def test_edge_distance_is_that_of_the_shapes():
    axis = torch.linspace(-8, 8, 21)
    names = ("disc", "star")
    distance = edge_distance(
        shape_numbers(names),
        axis.view(1, 1, -1).expand(2, -1, -1),
        axis.view(1, -1, 1).expand(2, -1, -1),
        torch.zeros(2, 1, 1),
        torch.tensor([4.0, 6.0]).view(2, 1, 1),
    )
    for number, (name, radius) in enumerate(zip(names, (4.0, 6.0), strict=True)):
        expected = SHAPES[name](axis.view(1, -1) / radius + 0 * axis.view(-1, 1), axis.view(-1, 1) / radius) * radius
        torch.testing.assert_close(distance[number], expected)


def test_splits_are_repeatable_and_differ():
    one, other = load_scene_set(limit=20), load_scene_set(limit=20)
    assert one.card == other.card and one.class_names == SHAPE_NAMES
    assert torch.equal(one.train.pixels, other.train.pixels)
    assert not torch.equal(one.train.pixels, one.test.pixels)
    assert one.card.description == "20 train, 20 valid, 20 test, embedded, drawn here"
    part = one.train[torch.tensor([3, 1])]
    assert len(part) == 2 and torch.equal(part.boxes[1], one.train.boxes[1])
