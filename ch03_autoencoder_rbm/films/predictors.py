"""Predict stars and rank films with the three RBMs; all classes have the interface `evaluation.Predictor`.

Predictions are mean-field: the expected value of a visible unit given the hidden probabilities (Salakhutdinov, Mnih &
Hinton 2007, section 2.3). An RBM on rated films does not model the probability that a user watches a film, which a
ranking also depends on. It is approximated by the film's number of ratings, up to a constant:

    score = (number of ratings of the film) p(stars >= 4)

Dimensions: B users of a batch, C cases, N ratings, U users, F films, K levels, H hidden units.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from ch03_autoencoder_rbm.films.baseline_models.biases import Biases
from ch03_autoencoder_rbm.films.binary_rbm import BinaryRBM
from ch03_autoencoder_rbm.films.evaluation import LIKED, like_probability, popularity
from ch03_autoencoder_rbm.films.gaussian_rbm import GaussianRBM
from ch03_autoencoder_rbm.films.softmax_rbm import SoftmaxRBM
from ch03_autoencoder_rbm.films.sparse import Cases
from common.data.ratings.collection import Ratings, RatingSet

RatingRBM = SoftmaxRBM | GaussianRBM | BinaryRBM
Side = Literal["films", "users"]


def level_numbers(half_stars: Tensor, data: RatingSet) -> Tensor:
    """(N,) ratings in half stars -> (N,) level indices, 0 to K - 1"""
    return half_stars // int(2 * data.levels[0]) - 1


def make_model(config: Any, data: RatingSet) -> RatingRBM:
    """Make the RBM of a Config; initialise the visible biases of softmax and binary units from the training ratings."""
    units = data.n_users if config.cases == "films" else data.n_films
    if config.visible == "binary":
        liked = data.train[data.train.stars >= LIKED]
        model: RatingRBM = BinaryRBM(units, config.hidden_size)
        model.set_visible_bias(liked.films, data.n_users)
    elif config.visible == "gaussian":
        model = GaussianRBM(units, config.hidden_size, conditional=config.conditional)
    else:
        model = SoftmaxRBM(units, len(data.levels), config.hidden_size, conditional=config.conditional)
        rated_units = data.train.users if config.cases == "films" else data.train.films
        model.set_visible_bias(rated_units, level_numbers(data.train.half_stars, data))
    return model


def cases_of(model: RatingRBM, ratings: Ratings, by: Side, data: RatingSet, biases: Biases | None = None) -> Cases:
    """Convert ratings to values of the visible units: levels, residuals of the biases, or ones for liked films."""
    if isinstance(model, BinaryRBM):
        ratings = ratings[ratings.stars >= LIKED]
        values = torch.ones(len(ratings), dtype=torch.uint8)
    elif isinstance(model, GaussianRBM):
        biases = biases or Biases(ratings, data)
        values = (ratings.stars - biases.stars(ratings.users.long(), ratings.films.long())) / biases.sd
    else:
        values = level_numbers(ratings.half_stars, data)
    if by == "films":
        return Cases(ratings.films.long(), ratings.users, values, data.n_films)
    return Cases(ratings.users.long(), ratings.films, values, data.n_users)


@torch.inference_mode()
def hidden_states(model: RatingRBM, cases: Cases, chunk: int = 1_000) -> Tensor:
    """Compute the (C, H) hidden probabilities of all cases."""
    device = model.hidden_bias.device
    cases.to(device)
    parts = torch.arange(len(cases), device=device).split(chunk)
    return torch.cat([model.hidden(cases.take(part)) for part in parts])


class SoftmaxPredictor:
    """Predict stars with a softmax RBM; cases are films or users."""

    def __init__(self, model: SoftmaxRBM, known: Ratings, by: Side, data: RatingSet) -> None:
        self.model, self.known, self.by = model, known, by
        self.levels = data.levels.to(model.hidden_bias.device)
        self.count = popularity(known, data.n_films)
        self.hidden = hidden_states(model, cases_of(model, known, by, data))

    @torch.inference_mode()
    def stars(self, users: Tensor, films: Tensor) -> Tensor:
        """(N,) users, (N,) films -> (N,) expected stars, on the CPU"""
        units, cases = (users, films) if self.by == "films" else (films, users)
        units, cases = units.to(self.hidden.device), cases.to(self.hidden.device)
        return (self.model.logits(units, self.hidden, cases).softmax(1) @ self.levels).cpu()

    @torch.inference_mode()
    def scores(self, users: Tensor) -> Tensor:
        """(B,) users -> (B, F) number of ratings x p(stars >= 4), on the CPU"""
        users = users.to(self.hidden.device)
        weight, bias = self.model.weight, self.model.visible_bias
        if self.by == "films":
            logits = torch.einsum("bkh,fh->bfk", weight[users], self.hidden) + bias[users].unsqueeze(1)
        else:
            logits = torch.einsum("fkh,bh->bfk", weight, self.hidden[users]) + bias
        return self.count * logits.softmax(2)[:, :, self.levels >= LIKED].sum(2).cpu()


class GaussianPredictor:
    """Predict stars with a Gaussian RBM as biases plus residual; cases are films or users."""

    def __init__(self, model: GaussianRBM, known: Ratings, by: Side, data: RatingSet) -> None:
        self.model, self.known, self.by = model, known, by
        self.step = float(data.levels[1] - data.levels[0])
        self.count = popularity(known, data.n_films)
        self.biases = Biases(known, data)
        self.hidden = hidden_states(model, cases_of(model, known, by, data, self.biases))

    @torch.inference_mode()
    def stars(self, users: Tensor, films: Tensor) -> Tensor:
        """(N,) users, (N,) films -> (N,) expected stars, on the CPU"""
        units, cases = (users, films) if self.by == "films" else (films, users)
        units, cases = units.to(self.hidden.device), cases.to(self.hidden.device)
        return self.biases.stars(users, films) + self.biases.sd * self.model.mean(units, self.hidden, cases).cpu()

    @torch.inference_mode()
    def scores(self, users: Tensor) -> Tensor:
        """(B,) users -> (B, F) number of ratings x p(stars >= 4), on the CPU"""
        users = users.to(self.hidden.device)
        weight, bias = self.model.weight, self.model.visible_bias
        if self.by == "films":
            residual = weight[users] @ self.hidden.T + bias[users].unsqueeze(1)
        else:
            residual = self.hidden[users] @ weight.T + bias
        baseline = self.biases.mean + self.biases.user[users.cpu()].unsqueeze(1) + self.biases.film
        return self.count * like_probability(baseline + self.biases.sd * residual.cpu(), self.biases.sd, self.step)


class LikePredictor:
    """Rank films with the book's binary RBM, which cannot predict stars."""

    def __init__(self, model: BinaryRBM, known: Ratings, data: RatingSet) -> None:
        self.model, self.known = model, known
        self.hidden = hidden_states(model, cases_of(model, known, "users", data))

    def stars(self, users: Tensor, films: Tensor) -> None:  # noqa: ARG002
        """Return None: the binary RBM does not predict stars."""
        return

    @torch.inference_mode()
    def scores(self, users: Tensor) -> Tensor:
        """(B,) users -> (B, F) log-odds that the film is liked, on the CPU"""
        return self.model.logits(self.hidden[users.to(self.hidden.device)]).cpu()


def make_predictor(
    model: RatingRBM, known: Ratings, by: Side, data: RatingSet
) -> SoftmaxPredictor | GaussianPredictor | LikePredictor:
    """Make the predictor of an RBM with the input ratings `known`."""
    if isinstance(model, BinaryRBM):
        return LikePredictor(model, known, data)
    if isinstance(model, GaussianRBM):
        return GaussianPredictor(model, known, by, data)
    return SoftmaxPredictor(model, known, by, data)
