"""Trained word vectors: nearest neighbours, analogies, principal components, and word2vec's text format.

Dimensions: V words, D vector size, Q questions.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from common.files import atomic_path


class Vectors:
    """Words and their vectors, normalised to length 1 for cosine similarity."""

    def __init__(self, words: Sequence[str], vectors: Tensor) -> None:
        assert len(words) == len(vectors)
        self.words, self.index = tuple(words), {word: number for number, word in enumerate(words)}
        self.directions = F.normalize(vectors.float(), dim=1)

    def __contains__(self, word: str) -> bool:
        return word in self.index

    def indices(self, words: Sequence[str]) -> list[int]:
        """Return the indices of words.

        Raises ValueError for a word without a vector.
        """
        for word in words:
            if word not in self.index:
                raise ValueError(f"there is no vector for {word!r} among {len(self.words):,} words")
        return [self.index[word] for word in words]

    def nearest(self, word: str, count: int) -> list[tuple[str, float]]:
        """Return the words with the largest cosine similarity to a word, and their similarities."""
        (number,) = self.indices([word])
        return self._best(self.directions[number], [number], count)

    def analogy(self, a: str, b: str, c: str, count: int) -> list[tuple[str, float]]:
        """Answer "a is to b as c is to ?": the words nearest to b - a + c, without a, b and c.

        3CosAdd (Mikolov, Yih & Zweig 2013): argmax_d cos(d, b - a + c), for vectors of length 1.
        """
        numbers = self.indices([a, b, c])
        first, second, third = self.directions[numbers]
        return self._best(F.normalize(second - first + third, dim=0), numbers, count)

    def _best(self, direction: Tensor, excluded: list[int], count: int) -> list[tuple[str, float]]:
        cosines = self.directions @ direction
        cosines[excluded] = -2  # below every cosine
        best = cosines.topk(max(0, min(count, len(self.words) - len(set(excluded)))))
        return [(self.words[n], cosine) for n, cosine in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    def answers(self, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """(Q,) the words a, b and c of each question -> (Q,) answers by 3CosAdd, (Q,) the nearest neighbours of c

        The words of the question are never answers. The nearest neighbour of c is the baseline: it ignores a and b.
        """
        answers = []
        for part in torch.arange(len(a)).split(2_000):
            question = torch.stack([a[part], b[part], c[part]], dim=1)
            first, second, third = self.directions[question].unbind(1)
            for direction in (second - first + third, third):
                cosines = (direction @ self.directions.T).scatter_(1, question, -torch.inf)
                answers.append(cosines.argmax(1))
        return torch.cat(answers[0::2]), torch.cat(answers[1::2])


def principal_components(vectors: Tensor) -> Tensor:
    """(N, D) -> (N, 2) coordinates along the two principal components; zeros for a component that does not exist"""
    from sklearn.decomposition import PCA

    components = min(2, *vectors.shape)
    coordinates = torch.from_numpy(PCA(components, svd_solver="full").fit_transform(vectors.numpy()))
    return F.pad(coordinates, (0, 2 - components))


def write_vectors(path: Path, words: Sequence[str], vectors: Tensor) -> None:
    """Write vectors in word2vec's text format: a line with V and D, then one line per word with its D numbers."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, row in zip(words, vectors.tolist(), strict=True):
            file.write(f"{word} {' '.join(f'{number:.6g}' for number in row)}\n")


def read_vectors(path: Path) -> tuple[list[str], Tensor]:
    """Read vectors in word2vec's text format: V words, (V, D).

    Raises FileNotFoundError if the file does not exist, ValueError with file and line if it has another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: --vectors takes a file in word2vec's text format")
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start:,}): word2vec's binary format?") from error
    header = lines[0].split()
    if len(header) != 2 or not all(part.isdecimal() for part in header):
        raise ValueError(f"{path} starts with {lines[0][:40]!r}: word2vec's text format starts with two numbers")
    count, size = map(int, header)
    if len(lines) - 1 != count:
        raise ValueError(f"{path} announces {count:,} words and holds {len(lines) - 1:,}")
    words: dict[str, None] = {}
    vectors = []
    for number, line in enumerate(lines[1:], start=2):
        word, *texts = line.rstrip().split(" ")
        if len(texts) != size:
            raise ValueError(f"{path} line {number} has {len(texts)} numbers, not {size}")
        if word in words:
            raise ValueError(f"{path} line {number} has {word!r} a second time")
        try:
            vectors.append([float(text) for text in texts])
        except ValueError as error:
            raise ValueError(f"{path} line {number}: {error}") from error
        words[word] = None
    return list(words), torch.tensor(vectors).view(count, size)
