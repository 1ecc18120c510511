"""Baseline without memory: logistic regression on n-grams of the question and of the story.

The logit of an answer is a bias plus the sum of one weight per n-gram that occurs. The n-grams of the question and of
the story are different features. What is read of the story is one of

    all        all statements
    matching   the statements that share a word with the question, as in Weston et al. 2015, without frequent words

The order N of the n-grams (1 to N) and what is read are selected on the validation set.

Dimensions: N questions, B batch, F features, C answer classes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.memory.encoding import tokenise
from common.data.text.stories import Question

Selection = Literal["all", "matching"]

ORDERS = (1, 2, 3)
SELECTIONS: tuple[Selection, ...] = ("all", "matching")
FREQUENT = 0.5
"""Words in a larger share of the statements do not make a statement match the question."""
MOST = 20_000
"""Largest number of training questions."""
PREDICTED = 500
"""Questions that are predicted at once."""
STEPS, BATCH_SIZE, LEARNING_RATE = 1_000, 128, 0.03


@dataclass(frozen=True)
class Reader:
    """Features of a question: which statements are read, and the n-grams of the training set."""

    order: int
    selection: Selection
    frequent: frozenset[str]
    features: dict[str, int]

    @classmethod
    def fit(cls, questions: Sequence[Question], order: int, selection: Selection) -> "Reader":
        """Collect the n-grams of the training questions that occur at least twice."""
        statements = dict.fromkeys(text for question in questions for text in question.story)
        counts = Counter(word for text in statements for word in set(tokenise(text)))
        frequent = frozenset(word for word, count in counts.items() if count > FREQUENT * len(statements))
        empty = cls(order, selection, frequent, {})
        found = Counter(name for question in questions for name in empty.names(question))
        return cls(order, selection, frequent, {name: n for n, name in enumerate(k for k, c in found.items() if c > 1)})

    def names(self, question: Question) -> list[str]:
        """List the different n-grams of a question and of what is read of its story."""
        content = words_of(question.text) - self.frequent
        read = [text for text in question.story if self.selection == "all" or content & words_of(text)]
        names = dict.fromkeys(names_of("question", question.text, self.order))
        for text in read:
            names.update(dict.fromkeys(names_of("story", text, self.order)))
        return list(names)

    def encode(self, questions: Sequence[Question]) -> list[Tensor]:
        """Return the feature numbers of each question."""
        rows = [[self.features[name] for name in self.names(q) if name in self.features] for q in questions]
        return [torch.tensor(row, dtype=torch.int64) for row in rows]


@lru_cache(maxsize=10_000)  # the same sentences are in many stories
def words_of(text: str) -> frozenset[str]:
    """Return the different words of a sentence."""
    return frozenset(tokenise(text))


@lru_cache(maxsize=10_000)
def names_of(part: str, text: str, order: int) -> list[str]:
    """Name the features of a sentence of the question or of the story."""
    return [f"{part}: {gram}" for gram in ngrams(tokenise(text), order)]


def ngrams(words: Sequence[str], order: int) -> list[str]:
    """List the n-grams of 1 to `order` words."""
    return [" ".join(words[start : start + n]) for n in range(1, order + 1) for start in range(len(words) - n + 1)]


def indicators(rows: Sequence[Tensor], features: int) -> Tensor:
    """Feature numbers of B questions -> (B, F), 1 for each feature that occurs"""
    owner = torch.repeat_interleave(torch.tensor([len(row) for row in rows]))
    x = torch.zeros(len(rows), features)
    x[owner, torch.cat([*rows])] = 1
    return x


def fit(reader: Reader, questions: Sequence[Question], labels: Tensor, seed: int) -> nn.Linear:
    """Fit the regression by Adam with a learning rate that decreases linearly; the seed decides the order."""
    generator = torch.Generator().manual_seed(seed)
    rows = reader.encode(questions)
    model = nn.Linear(len(reader.features), int(labels.max()) + 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
    batches: list[Tensor] = []
    while len(batches) < STEPS:
        batches += torch.randperm(len(questions), generator=generator).split(BATCH_SIZE)
    for step, index in enumerate(batches[:STEPS]):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / STEPS)
        x = indicators([rows[number] for number in index.tolist()], len(reader.features))
        F.cross_entropy(model(x), labels[index]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.requires_grad_(False)


@dataclass(frozen=True)
class Baseline:
    """The regression that is most accurate on the validation set."""

    reader: Reader
    model: nn.Linear

    @classmethod
    def select(
        cls, train: Sequence[Question], valid: Sequence[Question], answers: tuple[Tensor, Tensor], seed: int
    ) -> "Baseline":
        """Fit all combinations of order and selection to the first MOST questions; keep the best on the validation set.

        `answers` are the classes of the training and the validation questions.
        """
        train = train[:MOST]
        candidates: list[tuple[float, Baseline]] = []
        for order, selection in product(ORDERS, SELECTIONS):
            reader = Reader.fit(train, order, selection)
            candidate = cls(reader, fit(reader, train, answers[0][:MOST], seed))
            accuracy = float((candidate.predict(valid) == answers[1]).float().mean())
            candidates.append((accuracy, candidate))
        return max(candidates, key=lambda pair: pair[0])[1]

    @property
    def description(self) -> str:
        """Say which n-grams of which statements are read."""
        words = f"up to {self.reader.order} words" if self.reader.order > 1 else "one word"
        return f"n-grams of {words}, {self.reader.selection} statements"

    def predict(self, questions: Sequence[Question]) -> Tensor:
        """N questions -> (N,) classes"""
        rows = self.reader.encode(questions)
        parts = [rows[start : start + PREDICTED] for start in range(0, len(rows), PREDICTED)]
        return torch.cat([self.model(indicators(part, len(self.reader.features))).argmax(1) for part in parts])
