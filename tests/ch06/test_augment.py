"""Augmentation of a batch by one gather: flips, shifts and erased squares."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch06_cnn import preprocessing as pixels
from ch06_cnn.convolution import augment as augmentation
from ch06_cnn.convolution.augment import augment, random_flips, reflect, sources, squares


def noise(count=6, size=8, channels=3):
    return torch.randint(
        256, (count, channels, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@settings(max_examples=60, deadline=None)
@given(flip=st.booleans(), dy=st.integers(-6, 6), dx=st.integers(-6, 6), size=st.integers(7, 9))
def test_sources_equal_flip_reflection_padding_and_crop(flip, dy, dx, size):
    image = noise(1, size)
    expected = F.pad((image.flip(3) if flip else image).float(), (6, 6, 6, 6), mode="reflect").to(torch.uint8)
    expected = expected[:, :, dy + 6 : dy + 6 + size, dx + 6 : dx + 6 + size]
    index = sources(torch.tensor([flip]), torch.tensor([[dy, dx]]), size)
    assert torch.equal(image.flatten(2).gather(2, index[:, None].expand(-1, 3, -1)).view_as(image), expected)


def test_reflection_by_hand():
    assert reflect(torch.arange(-2, 6), 4).tolist() == [2, 1, 0, 1, 2, 3, 2, 1]


def test_augment_produces_every_flip_and_shift_and_no_other():
    torch.manual_seed(0)
    image = noise(1).expand(400, -1, -1, -1)
    flips = random_flips(400, torch.device("cpu"))
    new = augment(image, flips, shift=1)
    possible = {}
    for flip in (False, True):
        base = F.pad((image[:1].flip(3) if flip else image[:1]).float(), (1, 1, 1, 1), mode="reflect").to(torch.uint8)
        for dy in range(3):
            for dx in range(3):
                possible[base[0, :, dy : dy + 8, dx : dx + 8].numpy().tobytes()] = flip
    assert len(possible) == 18
    seen = [image.numpy().tobytes() for image in new]
    assert set(seen) == set(possible), "a shift or flip is missing, or another image is produced"
    assert [possible[image] for image in seen] == flips.tolist()
    assert torch.equal(augment(noise(), torch.zeros(6, dtype=torch.bool), shift=0), noise())


def test_images_keep_their_order_in_the_batch():
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(-1, 3, 8, 8)
    assert torch.equal(augment(images, random_flips(10, images.device), shift=3), images)


def test_cutout_erases_one_square_per_image_at_a_random_position():
    torch.manual_seed(0)
    masks = squares(500, 8, 3, torch.device("cpu"))
    area = masks.sum((1, 2, 3))
    assert area.max() == 9
    assert area.min() == 4, "at a corner, part of the square is outside the image"
    assert masks.float().mean(0).min() > 0, "some pixels are never erased"
    for mask in masks[:, 0]:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        block = mask[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
        assert block.all()
        assert block.sum() == mask.sum()
    new = augment(noise(), torch.zeros(6, dtype=torch.bool), shift=0, cutout=3)
    cut = (new != noise()).any(1)
    assert (new.movedim(1, -1)[cut] == augmentation.GREY).all()
    assert cut.flatten(1).any(1).all()


def test_half_of_the_random_flips_are_true():
    torch.manual_seed(0)
    assert float(random_flips(10_000, torch.device("cpu")).float().mean()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("last", [False, True])
def test_scaled_pixels_are_exact_in_bfloat16_and_have_the_memory_format(last):
    images = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    full = pixels.scaled(images, channels_last=last)
    half = pixels.scaled(images, bf16=True, channels_last=last)
    assert half.dtype == torch.bfloat16
    assert full.dtype == torch.float32
    assert torch.equal(half.float(), full)
    assert torch.equal(full, (images.float() - 128) / 64)
    assert half.is_contiguous(memory_format=torch.channels_last) == last
    assert images.dtype == torch.uint8
    assert int(images.max()) == 255, "the input was modified"
