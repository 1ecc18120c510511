"""Answer questions about stories with chapter 5's memory network.

Dimensions: M statements, J words of the longest, C answers, N hops.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ch10_deploy.inference.models import Model
from ch10_deploy.server.refusal import Refusal

PADDING = -1
"""Word number after the end of a sentence."""

NAMED = 5
"""Most unknown words that a refusal names."""


def split_sentences(text: str) -> list[str]:
    """Split a text at full stops, question marks, exclamation marks and ends of lines, as chapter 5 does."""
    return [part.strip() for part in re.findall(r"[^.!?\n]+[.!?]?", text) if tokenise(part)]


def tokenise(text: str) -> list[str]:
    """Split a sentence into words in lower case: chapter 5's function, without torch."""
    return re.findall(r"\w+(?:['’-]\w+)*", text.lower())


class Reader:
    """Answer questions about stories."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.index = {word: number for number, word in enumerate(model.serving.words)}
        self.known = [word for word in model.serving.words if tokenise(word) == [word]]
        self.answers: list[str] = model.serving.answers
        self.memory_size: int = model.serving.memory_size

    def numbers(self, sentences: Sequence[str], field: str) -> np.ndarray:
        """M sentences -> (M, J) word numbers; raises Refusal if there are words that the network was not trained on."""
        rows = [tokenise(sentence) for sentence in sentences]
        unknown = [word for word in dict.fromkeys(word for row in rows for word in row) if word not in self.index]
        if unknown:
            hints = []
            for word in unknown[:NAMED]:
                near = difflib.get_close_matches(word, self.known, n=1)
                hints.append(f"{word!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
            raise Refusal(f"the network was trained on stories without the words {', '.join(hints)}", field=field)
        words = np.full((len(rows), max(map(len, rows))), PADDING)
        for row, line in zip(words, rows, strict=True):
            row[: len(line)] = [self.index[word] for word in line]
        return words

    def answer(self, story: str, question: str) -> dict[str, Any]:
        """Answer a question; the newest statements that fit in the memory are read.

        Raises Refusal if story or question have no words, or unknown ones.
        """
        statements = split_sentences(story)[-self.memory_size :]
        if not statements:
            raise Refusal("the story must have at least one statement", field="story")
        if not tokenise(question):
            raise Refusal("the question must have at least one word", field="question")
        outputs = self.model(story=self.numbers(statements, "story"), question=self.numbers([question], "question"))
        probabilities = outputs["probabilities"]  # (C,)
        best = int(probabilities.argmax())
        return {
            "answer": self.answers[best],
            "probability": float(probabilities[best]),
            "statements": statements,
            "attention": outputs["attention"].tolist(),  # (M, N)
        }
