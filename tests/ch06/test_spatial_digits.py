"""Transformed digits: places, angles, scales, distractors and sequences."""

import math

import pytest
import torch

from common.data.images import transformed
from common.data.images.image_set import Split
from common.data.images.transformed import DIGIT, TRANSFORMATIONS, Transformation, cut, draw, paste, warp


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ink(count=1):
    """Digits with different random ink in each pixel."""
    pixels = torch.randint(1, 256, (count, 1, DIGIT, DIGIT), generator=generator(1), dtype=torch.uint8)
    return Split(pixels, torch.arange(count) % 10)


@pytest.mark.parametrize("task", list(TRANSFORMATIONS))
def test_images_are_repeatable_and_have_their_size_and_labels(digits, task):
    split, transformation = digits.valid[:40], TRANSFORMATIONS[task]
    first, second, other = (draw(split, transformation, generator(seed)) for seed in (0, 0, 1))
    size, count = transformation.size, transformation.digits
    assert first.pixels.shape == (40, 1, size, size) and first.pixels.dtype == torch.uint8
    assert first.labels.shape == (40, count)
    assert torch.equal(first.labels[:, 0], split.labels), "the first digit is the digit of the split"
    assert torch.equal(first.pixels, second.pixels) and torch.equal(first.labels, second.labels)
    assert (first.pixels != other.pixels).flatten(1).any(1).all()
    assert first.pixels.max() > 200


def test_a_warp_of_nothing_is_the_digit_at_the_centre():
    digits = ink(2)
    zero, one = torch.zeros(2), torch.ones(2)
    images = warp(digits.pixels, zero, one, torch.zeros(2, 2), 42)
    assert torch.equal(images[:, 7:35, 7:35], digits.pixels[:, 0].int())
    assert images.sum() == digits.pixels.sum(), "outside the digit there is ink"
    moved = warp(digits.pixels, zero, one, torch.tensor([[3.0, -2.0], [7.0, 7.0]]), 42)
    assert torch.equal(moved[0, 5:33, 10:38], digits.pixels[0, 0].int()), "3 to the right and 2 up"
    assert torch.equal(moved[1, 14:42, 14:42], digits.pixels[1, 0].int())


def test_a_warp_turns_counter_clockwise_and_scales():
    digits = ink()
    turned = warp(digits.pixels, torch.tensor([math.pi / 2]), torch.ones(1), torch.zeros(1, 2), 42)
    assert (turned[0, 7:35, 7:35] - digits.pixels[0, 0].rot90().int()).abs().max() <= 1
    square = torch.full((1, 1, DIGIT, DIGIT), 200, dtype=torch.uint8)
    for scale in (0.7, 1.2):
        image = warp(square, torch.zeros(1), torch.tensor([scale]), torch.zeros(1, 2), 42)
        assert float(image.sum()) / 200 == pytest.approx((DIGIT * scale) ** 2, rel=0.04)


def test_angles_scales_and_centres_cover_their_ranges_and_keep_the_digit_inside():
    transformation = TRANSFORMATIONS["moved"]
    angle, scale, centre = transformed._warps(4_000, transformation, generator())
    assert math.degrees(float(angle.min())) == pytest.approx(-45, abs=0.5)
    assert math.degrees(float(angle.max())) == pytest.approx(45, abs=0.5)
    assert 0.7 <= scale.min() < 0.71 and 1.19 < scale.max() <= 1.2
    assert (centre.abs().amax(1) + DIGIT / 2 * scale <= 21 + 1e-4).all()
    assert centre.abs().max() > 10
    angle, scale, centre = transformed._warps(4_000, TRANSFORMATIONS["rotated"], generator())
    assert math.degrees(float(angle.abs().max())) == pytest.approx(90, abs=0.5)
    assert (scale == 1).all() and (centre == 0).all()


def test_a_moved_digit_is_somewhere_whole():
    digits, transformation = ink(300), Transformation(31)
    drawn = draw(digits, transformation, generator())
    places = set()
    for image, digit in zip(drawn.pixels[:, 0], digits.pixels[:, 0], strict=True):
        rows, columns = image.any(1).nonzero(), image.any(0).nonzero()
        top, left = int(rows[0]), int(columns[0])
        assert torch.equal(image[top : top + DIGIT, left : left + DIGIT], digit)
        assert image.sum() == digit.sum()
        places.add((top, left))
    assert places == {(row, column) for row in range(4) for column in range(4)}


def test_distractors_are_pieces_of_the_digits():
    """The digit is added to the pieces; without its ink, the pieces remain."""
    count, size = 50, 6
    blank = Split(torch.zeros(count, 1, DIGIT, DIGIT, dtype=torch.uint8), torch.zeros(count, dtype=torch.long))
    assert not draw(blank, TRANSFORMATIONS["cluttered"], generator()).pixels.any()
    digits = ink(count)
    drawn = draw(digits, Transformation(60, pieces=1, piece_size=size), generator(3))
    pixels = digits.pixels[:, 0]
    windows = pixels.unfold(1, size, 1).unfold(2, size, 1).flatten(0, 2).flatten(1)  # every possible piece
    known, found = {piece.numpy().tobytes() for piece in windows}, 0
    for image in drawn.pixels[:, 0]:
        around = image.clone()
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        if len(rows) == DIGIT and len(columns) == DIGIT:
            continue  # the piece lies within the digit
        full = (image > 0).int()
        alone = (full.unfold(0, size, 1).unfold(1, size, 1).sum((2, 3)) == size * size).nonzero()
        found += any(
            around[row : row + size, column : column + size].numpy().tobytes() in known
            for row, column in alone.tolist()
        )
    assert found > 20


def test_cut_and_paste_by_hand():
    images = torch.arange(2 * 4 * 4).view(2, 4, 4)
    rows, columns = torch.tensor([[0, 2]]), torch.tensor([[1, 2]])
    pieces = cut(images, torch.tensor([[1, 0]]), rows, columns, 2)
    assert pieces.tolist() == [[[[17, 18], [21, 22]], [[10, 11], [14, 15]]]]
    canvas = torch.zeros(1, 5, 5, dtype=torch.int32)
    paste(canvas, pieces, torch.tensor([[0, 1]]), torch.tensor([[3, 2]]))
    assert canvas[0].tolist() == [
        [0, 0, 0, 17, 18],
        [0, 0, 10, 21 + 11, 22],
        [0, 0, 14, 15, 0],
        [0] * 5,
        [0] * 5,
    ]


def test_the_sum_of_overlapping_ink_is_clipped():
    bright = Split(torch.full((1, 1, DIGIT, DIGIT), 255, dtype=torch.uint8), torch.zeros(1, dtype=torch.long))
    drawn = draw(bright, Transformation(DIGIT, pieces=16, piece_size=6), generator())
    assert (drawn.pixels == 255).all()


def test_a_sequence_is_read_from_left_to_right_on_a_slope():
    digits, transformation = ink(200), Transformation(100, digits=3, slope=14)
    drawn = draw(digits, transformation, generator())
    slopes, firsts = set(), set()
    for image, labels in zip(drawn.pixels[:, 0], drawn.labels, strict=True):
        first = int(image.any(0).nonzero()[0])
        tops = []
        for number, label in enumerate(labels.tolist()):
            part = image[:, first + DIGIT * number : first + DIGIT * (number + 1)]
            tops.append(int(part.any(1).nonzero()[0]))
            shown = part[tops[-1] : tops[-1] + DIGIT]
            same = (digits.pixels[:, 0] == shown).flatten(1).all(1)
            assert digits.labels[same].tolist() == [label]
        slopes.add(tops[1] - tops[0])
        assert all(0 <= top <= 72 for top in tops)
        if all(0 < top < 72 for top in tops):
            assert tops[1] - tops[0] == tops[2] - tops[1]
        firsts.add(first)
    assert min(slopes) <= -12 and max(slopes) >= 12
    assert min(firsts) <= 1 and max(firsts) >= 15 and max(firsts) <= 16
    assert len(drawn.labels.unique(dim=0)) > 100


def test_a_large_set_is_drawn_in_chunks(monkeypatch, digits):
    monkeypatch.setattr(transformed, "CHUNK", 16)
    drawn = draw(digits.valid[:40], TRANSFORMATIONS["sequence"], generator())
    assert drawn.pixels.shape == (40, 1, 100, 100)
    assert torch.equal(drawn.labels[:, 0], digits.valid.labels[:40])
