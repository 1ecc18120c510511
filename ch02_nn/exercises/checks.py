"""References, cases and hints of the exercises of chapter 2."""

import math
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.exercise import Arguments, Case, Exercise, integers, vector

# 1: learning rate


def inverse_second_derivative(x: Tensor) -> float:
    """1 / L'' by autograd: gradient descent on a quadratic function with this learning rate is Newton's method."""
    W = torch.zeros((), dtype=x.dtype, requires_grad=True)
    (slope,) = torch.autograd.grad((W * x).square().mean(), W, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, W)
    return 1 / curvature.item()


LEARNING_RATE = Exercise(
    file="ex1_learning_rate",
    function="best_learning_rate",
    reference=inverse_second_derivative,
    cases=(
        Case({"x": vector(1)}, "L = (W - y)^2 has the gradient 2 (W - y)"),
        Case({"x": vector(2)}, "for one sample r = 1 - 2 eta x^2"),
        Case({"x": vector(1, 1)}, "the loss is a mean: the same sample twice changes nothing"),
        Case({"x": vector(1, -1)}, "the sign of an input does not matter"),
        Case({"x": vector(1, 3)}, "the squares are averaged, not the inputs"),
    ),
    sample=lambda generator, size: {"x": integers(generator, size, low=1, high=4)},
    hint="Write dL/dW as a multiple of W - W*, where W* is the optimal weight. The second derivative of L contains it.",
    mistakes={
        "with this learning rate r is -1: the weight oscillates forever": lambda x: 2 * inverse_second_derivative(x),
        "the loss is a mean over the samples, not a sum": lambda x: inverse_second_derivative(x) / len(x),
        "the factor is the mean of the squares, not the square of the mean": lambda x: (
            float(0.5 / x.mean() ** 2) if x.mean() else math.inf
        ),
    },
)

# 2: label smoothing


def smoothed_gradient_by_autograd(z: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Gradient of PyTorch's loss by autograd."""
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(z, labels, label_smoothing=epsilon), z)
    return gradient


def classified(rows: list[list[float]], labels: list[int], epsilon: float) -> Arguments:
    """Arguments of the gradient."""
    return {"z": torch.tensor(rows, dtype=torch.float64), "labels": torch.tensor(labels), "epsilon": epsilon}


def sample_classified(generator: Random, size: int) -> Arguments:
    """Random logits and labels of a few rows and classes."""
    rows, classes = generator.randint(1, size), generator.randint(2, size + 1)
    labels = torch.tensor([generator.randrange(classes) for _ in range(rows)])
    epsilon = generator.choice([0.0, 0.1, 0.5])
    return {"z": integers(generator, rows, classes), "labels": labels, "epsilon": epsilon}


def one_hot(z: Tensor, labels: Tensor) -> Tensor:
    """Return one-hot labels with the dtype of the logits."""
    return F.one_hot(labels, z.shape[1]).to(z.dtype)


def with_naive_softmax(z: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Typical mistake: exponentials overflow."""
    q = (1 - epsilon) * one_hot(z, labels) + epsilon / z.shape[1]
    return (z.exp() / z.exp().sum(1, keepdim=True) - q) / len(z)


def without_label(z: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Typical mistake: divide epsilon among the other classes only."""
    y = one_hot(z, labels)
    return (torch.softmax(z, 1) - (1 - epsilon) * y - epsilon / (z.shape[1] - 1) * (1 - y)) / len(z)


LABEL_SMOOTHING = Exercise(
    file="ex2_label_smoothing",
    function="smoothed_gradient",
    reference=smoothed_gradient_by_autograd,
    cases=(
        Case(classified([[0, 0]], [0], 0.0), "without smoothing the gradient is (p - y) / B with one-hot y"),
        Case(classified([[0, 0], [0, 0]], [0, 1], 0.0), "the loss is a mean over the rows"),
        Case(classified([[0, 0]], [0], 0.2), "the label has q = 0.9, the other class 0.1"),
        Case(classified([[0, 0, 0]], [2], 0.3), "the label has q = 0.8, the other classes 0.1 each"),
        Case(classified([[1000, 0]], [0], 0.2), "e^1000 overflows"),
    ),
    sample=sample_classified,
    hint="Start from dL/dz = (p - q) / B. `F.one_hot` gives 1[k = label], `torch.softmax` does not overflow.",
    mistakes={
        "the loss is a mean over the rows: divide by B": lambda z, labels, epsilon: (
            len(z) * smoothed_gradient_by_autograd(z, labels, epsilon)
        ),
        "the labels are not smoothed": lambda z, labels, epsilon: (  # noqa: ARG005
            smoothed_gradient_by_autograd(z, labels, 0.0)
        ),
        "epsilon is divided among all K classes, the label's included": without_label,
        "the sign is wrong: the gradient points to larger losses": lambda z, labels, epsilon: (
            -smoothed_gradient_by_autograd(z, labels, epsilon)
        ),
        "e^z overflows; `torch.softmax` subtracts the maximum first": with_naive_softmax,
    },
)

# 3: residual layer

Gradients = tuple[Tensor, Tensor, Tensor]


def residual_gradients(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Gradients:
    """Gradients with respect to weight, bias and input by autograd."""
    x, weight, bias = (value.clone().requires_grad_() for value in (x, weight, bias))
    h = x + torch.relu(x @ weight.mT + bias)
    return torch.autograd.grad(h, (weight, bias, x), d)  # pyright: ignore[reportReturnType]


def residual(x: list, weight: list, bias: list, d: list) -> Arguments:
    """Arguments of the backward pass."""
    values = {"x": x, "weight": weight, "bias": bias, "d": d}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def sample_residual(generator: Random, size: int) -> Arguments:
    """Random layer of at most three units, and a batch of at most three rows."""
    units, rows = generator.randint(1, min(size, 3)), generator.randint(1, min(size, 3))
    shapes = {"x": (rows, units), "weight": (units, units), "bias": (units,), "d": (rows, units)}
    return {name: integers(generator, *shape, low=-2, high=2) for name, shape in shapes.items()}


def without_skip(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Gradients:
    """Typical mistake: no gradient through the skip connection."""
    by_weight, by_bias, by_input = residual_gradients(x, weight, bias, d)
    return by_weight, by_bias, by_input - d


def without_relu(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Gradients:  # noqa: ARG001
    """Typical mistake: no derivative of ReLU."""
    return d.mT @ x, d.sum(0), d + d @ weight


def masked_by_output(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Gradients:
    """Typical mistake: derivative of ReLU by the sign of h instead of z."""
    dz = d * (x + torch.relu(x @ weight.mT + bias) > 0)
    return dz.mT @ x, dz.sum(0), d + dz @ weight


def transposed(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Gradients:
    """Typical mistake: the weight is transposed in the backward pass."""
    dz = d * (x @ weight.mT + bias > 0)
    return dz.mT @ x, dz.sum(0), d + dz @ weight.mT


RESIDUAL_LAYER = Exercise(
    file="ex3_residual_layer",
    function="residual_backward",
    reference=residual_gradients,
    results=("dL/dW", "dL/db", "dL/dx"),
    cases=(
        Case(residual([[1]], [[0]], [1], [[1]]), "h = x + 1: the layer itself does not depend on x"),
        Case(residual([[1]], [[1]], [0], [[1]]), "h = 2 x, because z = x is positive"),
        Case(residual([[1]], [[-1]], [0], [[1]]), "z = -1: ReLU passes no gradient"),
        Case(residual([[1]], [[0]], [0], [[1]]), "z = 0: the derivative of ReLU is 0 there"),
        Case(residual([[-2]], [[0]], [1], [[1]]), "z = 1 is positive, although h = -1 is not"),
        Case(residual([[1], [2]], [[1]], [0], [[1], [1]]), "the gradients of two rows are added in dL/dW and dL/db"),
        Case(residual([[1, 2]], [[1, 3], [0, 1]], [0, 0], [[1, 0]]), "z_1 = x_1 + 3 x_2, so x_2 gets 3 d_1"),
    ),
    sample=sample_residual,
    hint=(
        "First compute dz, the gradient with respect to z: d where z > 0, else 0. dL/dW and dL/db are those of a "
        "linear layer. x is used twice: add the gradients of both uses."
    ),
    mistakes={
        "x is used twice: the gradient through the skip connection is missing": without_skip,
        "the derivative of ReLU is missing": without_relu,
        "the derivative of ReLU depends on the sign of z, not on that of h": masked_by_output,
        "z = x W^T, so the gradient of x is dz W, not dz W^T": transposed,
    },
)

# 4: initialisation

INITIALISATION = Exercise(
    file="ex4_initialisation",
    function="weight_deviation",
    reference=lambda inputs, outputs, slope: (  # noqa: ARG005
        torch.nn.init.calculate_gain("leaky_relu", slope) / math.sqrt(inputs)
    ),
    cases=(
        Case({"inputs": 2, "outputs": 2, "slope": 0.0}, "He's initialisation: variance 2 / I"),
        Case({"inputs": 8, "outputs": 8, "slope": 0.0}, "He's initialisation: variance 2 / I = 1 / 4"),
        Case({"inputs": 2, "outputs": 8, "slope": 0.0}, "each output is a sum over the I inputs"),
        Case({"inputs": 1, "outputs": 1, "slope": 1.0}, "with a slope of 1 the layer is linear: variance 1 / I"),
        Case({"inputs": 2, "outputs": 2, "slope": 0.5}, "half of the squares are multiplied by a^2"),
    ),
    sample=lambda generator, size: {
        "inputs": generator.randint(1, 4**size),
        "outputs": generator.randint(1, 4**size),
        "slope": generator.choice([0.0, 0.1, 0.2, 0.5, 1.0]),
    },
    hint="Let s be the mean square of z. Half of the z are positive: what is the mean square of f(z)?",
    mistakes={
        "this is the variance; its root is the standard deviation": lambda inputs, outputs, slope: (  # noqa: ARG005
            2 / (inputs * (1 + slope**2))
        ),
        "each z is a sum over the inputs, not over the outputs": lambda inputs, outputs, slope: (  # noqa: ARG005
            math.sqrt(2 / (outputs * (1 + slope**2)))
        ),
        "Glorot's compromise keeps neither pass exactly; here only the forward pass counts": (
            lambda inputs, outputs, slope: math.sqrt(4 / ((inputs + outputs) * (1 + slope**2)))
        ),
        "the slope is missing: negative z keep a part of their square": lambda inputs, outputs, slope: (  # noqa: ARG005
            math.sqrt(2 / inputs)
        ),
        "a changes z, so it changes the square by a^2": lambda inputs, outputs, slope: (  # noqa: ARG005
            math.sqrt(2 / (inputs * (1 + slope)))
        ),
    },
)

# 5: dropout


def dropped(x: list[float], u: list[float], p: float, training: bool = True) -> Arguments:
    """Arguments of dropout."""
    return {"x": vector(*x), "u": vector(*u), "p": p, "training": training}


def inverted_dropout(x: Tensor, u: Tensor, p: float, training: bool) -> Tensor:
    """Expected output, element by element."""
    if not training:
        return x.clone()
    return vector(*(0.0 if drawn < p else unit / (1 - p) for unit, drawn in zip(x.tolist(), u.tolist(), strict=True)))


def sample_dropped(generator: Random, size: int) -> Arguments:
    """Random units and probability."""
    u = vector(*(generator.randint(1, 19) / 20 for _ in range(size)))
    p = generator.choice([0.0, 0.25, 0.5, 0.75])
    return {"x": integers(generator, size), "u": u, "p": p, "training": generator.random() < 0.8}


DROPOUT = Exercise(
    file="ex5_dropout",
    function="dropout",
    reference=inverted_dropout,
    cases=(
        Case(dropped([1], [0.3], 0.5, training=False), "in evaluation nothing changes"),
        Case(dropped([1], [0.7], 0.5), "u is not below p: the unit is kept, and divided by 1 - p"),
        Case(dropped([1], [0.3], 0.5), "u is below p: the unit is set to 0"),
        Case(dropped([1], [0.7], 0.2), "a kept unit is divided by 1 - p = 0.8"),
        Case(dropped([1, 1], [0.1, 0.7], 0.2), "only the first u is below p"),
        Case(dropped([1], [0.7], 0.0), "with p = 0 nothing is dropped"),
    ),
    sample=sample_dropped,
    hint="With which probability does the function set a unit to 0? Compare p = 0.1 with the task's first sentence.",
    mistakes={
        "this keeps units with probability p; p is the probability that a unit is set to 0": lambda x, u, p, training: (
            x * (u < p) / (p or math.nan) if training else x
        ),
        "units are kept with the wrong probability: set x_i to 0 where u_i < p": lambda x, u, p, training: (
            x * (u < p) / (1 - p) if training else x
        ),
        "the kept units must be divided by 1 - p": lambda x, u, p, training: x * (u >= p) if training else x,
        "the kept units are divided by 1 - p in training, so evaluation changes nothing": lambda x, u, p, training: (
            x * (u >= p) / (1 - p) if training else x * (1 - p)
        ),
    },
)

# 6: standardised columns


def standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Expected columns, number by number."""

    def column(values: list[float], known: list[float]) -> list[float]:
        mean = sum(known) / len(known) if known else 0.0
        variance = sum((value - mean) ** 2 for value in known) / len(known) if known else 0.0
        deviation = math.sqrt(variance) or 1.0
        return [0.0 if math.isnan(value) or not known else (value - mean) / deviation for value in values]

    pairs = [
        (one, other, [value for value in one if not math.isnan(value)])
        for one, other in zip(train.mT.tolist(), test.mT.tolist(), strict=True)
    ]
    one = torch.tensor([column(values, known) for values, _, known in pairs], dtype=train.dtype)
    other = torch.tensor([column(values, known) for _, values, known in pairs], dtype=train.dtype)
    return one.mT, other.mT


def table(train: list[list[float]], test: list[list[float]]) -> Arguments:
    """Arguments of the function."""
    return {"train": torch.tensor(train, dtype=torch.float64), "test": torch.tensor(test, dtype=torch.float64)}


def sample_table(generator: Random, size: int) -> Arguments:
    """Random table with missing numbers in the test rows."""
    columns = generator.randint(1, min(size, 3))
    train, test = integers(generator, size + 1, columns), integers(generator, generator.randint(1, size), columns)
    test[0, 0] = math.nan if generator.random() < 0.3 else test[0, 0]
    return {"train": train, "test": test}


def standardised_with(rows_of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[..., tuple]:
    """Make a wrong function whose statistics of the train and test rows come from the given rows."""

    def wrong(train: Tensor, test: Tensor) -> tuple[Tensor, ...]:
        results = []
        for rows, known in zip((train, test), rows_of(train, test), strict=True):
            mean = known.nanmean(0)
            std = (known - mean).square().nanmean(0).sqrt()
            results.append(((rows - mean) / torch.where(std == 0, 1, std)).nan_to_num(0))
        return tuple(results)

    return wrong


def both_sets(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Statistics of all rows, for both."""
    return torch.cat([train, test]), torch.cat([train, test])


STANDARDISE = Exercise(
    file="ex6_standardise",
    function="standardise",
    reference=standardised,
    results=("the training rows", "the test rows"),
    cases=(
        Case(table([[-1], [1]], [[0]]), "mean 0, standard deviation 1"),
        Case(table([[1], [3]], [[5]]), "the training rows have the mean 2 and the standard deviation 1"),
        Case(table([[4], [4]], [[5]]), "a standard deviation of 0 is replaced by 1"),
        Case(table([[1], [3], [math.nan]], [[math.nan]]), "a missing number becomes 0 and does not change the mean"),
    ),
    sample=sample_table,
    hint="The mean and the standard deviation are learned from data. Which rows may a model see before it is tested?",
    mistakes={
        "the test rows change the statistics, so information about them leaks into training": (
            standardised_with(both_sets)
        ),
        "the test rows must be standardised with the statistics of the training rows": (
            standardised_with(lambda train, test: (train, test))
        ),
    },
)

# 7: AdamW


def adamw_of_numbers(
    theta: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float, weight_decay: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Expected step, number by number; a test compares it with torch.optim.AdamW, whose import takes seconds."""
    steps = []
    for p, slope, mean, square in zip(theta.tolist(), g.tolist(), m.tolist(), v.tolist(), strict=True):
        mean += (slope - mean) / 10
        square += (slope * slope - square) / 1000
        direction = mean / (1 - 0.9**t) / (math.sqrt(square / (1 - 0.999**t)) + 1e-8)
        steps.append((p - lr * (weight_decay * p + direction), mean, square))
    after = torch.tensor(steps, dtype=theta.dtype)
    return after[:, 0], after[:, 1], after[:, 2]


def adam_arguments(
    theta: float, g: float, m: float = 0, v: float = 0, t: int = 1, lr: float = 0.1, weight_decay: float = 0.0
) -> Arguments:
    """Arguments of a step of one parameter."""
    tensors = {"theta": vector(theta), "g": vector(g), "m": vector(m), "v": vector(v)}
    return {**tensors, "t": t, "lr": lr, "weight_decay": weight_decay}


def sample_adam(generator: Random, size: int) -> Arguments:
    """Random state of `size` parameters."""
    tensors = {name: integers(generator, size) for name in ("theta", "g", "m")}
    options = {"lr": 0.1, "weight_decay": generator.choice([0.0, 0.5])}
    return {**tensors, "v": integers(generator, size, low=0), "t": generator.randint(1, 5), **options}


def wrong_adam(*, corrected: bool = True, coupled: bool = False, decay_factor: bool = True) -> Callable[..., tuple]:
    """Make a wrong step."""

    def step(
        theta: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float, weight_decay: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        if coupled:
            g = g + weight_decay * theta
        else:
            theta = theta * (1 - (lr if decay_factor else 1) * weight_decay)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        m_hat, v_hat = (m / (1 - 0.9**t), v / (1 - 0.999**t)) if corrected else (m, v)
        return theta - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v

    return step


ADAMW = Exercise(
    file="ex7_adamw",
    function="adamw_step",
    reference=adamw_of_numbers,
    results=("theta", "m", "v"),
    cases=(
        Case(adam_arguments(1.0, 1.0), "in the first step m^ = g and sqrt(v^) = |g|: the parameter moves by lr"),
        Case(adam_arguments(1.0, 4.0), "in the first step the size of the gradient does not matter"),
        Case(adam_arguments(1.0, 1.0, m=1.0, v=1.0, t=2), "the second step"),
        Case(
            adam_arguments(1.0, 0.0, weight_decay=0.5), "without a gradient, theta shrinks by the factor 1 - lr lambda"
        ),
        Case(adam_arguments(1.0, 1e-6), "a small gradient: eps is added to the root, not under it"),
    ),
    sample=sample_adam,
    hint=(
        "Follow the four lines of the task in order. m^ and v^ are used once; the m and v that you return are not "
        "corrected."
    ),
    mistakes={
        "the bias of m and v is not corrected": wrong_adam(corrected=False),
        "weight decay is added to the gradient, as in Adam; in AdamW it does not enter m and v": wrong_adam(
            coupled=True
        ),
        "the weight decay is multiplied by the learning rate": wrong_adam(decay_factor=False),
    },
)

# 8: schedule


def cosine_squared(step: int, steps: int, warm_up: int, peak: float) -> float:
    """Expected learning rate; (1 + cos a) / 2 = cos(a / 2)^2."""
    if step < warm_up:
        return peak - peak * (warm_up - 1 - step) / warm_up
    return peak * math.cos(math.pi / 2 * (step - warm_up) / (steps - warm_up)) ** 2


def scheduled(step: int, steps: int, warm_up: int) -> Arguments:
    """Arguments of a schedule with the peak 1."""
    return {"step": step, "steps": steps, "warm_up": warm_up, "peak": 1.0}


def sample_scheduled(generator: Random, size: int) -> Arguments:
    """Random step of a random schedule."""
    steps = generator.randint(2, 4 * size)
    numbers = {"step": generator.randrange(steps), "steps": steps, "warm_up": generator.randrange(steps)}
    return {**numbers, "peak": generator.choice([0.1, 1.0])}


def cosine_of(fraction: float, peak: float) -> float:
    """Half a cosine from the peak to 0."""
    return peak * (1 + math.cos(math.pi * fraction)) / 2


SCHEDULE = Exercise(
    file="ex8_schedule",
    function="warm_up_cosine",
    reference=cosine_squared,
    cases=(
        Case(scheduled(0, 2, 0), "without a warm-up, the first step has the peak"),
        Case(scheduled(1, 2, 0), "half of the cosine"),
        Case(scheduled(0, 4, 2), "the first step of the warm-up is not 0"),
        Case(scheduled(1, 4, 2), "the last step of the warm-up has the peak"),
        Case(scheduled(2, 4, 2), "the cosine starts at the peak"),
        Case(scheduled(3, 4, 2), "half of the cosine, which takes T - W steps"),
    ),
    sample=sample_scheduled,
    hint="s is 0 in step W and 1 in step T. Divide the steps since the warm-up by the number of steps after it.",
    mistakes={
        "the first step has the learning rate 0 and changes nothing": lambda step, steps, warm_up, peak: (
            peak * step / warm_up if step < warm_up else cosine_of((step - warm_up) / (steps - warm_up), peak)
        ),
        "the learning rate jumps after the warm-up: s must be 0 in step W": lambda step, steps, warm_up, peak: (
            peak * (step + 1) / warm_up if step < warm_up else cosine_of(step / steps, peak)
        ),
        "the cosine ends too late: s must be 1 in step T": lambda step, steps, warm_up, peak: (
            peak * (step + 1) / warm_up if step < warm_up else cosine_of((step - warm_up) / steps, peak)
        ),
        "s is 1 in step T, not in step T - 1": lambda step, steps, warm_up, peak: (
            peak * (step + 1) / warm_up
            if step < warm_up
            else cosine_of((step - warm_up) / max(1, steps - warm_up - 1), peak)
        ),
    },
)

EXERCISES = (*(LEARNING_RATE, LABEL_SMOOTHING, RESIDUAL_LAYER, INITIALISATION, DROPOUT, STANDARDISE, ADAMW, SCHEDULE),)
"""Exercises of the chapter in order."""
