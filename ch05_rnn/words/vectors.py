"""Word vectors as others can use them: nearest neighbours, analogies, and word2vec's text format.

Dimensions: V words, D numbers a word, Q questions.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from common.files import atomic_path


class Vectors:
    """Words with their vectors, as directions: only angles count."""

    def __init__(self, words: Sequence[str], vectors: Tensor) -> None:
        assert len(words) == len(vectors)
        self.words, self.index = tuple(words), {word: number for number, word in enumerate(words)}
        self.directions = F.normalize(vectors.float(), dim=1)

    def __contains__(self, word: str) -> bool:
        return word in self.index

    def numbers(self, words: Sequence[str]) -> list[int]:
        """Give the numbers of words.

        Raises ValueError for a word without a vector.
        """
        for word in words:
            if word not in self.index:
                raise ValueError(f"there is no vector for {word!r} among {len(self.words):,} words")
        return [self.index[word] for word in words]

    def nearest(self, word: str, count: int) -> list[tuple[str, float]]:
        """Give the words whose vectors have the largest cosine with a word's, and that cosine."""
        (number,) = self.numbers([word])
        return self._best(self.directions[number], [number], count)

    def analogy(self, a: str, b: str, c: str, count: int) -> list[tuple[str, float]]:
        """As a is to b, so is c to what? Give the words nearest to b - a + c, but for a, b and c themselves.

        3CosAdd (Mikolov, Yih & Zweig 2013): argmax_d cos(d, b - a + c), of vectors of length one.
        """
        numbers = self.numbers([a, b, c])
        first, second, third = self.directions[numbers]
        return self._best(F.normalize(second - first + third, dim=0), numbers, count)

    def _best(self, direction: Tensor, left_out: list[int], count: int) -> list[tuple[str, float]]:
        cosines = self.directions @ direction
        cosines[left_out] = -2  # below every cosine
        best = cosines.topk(max(0, min(count, len(self.words) - len(set(left_out)))))
        return [(self.words[n], cosine) for n, cosine in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    def answers(self, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """(Q,) three words of each question -> (Q,) their answers by 3CosAdd, (Q,) the words nearest to c alone

        None of the three given words is an answer; the second column is what is right without any analogy.
        """
        found = []
        for part in torch.arange(len(a)).split(2_000):
            given = torch.stack([a[part], b[part], c[part]], dim=1)
            first, second, third = self.directions[given].unbind(1)
            for direction in (second - first + third, third):
                cosines = (direction @ self.directions.T).scatter_(1, given, -torch.inf)
                found.append(cosines.argmax(1))
        return torch.cat(found[0::2]), torch.cat(found[1::2])


def in_two_dimensions(vectors: Tensor) -> Tensor:
    """(N, E) -> (N, 2) places along the two directions in which the vectors differ most (principal components)

    X - mean = U S V', and the first columns of U S are these places.
    """
    U, S, _ = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    places = U[:, :2] * S[:2]
    return F.pad(places, (0, 2 - places.shape[1]))


def write_vectors(path: Path, words: Sequence[str], vectors: Tensor) -> None:
    """Write vectors in word2vec's text format: a line with V and D, then a word and its D numbers a line."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, row in zip(words, vectors.tolist(), strict=True):
            file.write(f"{word} {' '.join(f'{number:.6g}' for number in row)}\n")


def read_vectors(path: Path) -> tuple[list[str], Tensor]:
    """Read vectors in word2vec's text format: V words, (V, D).

    Raises FileNotFoundError where there is no such file, ValueError, naming file and line, where it is something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: vectors are read from a file in word2vec's text format")
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 (byte {error.start:,}): word2vec's binary format?") from error
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
