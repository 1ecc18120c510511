"""Trained word vectors: nearest neighbours, analogies and principal components.

Dimensions: V words, D vector size, Q questions.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

COSINES = 20_000_000
"""Maximum number of cosines that are computed at once, to limit the memory."""


class Vectors:
    """Words and their vectors, normalised to length 1 for cosine similarity.

    `compose` computes the vector of a word outside the vocabulary, as fastText does from n-grams.
    """

    def __init__(
        self, words: Sequence[str], vectors: Tensor, compose: Callable[[str], Tensor | None] | None = None
    ) -> None:
        assert len(words) == len(vectors)
        self.words, self.index = tuple(words), {word: number for number, word in enumerate(words)}
        self.directions = F.normalize(vectors.float(), dim=1)
        self.compose = compose

    def __contains__(self, word: str) -> bool:
        return word in self.index

    def indices(self, words: Sequence[str]) -> list[int]:
        """Return the indices of words.

        Raises ValueError for a word without a vector.
        """
        for word in words:
            if word not in self.index:
                raise ValueError(self._missing(word))
        return [self.index[word] for word in words]

    def direction(self, word: str) -> Tensor:
        """Return the (D,) vector of length 1 of a word, composed if the word is outside the vocabulary.

        Raises ValueError for a word without a vector.
        """
        found = self.directions[self.index[word]] if word in self.index else self.composed(word)
        if found is None:
            raise ValueError(self._missing(word))
        return found

    def composed(self, word: str) -> Tensor | None:
        """Return the (D,) vector of length 1 that is composed for a word, or None if there is none."""
        vector = self.compose(word) if self.compose is not None else None
        return None if vector is None else F.normalize(vector.float(), dim=0)

    def _missing(self, word: str) -> str:
        from rapidfuzz import fuzz, process

        similar = process.extractOne(word, self.words, scorer=fuzz.ratio, score_cutoff=60)
        known = word.lower() if word.lower() in self.index else similar and similar[0]
        suggestion = f"; did you mean {known!r}?" if known else ""
        return f"no vector for {word!r} among {len(self.words):,} words{suggestion}"

    def nearest(self, word: str, count: int) -> list[tuple[str, float]]:
        """Return the words with the largest cosine similarity to a word, and their similarities."""
        return self._best(self.direction(word), [word], count)

    def analogy(self, a: str, b: str, c: str, count: int) -> list[tuple[str, float]]:
        """Answer "a is to b as c is to ?": the words nearest to b - a + c, without a, b and c.

        3CosAdd (Mikolov, Yih & Zweig 2013): argmax_d cos(d, b - a + c), for vectors of length 1.
        """
        first, second, third = (self.direction(word) for word in (a, b, c))
        return self._best(F.normalize(second - first + third, dim=0), [a, b, c], count)

    def _best(self, direction: Tensor, excluded: Sequence[str], count: int) -> list[tuple[str, float]]:
        numbers = list({self.index[word] for word in excluded if word in self.index})
        cosines = self.directions @ direction
        cosines[numbers] = -2  # below every cosine
        best = cosines.topk(max(0, min(count, len(self.words) - len(numbers))))
        return [(self.words[n], cosine) for n, cosine in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    def answers(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """(Q,) words a, (Q,) words b, (Q,) words c -> (Q,) answers by 3CosAdd, other than a, b and c"""
        return self._most_similar(torch.stack([a, b, c], dim=1), torch.tensor([-1.0, 1, 1]))

    def baseline_answers(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """(Q,) words a, (Q,) words b, (Q,) words c -> (Q,) nearest neighbours of c, other than a and b"""
        return self._most_similar(torch.stack([a, b, c], dim=1), torch.tensor([0.0, 0, 1]))

    def _most_similar(self, questions: Tensor, factors: Tensor) -> Tensor:
        """(Q, 3) words, (3,) factors of their vectors -> (Q,) other words nearest to the weighted sum"""
        answers = [questions[:0, 0]]
        for part in questions.split(max(1, COSINES // len(self.words))):
            direction = (self.directions[part] * factors.unsqueeze(1)).sum(1)
            answers.append((direction @ self.directions.T).scatter_(1, part, -torch.inf).argmax(1))
        return torch.cat(answers)


def principal_components(vectors: Tensor) -> Tensor:
    """(N, D) -> (N, 2) coordinates on two principal components, zero for a component that does not exist"""
    from sklearn.decomposition import PCA

    components = min(2, *vectors.shape)
    coordinates = torch.from_numpy(PCA(components, svd_solver="full").fit_transform(vectors.numpy()))
    return F.pad(coordinates, (0, 2 - components))
