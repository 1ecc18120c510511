"""Baselines of the recommender: EASE, nearest neighbours and SVD++ against their definitions; tuning."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from ch03_autoencoder_rbm.films import baselines
from ch03_autoencoder_rbm.films.baseline_models.ease import EASE
from ch03_autoencoder_rbm.films.baseline_models.item_knn import ItemKNN
from ch03_autoencoder_rbm.films.baseline_models.svdpp import FULL_STEP, SVDpp
from ch03_autoencoder_rbm.films.evaluation import evaluate, interactions
from common.data.ratings.collection import Ratings
from common.data.ratings.loading import load_ratings


@pytest.fixture(scope="module")
def planted():
    return load_ratings("planted")


def first(data, users, films):
    """Return the data set with only the first users and films."""

    def cut(part):
        return part[(part.users < users) & (part.films < films)]

    return replace(
        data,
        user_ids=data.user_ids[:users],
        film_ids=data.film_ids[:films],
        titles=data.titles[:films],
        train=cut(data.train),
        valid=cut(data.valid),
        test=cut(data.test),
        noise_floor=None,
    )


def ratings_of(rows):
    users, films, stars = (torch.tensor(column) for column in zip(*rows, strict=True))
    return Ratings(users.int(), films.int(), (2 * stars).to(torch.uint8), torch.zeros(len(users), dtype=torch.int64))


@pytest.mark.parametrize(("users", "films"), [(40, 12), (12, 40)])
@pytest.mark.parametrize("liked_only", [True, False])
def test_ease_is_the_constrained_least_squares_solution(planted, users, films, liked_only):
    """Compare with a ridge regression of each film on all other films, and with the closed form."""
    data = first(planted, users, films)
    x = interactions(data.train, data, liked_only=liked_only).double()
    weights = torch.zeros(films, films, dtype=torch.float64)
    for film in range(films):
        others = [other for other in range(films) if other != film]
        a = x[:, others]
        solution = torch.linalg.solve(a.T @ a + 3.0 * torch.eye(films - 1), a.T @ x[:, film])
        weights[others, film] = solution
    model = EASE(data.train, data, penalty=3.0, liked_only=liked_only)
    found = model.scores(torch.arange(users)).double()
    torch.testing.assert_close(found, x @ weights, rtol=1e-3, atol=1e-4)
    p = torch.linalg.inv(x.T @ x + 3.0 * torch.eye(films))
    closed_form = torch.eye(films) - p / p.diag()
    assert closed_form.diag().abs().max() < 1e-9
    torch.testing.assert_close(closed_form, weights, rtol=1e-6, atol=1e-8)


def test_no_film_predicts_itself_in_ease(planted):
    """A film that only one user has gets the score 0 for this user."""
    data = first(planted, 3, 4)
    known = ratings_of([(0, 0, 5.0), (1, 1, 5.0), (1, 2, 5.0), (2, 1, 5.0), (2, 2, 5.0)])
    scores = EASE(known, data, penalty=1.0).scores(torch.arange(3))
    assert scores[0].tolist() == pytest.approx([0, 0, 0, 0], abs=1e-6)
    assert scores[1, 1] == pytest.approx(2 / 3, rel=1e-5), "film 1 from film 2: 2 common users / (2 users + penalty)"


def test_nearest_neighbours_by_hand(planted):
    data = first(planted, 4, 4)
    # Film 0 has users 0, 1, 2; film 1 has 0, 1; film 2 has 2, 3; film 3 has user 3.
    pairs = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 2), (3, 2), (3, 3)]
    known = ratings_of([(user, film, 5.0) for user, film in pairs])
    model = ItemKNN(known, data, neighbours=2, shrinkage=1.0)
    s01, s02, s23 = 2 / (6**0.5 + 1), 1 / (6**0.5 + 1), 1 / (2**0.5 + 1)
    scores = model.scores(torch.tensor([0, 3]))
    assert scores[0].tolist() == pytest.approx([s01, s01, s02, 0], rel=1e-5)
    assert scores[1].tolist() == pytest.approx([s02, 0, s23, s23], rel=1e-5)
    nearest = ItemKNN(known, data, neighbours=1, shrinkage=1.0).scores(torch.tensor([2]))[0]
    # Nearest neighbours: 0 -> 1, 1 -> 0, 2 -> 3, 3 -> 2. User 2 has films 0 and 2.
    assert nearest.tolist() == pytest.approx([0, s01, 0, s23], rel=1e-5)


def test_shrinkage_reduces_similarities_of_rare_films_most(planted):
    data = first(planted, 12, 3)
    known = ratings_of([(user, film, 4.0) for user in range(10) for film in (0, 1)] + [(11, 0, 4.0), (11, 2, 4.0)])
    similarity = [ItemKNN(known, data, neighbours=2, shrinkage=each).similarity[0] for each in (0.0, 5.0)]
    assert (similarity[1] < similarity[0]).all()
    assert similarity[1][1] / similarity[0][1] < similarity[1][0] / similarity[0][0]


def test_liked_only_ignores_low_ratings(planted):
    data = first(planted, 2, 3)
    known = ratings_of([(0, 0, 4.0), (0, 1, 3.5), (1, 2, 5.0)])
    assert interactions(known, data, liked_only=True).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert interactions(known, data, liked_only=False).tolist() == [[1, 1, 0], [0, 0, 1]]


def test_a_too_large_matrix_is_rejected(planted, monkeypatch):
    monkeypatch.setattr("ch03_autoencoder_rbm.films.evaluation.LARGEST_TABLE", 1_000)
    with pytest.raises(ValueError, match=r"needs at most 1,000 users x films in memory, got 480000"):
        EASE(planted.train, planted, penalty=1.0)


def svdpp_of(planted, dtype=torch.float64) -> Any:
    data = first(planted, 30, 20)
    model = SVDpp(data.train, data, factors=3, decay=0.1, epochs=1, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for name in ("user", "film", "p", "q", "y"):
        tensor = getattr(model, name)
        setattr(model, name, torch.randn(tensor.shape, generator=generator, dtype=dtype))
    return model


@pytest.mark.parametrize("count", [5, 20])
def test_svdpp_step_follows_the_gradient_of_the_loss(planted, count, monkeypatch):
    """Compare with autograd of the formula, also for a user with more than FULL_STEP ratings."""
    monkeypatch.setattr("ch03_autoencoder_rbm.films.baseline_models.svdpp.FULL_STEP", 10)
    assert FULL_STEP > 10
    model, user = svdpp_of(planted), 4
    films, stars = torch.arange(count), torch.linspace(1, 5, count, dtype=torch.float64)
    before = {name: getattr(model, name).clone().requires_grad_() for name in ("user", "film", "p", "q", "y")}
    b, c, p, q, y = before.values()
    implicit = y[films].sum(0) / count**0.5
    e = stars - (model.mean + b[user] + c[films] + q[films] @ (p[user] + implicit))
    squares = b[user] ** 2 + p[user].square().sum()
    penalty = 0.3 * (count * squares + (c[films] ** 2).sum() + q[films].square().sum() + y[films].square().sum())
    loss = 0.5 * (e.square().sum() + penalty)
    gradients = dict(zip(before, torch.autograd.grad(loss, list(before.values()), retain_graph=True), strict=True))
    (error_y,) = torch.autograd.grad(0.5 * e.square().sum(), y)
    smaller = min(1, 10 / count)
    model.update(user, films, stars, rate=0.01, decay=0.3)
    for name, gradient in gradients.items():
        step = 0.01 * gradient
        if name in ("user", "p"):
            step = step * smaller
        elif name == "y":  # only the gradient of the error is a sum over the user's ratings
            step = 0.01 * (smaller * error_y + gradient - error_y)
        torch.testing.assert_close(getattr(model, name), (before[name] - step).detach(), rtol=1e-9, atol=1e-12)


def test_svdpp_prediction_equals_the_formula(planted):
    data = first(planted, 30, 20)
    model = SVDpp(data.train, data, factors=3, decay=0.1, epochs=2, generator=torch.Generator().manual_seed(0))
    mine = data.train.films[data.train.users == 7].long()
    vector = model.p[7] + model.y[mine].sum(0) / len(mine) ** 0.5
    expected = model.mean + model.user[7] + model.film + model.q @ vector
    films = torch.arange(20)
    torch.testing.assert_close(model.stars(torch.full_like(films, 7), films), expected)
    assert model.scores(torch.tensor([7])).shape == (1, 20)


def test_svdpp_beats_the_biases(planted):
    bias = evaluate(baselines.fit("bias", planted.train, planted, {}), planted.valid, planted.n_films, ranked=False)
    settings = {"factors": 20, "decay": 0.1, "epochs": 20}
    model = baselines.fit("svd++", planted.train, planted, settings)
    found = evaluate(model, planted.valid, planted.n_films, ranked=False)
    assert found["rmse"] < 0.97 * bias["rmse"]


@pytest.mark.parametrize("name", ["item-knn", "ease"])
def test_implicit_baselines_beat_popularity(planted, name):
    settings = baselines.choose(name, planted, baselines.Config(neighbours=(100,), penalty=(100.0,)))
    compared: list[Any] = [("popularity", {}), (name, settings)]
    ndcg = [
        evaluate(baselines.fit(each, planted.train, planted, chosen), planted.valid, planted.n_films)["ndcg_at_10"]
        for each, chosen in compared
    ]
    assert ndcg[1] > ndcg[0]


def test_tuning_uses_only_the_validation_set(planted):
    """The planted sample has three factors; more factors overfit."""
    config = baselines.Config(factors=(3, 10), decay=(0.05, 0.2))
    assert baselines.choose("factorization", planted, config) == {"factors": 3, "decay": 0.05}
    other_test = replace(planted, test=replace(planted.test, half_stars=11 - planted.test.half_stars))
    assert baselines.choose("factorization", other_test, config) == {"factors": 3, "decay": 0.05}
    other_valid = replace(planted, valid=replace(planted.valid, half_stars=11 - planted.valid.half_stars))
    assert baselines.choose("factorization", other_valid, config) != {"factors": 3, "decay": 0.05}


def test_single_values_of_settings_are_used_without_tuning(options, planted):
    config = baselines.Config(data="planted", predictor="ease", penalty=(70.0,), liked_only=(True,), run=options)
    found = baselines.train(config, planted)
    assert (found["penalty"], found["liked_only"]) == (70, 1)
    known = planted.train + planted.valid
    fitted = EASE(known, planted, penalty=70.0)
    assert found["test_ndcg_at_10"] == evaluate(fitted, planted.test, planted.n_films)["ndcg_at_10"]


def test_invalid_settings_are_rejected():
    with pytest.raises(ValueError, match="--liked-only needs at least one value"):
        baselines.Config(liked_only=())
    with pytest.raises(ValueError, match="--shrinkage must not be negative"):
        baselines.Config(shrinkage=(10.0, -1.0))
