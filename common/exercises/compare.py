"""Compare the result of a function with the expected one, and print values as Python would."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

SHOWN = 12
"""Largest number of elements of a tensor that is printed."""
FLOAT32 = 1e-6
"""Tolerance of float32; if a result is wrong only by this, the message mentions the dtype."""
LONGEST = 160
"""Largest number of characters of a list or tuple that is printed."""


def plain(value: Any) -> Any:
    """Convert a tensor to nested lists, also inside tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, tuple | list):
        return type(value)(map(plain, value)) if type(value) in (tuple, list) else value
    return {name: plain(item) for name, item in value.items()} if isinstance(value, dict) else value


def show(value: Any, digits: int = 6) -> str:
    """Format a value: `[1000.0, 0.0]`; a large tensor by its shape."""
    if isinstance(value, Tensor) and value.numel() > SHOWN:
        return f"a tensor of shape {tuple(value.shape)}"
    value = plain(value)
    if isinstance(value, float):
        text = f"{value:.{digits}g}"
        return text if not math.isfinite(value) or any(sign in text for sign in ".e") else text + ".0"
    if type(value) in (tuple, list):
        inner = ", ".join(show(item, digits) for item in value)
        if len(inner) > LONGEST:
            return kind(value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {show(item, digits)}" for name, item in value.items()) + "}"
    return getattr(value, "__name__", None) or repr(value)


def kind(value: Any) -> str:
    """Name the type of a value in words: `a tensor of shape (2,) and dtype float64`."""
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and dtype {str(value.dtype).removeprefix('torch.')}"
    if type(value) in (tuple, list):
        return f"a {type(value).__name__} of {len(value)} elements"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are identical; NaN equals NaN."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape and repr(plain(a)) == repr(plain(b))
    return repr(plain(a)) == repr(plain(b))


def error_of(expected: Any, returned: Any, tolerance: float, names: Sequence[str] = ()) -> str | None:
    """Return what is wrong with a result, as `you return nan, expected 0.0`; None if it is right.

    `names` name the elements of a tuple.
    """
    if agree(expected, returned, tolerance):
        return None
    if returned is None:
        return "you return None: is a `return` statement missing?"
    if names and isinstance(returned, tuple) and len(returned) == len(names):
        for name, one, other in zip(names, expected, returned, strict=True):
            if wrong := error_of(one, other, tolerance):
                return f"for {name} {wrong}"
    kinds = kind(returned), kind(expected)
    if kinds[0] != kinds[1] and (names or isinstance(expected, Tensor) or isinstance(returned, Tensor)):
        return f"you return {kinds[0]}, expected {kinds[1]}"
    if isinstance(expected, Tensor) and isinstance(returned, Tensor) and expected.numel() > SHOWN:
        return _element_error(expected, returned.detach(), tolerance)
    texts = show(returned), show(expected)
    if texts[0] == texts[1]:
        texts = show(returned, 17), show(expected, 17)
    accuracy = ": has an intermediate result the dtype float32?" if agree(expected, returned, FLOAT32) else ""
    return f"you return {texts[0]}, expected {texts[1]}{accuracy}"


def agree(expected: Any, returned: Any, tolerance: float) -> bool:
    """Tell whether a result is right: numbers up to the tolerance, everything else exactly.

    A tensor must have the expected shape and dtype; an integer is accepted for a floating-point number.
    """
    if isinstance(expected, Tensor):
        fits = isinstance(returned, Tensor) and expected.shape == returned.shape and expected.dtype == returned.dtype
        return fits and close(expected, returned.detach(), tolerance)
    if isinstance(expected, float):
        if not isinstance(returned, float | int) or isinstance(returned, bool):
            return False
        one, other = (torch.tensor(float(value), dtype=torch.float64) for value in (expected, returned))
        return close(one, other, tolerance)
    if isinstance(expected, tuple | list):
        fits = isinstance(returned, type(expected)) and len(expected) == len(returned)
        return fits and all(agree(one, other, tolerance) for one, other in zip(expected, returned, strict=True))
    return type(expected) is type(returned) and same(expected, returned)


def close(expected: Tensor, returned: Tensor, tolerance: float) -> bool:
    """Tell whether numbers agree up to the tolerance; infinities and NaN must be equal."""
    if not expected.is_floating_point():
        return torch.equal(expected, returned)
    finite = expected.isfinite()
    scale = float(expected[finite].abs().max().clamp_min(1)) if finite.any() else 1.0
    difference = (expected[finite].double() - returned[finite].double()).abs()
    return bool((difference <= tolerance * scale).all()) and same(expected[~finite], returned[~finite])


def _element_error(expected: Tensor, returned: Tensor, tolerance: float) -> str:
    """Describe the first wrong element of a large tensor."""
    for index in torch.cartesian_prod(*map(torch.arange, expected.shape)).reshape(-1, expected.ndim).tolist():
        one, other = expected[tuple(index)], returned[tuple(index)]
        if not close(one, other, tolerance):
            return f"you return {show(other, 17)} at index {index}, expected {show(one, 17)}"
    return "you return a tensor with small errors in many elements"
