"""Generate text with chapter 5's language models, sampling one symbol at a time.

The recurrent network and the Transformer have the same interface: a symbol and a state, which is zero at the start.

Dimensions: V symbols, S size of the state.
"""

from collections.abc import Iterator

import numpy as np

from ch10_deploy.inference.models import Model
from ch10_deploy.server.refusal import Refusal


class TextGenerator:
    """Continue a prompt."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.symbols: list[str] = model.serving.symbols
        self.unknown: int | None = model.serving.unknown
        self.first: int = model.serving.first
        self.state_size: int = model.serving.state_size
        self.index = {symbol: number for number, symbol in enumerate(self.symbols)}

    def encode(self, prompt: str) -> list[int]:
        """Convert a prompt to token numbers; an empty prompt becomes the start token.

        Raises Refusal if none of its characters is in the vocabulary.
        """
        if not prompt:
            return [self.first]
        numbers = [self.index.get(symbol, self.unknown) for symbol in prompt]
        if all(number in (None, self.unknown) for number in numbers):
            raise Refusal("no character is in the network's vocabulary: use those of its training text", field="prompt")
        return [number for number in numbers if number is not None]

    def generate(
        self, numbers: list[int], *, length: int, temperature: float, top_k: int | None, seed: int
    ) -> Iterator[str]:
        """Yield one empty string for each token of the prompt, `numbers`, then `length` generated symbols."""
        rng = np.random.default_rng(seed)
        state = np.zeros((1, self.state_size), np.float32)
        logits = np.zeros(len(self.symbols))
        for number in numbers:
            logits, state = self._step(number, state)
            yield ""
        for _ in range(length):
            p = sampling_probabilities(logits, temperature=temperature, top_k=top_k)
            number = int(rng.choice(len(self.symbols), p=p))
            yield self.symbols[number]
            logits, state = self._step(number, state)

    def _step(self, number: int, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A symbol and (1, S) state -> (V,) logits of the next symbol, never the unknown one, and (1, S) state"""
        answer = self.model(token=np.array([number]), state=state)
        logits = answer["logits"][0].astype(np.float64)
        if self.unknown is not None:
            logits[self.unknown] = -np.inf
        return logits, answer["next_state"]


def sampling_probabilities(logits: np.ndarray, *, temperature: float, top_k: int | None) -> np.ndarray:
    """(V,) logits -> (V,) sampling probabilities; chapter 5's function of this name, without torch

    p ~ exp(z / temperature) over the k most probable symbols; at temperature 0 only the most probable one.
    """
    if temperature == 0:
        top_k, temperature = 1, 1.0
    z = (logits - logits.max()) / temperature
    p = np.exp(z)
    if top_k is not None:
        p[np.argsort(-z, kind="stable")[top_k:]] = 0
    return p / p.sum()
