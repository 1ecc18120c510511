"""Evaluation of word vectors: analogy questions, and rank correlation with human ratings of similarity.

    man is to king as woman is to ?           accuracy of the answers
    tiger, cat: 7.35    king, cabbage: 0.23   Spearman correlation of ratings and cosine similarities

Dimensions: N pairs, Q questions.
"""

import random
from collections.abc import Callable, Container, Sequence

import torch
from torch import Tensor

from ch05_rnn.words.vectors import Vectors, principal_components
from common.data.source import DataUnavailable
from common.data.text.vocabulary import Vocabulary
from common.data.words.analogies import FAMILIES, Question, questions
from common.data.words.word_tests import WordPair, load_analogies, load_pairs
from common.progress import print_table, say
from common.run import Run

SPLIT_SEED = 0
"""Random seed of the fixed split into validation and test questions."""

SHOWN = 8
"""Number of concepts per family in the figure; more labels would overlap."""

FEWEST_PAIRS = 10
"""Smallest number of pairs whose correlation is reported."""


# Analogies.


def find_form(word: str, known: Container[str]) -> str | None:
    """Return a word as it is, in lower case or capitalised: the first form that is known."""
    return next((form for form in (word, word.lower(), word.capitalize()) if form in known), None)


def answerable(analogies: Sequence[Question], known: Container[str]) -> list[Question]:
    """Return the questions whose words are all known, in the forms that are known."""
    found = []
    for question in analogies:
        words = [find_form(word, known) for word in (question.a, question.b, question.c, question.answer)]
        if None not in words:
            found.append(Question(question.family, *(word for word in words if word)))
    return found


def known_questions(vocabulary: Vocabulary) -> tuple[list[Question], list[Question]]:
    """Return the planted questions whose words are all in the vocabulary, as validation and test questions."""
    known = answerable(questions(), vocabulary)
    random.Random(SPLIT_SEED).shuffle(known)
    return known[: len(known) // 2], known[len(known) // 2 :]


def analogy_accuracy(vectors: Vectors, analogies: Sequence[Question]) -> dict[str, float]:
    """Return the accuracy of 3CosAdd, overall and by family, and that of the baseline (the nearest word to c)."""
    if not analogies:
        return {}
    a, b, c, answer = _numbers(vectors, analogies)
    correct = (vectors.answers(a, b, c) == answer).float()
    baseline = (vectors.baseline_answers(a, b, c) == answer).float()
    metrics = {"accuracy": float(correct.mean()), "nearest_accuracy": float(baseline.mean())}
    for family in sorted({question.family for question in analogies}):
        places = [n for n, question in enumerate(analogies) if question.family == family]
        metrics[f"{family}_accuracy"] = float(correct[places].mean())
    return metrics


def google_accuracy(vectors: Vectors, analogies: Sequence[Question]) -> dict[str, float]:
    """Return the accuracy of 3CosAdd on the questions whose words all have vectors, and the share of these."""
    known = answerable(analogies, vectors)
    metrics = {"coverage": len(known) / len(analogies)}
    if known:
        a, b, c, answer = _numbers(vectors, known)
        metrics["accuracy"] = float((vectors.answers(a, b, c) == answer).float().mean())
    return metrics


def _numbers(vectors: Vectors, analogies: Sequence[Question]) -> tuple[Tensor, ...]:
    """Q questions -> (Q,) words a, (Q,) words b, (Q,) words c, (Q,) answers"""
    rows = [vectors.indices([question.a, question.b, question.c, question.answer]) for question in analogies]
    return torch.tensor(rows).unbind(1)


# Similarity.


def ranks(values: Tensor) -> Tensor:
    """(N,) values -> (N,) ranks from 1; equal values share the mean of their ranks"""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]


def spearman(x: Tensor, y: Tensor) -> float:
    """Return Spearman's rank correlation of (N,) values x and y, the Pearson correlation of their ranks.

    It is 0 if all x or all y are equal.
    """
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = (a.square().sum() * b.square().sum()).sqrt()
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def similarity(vectors: Vectors, pairs: Sequence[WordPair]) -> dict[str, float]:
    """Return the correlation of cosines and ratings over the pairs whose words have vectors, and the share of these.

    If the vectors can be composed for words outside the vocabulary, `composed_` is the same with these words.
    """
    metrics = _correlation(pairs, lambda word: _direction(vectors, word))
    if vectors.compose is not None:
        composed = _correlation(pairs, lambda word: _direction(vectors, word, compose=True))
        metrics |= {f"composed_{measure}": value for measure, value in composed.items()}
    return metrics


def _direction(vectors: Vectors, word: str, *, compose: bool = False) -> Tensor | None:
    """Return the vector of a word in one of its forms, or None if there is none."""
    form = find_form(word, vectors)
    if form is not None:
        return vectors.direction(form)
    return vectors.composed(word.lower()) if compose else None


def _correlation(pairs: Sequence[WordPair], direction: Callable[[str], Tensor | None]) -> dict[str, float]:
    """Return the share of the pairs whose words have a direction, and the rank correlation over these pairs."""
    rated = [(direction(pair.first), direction(pair.second), pair.rating) for pair in pairs]
    known = [(a, b, rating) for a, b, rating in rated if a is not None and b is not None]
    metrics = {"coverage": len(known) / len(pairs)}
    if len(known) >= FEWEST_PAIRS:
        cosines = torch.stack([a @ b for a, b, _ in known])
        metrics["correlation"] = spearman(cosines, torch.tensor([rating for *_, rating in known]))
    return metrics


def word_tests_of(vectors: Vectors) -> dict[str, float]:
    """Evaluate vectors on WordSim-353, SimLex-999 and the Google analogies, if their files are found."""
    evaluations = {
        "wordsim": lambda: similarity(vectors, load_pairs("wordsim-353")),
        "simlex": lambda: similarity(vectors, load_pairs("simlex-999")),
        "google": lambda: google_accuracy(vectors, load_analogies()),
    }
    metrics = {}
    for name, evaluate in evaluations.items():
        try:
            metrics |= {f"{name}_{measure}": value for measure, value in evaluate().items()}
        except DataUnavailable as error:
            say("skipped", str(error))
    return metrics


# What a run reports.


def report_vectors(run: Run, vectors: Vectors, metrics: dict[str, float], analogies: Sequence[Question]) -> None:
    """Print the analogy accuracies and nearest neighbours; draw maps of words with known relations, and the curves.

    The words of the vectors are ordered by frequency.
    """
    from common.drawing import plots, text_plots

    if analogies:
        labels = {"accuracy": "all", "nearest_accuracy": "baseline: nearest word to c"}
        rows = [
            [labels.get(name, name.removesuffix("_accuracy")), f"{100 * value:.2f}"]
            for name, value in metrics.items()
            if name.endswith("accuracy") and not name.startswith("google")
        ]
        print_table(["questions", "accuracy, %"], rows, title=f"{len(analogies):,} test analogies")
    if families := word_maps(vectors):
        run.figure("analogies", text_plots.word_maps(families))
    examples = dict.fromkeys([question.c for question in analogies][:6] or vectors.words[50:120:10])
    rows = [[word, "  ".join(near for near, _ in vectors.nearest(word, 6))] for word in examples]
    print_table(["word", "nearest"], rows, title="nearest neighbours by cosine similarity")
    if run.history:
        panels = {"loss": ["train_loss", "valid_loss"], "analogies": ["valid_accuracy"]}
        drawn = {title: [name for name in names if name in run.history[0]] for title, names in panels.items()}
        run.figure("curves", plots.curves(run.history, {title: names for title, names in drawn.items() if names}))


def word_maps(vectors: Vectors) -> dict[str, tuple[Tensor, list[str], list[tuple[int, int]]]]:
    """Project two forms of each concept on two principal components, by family, with a line between the two forms."""
    maps = {}
    for family in FAMILIES:
        forms = [
            [find_form(form, vectors) for form in family.forms(concept)[:2]] for concept in range(len(family.concepts))
        ]
        known = [[form for form in row if form] for row in forms if None not in row]
        if len(known) < 3:
            continue
        words = [form for row in known[:SHOWN] for form in row]
        links = [(place, place + 1) for place in range(0, len(words), 2)]
        maps[family.name] = (principal_components(vectors.directions[vectors.indices(words)]), words, links)
    return maps
