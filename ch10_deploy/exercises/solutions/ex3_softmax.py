"""Solution: divide by the temperature, then subtract the maximum.

The largest exponent is 0, so nothing overflows and the sum is at least 1. Exponents far below 0 become 0, which is
right to the last digit.
"""

import math


def softmax(logits: list[float], temperature: float) -> list[float]:
    """Logits, temperature -> probabilities, with the standard library only"""
    largest = max(logits)
    weights = [math.exp((z - largest) / temperature) for z in logits]
    total = sum(weights)
    return [weight / total for weight in weights]
