"""Evaluation of word vectors on analogy questions: man is to king as woman is to ?

Dimensions: Q questions.
"""

import random

import torch

from ch05_rnn.words.vectors import Vectors
from common.data.text.analogies import FAMILIES, Question, questions
from common.data.text.vocabulary import Vocabulary

SPLIT_SEED = 0
"""Random seed of the fixed split into validation and test questions."""


def known_questions(vocabulary: Vocabulary) -> tuple[list[Question], list[Question]]:
    """Return the validation and test questions whose words are all in the vocabulary."""

    def find_form(word: str) -> str | None:
        return next((form for form in (word, word.capitalize()) if form in vocabulary), None)

    known = []
    for question in questions():
        words = [find_form(word) for word in (question.a, question.b, question.c, question.answer)]
        if None not in words:
            known.append(Question(question.family, *(word for word in words if word)))
    random.Random(SPLIT_SEED).shuffle(known)
    return known[: len(known) // 2], known[len(known) // 2 :]


def analogy_accuracy(vectors: Vectors, analogies: list[Question]) -> dict[str, float]:
    """Return the accuracy of 3CosAdd, overall and by family, and that of the baseline (the nearest word to c)."""
    if not analogies:
        return {}
    rows = [[question.a, question.b, question.c, question.answer] for question in analogies]
    a, b, c, answer = torch.tensor([vectors.indices(row) for row in rows]).unbind(1)
    predicted, nearest = vectors.answers(a, b, c)
    correct = (predicted == answer).float()
    metrics = {"accuracy": float(correct.mean()), "nearest_accuracy": float((nearest == answer).float().mean())}
    for family in FAMILIES:
        places = [n for n, question in enumerate(analogies) if question.family == family.name]
        if places:
            metrics[f"{family.name}_accuracy"] = float(correct[places].mean())
    return metrics
