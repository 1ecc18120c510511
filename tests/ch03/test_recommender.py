"""The recommender: RBMs compared with slow loops from the papers, metrics, leaked ratings, baselines, training."""

import csv
import itertools
import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from ch03_autoencoder_rbm.films import baselines, evaluation, recommender, sparse_throughput
from ch03_autoencoder_rbm.films.baseline_models.biases import USER_PRIOR, Biases
from ch03_autoencoder_rbm.films.baseline_models.factorization import least_squares
from ch03_autoencoder_rbm.films.binary_rbm import BinaryRBM
from ch03_autoencoder_rbm.films.gaussian_rbm import GaussianRBM
from ch03_autoencoder_rbm.films.predictors import cases_of, hidden_states, level_numbers, make_model, make_predictor
from ch03_autoencoder_rbm.films.recommender import Config
from ch03_autoencoder_rbm.films.softmax_rbm import SoftmaxRBM, sample_levels
from ch03_autoencoder_rbm.films.sparse import Cases
from common.data.ratings.collection import Ratings
from common.data.ratings.loading import load_ratings
from common.run import load_weights
from common.schedule import one_cycle
from conftest import train_until

KINDS: list[Any] = [
    ("softmax", "films"),
    ("softmax", "users"),
    ("gaussian", "films"),
    ("gaussian", "users"),
    ("binary", "users"),
]


@pytest.fixture(scope="module", autouse=True)
def _one_setting():
    """Fit each baseline with one setting: `test_baselines` tests the choice."""
    settings = {"factors": (4,), "decay": (0.1,), "epochs": (10,), "neighbours": (50,), "shrinkage": (10.0,)}
    config = partial(baselines.Config, **settings, penalty=(200.0,), liked_only=(True,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "Config", config)
        yield


@pytest.fixture(scope="module")
def planted():
    return load_ratings("planted")


@pytest.fixture(scope="module")
def small():
    """Return the first users and films of the planted sample."""
    whole = load_ratings("planted")

    def cut(part):
        return part[(part.users < 120) & (part.films < 150)]

    return replace(
        whole,
        user_ids=whole.user_ids[:120],
        film_ids=whole.film_ids[:150],
        titles=whole.titles[:150],
        train=cut(whole.train),
        valid=cut(whole.valid),
        test=cut(whole.test),
        noise_floor=None,
    )


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the figures, which take most of the time of a short training."""
    monkeypatch.setattr(recommender, "report", lambda *_: None)


@pytest.fixture
def config(options):
    return Config(data="planted", epochs=3, batch_size=5, hidden_size=8, run=options)


def some_cases(values):
    """Return four cases over five units, in shuffled order; case 2 is empty."""
    cases, units = torch.tensor([3, 0, 1, 0, 3, 0]), torch.tensor([4, 2, 0, 1, 0, 4])
    return Cases(cases, units, values, 4), cases, units


# Sparse batches.


def test_a_batch_contains_the_ratings_of_its_cases_in_order():
    cases, _, _ = some_cases(torch.arange(6))
    batch = cases.take(torch.tensor([3, 2, 0]))
    assert batch.units.tolist() == [4, 0, 2, 1, 4]
    assert batch.values.tolist() == [0, 4, 1, 3, 5]
    assert batch.rows.tolist() == [0, 0, 2, 2, 2]
    assert batch.starts.tolist() == [0, 2, 2]


def test_an_epoch_contains_every_rating_once_and_no_empty_case():
    cases, _, _ = some_cases(torch.arange(6))
    batches = list(cases.shuffled(2, torch.Generator().manual_seed(0)))
    assert len(batches) == cases.batches(2) == 2
    assert sorted(torch.cat([batch.values for batch in batches]).tolist()) == list(range(6))
    orders = {tuple(next(cases.shuffled(1, torch.Generator().manual_seed(seed))).values.tolist()) for seed in range(9)}
    assert len(orders) == 3, "every case comes first for some seed"


# The RBMs, compared with loops over units from the equations of the papers.


def randomise(model) -> Any:
    """Set all parameters to random numbers in float64."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.double()


@pytest.mark.parametrize("conditional", [True, False])
def test_softmax_rbm_equals_the_equations_of_the_paper(conditional):
    model = randomise(SoftmaxRBM(5, 3, 4, conditional=conditional))
    cases, case, unit = some_cases(torch.tensor([0, 1, 2, 0, 1, 2]))
    batch = cases.take(torch.arange(4))
    hidden = model.hidden(batch)
    level = [0, 1, 2, 0, 1, 2]
    for c in range(4):
        for j in range(4):
            total = model.hidden_bias[j]
            for rating in range(6):
                if case[rating] == c:
                    total = total + model.weight[unit[rating], level[rating], j]
                    if model.rated_weight is not None:
                        total = total + model.rated_weight[unit[rating], j]
            assert hidden[c, j].item() == pytest.approx(total.sigmoid().item(), rel=1e-12)
    logits = model.logits(batch.units, hidden, batch.rows)
    for m, (u, row) in enumerate(zip(batch.units, batch.rows, strict=True)):
        for k in range(3):
            expected = model.visible_bias[u, k] + (model.weight[u, k] * hidden[row]).sum()
            assert logits[m, k].item() == pytest.approx(expected.item(), rel=1e-12)


def softmax_free_energy(model, units, levels):
    """Compute -log sum_h exp(-E(v, h)) by enumerating the hidden states."""
    total = []
    for state in itertools.product((0.0, 1.0), repeat=len(model.hidden_bias)):
        h = torch.tensor(state, dtype=torch.float64)
        energy = -(model.hidden_bias @ h)
        for u, k in zip(units, levels, strict=True):
            energy = energy - model.visible_bias[u, k] - model.weight[u, k] @ h - model.rated_weight[u] @ h
        total.append(-energy)
    return -torch.logsumexp(torch.stack(total), 0)


def test_softmax_gradient_approaches_the_gradient_of_the_likelihood():
    """With many steps and chains, contrastive divergence approaches the exact gradient of -log p(v | r)."""
    model = randomise(SoftmaxRBM(3, 2, 2))
    units, levels = [0, 2], [1, 0]
    free = {k: softmax_free_energy(model, units, k) for k in itertools.product(range(2), repeat=2)}
    loss = free[tuple(levels)] + torch.logsumexp(-torch.stack(list(free.values())), 0)
    exact = torch.autograd.grad(loss, [model.weight, model.visible_bias, model.hidden_bias, model.rated_weight])
    chains = 20_000
    case = torch.arange(chains).repeat_interleave(2)
    cases = Cases(case, torch.tensor(units * chains), torch.tensor(levels * chains), chains)
    torch.manual_seed(0)
    model.contrastive_divergence(cases.take(torch.arange(chains)), steps=20)
    estimate = [model.weight.grad, model.visible_bias.grad, model.hidden_bias.grad, model.rated_weight.grad]
    for ours, theirs in zip(estimate, exact, strict=True):
        torch.testing.assert_close(ours * 2, theirs, rtol=0, atol=0.015)  # mean over two ratings per case


def slow_statistics(positive, negative, at_data, at_model, rows, shape, scale):
    """Compute <v h>_k - <v h>_0 in a loop over ratings; at_data and at_model contain (index, value) of each rating."""
    gradient = torch.zeros(shape, dtype=torch.float64)
    for rating, row in enumerate(rows.tolist()):
        index, value = at_data[rating]
        gradient[index] -= value * positive[row] * scale
        index, value = at_model[rating]
        gradient[index] += value * negative[row] * scale
    return gradient


@pytest.mark.parametrize("steps", [1, 3])
def test_softmax_step_equals_a_slow_loop_over_ratings(steps):
    model = randomise(SoftmaxRBM(5, 3, 4))
    cases, _, _ = some_cases(torch.tensor([0, 1, 2, 0, 1, 2]))
    batch = cases.take(torch.arange(4))
    torch.manual_seed(5)
    positive = negative = model.hidden(batch)
    levels = batch.values
    for _ in range(steps):
        levels = sample_levels(model.logits(batch.units, negative.bernoulli(), batch.rows))
        negative = model.hidden(batch, levels)
    at_data = [((u, k), 1) for u, k in zip(batch.units.tolist(), batch.values.tolist(), strict=True)]
    at_model = [((u, k), 1) for u, k in zip(batch.units.tolist(), levels.tolist(), strict=True)]
    expected = slow_statistics(positive, negative, at_data, at_model, batch.rows, (5, 3, 4), 1 / 6)
    torch.manual_seed(5)
    model.contrastive_divergence(batch, steps)
    torch.testing.assert_close(model.weight.grad, expected.detach())
    ones = torch.ones(4, dtype=torch.float64)
    visible = slow_statistics(ones, ones, at_data, at_model, batch.rows, (5, 3), 1 / 6)
    torch.testing.assert_close(model.visible_bias.grad, visible)
    rated = slow_statistics(
        positive, negative, [(p[0], 1) for p, _ in at_data], [(p[0], 1) for p, _ in at_model], batch.rows, (5, 4), 1 / 6
    )
    torch.testing.assert_close(model.rated_weight.grad, rated.detach())
    torch.testing.assert_close(model.hidden_bias.grad, (negative - positive).sum(0).detach() / 6)


def test_levels_are_sampled_from_the_softmax():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0]).repeat(40_000, 1)
    torch.manual_seed(0)
    share = sample_levels(logits).bincount(minlength=4) / 40_000
    torch.testing.assert_close(share, logits[0].softmax(0), rtol=0, atol=0.01)


def test_gaussian_rbm_and_step_equal_the_formulas():
    model = randomise(GaussianRBM(5, 4))
    cases, _, _ = some_cases(torch.randn(6, dtype=torch.float64))
    batch = cases.take(torch.arange(4))
    v = torch.zeros(4, 5, dtype=torch.float64)
    r = torch.zeros(4, 5, dtype=torch.float64)
    v[batch.rows, batch.units], r[batch.rows, batch.units] = batch.values, 1.0
    dense = (v @ model.weight + r @ model.rated_weight + model.hidden_bias).sigmoid()
    torch.testing.assert_close(model.hidden(batch), dense)
    torch.manual_seed(1)
    model.contrastive_divergence(batch, 1)
    torch.manual_seed(1)
    mean = dense.bernoulli() @ model.weight.T + model.visible_bias
    drawn = mean[batch.rows, batch.units]
    drawn = drawn + torch.randn_like(drawn)
    w = torch.zeros_like(v)
    w[batch.rows, batch.units] = drawn
    after = (w @ model.weight + r @ model.rated_weight + model.hidden_bias).sigmoid()
    torch.testing.assert_close(model.weight.grad, (w.T @ after - v.T @ dense).detach() / 6)
    torch.testing.assert_close(model.rated_weight.grad, (r.T @ (after - dense)).detach() / 6)
    torch.testing.assert_close(model.visible_bias.grad, (w - v).sum(0).detach() / 6)
    torch.testing.assert_close(model.hidden_bias.grad, (after - dense).sum(0).detach() / 6)


def test_binary_rbm_and_step_equal_dense_computation():
    model = randomise(BinaryRBM(5, 4))
    cases, _, _ = some_cases(torch.ones(6, dtype=torch.uint8))
    batch = cases.take(torch.arange(4))
    v = torch.zeros(4, 5, dtype=torch.float64)
    v[batch.rows, batch.units] = 1
    before = (v @ model.weight + model.hidden_bias).sigmoid()
    torch.manual_seed(1)
    loss = model.contrastive_divergence(batch, 1)
    torch.manual_seed(1)
    logits = before.bernoulli() @ model.weight.T + model.visible_bias
    sampled = logits.sigmoid().bernoulli()
    after = (sampled @ model.weight + model.hidden_bias).sigmoid()
    torch.testing.assert_close(model.weight.grad, (sampled.T @ after - v.T @ before).detach() / 4)
    torch.testing.assert_close(model.visible_bias.grad, (sampled - v).sum(0) / 4)
    torch.testing.assert_close(model.hidden_bias.grad, (after - before).sum(0).detach() / 4)
    assert float(loss) == pytest.approx(F.binary_cross_entropy_with_logits(logits, v, reduction="sum").item() / 4)


def test_visible_biases_are_initialised_from_frequencies():
    model = SoftmaxRBM(2, 3, 4)
    model.set_visible_bias(torch.tensor([0, 0, 0, 1]), torch.tensor([2, 2, 1, 0]), prior=0.001)
    assert model.visible_bias[0].softmax(0).tolist() == pytest.approx([0, 1 / 3, 2 / 3], abs=1e-3)
    binary = BinaryRBM(2, 4)
    binary.set_visible_bias(torch.tensor([0, 0, 0]), cases=9)
    assert binary.visible_bias.sigmoid().tolist() == pytest.approx([0.35, 0.05])


def overfit(model, batch, learned, rate=2.0):
    """Train on one batch until `learned` returns True."""
    optimizer = recommender.make_optimizer(model, Config(learning_rate=rate, decay=0.0), count=1)
    torch.manual_seed(0)
    train_until(learned, lambda: recommender.train_step(model, optimizer, batch, 1), at_most=6_000)


@pytest.mark.parametrize("kind", ["softmax", "gaussian", "binary"])
def test_a_step_overwrites_the_gradients_of_the_previous_step(kind):
    model = {"softmax": SoftmaxRBM(5, 3, 4), "gaussian": GaussianRBM(5, 4), "binary": BinaryRBM(5, 4)}[kind]
    batch = some_cases(torch.randn(6) if kind == "gaussian" else torch.tensor([0, 1, 2, 0, 1, 2]))[0].take(
        torch.arange(4)
    )
    gradients = []
    for _ in range(2):
        torch.manual_seed(0)
        model.contrastive_divergence(batch, 1)
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_each_rbm_overfits_a_batch():
    generator = torch.Generator().manual_seed(0)
    case, unit = (torch.rand(6, 12, generator=generator) < 0.6).nonzero(as_tuple=True)
    levels = torch.randint(0, 3, (len(case),), generator=generator)
    batch = Cases(case, unit, levels, 6).take(torch.arange(6))
    torch.manual_seed(0)
    model = SoftmaxRBM(12, 3, 40)

    def levels_are_learned():
        guess = model.logits(batch.units, model.hidden(batch), batch.rows).argmax(1)
        return float((guess == batch.values).float().mean()) > 0.95

    overfit(model, batch, levels_are_learned)
    numbers = Cases(case, unit, levels - 1.0, 6).take(torch.arange(6))
    gaussian = GaussianRBM(12, 40)

    def numbers_are_learned():
        error = gaussian.mean(numbers.units, gaussian.hidden(numbers), numbers.rows) - numbers.values
        return error.square().mean().item() < 0.2 * numbers.values.square().mean().item()

    overfit(gaussian, numbers, numbers_are_learned, rate=0.2)
    binary = BinaryRBM(12, 40)
    liked = torch.zeros(6, 12, dtype=torch.bool)
    liked[numbers.rows, numbers.units] = True
    assert float(liked.float().mean()) < 0.75, "predicting 1 everywhere must not pass"

    def likes_are_learned():
        return float(((binary.logits(binary.hidden(numbers)) > 0) == liked).float().mean()) > 0.85

    overfit(binary, numbers, likes_are_learned, rate=0.1)


def test_weight_decay_applies_only_to_weights_and_is_divided_by_the_count():
    model = SoftmaxRBM(3, 2, 4)
    optimizer = recommender.make_optimizer(model, Config(decay=6.0), count=300)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(model.weight)] == decays[id(model.rated_weight)] == 0.02
    assert decays[id(model.visible_bias)] == decays[id(model.hidden_bias)] == 0


# Metrics.


class Fixed:
    """Predictor with a fixed table of stars and scores."""

    def __init__(self, known, table):
        self.known, self.table = known, table

    def stars(self, users, films):
        return self.table[users, films]

    def scores(self, users):
        return self.table[users]


def ratings_of(rows):
    users, films, stars = (torch.tensor(column) for column in zip(*rows, strict=True))
    return Ratings(users.int(), films.int(), (2 * stars).to(torch.uint8), torch.zeros(len(users), dtype=torch.int64))


def test_metrics_by_hand():
    known = ratings_of([(0, 0, 5.0), (1, 1, 3.0)])
    held = ratings_of([(0, 1, 4.0), (0, 2, 2.0), (0, 12, 5.0), (1, 0, 4.5), (2, 3, 1.0)])
    table = torch.arange(20.0, 0.0, -1.0).repeat(3, 1)  # film 0 first, then 1, 2 ...
    # User 0 gets films 1 to 10: film 1 (rank 1) is a hit, film 12 is missed. User 1 gets films 0, 2 ...: film 0 (rank
    # 1) is a hit. User 2 likes no held-out film.
    found = evaluation.evaluate(Fixed(known, table), held, 20)
    assert found["precision_at_10"] == pytest.approx((1 / 10 + 1 / 10) / 2)
    assert found["recall_at_10"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["ndcg_at_10"] == pytest.approx((1 / (1 + 1 / torch.tensor(3.0).log2().item()) + 1) / 2)
    assert found["coverage"] == pytest.approx(11 / 20)
    errors = [5 - 4, 5 - 2, 5 - 5, 5 - 4.5, 5 - 1]  # predictions are clamped to five stars
    assert found["mae"] == pytest.approx(sum(errors) / 5)
    assert found["rmse"] == pytest.approx((sum(e * e for e in errors) / 5) ** 0.5)


def test_known_films_are_not_recommended_and_scores_are_not_modified():
    known = ratings_of([(0, film, 3.0) for film in range(10)])
    held = ratings_of([(0, 15, 5.0)])
    table = torch.arange(20.0, 0.0, -1.0).expand(1, -1)
    found = evaluation.evaluate(Fixed(known, table), held, 20)
    assert found["precision_at_10"] == pytest.approx(0.1)
    assert table[0].tolist() == list(range(20, 0, -1))


def test_metrics_do_not_depend_on_chunks_and_many_users_are_sampled(monkeypatch, planted):
    predictor = baselines.fit("bias", planted.train, planted, {})
    whole = evaluation.evaluate(predictor, planted.valid, planted.n_films)
    monkeypatch.setattr(evaluation, "CHUNK", 7)
    assert evaluation.evaluate(predictor, planted.valid, planted.n_films) == pytest.approx(whole)
    monkeypatch.setattr(evaluation, "RANKED_USERS", 100)
    some = evaluation.evaluate(predictor, planted.valid, planted.n_films)
    assert some["ndcg_at_10"] == pytest.approx(whole["ndcg_at_10"], abs=0.1)
    assert some["ndcg_at_10"] != whole["ndcg_at_10"]


# Leaked test ratings.


def test_evaluation_rejects_a_predictor_with_held_out_ratings(planted):
    known = planted.train + planted.test[:3]
    predictor = baselines.fit("bias", known, planted, {})
    with pytest.raises(ValueError, match=r"3 of the 18,003 ratings to predict are in the predictor"):
        evaluation.evaluate(predictor, planted.test, planted.n_films)


@pytest.mark.parametrize(("visible", "by"), KINDS)
def test_leaked_test_ratings_change_the_metrics_and_are_rejected(config, small, visible, by):
    config = replace(config, visible=visible, cases=by)
    torch.manual_seed(0)
    model = make_model(config, small)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    known = small.train + small.valid
    expected = evaluation.evaluate(make_predictor(model, known, by, small), small.test, small.n_films)
    predictor = make_predictor(model, known + small.test, by, small)
    with pytest.raises(ValueError, match="are in the predictor's input: remove them"):
        evaluation.evaluate(predictor, small.test, small.n_films)
    leaked = evaluation.measure(recommender.Leaked(predictor, known), small.test, small.n_films)
    measure = "ndcg_at_10" if visible == "binary" else "rmse"
    assert leaked[measure] != pytest.approx(expected[measure], rel=1e-3)


@pytest.mark.usefixtures("undrawn")
def test_training_does_not_use_the_test_split(config, small):
    other_test = replace(small, test=replace(small.test, half_stars=11 - small.test.half_stars))
    for data in (small, other_test):
        recommender.train(config, data)
    one, two = (p.read_bytes() for p in sorted(config.run.out.rglob("model.safetensors")))
    assert one == two


# Baselines.


def test_means_and_biases_by_hand(planted):
    known = planted.train

    def fit(name) -> Any:
        return baselines.fit(name, known, planted, {})

    mean = known.stars.mean()
    constant = fit("global-mean").stars(torch.tensor([0, 5]), torch.tensor([1, 2]))
    torch.testing.assert_close(constant, mean.expand(2))
    film = fit("film-mean").stars(torch.tensor([3]), torch.tensor([7]))
    torch.testing.assert_close(film[0], known.stars[known.films == 7].mean())
    bias = fit("bias")
    rest = known.stars - bias.mean - bias.film[known.films.long()]
    mine = rest[known.users == 4]
    assert float(bias.user[4]) == pytest.approx(float(mine.sum()) / (len(mine) + USER_PRIOR), rel=1e-4)


def test_a_film_without_ratings_has_the_bias_zero(planted):
    known = planted.train[planted.train.films != 3]
    for name in ("film-mean", "bias"):
        predictor: Any = baselines.fit(name, known, planted, {})
        assert float(predictor.film[3]) == 0


def test_least_squares_equals_ridge_regression():
    torch.manual_seed(0)
    rows, columns = torch.randint(0, 4, (60,)), torch.randint(0, 9, (60,))
    factors, target = torch.randn(9, 3, dtype=torch.float64), torch.randn(60, dtype=torch.float64)
    solution = least_squares(rows, columns, factors, target, 5, decay=0.3)
    for row in range(4):
        x, y = factors[columns[rows == row]], target[rows == row]
        w = solution[row].clone().requires_grad_()
        loss = (y - x @ w).square().sum() + 0.3 * len(y) * w.square().sum()
        (gradient,) = torch.autograd.grad(loss, w)
        torch.testing.assert_close(gradient, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-9)
    assert solution[4].tolist() == [0, 0, 0]


def test_factors_beat_biases_beat_means(planted):
    settings: dict[Any, Any] = {"factorization": {"factors": 3, "decay": 0.05}}
    rmse = {
        name: evaluation.evaluate(
            baselines.fit(name, planted.train, planted, settings.get(name, {})), planted.valid, planted.n_films
        )["rmse"]
        for name in ("global-mean", "film-mean", "bias", "factorization")
    }
    assert list(rmse.values()) == sorted(rmse.values(), reverse=True)


def test_baselines_are_fitted_to_training_and_validation_ratings_for_the_test(options, planted):
    found = baselines.train(baselines.Config(data="planted", predictor="bias", run=options), planted)
    both = baselines.fit("bias", planted.train + planted.valid, planted, {})
    assert found["test_rmse"] == evaluation.evaluate(both, planted.test, planted.n_films)["rmse"]


def test_baselines_require_a_cpu(options, planted, monkeypatch):
    assert baselines.Config().run.device == "cpu"
    monkeypatch.setattr("common.run.devices.resolve_device", lambda _: torch.device("meta"))
    monkeypatch.setattr("common.run.devices.describe_device", str)
    with pytest.raises(ValueError, match="baselines run on a CPU, so --device must be cpu, got meta"):
        baselines.train(baselines.Config(data="planted", run=options), planted)


@pytest.mark.parametrize("program", ["recommender", "baselines", "sparse_throughput"])
def test_programs_without_bf16_record_fp32(options, small, monkeypatch, program):
    """Simulate a machine on which --precision auto is bf16."""
    monkeypatch.setattr("common.run.devices.resolve_precision", lambda *_: "bf16")
    run = replace(options, precision="auto")
    if program == "recommender":
        recommender.train(Config(data="planted", epochs=1, hidden_size=2, run=run), small)
    elif program == "baselines":
        baselines.train(baselines.Config(data="planted", predictor="global-mean", run=run), small)
    else:
        sparse_throughput.train(sparse_throughput.Config(data="planted", hidden_size=2, rounds=1, run=run), small)
    summary = json.loads(next(options.out.rglob("summary.json")).read_text())
    assert summary["device"].endswith(", fp32")


def test_popularity_does_not_predict_stars(options, planted):
    found = baselines.train(baselines.Config(data="planted", predictor="popularity", run=options), planted)
    assert "test_rmse" not in found
    assert found["test_precision_at_10"] > 0.1


# The program.


@pytest.mark.parametrize(("visible", "by"), KINDS)
def test_training_learns_is_repeatable_and_restores(config, small, visible, by):
    config = Config(data="planted", visible=visible, cases=by, epochs=6, batch_size=5, hidden_size=8, run=config.run)
    first, second = recommender.train(config, small), recommender.train(config, small)
    one, two = (path.parent for path in sorted(config.run.out.rglob("model.safetensors")))
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    timed = ("train_seconds", "ratings_per_second")
    assert {k: v for k, v in first.items() if k not in timed} == {k: v for k, v in second.items() if k not in timed}
    history = [json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()]
    measure = "valid_ndcg_at_10" if visible == "binary" else "valid_rmse"
    values = [row[measure] for row in history]
    best = max(values) if visible == "binary" else min(values)
    assert first["kept_epoch"] == 1 + values.index(best)
    rows = list(csv.DictReader((one / "comparison.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert float(rows[-1]["ndcg_at_10"]) == first["test_ndcg_at_10"]
    drawn = {path.stem for path in one.glob("*.png")}
    assert drawn == {"ratings", "ndcg", "curves"} | ({"films"} if by == "films" else set()) | {"rmse"}


def test_films_are_ordered_by_similarity():
    similarity = torch.tensor([[1, 0.1, 0.9, 0.2], [0.1, 1, 0.3, 0.8], [0.9, 0.3, 1, 0.4], [0.2, 0.8, 0.4, 1]])
    assert recommender.by_similarity(similarity) == [0, 2, 3, 1]


@pytest.mark.usefixtures("undrawn")
def test_a_restored_rbm_has_the_same_metrics(options, planted):
    config = Config(data="planted", epochs=2, hidden_size=8, run=options)
    found = recommender.train(config)
    model, restored, data = recommender.restore(next(options.out.rglob("model.safetensors")).parent)
    assert restored == config
    predictor = make_predictor(model, data.train + data.valid, config.cases, data)
    assert evaluation.evaluate(predictor, data.test, data.n_films)["rmse"] == pytest.approx(found["test_rmse"])


@pytest.fixture
def worsening(monkeypatch):
    """Increase the learning rate during training, so that an early epoch is the best."""
    monkeypatch.setattr(recommender, "one_cycle", lambda step, steps, peak: 0.1 + 8 * step / steps)


@pytest.mark.usefixtures("undrawn")
def test_the_weights_of_the_best_epoch_are_saved(config, small, worsening):
    found = recommender.train(replace(config, epochs=4), small)
    (folder,) = (path.parent for path in config.run.out.rglob("model.safetensors"))
    history = [json.loads(line)["valid_rmse"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    model = make_model(config, small)
    load_weights(model, folder)
    saved = evaluation.evaluate(make_predictor(model, small.train, "films", small), small.valid, small.n_films)
    assert saved["rmse"] == pytest.approx(min(history))
    assert min(history) < history[-1]
    assert found["kept_epoch"] == 1 + history.index(min(history))


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_run_resumes_to_the_same_weights(config, small, monkeypatch, worsening):
    config = replace(config, epochs=4)
    whole = recommender.train(config, small)
    assert whole["kept_epoch"] <= 2, "the kept weights must come from before the interruption"
    calls = itertools.count()
    step = recommender.train_step

    def stopping(*arguments):
        if next(calls) == 80:  # in the third epoch
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(recommender, "train_step", stopping)
    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        recommender.train(config, small)
    monkeypatch.setattr(recommender, "train_step", step)
    resumed = recommender.train(replace(config, run=replace(config.run, resume=True)), small)
    one, two = (path.read_bytes() for path in config.run.out.rglob("model.safetensors"))
    assert one == two
    assert resumed["test_rmse"] == whole["test_rmse"]
    assert resumed["kept_epoch"] == whole["kept_epoch"]


def test_kept_epoch_has_the_lowest_rmse_or_highest_ndcg_or_is_the_last():
    loss = recommender.validation_loss
    assert [loss({"rmse": error}, "gaussian", 1) for error in (0.9, 0.7)] == [0.9, 0.7]
    assert loss({"rmse": 0.1, "ndcg_at_10": 0.3}, "binary", 1) < loss({"rmse": 0.0, "ndcg_at_10": 0.2}, "binary", 2)
    for visible in ("softmax", "binary"):
        assert loss({}, visible, 2) < loss({}, visible, 1), "without validation ratings the last epoch is kept"


def test_gibbs_steps_change_during_training(config, small, monkeypatch):
    ks = []
    step = recommender.train_step
    monkeypatch.setattr(
        recommender, "train_step", lambda model, optimizer, batch, k: ks.append(k) or step(model, optimizer, batch, k)
    )
    recommender.train(replace(config, cd_steps=(1, 2, 5)), small)
    assert ks == sorted(ks)
    assert [ks.count(k) for k in (1, 2, 5)] == [len(ks) // 3] * 3


@pytest.mark.usefixtures("undrawn")
def test_learning_rate_follows_one_cycle(config, small, monkeypatch):
    rates = []
    change = recommender.set_learning_rate
    monkeypatch.setattr(
        recommender, "set_learning_rate", lambda optimizer, rate: (rates.append(rate), change(optimizer, rate))
    )
    recommender.train(replace(config, learning_rate=0.7), small)
    mean_ratings = len(small.train) / (len(rates) / 3)
    assert mean_ratings < 500
    peak = 0.7 * mean_ratings / 500  # reduced for steps with few ratings
    assert rates == pytest.approx([one_cycle(step, len(rates), peak) for step in range(len(rates))])
    rates.clear()
    recommender.train(replace(config, learning_rate=0.7, batch_size=None, epochs=1), small)
    assert max(rates) == pytest.approx(0.7 * min(1, len(small.train) / len(rates) / 500))


@pytest.mark.usefixtures("undrawn")
def test_trap_adds_leaked_metrics_to_the_others(config, small):
    found = recommender.train(replace(config, trap=True), small)
    assert found["leaked_rmse"] != found["test_rmse"]
    plain = recommender.train(config, small)
    assert plain["test_rmse"] == found["test_rmse"]
    assert not any(name.startswith("leaked") for name in plain)


def test_conditional_weights_are_optional(config, small):
    for conditional in (True, False):
        model = make_model(replace(config, conditional=conditional), small)
        assert (model.rated_weight is not None) is conditional


def test_level_numbers_of_half_and_whole_stars(planted):
    ratings = ratings_of([(0, film, float(film + 1)) for film in range(5)])
    assert level_numbers(ratings.half_stars, planted).tolist() == [1, 3, 5, 7, 9]
    whole = replace(planted, levels=torch.arange(1, 6).float())
    assert level_numbers(ratings.half_stars, whole).tolist() == [0, 1, 2, 3, 4]


def test_input_values_of_each_rbm(config, small):
    """Levels, residuals of the biases divided by their standard deviation, or only liked films."""
    known = small.train
    for visible, by in KINDS:
        model = make_model(replace(config, visible=visible, cases=by), small)
        batch = cases_of(model, known, by, small).take(torch.tensor([7]))
        mine = known[(known.films if by == "films" else known.users) == 7]
        others = (mine.users if by == "films" else mine.films).long()
        if visible == "softmax":
            assert batch.values.tolist() == (mine.half_stars - 1).tolist()
        elif visible == "gaussian":
            biases = Biases(known, small)
            residuals = mine.stars - biases.stars(mine.users.long(), mine.films.long())
            torch.testing.assert_close(batch.values, residuals / biases.sd)
        else:
            others = others[mine.stars >= 4]
        assert torch.equal(batch.units, others)


def test_hidden_states_do_not_depend_on_chunks(config, small):
    model = make_model(config, small)
    cases = cases_of(model, small.train, "films", small)
    torch.testing.assert_close(hidden_states(model, cases, 7), hidden_states(model, cases))


@pytest.mark.usefixtures("undrawn")
def test_within_ten_percent_of_the_noise_floor(options, planted):
    found = recommender.train(Config(data="planted", epochs=20, run=options), planted)
    assert planted.noise_floor is not None
    assert found["test_rmse"] < 1.1 * planted.noise_floor
    assert found["test_rmse"] > planted.noise_floor, "the noise floor is a lower bound"
    assert found["test_rmse"] < 0.95 * found["bias_rmse"]
    assert found["test_ndcg_at_10"] > 1.2 * found["popularity_ndcg_at_10"]


def test_default_batch_size_gives_32_steps_of_at_least_500_ratings():
    many = Cases(torch.arange(64_000) % 640, torch.arange(64_000), torch.zeros(64_000), 700)
    assert recommender.default_batch_size(many) == 20
    few = Cases(torch.arange(6_400) % 640, torch.arange(6_400), torch.zeros(6_400), 700)
    assert recommender.default_batch_size(few) == 50
    assert few.batches(50) == 13


@pytest.mark.parametrize("limit", [1, 30, 100, 1_000])
def test_training_works_with_few_ratings(options, limit):
    data = load_ratings("planted", limit=limit)
    few: dict = {"data": "planted", "hidden_size": 8, "epochs": 3, "run": options}
    for visible in ("gaussian", "softmax"):
        recommender.train(Config(visible=visible, **few), data)
    binary = Config(visible="binary", **few)
    if int(data.train.half_stars.max()) >= 8:
        recommender.train(binary, data)
    else:
        with pytest.raises(ValueError, match="no rating has four stars or more"):
            recommender.train(binary, data)


def test_defaults_depend_on_the_visible_units():
    for visible in ("gaussian", "softmax"):
        config = Config(visible=visible)
        assert (config.cases, config.epochs, config.learning_rate) == ("films", 60, 1.5)
    binary = Config(visible="binary")
    assert (binary.cases, binary.epochs, binary.learning_rate) == ("users", 30, 0.05)
    assert Config(visible="softmax", cases="users", learning_rate=0.5).learning_rate == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cases": "films", "visible": "binary"}, "--visible binary needs --cases users"),
        ({"cd_steps": ()}, "--cd-steps needs at least one number"),
        ({"cd_steps": (1, 0)}, "--cd-steps must be a number above 0"),
        ({"momentum": 1.0}, "--momentum must be at least 0 and below 1"),
        ({"decay": -1.0}, "--decay must not be negative"),
        ({"split_seed": -1}, "--split-seed must be between"),
    ],
)
def test_invalid_settings_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_bfloat16_is_rejected(options):
    with pytest.raises(ValueError, match="the recommender's --precision must be fp32"):
        Config(run=replace(options, precision="bf16"))


@pytest.mark.parametrize("visible", ["gaussian", "softmax", "binary"])
def test_workload_is_the_training_step(visible, options):
    workload = recommender.workload(Config(visible=visible, run=options), torch.device("cpu"))
    loss: Any = workload.step()
    assert torch.isfinite(loss)
    assert workload.items == 2_400


@pytest.mark.parametrize(("visible", "count"), [("gaussian", 2_400), ("softmax", 2_400), ("binary", 300)])
def test_workload_divides_the_weight_decay_as_training_does(visible, count, options, monkeypatch):
    """By the number of ratings or, if the gradient is a mean over cases, by the number of cases."""
    make, counts = recommender.make_optimizer, []
    monkeypatch.setattr(recommender, "make_optimizer", lambda m, c, n: counts.append(n) or make(m, c, n))
    recommender.workload(Config(visible=visible, run=options), torch.device("cpu"))
    assert counts == [count]


# Sparse batches, compared with dense batches and loops.


@pytest.mark.parametrize("layout", ["dense", "loop"])
def test_all_layouts_compute_the_same_gradient(layout):
    torch.manual_seed(8)
    ratings = (torch.rand(7, 9) < 0.4).nonzero()  # no case rates a unit twice
    cases = Cases(ratings[:, 0], ratings[:, 1], torch.randint(4, (len(ratings),)), 7)
    batch = cases.take(torch.tensor([5, 0, 3, 6]))
    model = randomise(SoftmaxRBM(9, 4, 6, conditional=False))
    gradients = []
    for name in ("sparse", layout):
        torch.manual_seed(2)
        sparse_throughput.STEPS[name](model, batch)
        gradients.append({key: parameter.grad.clone() for key, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0])
    assert gradients[0]["weight"].abs().max() > 0


def test_sparse_throughput_compares_the_layouts(options):
    found = sparse_throughput.train(
        sparse_throughput.Config(data="planted", hidden_size=4, rounds=2, run=replace(options, limit=500))
    )
    assert min(found["dense_ratio"], found["loop_ratio"]) > 0
    assert set(found) == {
        "sparse_epoch_seconds", "dense_epoch_seconds", "loop_epoch_seconds", "dense_ratio", "loop_ratio"
    }  # fmt: skip
