"""Chapter 5's language model at work: one symbol after the other, drawn from what the network says.

Dimensions: V symbols, S numbers of a state.
"""

from collections.abc import Iterator

import numpy as np

from ch10_deploy.inference.models import Model
from ch10_deploy.server.refusal import Refusal


class Writer:
    """Goes on with a text."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.symbols: list[str] = model.serving.symbols
        self.unknown: int | None = model.serving.unknown
        self.first: int = model.serving.first
        self.state_size: int = model.serving.state_size
        self.index = {symbol: number for number, symbol in enumerate(self.symbols)}

    def numbers(self, prompt: str) -> list[int]:
        """Turn a prompt into symbols' numbers; without one the text begins after the end of a line.

        Raises Refusal where the network knows none of its characters.
        """
        if not prompt:
            return [self.first]
        numbers = [self.index.get(symbol, self.unknown) for symbol in prompt]
        if all(number in (None, self.unknown) for number in numbers):
            raise Refusal("the network knows none of these characters: begin as in what it has read", field="prompt")
        return [number for number in numbers if number is not None]

    def write(
        self, numbers: list[int], *, length: int, temperature: float, top_k: int | None, seed: int
    ) -> Iterator[str]:
        """Yield so many symbols after those that are given; and while these are read, empty texts."""
        rng = np.random.default_rng(seed)
        state = np.zeros((1, self.state_size), np.float32)
        logits = np.zeros(len(self.symbols))
        for number in numbers:
            logits, state = self._step(number, state)
            yield ""
        for _ in range(length):
            number = int(rng.choice(len(self.symbols), p=sharpen(logits, temperature=temperature, top_k=top_k)))
            yield self.symbols[number]
            logits, state = self._step(number, state)

    def _step(self, number: int, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read a symbol: (1, S) -> (V,) logits of the next, in which the unknown never comes, and (1, S)"""
        answer = self.model(token=np.array([number]), state=state)
        logits = answer["logits"][0].astype(np.float64)
        if self.unknown is not None:
            logits[self.unknown] = -np.inf
        return logits, answer["next_state"]


def sharpen(logits: np.ndarray, *, temperature: float, top_k: int | None) -> np.ndarray:
    """(V,) logits -> (V,) probabilities that are drawn from: chapter 5's, without torch

    p ~ exp(z / temperature) over the k most probable; at 0 only the most probable is left.
    """
    if temperature == 0:
        top_k, temperature = 1, 1.0
    z = (logits - logits.max()) / temperature
    p = np.exp(z)
    if top_k is not None:
        p[np.argsort(-z, kind="stable")[top_k:]] = 0
    return p / p.sum()
