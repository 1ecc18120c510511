"""Exercises of chapter 4: three typical wrong answers each, and what the reader is told."""

import math

import pytest
import torch

from ch04_cuda.exercises import checks
from ch04_cuda.exercises.checks.ex1_timing import SimulatedGpu
from common.exercises.check import check


def unsynchronised(gpu, steps):
    start = gpu.clock()
    for _ in range(steps):
        gpu.step()
    return (gpu.clock() - start) / steps


def synchronised_at_the_end(gpu, steps):
    gpu.step()
    start = gpu.clock()
    for _ in range(steps):
        gpu.step()
    gpu.wait()
    return (gpu.clock() - start) / steps


def sum_of_steps(gpu, steps):
    gpu.step()
    gpu.wait()
    total = 0.0
    for _ in range(steps):
        start = gpu.clock()
        gpu.step()
        gpu.wait()
        total += gpu.clock() - start
    return total / steps


def rounded_intensity(m, n, k, size, peak, bandwidth):
    intensity = 2 * m * n * k // (size * (m * k + k * n + m * n))
    return float(intensity), min(peak, intensity * bandwidth)


def unwritten_result(m, n, k, size, peak, bandwidth):
    intensity = 2 * m * n * k / size / (m * k + k * n)
    return intensity, min(peak, intensity * bandwidth)


def swapped_results(m, n, k, size, peak, bandwidth):
    return checks.ROOFLINE.reference(m, n, k, size, peak, bandwidth)[::-1]


def mean_of_means(x, y, w, size):
    slopes = (2 * (w * x - y) * x).split(size)
    return sum(part.mean().item() for part in slopes) / len(slopes)


def divided_by_full_parts(x, y, w, size):
    slopes = (2 * (w * x - y) * x).split(size)
    return sum(part.sum().item() / size for part in slopes) / len(slopes)


def as_tensor(x, y, w, size):
    return (2 * (w * x - y) * x).mean()


def truncated(x):
    return (x.view(torch.int32) & ~0xFFFF).view(torch.float32)


def half_up(x):
    return ((x.view(torch.int32) + 0x8000) & ~0xFFFF).view(torch.float32)


def six_bits(x):
    return ((x.view(torch.int32) + 0xFFFF) & ~0x1FFFF).view(torch.float32)


def all_parts(parts, t):
    return [[a + b for a, b in zip(parts[r], parts[r - 1], strict=True)] for r in range(len(parts))]


def changing_the_argument(parts, t):
    for sender in range(len(parts)):
        parts[(sender + 1) % len(parts)][(sender - t) % len(parts)] += parts[sender][(sender - t) % len(parts)]
    return parts


def part_of_the_receiver(parts, t):
    after = [list(values) for values in parts]
    for sender in range(len(parts)):
        receiver = (sender + 1) % len(parts)
        after[receiver][(receiver - t) % len(parts)] += parts[sender][(receiver - t) % len(parts)]
    return after


def whole_steps_only(small, large, images, batch):
    per_image = (large[1] - small[1]) / (large[0] - small[0])
    return max(1, images // batch) * (small[1] - small[0] * per_image) + images * per_image


def overhead_of_the_difference(small, large, images, batch):
    return math.ceil(images / batch) * small[1]


def full_last_batch(small, large, images, batch):
    per_image = (large[1] - small[1]) / (large[0] - small[0])
    return math.ceil(images / batch) * (small[1] + (batch - small[0]) * per_image)


WRONG = [
    (checks.TIMING, unsynchronised, "steps = 1 you return 1.0, expected 11.0"),
    (checks.TIMING, synchronised_at_the_end, "wait before the first reading of the clock"),
    (checks.TIMING, sum_of_steps, "waiting after each step keeps the CPU from preparing the next one"),
    (checks.ROOFLINE, rounded_intensity, "for the intensity you return 0.0, expected 0.666667"),
    (checks.ROOFLINE, unwritten_result, "the result is written to memory as well"),
    (checks.ROOFLINE, swapped_results, "for the intensity you return 6.66667, expected 0.666667"),
    (checks.ACCUMULATION, mean_of_means, "a sample of a small part gets a larger weight"),
    (checks.ACCUMULATION, divided_by_full_parts, "you return 0.5, expected 0.666667"),
    (checks.ACCUMULATION, as_tensor, "you return a tensor of shape () and dtype float64, expected a float"),
    (checks.BFLOAT16, truncated, "this cuts the lower bits, which rounds towards 0"),
    (checks.BFLOAT16, half_up, "halfway numbers go to the even one, not always up"),
    (checks.BFLOAT16, six_bits, "1.0078125 is nearer than 1"),
    (checks.RING, all_parts, "each process sends one part per turn, not all of them"),
    (checks.RING, changing_the_argument, "changes its argument parts in place"),
    (checks.RING, part_of_the_receiver, "process 0 sends part 0 to process 1"),
    (
        checks.ACTIVATIONS,
        lambda sizes, batch, size: batch * size * sum(sizes),
        "the output of the last layer is not kept",
    ),
    (checks.ACTIVATIONS, lambda sizes, batch, size: batch * size * sum(sizes[1:-1]), "the first layer keeps its input"),
    (checks.ACTIVATIONS, lambda sizes, batch, size: 4 * batch * sum(sizes[:-1]), "size = 2 you return 4, expected 2"),
    (checks.EPOCH_TIME, whole_steps_only, "round the number of steps up"),
    (checks.EPOCH_TIME, overhead_of_the_difference, "one step with three images"),
    (checks.EPOCH_TIME, full_last_batch, "the last batch has only the images that are left"),
]


@pytest.mark.parametrize(("exercise", "wrong", "part"), WRONG, ids=lambda value: getattr(value, "file", None))
def test_wrong_answers_are_explained(exercise, wrong, part):
    verdict = check(exercise, wrong)
    assert verdict.status == "wrong"
    assert part in f"{verdict.message}\n{verdict.note}"


def test_the_simulated_gpu_computes_while_the_cpu_goes_on():
    gpu = SimulatedGpu(call=1.0, step=10.0, first=5.0, queued=0.0)
    gpu.step()
    assert gpu.clock() == 1.0
    gpu.step()
    gpu.wait()
    assert gpu.clock() == 1 + 15 + 10
    gpu.wait()
    assert gpu.clock() == 26.0
