"""What is exported of each network: arithmetic from what a client has to what a client wants, and examples to check it.

The way from bytes to numbers belongs to the graph: a server that scaled pixels itself would one day scale them
differently. What loops (a text, a plan) is exported as one step, with its state as input and output.

Dimensions: B batch, K classes (10), Z latent units, V symbols, S numbers of a state, A = 4 actions, H x W tiles.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ch03_autoencoder_rbm.digits import feedforward
from ch03_autoencoder_rbm.films import recommender
from ch03_autoencoder_rbm.films.evaluation import chance_of_liking, popularity
from ch03_autoencoder_rbm.films.gaussian_rbm import GaussianRBM
from ch03_autoencoder_rbm.recommend import Folded, Person
from ch05_rnn.language import language_model
from ch05_rnn.language.network import LanguageModel
from ch05_rnn.language.sampling import start_token
from ch05_rnn.recurrence.cells import State
from ch06_cnn.convolution import cnn
from ch06_cnn.preprocessing import scaled
from ch07_dqn import generalise
from ch07_dqn.planner import Planner
from ch08_vae import vae
from ch08_vae.networks import VAE
from common.data.images import shapes
from common.data.images.loading import CLASS_NAMES, load_images
from common.data.mazes.maze import distances, letters
from common.data.text.vocabulary import Vocabulary

EXAMPLES = 256
"""Inputs that a graph is checked on."""

MAZES = 200
"""Mazes that the server knows, none of which the planner was trained on."""


MOST_RATED = 20
"""Films that a person may name."""

SOLVER_STEPS, TINY = 12, 1e-30


@dataclass(frozen=True)
class Graph:
    """A network as it is to be exported."""

    module: nn.Module
    inputs: dict[str, Tensor]
    """Examples by name, in the order of the module's arguments."""
    outputs: tuple[str, ...]
    """Names of what the module gives."""
    original: Callable[..., tuple[Tensor, ...]]
    """The network as its chapter asks it: the same inputs, the same outputs, held against each other by numbers."""
    dynamic: dict[str, dict[int, str]]
    """Dimensions of the inputs that may have any size, by name."""
    serving: dict[str, Any] = field(default_factory=dict)
    """What the server needs besides."""
    decompositions: dict[Any, Callable[..., Any]] = field(default_factory=dict)
    """What stands in for operations that ONNX does not have."""


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
    """Prepare the classifier of chapter 3."""
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
    """Chapter 6's network, from bytes to probabilities; colours come last, as image files and browsers have them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 32, 32, 3) bytes -> (B, K) logits and probabilities"""
        return with_probabilities(self.model(scaled(pixels.permute(0, 3, 1, 2), channels_last=False)))


def pictures(folder: Path, data: str) -> Graph:
    """Prepare the convolutional network of chapter 6."""
    model, _ = cnn.restore(folder)
    images = load_images("shapes").test.pixels[:EXAMPLES]
    return Graph(
        module=Pictures(model.to(memory_format=torch.contiguous_format)),
        inputs={"pixels": images.permute(0, 2, 3, 1).contiguous()},
        outputs=("logits", "probabilities"),
        original=lambda pixels: with_probabilities(cnn.predict(model, pixels.permute(0, 3, 1, 2), channels_last=False)),
        dynamic={"pixels": {0: "batch"}},
        serving={"classes": list(shapes.NAMES if data == "shapes" else CLASS_NAMES[data])},
    )


class Decoder(nn.Module):
    """The drawing half of chapter 8's autoencoder."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Z) -> (B, 784) logits, (B, 28, 28) brightness from 0 to 255"""
        logits = self.model.decode(latent)
        return logits, (255 * logits.sigmoid()).view(-1, 28, 28)


def decoder(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Prepare the decoder of chapter 8."""
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
    """One step of chapter 5's language model: a symbol and what it remembers, to what comes next and what it remembers.

    The states of all layers lie side by side in one vector.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    @property
    def sizes(self) -> list[int]:
        """Give the lengths of the states' parts."""
        return list(chain.from_iterable(self.model.state_sizes))

    def states(self, flat: Tensor) -> list[State]:
        """(B, S) -> the state of each layer"""
        parts = flat.split(self.sizes, dim=1)
        counts = [len(sizes) for sizes in self.model.state_sizes]
        ends = list(accumulate(counts))
        return [tuple(parts[end - count : end]) for count, end in zip(counts, ends, strict=True)]

    def forward(self, token: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) symbols, (B, S) -> (B, V) logits, (B, S)"""
        logits, after = self.model(token.unsqueeze(0), self.states(state))
        return logits[0], torch.cat(list(chain.from_iterable(after)), dim=1)


def text(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Prepare the language model of chapter 5."""
    model, vocabulary, _ = language_model.restore(folder)
    return text_of(model, vocabulary)


def text_of(model: LanguageModel, vocabulary: Vocabulary) -> Graph:
    """Prepare a language model."""
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


class Suggest(nn.Module):
    """Chapter 3's recommender for somebody new: their stars for a few films, to what they would give all others."""

    def __init__(self, folded: Folded, count: Tensor, step: float) -> None:
        super().__init__()
        self.folded, self.count, self.step = folded, count, step

    def forward(self, films: Tensor, stars: Tensor) -> tuple[Tensor, Tensor]:
        """(R,) films, (R,) stars -> (R + 1, F) expected stars, with all R and without each, (F,) the order of merit"""
        rated = torch.arange(films.shape[0])
        kept = (torch.arange(-1, films.shape[0]).unsqueeze(1) != rated).double()
        expected = self.folded.versions(Person(films, stars), kept)
        return expected, self.count * chance_of_liking(expected[0], self.folded.biases.sd, self.step)


def solved(a: Tensor, b: Tensor) -> Tensor:
    """(V, D, D) symmetric positive definite, (V, D) -> (V, D) x with A x = b, in the place of a solver that ONNX lacks

    Conjugate gradients with A's diagonal as preconditioner (Hestenes & Stiefel 1952; Saad 2003, algorithm 9.1). A is a
    prior that outweighs a few films, so its diagonal is nearly all of it, and a few steps suffice.
    """
    diagonal = a.diagonal(dim1=1, dim2=2)
    x, r = torch.zeros_like(b), b
    z = r / diagonal
    p, rz = z, (r * z).sum(1, keepdim=True)
    for _ in range(SOLVER_STEPS):
        ap = (a @ p.unsqueeze(2)).squeeze(2)
        alpha = rz / (p * ap).sum(1, keepdim=True).clamp(min=TINY)  # where p is zero, nothing is left to do
        x, r = x + alpha * p, r - alpha * ap
        z = r / diagonal
        before, rz = rz, (r * z).sum(1, keepdim=True)
        p = z + rz / before.clamp(min=TINY) * p
    return x


def films(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Prepare the recommender of chapter 3."""
    model, _, ratings = recommender.restore(folder)
    assert isinstance(model, GaussianRBM), "the source asks for one"
    known = ratings.train + ratings.valid + ratings.test
    folded, count = Folded(model, known, ratings), popularity(known, ratings.n_films)
    step = float(ratings.levels[1] - ratings.levels[0])

    def original(films: Tensor, stars: Tensor) -> tuple[Tensor, Tensor]:
        person = Person(films, stars)
        expected = folded.stars(person)
        scores = count * chance_of_liking(expected, folded.biases.sd, step)
        return torch.cat([expected.unsqueeze(0), folded.without_each(person)]), scores

    generator = torch.Generator().manual_seed(0)
    rated = torch.randperm(ratings.n_films, generator=generator)[:MOST_RATED]
    return Graph(
        module=Suggest(folded, count, step),
        inputs={"films": rated, "stars": torch.randint(1, 6, rated.shape, generator=generator).float()},
        outputs=("expected", "scores"),
        original=original,
        dynamic={"films": {0: "rated"}, "stars": {0: "rated"}},
        serving={"titles": list(ratings.titles), "counts": count.int().tolist(), "most_rated": MOST_RATED},
        decompositions={torch.ops.aten.linalg_solve.default: solved},
    )


class Sweep(nn.Module):
    """One look ahead of chapter 7's planner: repeated as often as a path can be long, it plans."""

    def __init__(self, model: Planner) -> None:
        super().__init__()
        self.model = model

    def forward(self, picture: Tensor, values: Tensor) -> tuple[Tensor]:
        """(B, 2, H, W), (B, A, H, W) values -> (B, A, H, W) values that look one step farther"""
        return (self.model.sweep(values, *self.model.rules(picture)),)


def maze(folder: Path, data: str) -> Graph:  # noqa: ARG001
    """Prepare the planner of chapter 7, and mazes that it has never seen."""
    model, config = generalise.restore(folder)
    assert isinstance(model, Planner), "the source asks for one"
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
