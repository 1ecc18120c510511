"""Define the exported graph of each network, from the client's input to the client's output, with example inputs.

Preprocessing is part of the graph, so the server cannot scale pixels differently. Loops (text generation, planning) are
exported as one step, with the state as input and output.

Dimensions: B batch, K classes (10), Z latent units, V symbols, S size of a state, A = 4 actions, H x W tiles; of
stories: M statements, J words of the longest, C answers, E embedding size, R tables of word vectors, N hops; of the
Transformer: C context, E width, H heads, D = E / H.
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
from ch03_autoencoder_rbm.films.evaluation import like_probability, popularity
from ch03_autoencoder_rbm.films.gaussian_rbm import GaussianRBM
from ch03_autoencoder_rbm.recommend import FoldIn, Person
from ch05_rnn.language import language_model
from ch05_rnn.language.attention import MultiHeadAttention, Rotation, attend, rms_normalise, rotate, rotation
from ch05_rnn.language.network import LanguageModel
from ch05_rnn.language.sampling import start_token
from ch05_rnn.language.transformer import Block, Transformer, sinusoidal
from ch05_rnn.memory import memory_network
from ch05_rnn.memory.encoding import Batch, Encoding
from ch05_rnn.memory.end_to_end import EndToEnd
from ch05_rnn.recurrence.cells import State
from ch06_cnn.class_names import load_class_names
from ch06_cnn.convolution import cnn
from ch06_cnn.preprocessing import scaled
from ch07_dqn.planning import generalise
from ch07_dqn.planning.planner import Planner
from ch08_vae.autoencoding import vae
from ch08_vae.autoencoding.networks import VAE
from ch10_deploy.inference.question_answering import PADDING
from common.data.images.loading import CLASS_NAMES, load_images
from common.data.mazes.maze import distances, letters
from common.data.text.vocabulary import Vocabulary

EXAMPLES = 256
"""Number of inputs on which a graph is compared with its original."""

CACHES = 16
"""The same for the Transformer, whose states are large."""

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
    """Dynamic dimensions: for each input, their names by position."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """Dynamic dimensions, by name, that cannot have any size: see `multiple`."""
    serving: dict[str, Any] = field(default_factory=dict)
    """Further data that the server needs, such as class names."""
    decompositions: dict[Any, Callable[..., Any]] = field(default_factory=dict)
    """Replacements for operators that ONNX lacks."""


def multiple(name: str, unit: int, *, least: int = 1) -> Any:
    """Create a dynamic dimension whose size is a multiple of `unit`, at least `least` times it."""
    return unit * torch.export.Dim(f"{name}_parts", min=least)


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


class CachedStep(nn.Module):
    """One step of chapter 5's Transformer: from a symbol and the state to logits and the next state.

    As a recurrent network's, the state is one vector of a fixed size: the number of symbols read so far, then keys and
    values of the last C - 1 positions in each block, oldest first. At the start of a text all of it is zero, and a mask
    hides the places that are still empty.
    """

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model, self.places = model, model.context - 1

    @property
    def sizes(self) -> list[int]:
        """Lengths of the parts of the state vector."""
        return [1, *[self.model.heads * self.places * self.model.head_size] * (2 * len(self.model.blocks))]

    def parts(self, state: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, S) -> (B,) symbols read, and keys and values of each block in turn, each (B, H, C - 1, D)"""
        read, *caches = state.split(self.sizes, dim=1)
        return read[:, 0], [part.unflatten(1, (self.model.heads, self.places, -1)) for part in caches]

    def forward(self, token: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) symbols, (B, S) state -> (B, V) logits, (B, S) next state"""
        model, (read, caches) = self.model, self.parts(state)
        x = model.embedding(token).unsqueeze(1)  # (B, 1, E)
        if model.positions == "sinusoidal":
            x = x + sinusoidal(read, x.shape[2], x.dtype).unsqueeze(1)
        turn = None
        if model.positions == "rotary":  # (B, 1, 1, D / 2), for all heads
            cosine, sine = rotation(read, model.head_size, x.dtype)
            turn = cosine[:, None, None], sine[:, None, None]
        full = torch.arange(model.context) >= self.places - read.unsqueeze(1)
        mask = full[:, None, None]  # (B, 1, 1, C)
        after = [(read + 1).unsqueeze(1)]
        for block, keys, values in zip(model.blocks, caches[::2], caches[1::2], strict=True):
            assert isinstance(block, Block)
            y, keys, values = self.attention(block.attention, block.attention_norm(x), keys, values, mask, turn)
            x = x + y
            x = x + block.feed_forward(block.feed_forward_norm(x))
            after += [keys.flatten(1), values.flatten(1)]
        return model.logits(model.norm(x[:, 0])), torch.cat(after, dim=1)

    @staticmethod
    def attention(
        layer: MultiHeadAttention, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor, turn: Rotation | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1, E) input, (B, H, C - 1, D) keys and values -> (B, 1, E), and the keys and values without the oldest"""
        q, k, v = layer.project(x).unflatten(2, (3, layer.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, 1, D)
        if layer.normalised:
            q, k = rms_normalise(q), rms_normalise(k)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        keys, values = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        y = attend(q, keys, values, mask).transpose(1, 2).flatten(2)
        return layer.output(y), keys[:, :, 1:], values[:, :, 1:]

    def original(self, token: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the same outputs with the chapter's network, whose cache has no empty places, one text at a time."""
        answers = [self.original_of_one(token[row : row + 1], state[row : row + 1]) for row in range(len(token))]
        logits, after = zip(*answers, strict=True)
        return torch.cat(logits), torch.cat(after)

    def original_of_one(self, token: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(1,) symbol, (1, S) state -> (1, V) logits, (1, S) next state"""
        read, caches = self.parts(state)
        full = min(int(read), self.places)
        kept = [cache[:, :, self.places - full :] for cache in caches]
        before = [(read[0].long(),), *zip(kept[::2], kept[1::2], strict=True)]
        logits, (_, *final) = self.model(token.unsqueeze(0), before)
        after = []
        for cache, new in zip(caches, chain.from_iterable(final), strict=True):
            empty = cache[:, :, 1 : 1 + self.places - new.shape[2]]
            after.append(torch.cat([empty, new], dim=2).flatten(1))
        return logits[0], torch.cat([(read + 1).unsqueeze(1), *after], dim=1)


def transformer(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Build the graph of chapter 5's Transformer, from a run."""
    model, vocabulary, _ = language_model.restore(folder)
    assert isinstance(model, Transformer), "the settings in sources.py request one"
    return transformer_of(model, vocabulary)


def transformer_of(model: Transformer, vocabulary: Vocabulary) -> Graph:
    """Build the graph of a Transformer; the examples are texts that fill none, some and all of the cache."""
    step = CachedStep(model)
    generator = torch.Generator().manual_seed(0)
    token = torch.randint(len(vocabulary), (CACHES,), generator=generator)
    state = torch.randn(CACHES, sum(step.sizes), generator=generator)
    state[:, 0] = torch.linspace(0, 2 * model.context, CACHES).floor()
    return Graph(
        module=step,
        inputs={"token": token, "state": state},
        outputs=("logits", "next_state"),
        original=step.original,
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

    def __init__(self, folded: FoldIn, count: Tensor, step: float) -> None:
        super().__init__()
        self.folded, self.count, self.step = folded, count, step

    def forward(self, films: Tensor, stars: Tensor) -> tuple[Tensor, Tensor]:
        """(R,) films, (R,) stars -> (R + 1, F) expected stars given all ratings and all but one, (F,) ranking scores"""
        rated = torch.arange(films.shape[0])
        kept = (torch.arange(-1, films.shape[0]).unsqueeze(1) != rated).double()
        expected = self.folded.versions(Person(films, stars), kept)
        return expected, self.count * like_probability(expected[0], self.folded.biases.sd, self.step)


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
    folded, count = FoldIn(model, known, ratings), popularity(known, ratings.n_films)
    step = float(ratings.levels[1] - ratings.levels[0])

    def original(films: Tensor, stars: Tensor) -> tuple[Tensor, Tensor]:
        person = Person(films, stars)
        expected = folded.stars(person)
        scores = count * like_probability(expected, folded.biases.sd, step)
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
