"""Check of exercise 4: round float32 to bfloat16."""

from random import Random

import torch
from torch import Tensor

from common.exercises.arguments import single
from common.exercises.exercise import Arguments, Case, Exercise


def bits(*values: int) -> Tensor:
    """Return the float32 numbers with these bits."""
    return torch.tensor(values, dtype=torch.int64).to(torch.int32).view(torch.float32)


def add_and_cut(x: Tensor, added: int, mask: int = ~0xFFFF) -> Tensor:
    """Add a number to the bits and keep some of them."""
    return ((x.view(torch.int32) + added) & mask).view(torch.float32)


def sample_numbers(generator: Random, size: int) -> Arguments:
    """Random numbers, many of them exactly between two bfloat16 numbers."""
    found = []
    for _ in range(size):
        upper = generator.choice([0, 0x8000]) + generator.randint(0x3E00, 0x4200)
        found.append((upper << 16) + generator.choice([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]))
    return {"x": bits(*(value - (1 << 32) if value >= 1 << 31 else value for value in found))}


BFLOAT16 = Exercise(
    file="ex4_bfloat16",
    function="round_to_bfloat16",
    reference=lambda x: x.to(torch.bfloat16).float(),
    tolerance=0.0,
    cases=(
        Case({"x": single(1, -2.5)}, "numbers that bfloat16 can represent"),
        Case({"x": single(1.001)}, "the nearest bfloat16 numbers are 1 and 1.0078125"),
        Case({"x": single(1.005)}, "1.0078125 is nearer than 1"),
        Case({"x": single(-1.005)}, "negative numbers are rounded to the nearest as well"),
        Case({"x": bits(0x3F808000)}, "1.00390625 is halfway: the last bit of 1 is 0"),
        Case({"x": bits(0x3F818000)}, "1.01171875 is halfway between two numbers: up, to the one whose last bit is 0"),
        Case({"x": single(1.999)}, "a carry out of the mantissa: 2"),
        Case({"x": bits(0x7F7FFFFF)}, "the largest float32 number is rounded to infinity"),
    ),
    sample=sample_numbers,
    sample_note="above, below and exactly halfway",
    hint=(
        "Cutting the lower 16 bits rounds towards 0. Which number must be added first, so that more than one half "
        "carries into the upper half? And how does exactly one half carry only if the last kept bit, (bits >> 16) & 1, "
        "is 1?"
    ),
    mistakes={
        "this cuts the lower bits, which rounds towards 0": lambda x: add_and_cut(x, 0),
        "halfway numbers go to the even one, not always up": lambda x: add_and_cut(x, 0x8000),
        "halfway numbers go to the even one, not always down": lambda x: add_and_cut(x, 0x7FFF),
        "bfloat16 has 7 bits of mantissa; this keeps more": lambda x: add_and_cut(x, 0, ~0x1FFF),
        "this rounds to float16, which has 10 bits of mantissa and a smaller range": lambda x: x.half().float(),
    },
)
