"""Softmax with a temperature, without PyTorch (10 minutes)

A server without PyTorch turns the logits z_k of the next symbol into probabilities:

    p_k = e^(z_k / T) / sum_j e^(z_j / T)

with a temperature T > 0: a low one prefers the most probable symbols. `math.exp` raises OverflowError above 709, and
with T = 0.01 a logit of 10 becomes 1000. Any finite logits must give the right result.

Check: python -m ch10_deploy.exercises 3
"""


def softmax(logits: list[float], temperature: float) -> list[float]:
    """Logits, temperature -> probabilities, with the standard library only"""
    raise NotImplementedError
