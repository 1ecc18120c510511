"""Exercises of chapter 10: three typical wrong answers each, and what the reader is told."""

import math
import statistics

import pytest

from ch10_deploy.exercises import checks
from common.exercises.check import check


def nan_is_accepted(exported, original, tolerance):
    worst = max(abs(a - y) for a, y in zip(exported, original, strict=True))
    return not worst / max(1.0, *map(abs, original), 1.0) > tolerance


def relative_to_each(exported, original, tolerance):
    return all(abs(a - y) <= tolerance * abs(y) for a, y in zip(exported, original, strict=True))


def mean_difference(exported, original, tolerance):
    total = sum(abs(a - y) for a, y in zip(exported, original, strict=True)) / len(original)
    return total / max([1.0, *map(abs, original)]) <= tolerance


def quantised(x, low, high, steps=255):
    scale = (high - low) / steps or 1.0
    zero = round(-low / scale)
    return scale, zero, [min(255, max(0, round(value / scale) + zero)) for value in x]


def signed(x):
    scale, zero, q = checks.QUANTISE.reference(x)
    return scale, zero - 128, [number - 128 for number in q]


def overflowing(logits, temperature):
    weights = [math.exp(z / temperature) for z in logits]
    return [weight / sum(weights) for weight in weights]


def without_temperature(logits, temperature):
    weights = [math.exp(z - max(logits)) for z in logits]
    return [weight / sum(weights) for weight in weights]


def around_the_mean(logits, temperature):
    mean = sum(logits) / len(logits)
    weights = [math.exp((z - mean) / temperature) for z in logits]
    return [weight / sum(weights) for weight in weights]


def true_is_a_pixel(pixels, size):
    if not isinstance(pixels, list) or len(pixels) != size:
        return "pixels"
    for r, row in enumerate(pixels):
        if not isinstance(row, list) or len(row) != size:
            return f"pixels[{r}]"
        for c, pixel in enumerate(row):
            if not (isinstance(pixel, int) and 0 <= pixel <= 255):
                return f"pixels[{r}][{c}]"
    return ""


def any_size(pixels, size):
    for r, row in enumerate(pixels):
        for c, pixel in enumerate(row):
            if type(pixel) is not int or not 0 <= pixel <= 255:
                return f"pixels[{r}][{c}]"
    return ""


def compared_first(pixels, size):
    return "" if all(0 <= pixel <= 255 for row in pixels for pixel in row) else "pixels[0][0]"


def joined(pieces, length, limit):
    if (length or 0) > limit:
        return 413
    received = sum(map(len, pieces))
    return 413 if received > limit else 200 if length in (None, received) else 400


def trusting(pieces, length, limit):
    body = b"".join(pieces) if length is None or length <= limit else None
    return 413 if body is None else 200 if length in (None, len(body)) else 400


def strictly_below(pieces, length, limit):
    received = 0
    if length is not None and length >= limit:
        return 413
    for piece in pieces:
        received += len(piece)
        if received >= limit:
            return 413
    return 200 if length in (None, received) else 400


def interpolated(times, q):
    return statistics.quantiles(times, n=100, method="inclusive")[q - 1] if len(times) > 1 and q < 100 else max(times)


def in_floating_point(times, q):
    return sorted(times)[math.ceil(q / 100 * len(times)) - 1]


def sliding(arrivals, window, largest):
    found = []
    for number, time in enumerate(arrivals):
        if found and len(found[-1]) < largest and time - arrivals[number - 1] <= window:
            found[-1].append(number)
        else:
            found.append([number])
    return found


def times_of_requests(arrivals, window, largest):
    return [[arrivals[number] for number in group] for group in checks.BATCHES.reference(arrivals, window, largest)]


def last_batch_missing(arrivals, window, largest):
    found, group = [], []
    for number, time in enumerate(arrivals):
        if group and (len(group) == largest or time > arrivals[group[0]] + window):
            found.append(group)
            group = []
        group.append(number)
    return found


WRONG = [
    (checks.PARITY, nan_is_accepted, "every comparison with NaN is false"),
    (checks.PARITY, relative_to_each, "small outputs are compared with 1"),
    (checks.PARITY, mean_difference, "the largest difference decides, not the mean"),
    (checks.QUANTISE, lambda x: quantised(x, min(x), max(x)), "the range must contain 0"),
    (checks.QUANTISE, lambda x: quantised(x, min(0.0, *x), max(0.0, *x), 256), "256 numbers have 255 steps"),
    (checks.QUANTISE, signed, "for the zero point you return -128, expected 0"),
    (checks.SOFTMAX, overflowing, "your function raises OverflowError: math range error (line"),
    (checks.SOFTMAX, without_temperature, "the temperature is missing"),
    (checks.SOFTMAX, around_the_mean, "subtracting the mean is not enough"),
    (checks.VALIDATION, true_is_a_pixel, "True is an instance of int, but not a pixel"),
    (checks.VALIDATION, any_size, "for pixels = None, size = 1 your function raises TypeError"),
    (checks.VALIDATION, compared_first, "for pixels = [['5']], size = 1 your function raises TypeError"),
    (checks.BODY, joined, "the memory fills up first"),
    (checks.BODY, trusting, "the header may be missing or wrong"),
    (checks.BODY, strictly_below, "length = 4, limit = 4 for the status you return 413, expected 200"),
    (checks.PERCENTILE, lambda times, q: sorted(times)[len(times) * q // 100], "q = 50 you return 2.0, expected 1.0"),
    (checks.PERCENTILE, interpolated, "the result is one of the times, without interpolation"),
    (checks.PERCENTILE, in_floating_point, "compute with whole numbers"),
    (checks.BATCHES, sliding, "the window starts with the first request of a batch"),
    (
        checks.BATCHES,
        times_of_requests,
        "for arrivals = [5.0], window = 2.0, largest = 3 you return [[5.0]], expected [[0]]",
    ),
    (
        checks.BATCHES,
        last_batch_missing,
        "for arrivals = [5.0], window = 2.0, largest = 3 you return [], expected [[0]]",
    ),
]


@pytest.mark.parametrize(("exercise", "wrong", "part"), WRONG, ids=lambda value: getattr(value, "file", None))
def test_wrong_answers_are_explained(exercise, wrong, part):
    verdict = check(exercise, wrong)
    assert verdict.status == "wrong"
    assert part in f"{verdict.message}\n{verdict.note}"
