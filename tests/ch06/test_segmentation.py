"""Segmentation: transposed convolution, networks, losses, measures, augmentation and baselines, against references."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch06_cnn.architectures.efficientnet_lite import EfficientNetLite
from ch06_cnn.segmentation import baselines, fcn, unet
from ch06_cnn.segmentation.augment import Augmentation, augment, crop, random_grid, turn, warp
from ch06_cnn.segmentation.baselines import Threshold, fit_threshold, grey_levels, histogram, otsu, otsu_level
from ch06_cnn.segmentation.evaluation import worst_errors
from ch06_cnn.segmentation.fcn import FCN, LiteBackbone, SmallBackbone
from ch06_cnn.segmentation.losses import SMOOTHING, cross_entropy, dice_loss
from ch06_cnn.segmentation.measures import class_ious, confusion_matrix, mean_iou, measure, pixel_accuracy
from ch06_cnn.segmentation.transposed import (
    TransposedConvolution,
    Upsampling,
    bilinear_kernel,
    transposed_convolution,
)
from ch06_cnn.segmentation.unet import UNet
from ch06_cnn.segmentation.visualise import colour_masks, mark_binary_errors, mark_errors, palette
from common.data.masks.masked import VOID, MaskedImages


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_masks(*shape, classes=4, void=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(classes, shape, generator=generator, dtype=torch.uint8)
    return masks.masked_fill(torch.rand(shape, generator=generator) < 0.2, VOID) if void else masks


# Transposed convolution.


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 0), (2, 2, 0), (4, 2, 1), (5, 3, 2), (3, 4, 1)])
def test_transposed_convolution_equals_torch(kernel, stride, padding):
    """Values and gradients; also with a kernel smaller than the stride, which leaves gaps."""
    x, weight = normal(2, 3, 4, 5).requires_grad_(), normal(3, 2, kernel, kernel, seed=1).requires_grad_()
    bias = normal(2, seed=2).requires_grad_()
    found = transposed_convolution(x, weight, bias, stride, padding)
    expected = F.conv_transpose2d(x, weight, bias, stride, padding)
    close(found, expected)
    dy = normal(*expected.shape, seed=3)
    for one, other in zip(
        torch.autograd.grad(found, (x, weight, bias), dy),
        torch.autograd.grad(expected, (x, weight, bias), dy),
        strict=True,
    ):
        close(one, other)


def test_transposed_convolution_is_the_gradient_of_a_convolution():
    x = normal(1, 2, 9, 9).requires_grad_()
    weight = normal(3, 2, 3, 3, seed=1)
    y = F.conv2d(x, weight, stride=2)
    dy = normal(*y.shape, seed=2)
    (dx,) = torch.autograd.grad(y, x, dy)
    close(transposed_convolution(dy, weight, stride=2), dx)


def test_the_layer_by_hand_equals_torchs():
    torch.manual_seed(0)
    layer = torch.nn.ConvTranspose2d(3, 2, 2, stride=2).double()
    twin = TransposedConvolution(3, 2, 2, stride=2).double()
    twin.load_state_dict(layer.state_dict())
    x = normal(2, 3, 4, 5)
    close(twin(x), layer(x))


def test_bilinear_kernel_by_hand():
    assert bilinear_kernel(2)[0].tolist() == [1 / 16, 3 / 16, 3 / 16, 1 / 16]
    assert bilinear_kernel(3)[2].tolist() == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    assert bilinear_kernel(1).tolist() == [[1]]


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_upsampling_is_bilinear_interpolation_before_training(factor):
    x = normal(2, 3, 5, 4)
    expected = F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
    for kind in ("torch", "by-hand"):
        layer = Upsampling(3, factor, kind)
        layer.layer.weight = torch.nn.Parameter(layer.layer.weight.double())
        # the weights are float32: exact for powers of two, else rounded
        close(layer(x), expected, 1e-12 if factor != 3 else 1e-6)
    kernel = bilinear_kernel(factor).expand(3, 1, -1, -1)
    padding = factor // 2
    zeros_outside = F.conv_transpose2d(x, kernel, stride=factor, padding=padding, groups=3)
    inner = (..., slice(factor, -factor), slice(factor, -factor))
    close(zeros_outside[inner], expected[inner])
    assert (zeros_outside - expected).abs().max() > 0.01, "zeros outside change the border"


# Networks.


def double(x, factor=2):
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


def product(layer, x):
    """A 1x1 convolution as a product of matrices."""
    return torch.einsum("kc,bchw->bkhw", layer.weight[:, :, 0, 0], x) + layer.bias[:, None, None]


@pytest.mark.parametrize("skips", [0, 1, 2])
def test_fcn_adds_the_upsampled_scores(skips):
    """The definition with F.interpolate; before training, the weights of the skip connections are 0."""
    torch.manual_seed(0)
    model = FCN(SmallBackbone(4), 3, skips=skips).double().eval()
    scores: list = list(model.scores)
    assert len(scores) == skips + 1 and scores[0].weight.any()
    assert not any(layer.weight.any() for layer in scores[1:])
    for layer in scores:
        torch.nn.init.normal_(layer.weight)
    images = torch.randint(256, (2, 3, 32, 48), dtype=torch.uint8)
    x, maps = ((images.float() - 127) / 128).double(), []
    model.backbone.double()
    for stage in model.backbone.stages:
        x = stage(x)
        maps.append(x)
    assert [32 // each.shape[2] for each in maps] == [2, 4, 8] == list(SmallBackbone.strides)
    expected = product(scores[0], maps[2])
    if skips > 0:
        expected = double(expected) + product(scores[1], maps[1])
    if skips > 1:
        expected = double(expected) + product(scores[2], maps[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcn, "scaled", lambda pixels: ((pixels.float() - 127) / 128).double())
        close(model(images), double(expected, 8 >> skips))


def test_fcn_on_efficientnet_uses_its_maps_and_running_statistics():
    network = EfficientNetLite().eval()
    backbone = LiteBackbone(network)
    pixels = torch.randn(1, 3, 64, 96)
    expected, x = network.feature_maps(pixels), pixels
    for stride, stage in zip(backbone.strides, backbone.stages, strict=True):
        x = stage(x)
        assert torch.equal(x, expected[stride])
    model = FCN(backbone, 5, skips=2)
    before = {name: buffer.clone() for name, buffer in model.backbone.named_buffers()}
    assert model.train()(torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)).shape == (2, 5, 64, 96)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.backbone.named_buffers())


def test_unet_by_its_definition():
    """A slow reference for two levels: pooling, transposed convolution, concatenation."""
    torch.manual_seed(0)
    model = UNet(3, width=4, depth=2).double().eval()
    images = torch.randint(256, (2, 3, 16, 24), dtype=torch.uint8)
    one = model.contract[0]((images.float() - 127).double() / 128)
    two = model.contract[1](one.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)))
    three = model.contract[2](two.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)))
    assert [each.shape[1] for each in (one, two, three)] == [4, 8, 16]

    def upsample(layer, x):
        return transposed_convolution(x, layer.weight, layer.bias, 2)

    up = model.expand[0](torch.cat([two, upsample(model.upsample[0], three)], 1))
    up = model.expand[1](torch.cat([one, upsample(model.upsample[1], up)], 1))
    expected = product(model.classify, up)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unet, "scaled", lambda pixels: ((pixels.float() - 127) / 128).double())
        close(model(images), expected)
    assert model.stride == 4


@pytest.mark.parametrize("build", [lambda kind: UNet(3, width=4, depth=2, kind=kind)] + [
    lambda kind, skips=skips: FCN(SmallBackbone(4), 3, skips=skips, kind=kind) for skips in (0, 1, 2)
])  # fmt: skip
def test_every_weight_has_a_gradient_and_both_kinds_are_the_same_network(build):
    torch.manual_seed(0)
    model, twin = build("torch"), build("by-hand")
    twin.load_state_dict(model.state_dict())
    images, masks = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8), random_masks(2, 32, 32, classes=3)
    logits = model.train()(images)
    assert logits.shape == (2, 3, 32, 32)
    torch.testing.assert_close(twin.train()(images), logits, rtol=1e-4, atol=1e-4)
    cross_entropy(logits, masks).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


# Losses.


def test_cross_entropy_by_hand_without_void_pixels():
    logits, masks = normal(2, 4, 5, 6), random_masks(2, 5, 6)
    logs = logits.log_softmax(1)
    terms = [
        -logs[b, int(masks[b, i, j]), i, j]
        for b in range(2)
        for i in range(5)
        for j in range(6)
        if masks[b, i, j] != VOID
    ]
    assert len(terms) < 60
    close(cross_entropy(logits, masks), torch.stack(terms).mean())
    nothing = torch.full_like(masks, VOID)
    leaf = logits.requires_grad_()
    loss = cross_entropy(leaf, nothing) + dice_loss(leaf, nothing)
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert loss == 0 and not gradient.any(), "void pixels alone"


def test_dice_loss_by_its_formula():
    logits, masks = normal(2, 4, 5, 6), random_masks(2, 5, 6)
    p, coefficients = logits.softmax(1), []
    for k in range(4):
        inside = sum(p[b, k][masks[b] == k].sum() for b in range(2))
        probabilities = sum(p[b, k][masks[b] != VOID].sum() for b in range(2))
        coefficients.append((2 * inside + SMOOTHING) / (probabilities + (masks == k).sum() + SMOOTHING))
    close(dice_loss(logits, masks), 1 - sum(coefficients) / 4)
    sure = 60 * F.one_hot(masks.where(masks != VOID, 0).long(), 4).movedim(3, 1).double()
    assert dice_loss(sure, masks).abs() < 1e-12, "certain and correct"
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, masks), logits.requires_grad_())


# Measures.


def test_measures_by_hand():
    masks = torch.tensor([[[0, 0, 1], [1, 1, VOID]]], dtype=torch.uint8)
    guesses = torch.tensor([[[0, 1, 1], [1, 0, 2]]], dtype=torch.uint8)
    n = confusion_matrix(masks, guesses, 3)
    assert n.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert pixel_accuracy(n) == pytest.approx(3 / 5)
    ious = class_ious(n).tolist()
    assert ious[:2] == pytest.approx([1 / 3, 2 / 4]) and math.isnan(ious[2])
    assert mean_iou(n) == pytest.approx(5 / 12), "the class that does not occur is left out"
    measures = measure(n, ("ground", "class 1", "Disc"), by_class=True)
    assert set(measures) == {"pixel_accuracy", "mean_iou", "ground_iou", "class_1_iou"}
    wrongly_found = confusion_matrix(masks, guesses.masked_fill(guesses == 0, 2), 3)
    assert class_ious(wrongly_found).tolist() == pytest.approx([0, 2 / 4, 0])
    assert measure(torch.zeros(2, 2, dtype=torch.int64), ("a", "b")) == {"pixel_accuracy": 0, "mean_iou": 0}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_measures_by_sets_of_pixels(seed, classes):
    masks, guesses = random_masks(2, 4, 5, classes=classes, seed=seed), random_masks(2, 4, 5, void=False, seed=seed + 1)
    guesses = guesses % classes
    n = confusion_matrix(masks, guesses, classes)
    pixels = [(b, i, j) for b in range(2) for i in range(4) for j in range(5) if masks[b, i, j] != VOID]
    assert pixel_accuracy(n) == pytest.approx(sum(bool(masks[p] == guesses[p]) for p in pixels) / max(1, len(pixels)))
    ious = []
    for k in range(classes):
        true, found = ({p for p in pixels if t[p] == k} for t in (masks, guesses))
        ious += [len(true & found) / len(true | found)] if true | found else []
    assert mean_iou(n) == pytest.approx(sum(ious) / len(ious) if ious else 0)


def test_measures_equal_torchmetrics():
    """Skipped unless torchmetrics is installed; it is not a dependency of the project."""
    classification = pytest.importorskip("torchmetrics.classification")
    masks, guesses = random_masks(3, 20, 30), random_masks(3, 20, 30, void=False, seed=1)
    n = confusion_matrix(masks, guesses, 4)
    truth, found = masks.long(), guesses.long()
    expected = classification.MulticlassJaccardIndex(4, average="none", ignore_index=VOID)(found, truth)
    torch.testing.assert_close(class_ious(n).float(), expected)
    accuracy = classification.MulticlassAccuracy(4, average="micro", ignore_index=VOID)(found, truth)
    assert pixel_accuracy(n) == pytest.approx(float(accuracy))


def test_worst_errors_are_sorted_and_without_correct_images():
    masks = torch.zeros(4, 2, 2, dtype=torch.uint8)
    guesses = masks.clone()
    guesses[1, 0, 0] = 1
    guesses[2, 0] = 1
    masks[3, 0, 0], guesses[3, 0, 0], masks[3, 1] = VOID, 1, VOID
    guesses[3, 0, 1] = 1  # the only pixel that counts
    assert worst_errors(masks, guesses).tolist() == [3, 2, 1]


# Augmentation: the mask goes with the image.


def coded(count, height, width):
    """Images whose three channels and whose masks all hold the same numbers, a different one in every pixel."""
    numbers = torch.arange(count * height * width).view(count, height, width) % 251
    return numbers.unsqueeze(1).expand(-1, 3, -1, -1).to(torch.uint8).contiguous(), numbers.to(torch.uint8)


def test_crops_of_image_and_mask_are_the_same_square():
    torch.manual_seed(0)
    images, masks = coded(20, 8, 12)
    pixels, classes = crop(images, masks, 5)
    assert pixels.shape == (20, 3, 5, 5) and torch.equal(pixels[:, 1], classes)
    corners = set()
    for image in range(20):
        places = [
            (y, x)
            for y in range(4)
            for x in range(8)
            if torch.equal(masks[image, y : y + 5, x : x + 5], classes[image])
        ]
        corners |= set(places)
        assert len(places) == 1
    assert {y for y, _ in corners} == {0, 1, 2, 3} and len({x for _, x in corners}) > 5


def test_turns_are_all_flips_and_rotations():
    images, masks = coded(1, 3, 3)
    codes = [[bool(number >> bit & 1) for bit in range(3)] for number in range(8)]
    found = set()
    for code in codes:
        pixels, classes = turn(images, masks, torch.tensor([code]))
        assert torch.equal(pixels[:, 0], classes) and pixels.dtype == classes.dtype == torch.uint8
        found.add(tuple(classes.flatten().tolist()))
    square = masks[0]
    expected = {
        tuple(image.rot90(turns).flatten().tolist()) for image in (square, square.flip(1)) for turns in range(4)
    }
    assert found == expected
    images, masks = coded(1, 2, 3)
    assert turn(images, masks, torch.tensor([[True, True, True]]))[1].flatten().tolist() == [5, 4, 3, 2, 1, 0]


def test_warp_of_the_identity_and_of_a_zoom():
    images, masks = coded(2, 8, 8)
    torch.manual_seed(0)
    same = random_grid(2, (8, 8), masks.device, zoom=1.0, elastic=0.0)
    pixels, classes = warp(images, masks, same)
    torch.testing.assert_close(pixels, images.float(), rtol=0, atol=1e-3)
    assert torch.equal(classes, masks)
    pixels, classes = warp(images, masks, same * 2)  # half as large: the rest is outside
    assert (classes[:, :2] == VOID).all() and (classes[:, 2:6, 2:6] != VOID).all() and (pixels[:, :, :1] == 127).all()


def test_an_elastic_deformation_moves_image_and_mask_alike():
    """The edge of a half plane, found in the deformed image, is that of the deformed mask."""
    torch.manual_seed(0)
    masks = torch.zeros(4, 64, 64, dtype=torch.uint8)
    masks[:, :, 32:] = 1
    images = 200 * masks.unsqueeze(1).repeat(1, 3, 1, 1)
    grid = random_grid(4, (64, 64), masks.device, zoom=1.0, elastic=6.0)
    pixels, classes = warp(images, masks, grid)
    inside = classes != VOID
    agree = (pixels[:, 0] > 100)[inside] == (classes == 1)[inside]
    assert agree.float().mean() > 0.99
    assert (classes != masks)[inside].float().mean() > 0.02, "something has moved"
    shift = (grid - random_grid(4, (64, 64), masks.device, zoom=1.0, elastic=0.0)) * 32
    assert 3 < shift[:, ::63, ::63].std() < 9, "the standard deviation of the corners, in pixels"


def test_augment_keeps_classes_and_draws_new_numbers():
    masks = random_masks(6, 32, 32)
    images = 40 * masks.unsqueeze(1).repeat(1, 3, 1, 1)
    options = Augmentation(crop=16, zoom=1.3, elastic=3.0)
    torch.manual_seed(0)
    one, other = augment(images, masks, options), augment(images, masks, options)
    assert one[0].shape == (6, 3, 16, 16) and one[1].shape == (6, 16, 16) and one[1].dtype == torch.uint8
    assert one[0].min() >= 0 and one[0].max() <= 255
    assert set(one[1].unique().tolist()) <= {0, 1, 2, 3, VOID}
    assert not torch.equal(one[0], other[0]) and not torch.equal(one[1], other[1])
    images, masks = coded(60, 2, 2)
    found = {
        tuple((classes - classes.min()).flatten().tolist()) for classes in augment(images, masks, Augmentation())[1]
    }
    assert len(found) == 8
    flat = augment(images, masks, Augmentation(rotations=False))[1]
    assert {tuple((classes - classes.min()).flatten().tolist()) for classes in flat} == {(0, 1, 2, 3), (1, 0, 3, 2)}


# Baselines.


def test_the_threshold_is_the_best_of_all():
    """Compared with all filters and levels, one after the other."""
    generator = torch.Generator().manual_seed(0)
    masks = (torch.rand(3, 12, 12, generator=generator) < 0.3).to(torch.uint8)
    grey = 130 - 40 * masks.float() + 40 * torch.randn(3, 12, 12, generator=generator)
    images = MaskedImages(grey.clamp(0, 255).to(torch.uint8).unsqueeze(1).repeat(1, 3, 1, 1), masks)

    def iou(threshold):
        return float(class_ious(confusion_matrix(masks, threshold.segment(images.pixels), 2))[1])

    chosen = fit_threshold(images)
    best = max(
        iou(Threshold(deviation, level)) for deviation in baselines.FILTERS for level in range(chosen.level - 60, 256)
    )
    assert iou(chosen) == pytest.approx(best, abs=1e-12)
    assert iou(chosen) > iou(Threshold(chosen.deviation, chosen.level + 15))


def test_the_filter_is_gaussian():
    point = torch.zeros(1, 3, 15, 15, dtype=torch.uint8)
    point[..., 7, 7] = 255
    found = grey_levels(point, 1.0)[0].double()
    expected = 255 * torch.exp(-(torch.arange(-3, 4) ** 2) / 2) / 2.5059
    close(found[7, 4:11], (expected / 2.5059).round().double(), 1e-9)
    flat = torch.full((1, 3, 9, 9), 100, dtype=torch.uint8)
    assert (grey_levels(flat, 2.0) == 100).all(), "also at the border"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60))
def test_otsus_level_has_the_smallest_variance_within_the_classes(seed, count):
    generator = torch.Generator().manual_seed(seed)
    grey = torch.randint(256, (count,), generator=generator)

    def within(level):
        parts = [part.double() for part in (grey[grey < level], grey[grey >= level])]
        return sum(float(((part - part.mean()) ** 2).sum()) for part in parts if len(part))

    level = otsu_level(histogram(grey))
    assert within(level) == pytest.approx(min(map(within, range(1, 256))), rel=1e-9, abs=1e-9)


def test_otsu_separates_two_levels_in_each_image():
    pixels = torch.full((2, 3, 4, 4), 200, dtype=torch.uint8)
    pixels[0, :, 0], pixels[1, :, 1] = 90, 20
    masks = otsu(pixels)
    assert masks[0].nonzero()[:, 0].unique().tolist() == [0] and masks[1].nonzero()[:, 0].unique().tolist() == [1]


# Figures.


def test_colours_are_those_of_pascal_voc():
    colours = palette(21).tolist()
    assert colours[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colours[15] == [192, 128, 128] and colours[20] == [0, 64, 128]
    assert colours[VOID] == [255, 255, 255] and colours[21] == [128, 128, 128]
    assert colour_masks(torch.tensor([[[0, 1]]], dtype=torch.uint8), 21)[0, :, 0, 1].tolist() == [128, 0, 0]


def test_marked_errors():
    masks = torch.tensor([[[0, 1, 1, 0, VOID]]], dtype=torch.uint8)
    guesses = torch.tensor([[[0, 1, 0, 1, 1]]], dtype=torch.uint8)
    pixels = torch.zeros(1, 3, 1, 5, dtype=torch.uint8)
    colours = mark_errors(pixels, masks, guesses)[0, :, 0].T.tolist()
    assert colours == [[160] * 3, [160] * 3, [230, 60, 50], [230, 60, 50], [160] * 3]
    colours = mark_binary_errors(pixels, masks, guesses)[0, :, 0].T.tolist()
    assert colours == [[150] * 3, [60, 60, 60], [40, 110, 230], [230, 60, 50], [150] * 3]
