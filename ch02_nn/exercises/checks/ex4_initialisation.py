"""Check of exercise 4: standard deviation of weights before a leaky ReLU."""

import math

import torch

from common.exercises.exercise import Case, Exercise

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
