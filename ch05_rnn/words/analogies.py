"""Questions that word vectors answer: as man is to king, so is woman to what?

Dimensions: Q questions.
"""

import random

import torch

from ch05_rnn.words.vectors import Vectors
from common.data.text.analogies import FAMILIES, Question, questions
from common.data.text.vocabulary import Vocabulary

SPLIT_SEED = 0
"""Seed of the one cut of the questions into those of validation and those of the test."""


def known_questions(vocabulary: Vocabulary) -> tuple[list[Question], list[Question]]:
    """Give the questions of which all words are known, cut into those of validation and those of the test."""

    def spelled(word: str) -> str | None:
        return next((form for form in (word, word.capitalize()) if form in vocabulary), None)

    known = []
    for question in questions():
        words = [spelled(word) for word in (question.a, question.b, question.c, question.answer)]
        if None not in words:
            known.append(Question(question.family, *(word for word in words if word)))
    random.Random(SPLIT_SEED).shuffle(known)
    return known[: len(known) // 2], known[len(known) // 2 :]


def measure_analogies(vectors: Vectors, asked: list[Question]) -> dict[str, float]:
    """Share of the questions that 3CosAdd answers, of all and by family, and that the word nearest to c answers."""
    if not asked:
        return {}
    columns = [[question.a, question.b, question.c, question.answer] for question in asked]
    a, b, c, answer = torch.tensor([vectors.numbers(row) for row in columns]).unbind(1)
    analogy, nearest = vectors.answers(a, b, c)
    right = (analogy == answer).float()
    measures = {"accuracy": float(right.mean()), "nearest_accuracy": float((nearest == answer).float().mean())}
    for family in FAMILIES:
        places = [n for n, question in enumerate(asked) if question.family == family.name]
        if places:
            measures[f"{family.name}_accuracy"] = float(right[places].mean())
    return measures
