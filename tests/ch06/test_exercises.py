"""Exercises of chapter 6: three typical wrong answers each, and what the reader is told."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ch06_cnn.exercises import checks
from ch06_cnn.exercises.checks import ex8_small_network as small
from common.exercises.check import check


def windows_as_rows(x, kernel, stride):
    return x.unfold(1, kernel, stride).unfold(2, kernel, stride).permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1)


def beyond_the_border(x, kernel, stride):
    _, height, width = x.shape
    padded = F.pad(x, (0, kernel, 0, kernel))
    corners = [(r, c) for r in range(0, height, stride) for c in range(0, width, stride)]
    return torch.stack([padded[:, r : r + kernel, c : c + kernel].flatten() for r, c in corners], 1)


def pixels_first(x, kernel, stride):
    return F.unfold(x[None], kernel, stride=stride)[0].unflatten(0, (len(x), -1)).transpose(0, 1).flatten(0, 1)


def fields(n, layers, *, growth):
    field = jump = 1
    for kernel, stride, padding in layers:
        n = (n + 2 * padding - kernel) // stride + 1
        field += growth(kernel, stride, jump)
        jump *= stride
    return n, field


def without_padding(n, layers):
    return checks.RECEPTIVE_FIELD.reference(n, [(kernel, stride, 0) for kernel, stride, _ in layers])


def intersection(a, b):
    return [min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in range(2)]


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def unclamped(a, b):
    width, height = intersection(a, b)
    return width * height / (area(a) + area(b) - width * height)


def clamped_area(a, b):
    width, height = intersection(a, b)
    common = max(0.0, width * height)
    return common / (area(a) + area(b) - common)


def of_the_smaller(a, b):
    width, height = (max(0.0, side) for side in intersection(a, b))
    return width * height / min(area(a), area(b))


def all_pairs(iou, scores, threshold):
    order = scores.argsort(descending=True, stable=True).tolist()
    return [box for place, box in enumerate(order) if all(iou[box, other] <= threshold for other in order[:place])]


def in_given_order(iou, scores, threshold):
    kept = []
    for box in range(len(scores)):
        if all(iou[box, other] <= threshold for other in kept):
            kept.append(box)
    return kept


def sorted_by_number(iou, scores, threshold):
    return sorted(checks.SUPPRESSION.reference(iou, scores, threshold))


def always_of_the_batch(x, mean, var, training):
    y, new_mean, new_var = F.batch_norm(x, None, None, training=True) if len(x) > 1 else x * 0, mean, var
    if training:
        new_mean, new_var = 0.9 * mean + 0.1 * x.mean(0), 0.9 * var + 0.1 * x.var(0)
    return y, new_mean, new_var


def biased(x, mean, var, training):
    if not training:
        return F.batch_norm(x, mean, var), mean, var
    new_var = 0.9 * var + 0.1 * x.var(0, correction=0)
    return F.batch_norm(x, None, None, training=True), 0.9 * mean + 0.1 * x.mean(0), new_var


def in_place(x, mean, var, training):
    return F.batch_norm(x, mean, var, training=training), mean, var


def truncating(image, x, y):
    left, top, value = int(x), int(y), 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                value += float(image[row, column]) * (1 - abs(x - column)) * (1 - abs(y - row))
    return value


def outside_raises(image, x, y):
    left, top = math.floor(x), math.floor(y)
    return sum(
        float(image[row, column]) * (1 - abs(x - column)) * (1 - abs(y - row))
        for row in (top, top + 1)
        for column in (left, left + 1)
    )


def transposed(image, x, y):
    return checks.BILINEAR.reference(image, y, x)


WRONG = [
    (checks.IM2COL, windows_as_rows, "each window is a column of the matrix, not a row"),
    (checks.IM2COL, beyond_the_border, "one window: its elements go row by row"),
    (checks.IM2COL, pixels_first, "the channel comes first"),
    (
        checks.RECEPTIVE_FIELD,
        lambda n, layers: fields(n, layers, growth=lambda kernel, stride, jump: kernel - 1),
        "n = 9, layers = [(3, 2, 1), (3, 1, 1)] for the receptive field you return 5, expected 7",
    ),
    (
        checks.RECEPTIVE_FIELD,
        lambda n, layers: fields(n, layers, growth=lambda kernel, stride, jump: (kernel - 1) * jump * stride),
        "the stride of a layer counts for the layers after it",
    ),
    (checks.RECEPTIVE_FIELD, without_padding, "a padding of 1 on either side keeps the size"),
    (checks.IOU, unclamped, "clamp its width and its height to 0"),
    (checks.IOU, clamped_area, "for a = (0.0, 0.0, 1.0, 1.0), b = (2.0, 2.0, 3.0, 3.0) you return 1.0, expected 0.0"),
    (checks.IOU, of_the_smaller, "divide by the area of the union"),
    (checks.SUPPRESSION, all_pairs, "compare with the kept boxes only"),
    (checks.SUPPRESSION, in_given_order, "you return [0, 1], expected [1, 0]"),
    (checks.SUPPRESSION, sorted_by_number, "the higher score first"),
    (checks.BATCH_NORM, always_of_the_batch, "training = False for the values you return [[0.0]]"),
    (checks.BATCH_NORM, biased, "the running variance moves towards the unbiased variance"),
    (checks.BATCH_NORM, in_place, "changes its argument mean in place: return a new value"),
    (checks.GRAD_CAM, lambda maps, gradients: (maps * gradients).sum(0).relu(), "alpha is one number per map"),
    (
        checks.GRAD_CAM,
        lambda maps, gradients: (gradients.mean((1, 2), keepdim=True) * maps).relu().sum(0),
        "the ReLU comes after the sum",
    ),
    (
        checks.GRAD_CAM,
        lambda maps, gradients: (gradients.mean((1, 2)) * maps).sum(0).relu(),
        "you return a tensor of shape (1, 2) and dtype float64, expected",
    ),
    (checks.BILINEAR, truncating, "`int` rounds towards 0"),
    (checks.BILINEAR, outside_raises, "your function raises IndexError"),
    (checks.BILINEAR, transposed, "x runs through the columns"),
    (checks.SMALL_NETWORK, lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "7,850 parameters, at most 1,000"),
    (checks.SMALL_NETWORK, lambda: nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 9)), "expected (20, 10)"),
    (checks.SMALL_NETWORK, lambda: nn.Linear(784, 1), "the measurement raises RuntimeError: mat1 and mat2 shapes"),
    (checks.SMALL_NETWORK, lambda: [nn.Linear(1, 1)], "expected an nn.Module"),
]


@pytest.mark.parametrize(("exercise", "wrong", "part"), WRONG, ids=lambda value: getattr(value, "file", None))
def test_wrong_answers_are_explained(exercise, wrong, part):
    verdict = check(exercise, wrong)
    assert verdict.status == "wrong"
    assert part in f"{verdict.message}\n{verdict.note}"


def test_the_digits_network_is_measured_on_other_images_than_it_is_trained_on(monkeypatch):
    trained, evaluated = [], []
    monkeypatch.setattr(small, "train", lambda model, images, labels: trained.append(images))

    class Watched(nn.Linear):
        def forward(self, images):
            if not self.training:
                evaluated.append(images)
            return super().forward(images[:, 0, ::7, ::7].flatten(1))

    verdict = check(checks.SMALL_NETWORK, lambda: Watched(16, 10))
    assert verdict.status == "wrong"
    assert verdict.note == small.TOO_WEAK
    images, _ = small.digits()
    assert len(trained) == len(evaluated) == len(small.SEEDS)
    assert torch.equal(torch.cat([trained[0], evaluated[0]]), images)
