"""GloVe: word vectors whose dot products fit the logarithms of co-occurrence counts.

    python -m ch05_rnn.train glove
    python -m ch05_rnn.train glove --data wikitext-2 --minimum-count 5
    python -m ch05_rnn.nearest --model glove --near paris

The loss is a weighted least-squares error over the counts X_ij that are not zero (Pennington, Socher & Manning 2014,
equation 8), with vectors w and biases b of words, and w~ and b~ of context words:

    J = sum_ij f(X_ij) (w_i . w~_j + b_i + b~_j - log X_ij)^2,   f(x) = min(1, x / x_max)^0.75

The vector of a word is w + w~.

Dimensions: V vocabulary size, D vector size, C cells (counts that are not zero), B batch.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ch05_rnn.words.cooccurrence import count_pairs
from ch05_rnn.words.evaluation import analogy_accuracy, known_questions, report_vectors, word_tests_of
from ch05_rnn.words.vectors import Vectors
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.text.vocabulary import Vocabulary
from common.data.words.lines import Text, load_text
from common.data.words.vector_files import write_vectors
from common.progress import say
from common.run import Run, load_weights

POWER = 0.75
"""Exponent of the weight f."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of GloVe."""

    data: Literal["planted", "pydoc", "tiny-shakespeare", "wikitext-2"] = "planted"
    """Data set: the embedded synthetic corpus with known analogies, or a real text, in lower case."""
    text: str | None = None
    """UTF-8 file to train on instead of a data set."""
    epochs: int = 60
    """Number of epochs."""
    embedding_size: int = 64
    """Vector size."""
    window: int = 10
    """Maximum distance of two words that count as a pair; a pair at distance d counts 1 / d."""
    x_max: float = 10.0
    """Count from which the weight f is 1. The paper uses 100 for texts of billions of words."""
    minimum_count: int = 1
    """Minimum count of a word in the training text; rarer words get no vector."""
    batch_size: int = 512
    """Batch size, in counts of pairs."""
    learning_rate: float = 0.05
    """Learning rate of AdaGrad."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "embedding_size", "window", "x_max", "minimum_count", "batch_size")
        require_positive(self, "learning_rate")
        require(
            self.text is None or self.data == "planted", "--text takes the place of --data: give one of them", self.data
        )
        require(
            self.run.precision != "bf16", "word vectors are computed in fp32: --precision must be auto or fp32", "bf16"
        )


class GloVe(nn.Module):
    """Vectors w and biases b of words, w~ and b~ of context words."""

    def __init__(self, words: int, size: int) -> None:
        super().__init__()

        def small(*shape: int) -> nn.Parameter:  # as in the authors' program
            return nn.Parameter((torch.rand(shape) - 0.5) / size, requires_grad=False)

        self.w, self.w_context, self.b, self.b_context = (
            small(words, size),
            small(words, size),
            small(words),
            small(words),
        )

    def forward(self, i: Tensor, j: Tensor) -> Tensor:
        """(B,) words, (B,) context words -> (B,) w_i . w~_j + b_i + b~_j"""
        return (self.w[i] * self.w_context[j]).sum(1) + self.b[i] + self.b_context[j]

    def vectors(self) -> Tensor:
        """Return the (V, D) vectors w + w~."""
        return self.w + self.w_context


def weight(x: Tensor, x_max: float) -> Tensor:
    """(B,) counts -> (B,) f(x) = min(1, x / x_max)^0.75"""
    return (x / x_max).clamp(max=1) ** POWER


class AdaGrad:
    """AdaGrad (Duchi, Hazan & Singer 2011) for the rows of the parameters that occur in a batch.

    With g the gradient of a row, summed over the batch:

        s = s + g^2,   theta = theta - learning_rate g / (sqrt(s) + epsilon)

    Rows that do not occur have g = 0 and do not change. s starts at 1, as in the authors' program.
    """

    def __init__(self, model: nn.Module, learning_rate: float, *, initial: float = 1.0, epsilon: float = 1e-10) -> None:
        self.learning_rate, self.epsilon = learning_rate, epsilon
        self.parameters = dict(model.named_parameters())
        self.squares = {name: torch.full_like(parameter, initial) for name, parameter in self.parameters.items()}

    def update(self, rows: Tensor, **gradients: Tensor) -> None:
        """Take one step with (B,) rows and, for each parameter by name, (B, ...) gradients of these rows."""
        used, place = rows.unique(return_inverse=True)
        for name, gradient in gradients.items():
            g = gradient.new_zeros(len(used), *gradient.shape[1:]).index_add_(0, place, gradient)
            s = self.squares[name].index_select(0, used).addcmul_(g, g)
            self.squares[name][used] = s
            self.parameters[name].index_add_(0, used, g / (s.sqrt() + self.epsilon), alpha=-self.learning_rate)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of squares; the parameters are stored with the model."""
        return dict(self.squares)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sums of squares of an interrupted run."""
        for name, squares in self.squares.items():
            squares.copy_(state[name])


@torch.no_grad()
def train_step(model: GloVe, optimizer: AdaGrad, i: Tensor, j: Tensor, x: Tensor, x_max: float) -> Tensor:
    """Take one step on (B,) words, context words and counts; return the mean loss per count.

    With d = w_i . w~_j + b_i + b~_j - log x and r = 2 f(x) d: dJ/dw_i = r w~_j, dJ/dw~_j = r w_i, dJ/db = dJ/db~ = r.
    """
    w, w_context = model.w.index_select(0, i), model.w_context.index_select(0, j)
    d = (w * w_context).sum(1) + model.b[i] + model.b_context[j] - x.log()
    f = weight(x, x_max)
    r = 2 * f * d
    optimizer.update(i, w=r.unsqueeze(1) * w_context, b=r)
    optimizer.update(j, w_context=r.unsqueeze(1) * w, b_context=r)
    return (f * d * d).mean()


def train(config: Config, data: Text | None = None) -> dict[str, float]:
    """Train the vectors and return their metrics on the test questions."""
    data = data or load_text(config.data, text=config.text, minimum_count=config.minimum_count, limit=config.run.limit)
    valid_questions, test_questions = known_questions(data.vocabulary)
    with Run.open(__name__, config, data.card) as run:
        require(distributed.world_size() == 1, "glove trains in one process", distributed.world_size())
        counts = count_pairs(data.train.tokens, data.train.line_numbers, len(data.vocabulary), config.window)
        require(len(counts) > 0, "the text has no line with two words: use a longer text; pairs", len(counts))
        say("counts", f"{len(counts):,} of {len(data.vocabulary) ** 2:,} pairs of words occur near each other")
        i, j, x = (part.to(run.device) for part in (counts.rows, counts.columns, counts.values.float()))
        model = GloVe(len(data.vocabulary), config.embedding_size).to(run.device)
        optimizer = AdaGrad(model, config.learning_rate)
        steps = -(-len(counts) // config.batch_size)
        for _ in run.epochs(config.epochs, steps, model=model, optimizer=optimizer):
            for index in torch.randperm(len(counts), generator=run.generator).split(config.batch_size):
                index = index.to(run.device)
                loss = train_step(model, optimizer, i[index], j[index], x[index], config.x_max)
                run.step(loss, counts=len(index))
            valid = analogy_accuracy(trained_vectors(model, data.vocabulary), valid_questions)
            run.log(valid={"accuracy": valid["accuracy"]} if valid else {})
        vectors = trained_vectors(model, data.vocabulary)
        measures = analogy_accuracy(vectors, test_questions)
        if data.card.name != "planted":
            measures |= word_tests_of(vectors)
        run.save(model)
        if run.is_main:
            data.vocabulary.save(run.folder / "vocabulary.json")
            write_vectors(run.folder / "vectors.txt", data.vocabulary.symbols, model.vectors().cpu())
            report_vectors(run, vectors, measures, test_questions)
        return run.finish(test=measures)


def trained_vectors(model: GloVe, vocabulary: Vocabulary) -> Vectors:
    """Return the sums of the word and context vectors."""
    return Vectors(vocabulary.symbols, model.vectors().cpu())


def restore(folder: Path) -> tuple[GloVe, Vocabulary, Config]:
    """Load trained vectors, their vocabulary and their Config from a run folder."""
    config = read_config(folder, Config)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    model = GloVe(len(vocabulary), config.embedding_size)
    load_weights(model, folder)
    return model.eval(), vocabulary, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random counts, for the device benchmark."""
    model = GloVe(10_000, config.embedding_size).to(device)
    i, j = torch.randint(10_000, (2, config.batch_size), device=device)
    x = 1 + torch.rand(config.batch_size, device=device)
    optimizer = AdaGrad(model, config.learning_rate)
    return Workload(
        partial(train_step, model, optimizer, i, j, x, config.x_max), items=config.batch_size, unit="counts"
    )
