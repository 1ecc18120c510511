"""Stories as tensors: word features of every distinct sentence, and which sentences each question may read.

Both networks embed a sentence of J words by a weighted sum of its word vectors. With position encoding (Sukhbaatar et
al. 2015, section 4.1), component k of word j has the weight

    l_kj = (1 - j/J) - (k/E) (1 - 2j/J),     j = 1 ... J,  k = 1 ... E

The weight is linear in k, so two numbers per word describe the sentence: the sums of 1 - j/J and of 1 - 2j/J over the
places of the word. They are computed once; in training, one matrix product embeds all sentences of a batch.

The memories of a batch are stored one after another, without padding: most stories are short, some are very long.

Dimensions: N questions, B batch, S distinct sentences, M memories (statements of all stories of a batch), V vocabulary
size, E embedding size, C answer classes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from common.data.text.stories import Question
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.run import Run

Encoding = Literal["position", "bag"]

UNSEEN = -1
"""Class of an answer that does not occur in the training set: no prediction is equal to it."""


class Batch(NamedTuple):
    """Questions and the statements of their stories, oldest first."""

    memories: Tensor
    """(M, 2V) features of the statements, those of the first story first"""
    owner: Tensor
    """(M,) number of the question in the batch, ascending"""
    lengths: Tensor
    """(B,) number of statements of each question"""
    questions: Tensor
    """(B, 2V) features of the questions"""


@dataclass(frozen=True)
class Encoded:
    """Questions as tensors."""

    features: Tensor
    """(S, 2V)"""
    memories: Tensor
    """(N statements in all,) sentence number of each statement"""
    ends: Tensor
    """(N,) end of each story in `memories`"""
    lengths: Tensor
    """(N,) number of statements"""
    questions: Tensor
    """(N,) sentence number"""
    answers: Tensor
    """(N,) class of the answer, or UNSEEN"""

    def __len__(self) -> int:
        return len(self.questions)

    def to(self, device: torch.device) -> "Encoded":
        """Move all tensors to a device."""
        return Encoded(*(tensor.to(device) for tensor in vars(self).values()))

    def batch(self, index: Tensor) -> Batch:
        """(B,) question numbers -> their batch"""
        lengths, ends = self.lengths[index], self.ends[index]
        owner = torch.repeat_interleave(lengths)
        to_end = lengths.cumsum(0)[owner] - torch.arange(len(owner), device=owner.device)  # 1 for the newest
        memories = self.memories[ends[owner] - to_end]
        return Batch(self.features[memories], owner, lengths, self.features[self.questions[index]])


@dataclass(frozen=True)
class StoryEncoder:
    """Vocabulary, answer classes, and the conversion of questions to tensors."""

    vocabulary: Vocabulary
    """Words, and the answers of several words, each as one symbol"""
    answers: Vocabulary
    encoding: Encoding
    memory_size: int
    """Maximum number of statements per question; older ones are dropped."""

    @classmethod
    def fit(cls, questions: Sequence[Question], encoding: Encoding, memory_size: int) -> "StoryEncoder":
        """Build the vocabularies of the training questions."""
        texts = dict.fromkeys(text for question in questions for text in (*question.story, question.text))
        answers = Vocabulary.build((question.answer.lower() for question in questions), reserved=())
        words = [word for text in texts for word in tokenise(text)]
        return cls(Vocabulary.build([*words, *answers.symbols]), answers, encoding, memory_size)

    @property
    def answer_symbols(self) -> Tensor:
        """(C,) number of each answer in the vocabulary of words"""
        return self.vocabulary.encode(self.answers.symbols)

    def save(self, run: Run) -> None:
        """Save both vocabularies in the run folder."""
        self.vocabulary.save(run.folder / "vocabulary.json")
        self.answers.save(run.folder / "answers.json")

    @classmethod
    def load(cls, folder: Path, encoding: Encoding, memory_size: int) -> "StoryEncoder":
        """Load the vocabularies of a run folder."""
        words, answers = (Vocabulary.load(folder / f"{name}.json") for name in ("vocabulary", "answers"))
        return cls(words, answers, encoding, memory_size)

    def encode(self, questions: Sequence[Question], dtype: torch.dtype = torch.float32) -> Encoded:
        """Convert N questions; the features have this type."""
        numbers: dict[str, int] = {}  # of the distinct sentences

        def number(text: str) -> int:
            return numbers.setdefault(text, len(numbers))

        stories = [[number(text) for text in question.story[-self.memory_size :]] for question in questions]
        asked = [number(question.text) for question in questions]
        lengths = torch.tensor([len(story) for story in stories])
        classes = [self.answers.index.get(question.answer.lower(), UNSEEN) for question in questions]
        return Encoded(
            features=torch.stack([self.features(text) for text in numbers]).to(dtype),
            memories=torch.tensor([sentence for story in stories for sentence in story]),
            ends=lengths.cumsum(0),
            lengths=lengths,
            questions=torch.tensor(asked),
            answers=torch.tensor(classes),
        )

    def features(self, text: str) -> Tensor:
        """(2V,) float64 features of a sentence"""
        return self.word_features(self.vocabulary.encode(tokenise(text)))

    def word_features(self, words: Tensor) -> Tensor:
        """(J,) word numbers -> (2V,) float64 sums of 1 - j/J and of 1 - 2j/J over the places j of each word

        For a bag of words: the counts, and zeros.
        """
        j = torch.arange(1, len(words) + 1, dtype=torch.float64) / len(words)  # j / J
        weights = torch.stack([1 - j, 1 - 2 * j])
        if self.encoding == "bag":
            weights = torch.stack([torch.ones_like(j), torch.zeros_like(j)])
        return torch.zeros(2, len(self.vocabulary), dtype=torch.float64).index_add(1, words, weights).flatten()


def tokenise(text: str) -> list[str]:
    """Split a sentence into words in lower case, without punctuation."""
    return re.findall(r"\w+(?:['’-]\w+)*", text.lower())


def unknown_words(text: str, vocabulary: Vocabulary) -> list[str]:
    """List the different words of a text that are not in the vocabulary."""
    return [word for word in dict.fromkeys(tokenise(text)) if word not in vocabulary or word == UNKNOWN]


def embed(features: Tensor, words: Tensor) -> Tensor:
    """(M, 2V) features, (R, V, E) tables of word vectors -> (R, M, E) embedded sentences

    sum_j l_kj A_kj = sum_v f_v A_vk - (k/E) sum_v g_v A_vk, where f and g are the two halves of the features.
    """
    size = words.shape[2]
    k = torch.arange(1, size + 1, device=words.device, dtype=words.dtype) / size
    return features @ torch.cat([words, -k * words], dim=1)
