"""Define the exported graph of each network, from the client's input to the client's output, with example inputs.

Preprocessing is part of the graph, so the server cannot scale pixels differently. Loops (text generation, planning) are
exported as one step, with the state as input and output.

Dimensions: B batch, K classes (10), Z latent units, V symbols, S size of a state, A = 4 actions, H x W tiles; of
stories: M statements, J words of the longest, C answers, E embedding size, R tables of word vectors, N hops.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_autoencoder_rbm.digits import feedforward
from ch03_autoencoder_rbm.films import recommender
from ch03_autoencoder_rbm.films.evaluation import chance_of_liking, popularity
from ch03_autoencoder_rbm.films.gaussian_rbm import GaussianRBM
from ch03_autoencoder_rbm.recommend import Folded, Person
from ch05_rnn.language import language_model
from ch05_rnn.language.network import LanguageModel
from ch05_rnn.language.sampling import start_token
from ch05_rnn.memory import memory_network
from ch05_rnn.memory.encoding import Batch, Encoding
from ch05_rnn.memory.end_to_end import EndToEnd
from ch05_rnn.recurrence.cells import State
from ch06_cnn.class_names import load_class_names
from ch06_cnn.convolution import cnn
from ch06_cnn.preprocessing import scaled
from ch07_dqn import generalise
from ch07_dqn.planner import Planner
from ch08_vae import vae
from ch08_vae.networks import VAE
from ch10_deploy.inference.question_answering import PADDING
from common.data.images.loading import CLASS_NAMES, load_images
from common.data.mazes.maze import distances, letters
from common.data.text.vocabulary import Vocabulary

EXAMPLES = 256
"""Number of inputs on which a graph is compared with its original."""

MAZES = 200
"""Maximum number of mazes on the server; none is in the planner's training set."""


MAX_RATED = 20
"""Maximum number of rated films in a request."""

LONGEST = 12
"""Words of the longest statement on which the memory network's graph is compared with its original."""

SOLVER_STEPS, TINY = 12, 1e-30
"""Iterations of the conjugate gradient method, and the smallest denominator in it."""


@dataclass(frozen=True)
class Graph:
    """A network and its description for the export."""

    module: nn.Module
    inputs: dict[str, Tensor]
    """Example inputs by name, in the order of the module's arguments."""
    outputs: tuple[str, ...]
    """Names of the module's outputs."""
    original: Callable[..., tuple[Tensor, ...]]
    """The chapter's computation of the same outputs from the same inputs; the reference of the comparison."""
    dynamic: dict[str, dict[int, str]]
    """Dynamic dimensions, which may have any size: for each input, their names by position."""
    serving: dict[str, Any] = field(default_factory=dict)
    """Further data that the server needs, such as class names."""
    decompositions: dict[Any, Callable[..., Any]] = field(default_factory=dict)
    """Replacements for operators that ONNX lacks."""


def with_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(B, K) logits -> (B, K) logits and probabilities"""
    return logits, logits.softmax(1)


class Digits(nn.Module):
    """Chapter 3's classifier, from bytes to probabilities."""

    def __init__(self, model: feedforward.FeedForward) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 28, 28) bytes -> (B, K) logits and probabilities"""
        return with_probabilities(self.model(feedforward.scaled(pixels)))


def digits(folder: Path, data: str) -> Graph:
    """Build the graph of chapter 3's digit classifier."""
    model, _ = feedforward.restore(folder)
    images = load_images("digits").test.pixels[:EXAMPLES]
    return Graph(
        module=Digits(model),
        inputs={"pixels": images.squeeze(1)},
        outputs=("logits", "probabilities"),
        original=lambda pixels: with_probabilities(feedforward.predict(model, pixels.unsqueeze(1))),
        dynamic={"pixels": {0: "batch"}},
        serving={"classes": list(CLASS_NAMES[data])},
    )


class Pictures(nn.Module):
    """Chapter 6's network, from bytes to probabilities; channels last, as in image files and browsers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 32, 32, 3) bytes -> (B, K) logits and probabilities"""
        return with_probabilities(self.model(scaled(pixels.permute(0, 3, 1, 2), channels_last=False)))


def pictures(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 6's convolutional network."""
    model, _ = cnn.restore(folder)
    images = load_images("shapes").test.pixels[:EXAMPLES]
    return Graph(
        module=Pictures(model.to(memory_format=torch.contiguous_format)),
        inputs={"pixels": images.permute(0, 2, 3, 1).contiguous()},
        outputs=("logits", "probabilities"),
        original=lambda pixels: with_probabilities(cnn.predict(model, pixels.permute(0, 3, 1, 2), channels_last=False)),
        dynamic={"pixels": {0: "batch"}},
        serving={"classes": list(load_class_names(folder))},
    )


class Decoder(nn.Module):
    """The decoder of chapter 8's variational autoencoder."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Z) -> (B, 784) logits, (B, 28, 28) brightness from 0 to 255"""
        logits = self.model.decode(latent)
        return logits, (255 * logits.sigmoid()).view(-1, 28, 28)


def decoder(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 8's decoder."""
    model, config = vae.restore(folder)

    def original(latent: Tensor) -> tuple[Tensor, Tensor]:
        logits = model.decode(latent)
        return logits, 255 * logits.sigmoid().unflatten(1, (28, 28))

    latent = torch.randn(EXAMPLES, config.latent_size, generator=torch.Generator().manual_seed(0))
    return Graph(
        module=Decoder(model),
        inputs={"latent": latent},
        outputs=("logits", "pixels"),
        original=original,
        dynamic={"latent": {0: "batch"}},
        serving={"latent_size": config.latent_size},
    )


class Step(nn.Module):
    """One step of chapter 5's language model: from a symbol and the state to logits and the next state.

    The states of all layers are concatenated into one vector.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    @property
    def sizes(self) -> list[int]:
        """Lengths of the parts of the state vector."""
        return list(chain.from_iterable(self.model.state_sizes))

    def states(self, flat: Tensor) -> list[State]:
        """(B, S) -> the state of each layer"""
        parts = flat.split(self.sizes, dim=1)
        counts = [len(sizes) for sizes in self.model.state_sizes]
        ends = list(accumulate(counts))
        return [tuple(parts[end - count : end]) for count, end in zip(counts, ends, strict=True)]

    def forward(self, token: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) symbols, (B, S) state -> (B, V) logits, (B, S) next state"""
        logits, after = self.model(token.unsqueeze(0), self.states(state))
        return logits[0], torch.cat(list(chain.from_iterable(after)), dim=1)


def text(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 5's language model, from a run."""
    model, vocabulary, _ = language_model.restore(folder)
    assert isinstance(model, LanguageModel), "the settings in sources.py request a recurrent network"
    return text_of(model, vocabulary)


def text_of(model: LanguageModel, vocabulary: Vocabulary) -> Graph:
    """Build the graph of a language model."""
    step = Step(model)

    def original(token: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits, after = model(token.unsqueeze(0), step.states(state))
        return logits[0], torch.cat([part for layer in after for part in layer], dim=1)

    generator = torch.Generator().manual_seed(0)
    token = torch.randint(len(vocabulary), (EXAMPLES,), generator=generator)
    state = torch.rand(EXAMPLES, sum(step.sizes), generator=generator).mul(2).sub(1)
    return Graph(
        module=step,
        inputs={"token": token, "state": state},
        outputs=("logits", "next_state"),
        original=original,
        dynamic={"token": {0: "batch"}, "state": {0: "batch"}},
        serving={
            "symbols": list(vocabulary.symbols),
            "unknown": vocabulary.unknown,
            "first": start_token(vocabulary),
            "state_size": sum(step.sizes),
        },
    )


class Answer(nn.Module):
    """Chapter 5's memory network for one question: from word numbers to the probabilities of the answers.

    The word vectors are added here, with the weights of the position encoding; chapter 5 computes the same sums as one
    product with features of the sentences, which are faster for many sentences.
    """

    def __init__(self, model: EndToEnd, encoding: Encoding) -> None:
        super().__init__()
        self.model, self.encoding = model, encoding

    def embed(self, words: Tensor, tables: Tensor) -> Tensor:
        """(M, J) word numbers, PADDING after the last, (R, V, E) tables -> (R, M, E) embedded sentences"""
        present = (words != PADDING).unsqueeze(2)  # (M, J, 1)
        weights = present.to(tables.dtype)
        if self.encoding == "position":
            j = torch.arange(1, words.shape[1] + 1).unsqueeze(1) / present.sum(1, keepdim=True)  # j / J
            k = torch.arange(1, tables.shape[2] + 1) / tables.shape[2]  # k / E
            weights = weights * ((1 - j) - k * (1 - 2 * j))
        return (weights * tables[:, words.clamp(min=0)]).sum(2)

    def forward(self, story: Tensor, question: Tensor) -> tuple[Tensor, Tensor]:
        """(M, J) words of the statements, oldest first, (1, J) words of the question -> (C,) probabilities, (M, N)
        attention weights
        """
        model = self.model
        age = torch.arange(story.shape[0], 0, -1)
        memories = self.embed(story, model.words[: len(model.time)]) + model.time[:, age - 1]
        u = self.embed(question, model.words[model.asked].unsqueeze(0))[0, 0]
        attention = []
        for a, c in zip(model.addressed, model.read, strict=True):
            scores = memories[a] @ u
            p = F.pad(scores, (0, 1)).softmax(0)[:-1] if model.empty_memory else scores.softmax(0)
            u = p @ memories[c] + (u if model.H is None else model.H(u))
            attention.append(p)
        W = model.words[-1][model.answer_symbols] if model.W is None else model.W.weight
        return (W @ u).softmax(0), torch.stack(attention, dim=1)


def stories(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 5's memory network."""
    model, encoder, config = memory_network.restore(folder)
    assert isinstance(model, EndToEnd), "the settings in sources.py request one"

    def original(story: Tensor, question: Tensor) -> tuple[Tensor, Tensor]:
        statements, asked = (
            torch.stack([encoder.word_features(row[row != PADDING]) for row in rows]).float()
            for rows in (story, question)
        )
        owner, lengths = torch.zeros(len(story), dtype=torch.int64), torch.tensor([len(story)])
        logits, attention = model.answer(Batch(statements, owner, lengths, asked))
        return logits[0].softmax(0), attention.T

    generator = torch.Generator().manual_seed(0)
    words = torch.randint(len(encoder.vocabulary), (config.memory_size, LONGEST), generator=generator)
    lengths = torch.randint(1, LONGEST + 1, (config.memory_size, 1), generator=generator)
    return Graph(
        module=Answer(model, config.encoding),
        inputs={"story": words.where(torch.arange(LONGEST) < lengths, PADDING), "question": words[:1, :5]},
        outputs=("probabilities", "attention"),
        original=original,
        dynamic={"story": {0: "statements", 1: "words"}, "question": {1: "question_words"}},
        serving={
            "words": list(encoder.vocabulary.symbols),
            "answers": list(encoder.answers.symbols),
            "memory_size": config.memory_size,
        },
    )


class Suggest(nn.Module):
    """Chapter 3's recommender for a new user: from the ratings of a few films to expected ratings of all films."""

    def __init__(self, folded: Folded, count: Tensor, step: float) -> None:
        super().__init__()
        self.folded, self.count, self.step = folded, count, step

    def forward(self, films: Tensor, stars: Tensor) -> tuple[Tensor, Tensor]:
        """(R,) films, (R,) stars -> (R + 1, F) expected stars given all ratings and all but one, (F,) ranking scores"""
        rated = torch.arange(films.shape[0])
        kept = (torch.arange(-1, films.shape[0]).unsqueeze(1) != rated).double()
        expected = self.folded.versions(Person(films, stars), kept)
        return expected, self.count * chance_of_liking(expected[0], self.folded.biases.sd, self.step)


def conjugate_gradients(a: Tensor, b: Tensor) -> Tensor:
    """(V, D, D) symmetric positive definite A, (V, D) b -> (V, D) x with A x = b; replaces a solver that ONNX lacks

    Conjugate gradients with A's diagonal as preconditioner (Hestenes & Stiefel 1952; Saad 2003, algorithm 9.1). The
    prior dominates A for a few films, so A is nearly diagonal and a few steps suffice.
    """
    diagonal = a.diagonal(dim1=1, dim2=2)
    x, r = torch.zeros_like(b), b
    z = r / diagonal
    p, rz = z, (r * z).sum(1, keepdim=True)
    for _ in range(SOLVER_STEPS):
        ap = (a @ p.unsqueeze(2)).squeeze(2)
        alpha = rz / (p * ap).sum(1, keepdim=True).clamp(min=TINY)  # p is zero once a system is solved
        x, r = x + alpha * p, r - alpha * ap
        z = r / diagonal
        before, rz = rz, (r * z).sum(1, keepdim=True)
        p = z + rz / before.clamp(min=TINY) * p
    return x


def films(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 3's recommender."""
    model, _, ratings = recommender.restore(folder)
    assert isinstance(model, GaussianRBM), "the settings in sources.py request one"
    known = ratings.train + ratings.valid + ratings.test
    folded, count = Folded(model, known, ratings), popularity(known, ratings.n_films)
    step = float(ratings.levels[1] - ratings.levels[0])

    def original(films: Tensor, stars: Tensor) -> tuple[Tensor, Tensor]:
        person = Person(films, stars)
        expected = folded.stars(person)
        scores = count * chance_of_liking(expected, folded.biases.sd, step)
        return torch.cat([expected.unsqueeze(0), folded.without_each(person)]), scores

    generator = torch.Generator().manual_seed(0)
    rated = torch.randperm(ratings.n_films, generator=generator)[:MAX_RATED]
    return Graph(
        module=Suggest(folded, count, step),
        inputs={"films": rated, "stars": torch.randint(1, 6, rated.shape, generator=generator).float()},
        outputs=("expected", "scores"),
        original=original,
        dynamic={"films": {0: "rated"}, "stars": {0: "rated"}},
        serving={"titles": list(ratings.titles), "counts": count.int().tolist(), "most_rated": MAX_RATED},
        decompositions={torch.ops.aten.linalg_solve.default: conjugate_gradients},
    )


class Sweep(nn.Module):
    """One sweep of chapter 7's planner; the server repeats it, once per step of the longest possible path."""

    def __init__(self, model: Planner) -> None:
        super().__init__()
        self.model = model

    def forward(self, picture: Tensor, values: Tensor) -> tuple[Tensor]:
        """(B, 2, H, W) maze, (B, A, H, W) values -> (B, A, H, W) values after one more sweep"""
        return (self.model.sweep(values, *self.model.rules(picture)),)


def maze(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 7's planner, with mazes outside its training set."""
    model, config = generalise.restore(folder)
    assert isinstance(model, Planner), "the settings in sources.py request one"
    known = generalise.draw_split(config, "train", config.mazes)
    unseen = generalise.unseen(generalise.draw_split(config, "test", MAZES), known)
    walls = torch.stack([each.walls for each in unseen[:8]])
    tiles = walls[0].numel()
    exits = torch.tensor([r * walls.shape[2] + c for r, c in (each.exit for each in unseen[:8])])
    picture = generalise.planes_of(walls, exits + torch.arange(len(walls)) * tiles)
    values = model(picture, 3).movedim(3, 1).detach()
    size = {0: "batch", 2: "height", 3: "width"}
    return Graph(
        module=Sweep(model),
        inputs={"picture": picture, "values": values.contiguous()},
        outputs=("next_values",),
        original=lambda picture, values: (model.sweep(values, *model.rules(picture)),),
        dynamic={"picture": size, "values": size},
        serving={
            "mazes": [letters(each).splitlines() for each in unseen],
            "shortest": [int(distances(each)[each.start]) for each in unseen],
        },
    )
