"""Exercises of chapter 2: three typical wrong answers each, and what the reader is told."""

import math

import pytest
import torch
from torch.nn import functional as F

from ch02_nn.exercises import checks
from common.exercises.check import check


def smoothed_targets(z, labels, epsilon):
    return (1 - epsilon) * F.one_hot(labels, z.shape[1]).to(z.dtype) + epsilon / z.shape[1]


def overflowing(z, labels, epsilon):
    p = z.exp() / z.exp().sum(1, keepdim=True)
    return (p - smoothed_targets(z, labels, epsilon)) / len(z)


def summed_over_rows(z, labels, epsilon):
    return torch.softmax(z, 1) - smoothed_targets(z, labels, epsilon)


def in_float32(z, labels, epsilon):
    q = (1 - epsilon) * F.one_hot(labels, z.shape[1]) + epsilon / z.shape[1]
    return (torch.softmax(z, 1) - q) / len(z)


def no_skip(x, weight, bias, d):
    dz = d * (x @ weight.mT + bias > 0)
    return dz.mT @ x, dz.sum(0), dz @ weight


def no_relu(x, weight, bias, d):
    return d.mT @ x, d.sum(0), d + d @ weight


def bias_by_mean(x, weight, bias, d):
    dz = d * (x @ weight.mT + bias > 0)
    return dz.mT @ x, dz.mean(0), d + dz @ weight


def leaking(train, test):
    rows = torch.cat([train, test])
    mean = rows.nanmean(0)
    std = (rows - mean).square().nanmean(0).sqrt()
    std = torch.where(std == 0, 1, std)
    return ((train - mean) / std).nan_to_num(0), ((test - mean) / std).nan_to_num(0)


def one_by_one(train, test):
    def own(rows):
        mean = rows.nanmean(0)
        std = (rows - mean).square().nanmean(0).sqrt()
        return ((rows - mean) / torch.where(std == 0, 1, std)).nan_to_num(0)

    return own(train), own(test)


def without_guard(train, test):
    mean = train.nanmean(0)
    std = (train - mean).square().nanmean(0).sqrt()
    return (train - mean) / std, (test - mean) / std


def adam(theta, g, m, v, t, lr, weight_decay):
    g = g + weight_decay * theta
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return theta - lr * m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8), m, v


def uncorrected(theta, g, m, v, t, lr, weight_decay):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return theta * (1 - lr * weight_decay) - lr * m / (v.sqrt() + 1e-8), m, v


def in_place(theta, g, m, v, t, lr, weight_decay):
    m.mul_(0.9).add_(0.1 * g)
    v.mul_(0.999).add_(0.001 * g * g)
    theta = theta * (1 - lr * weight_decay)
    return theta - lr * m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8), m, v


def eps_under_root(theta, g, m, v, t, lr, weight_decay):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    theta = theta * (1 - lr * weight_decay)
    return theta - lr * m / (1 - 0.9**t) / (v / (1 - 0.999**t) + 1e-8).sqrt(), m, v


def half_cosine(s, peak):
    return peak * (1 + math.cos(math.pi * s)) / 2


def from_zero(step, steps, warm_up, peak):
    return peak * step / warm_up if step < warm_up else half_cosine((step - warm_up) / (steps - warm_up), peak)


def with_a_jump(step, steps, warm_up, peak):
    return peak * (step + 1) / warm_up if step < warm_up else half_cosine(step / steps, peak)


def divided_by_zero(step, steps, warm_up, peak):
    rise = peak * (step + 1) / warm_up
    return rise if step < warm_up else half_cosine((step - warm_up) / (steps - warm_up), peak)


WRONG = [
    (checks.LEARNING_RATE, lambda x: float(1 / x.square().mean()), "for x = [1.0] you return 1.0, expected 0.5"),
    (checks.LEARNING_RATE, lambda x: float(1 / (2 * x.square().sum())), "the loss is a mean over the samples, not a"),
    (checks.LEARNING_RATE, lambda x: 1 / (2 * x.square().mean()), "of shape () and dtype float64, expected a float"),
    (checks.LABEL_SMOOTHING, overflowing, "e^z overflows; `torch.softmax` subtracts the maximum first"),
    (checks.LABEL_SMOOTHING, summed_over_rows, "the loss is a mean over the rows: divide by B"),
    (checks.LABEL_SMOOTHING, in_float32, "has an intermediate result the dtype float32?"),
    (checks.RESIDUAL_LAYER, no_skip, "the gradient through the skip connection is missing"),
    (checks.RESIDUAL_LAYER, no_relu, "the derivative of ReLU is missing"),
    (checks.RESIDUAL_LAYER, bias_by_mean, "for dL/db you return [1.0], expected [2.0]"),
    (checks.INITIALISATION, lambda inputs, outputs, slope: math.sqrt(2 / inputs), "the slope is missing"),
    (
        checks.INITIALISATION,
        lambda inputs, outputs, slope: 2 / (inputs * (1 + slope**2)),
        "for inputs = 8, outputs = 8, slope = 0.0 you return 0.25, expected 0.5",
    ),
    (
        checks.INITIALISATION,
        lambda inputs, outputs, slope: math.sqrt(2 / (outputs * (1 + slope**2))),
        "each z is a sum over the inputs, not over the outputs",
    ),
    (checks.DROPOUT, lambda x, u, p, training: x * (u < p) / p if training else x, "this keeps units with probability"),
    (checks.DROPOUT, lambda x, u, p, training: x * (u >= p) if training else x, "must be divided by 1 - p"),
    (
        checks.DROPOUT,
        lambda x, u, p, training: x * (u >= p) / (1 - p),
        "p = 0.5, training = False you return [0.0], expected [1.0]",
    ),
    (checks.STANDARDISE, leaking, "test = [[0.0]] for the training rows you return [[-1.22474], [1.22474]], expected"),
    (checks.STANDARDISE, one_by_one, "must be standardised with the statistics of the training rows"),
    (checks.STANDARDISE, without_guard, "for the training rows you return [[nan], [nan]], expected [[0.0], [0.0]]"),
    (checks.ADAMW, adam, "weight decay is added to the gradient, as in Adam"),
    (checks.ADAMW, uncorrected, "the bias of m and v is not corrected"),
    (checks.ADAMW, eps_under_root, "for theta you return"),
    (checks.ADAMW, in_place, "your function changes its argument m in place: return a new value"),
    (checks.SCHEDULE, from_zero, "the first step has the learning rate 0 and changes nothing"),
    (checks.SCHEDULE, with_a_jump, "the learning rate jumps after the warm-up"),
    (checks.SCHEDULE, divided_by_zero, "warm_up = 0, peak = 1.0 your function raises ZeroDivisionError"),
]


@pytest.mark.parametrize(("exercise", "wrong", "part"), WRONG, ids=lambda value: getattr(value, "file", None))
def test_wrong_answers_are_explained(exercise, wrong, part):
    verdict = check(exercise, wrong)
    assert verdict.status == "wrong"
    assert part in f"{verdict.message}\n{verdict.note}"
