"""The recommender: machines against slow loops written from the papers, honest measures, and a whole training."""

import csv
import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from ch03_autoencoder_rbm.films import baselines, recommender, sparse_throughput
from ch03_autoencoder_rbm.films import evaluation as measures
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


@pytest.fixture(scope="module")
def planted():
    return load_ratings("planted")


@pytest.fixture(scope="module")
def small():
    """The planted sample's first users and films."""
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
def config(options):
    return Config(data="planted", epochs=3, batch_size=5, hidden_size=8, run=options)


def some_cases(values):
    """Four cases over five units, the third of them empty, in shuffled order."""
    cases, units = torch.tensor([3, 0, 1, 0, 3, 0]), torch.tensor([4, 2, 0, 1, 0, 4])
    return Cases(cases, units, values, 4), cases, units


# Sparse batches.


def test_a_batch_holds_the_ratings_of_its_cases_in_order():
    cases, _, _ = some_cases(torch.arange(6))
    batch = cases.take(torch.tensor([3, 2, 0]))
    assert batch.units.tolist() == [4, 0, 2, 1, 4]
    assert batch.values.tolist() == [0, 4, 1, 3, 5]
    assert batch.rows.tolist() == [0, 0, 2, 2, 2]
    assert batch.starts.tolist() == [0, 2, 2]


def test_an_epoch_shows_every_rating_once_and_no_empty_case():
    cases, _, _ = some_cases(torch.arange(6))
    batches = list(cases.shuffled(2, torch.Generator().manual_seed(0)))
    assert len(batches) == cases.batches(2) == 2
    assert sorted(torch.cat([batch.values for batch in batches]).tolist()) == list(range(6))
    orders = {tuple(next(cases.shuffled(1, torch.Generator().manual_seed(seed))).values.tolist()) for seed in range(9)}
    assert len(orders) == 3, "every case comes first sometimes"


# The machines, against loops over units written from the papers' equations.


def filled(model) -> Any:
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.double()


@pytest.mark.parametrize("conditional", [True, False])
def test_softmax_machine_is_the_papers(conditional):
    model = filled(SoftmaxRBM(5, 3, 4, conditional=conditional))
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
    """-log of the sum over all hidden states of exp(-energy), by enumerating them."""
    total = []
    for state in itertools.product((0.0, 1.0), repeat=len(model.hidden_bias)):
        h = torch.tensor(state, dtype=torch.float64)
        energy = -(model.hidden_bias @ h)
        for u, k in zip(units, levels, strict=True):
            energy = energy - model.visible_bias[u, k] - model.weight[u, k] @ h - model.rated_weight[u] @ h
        total.append(-energy)
    return -torch.logsumexp(torch.stack(total), 0)


def test_softmax_gradient_approaches_the_likelihoods():
    """With many steps and chains, contrastive divergence gives the exact gradient of -log p(v | r)."""
    model = filled(SoftmaxRBM(3, 2, 2))
    units, levels = [0, 2], [1, 0]
    free = {k: softmax_free_energy(model, units, k) for k in itertools.product(range(2), repeat=2)}
    loss = free[tuple(levels)] + torch.logsumexp(-torch.stack(list(free.values())), 0)
    exact = torch.autograd.grad(loss, [model.weight, model.visible_bias, model.hidden_bias, model.rated_weight])
    chains = 20_000
    case = torch.arange(chains).repeat_interleave(2)
    cases = Cases(case, torch.tensor(units * chains), torch.tensor(levels * chains), chains)
    torch.manual_seed(0)
    model.contrastive_divergence(cases.take(torch.arange(chains)), steps=20)
    got = [model.weight.grad, model.visible_bias.grad, model.hidden_bias.grad, model.rated_weight.grad]
    for ours, theirs in zip(got, exact, strict=True):
        torch.testing.assert_close(ours * 2, theirs, rtol=0, atol=0.015)  # a mean over two ratings a case


def slow_statistics(positive, negative, at_data, at_model, rows, shape, scale):
    """<v h>_k - <v h>_0 by a loop over ratings; at_data and at_model say which entry of v each rating is."""
    gradient = torch.zeros(shape, dtype=torch.float64)
    for rating, row in enumerate(rows.tolist()):
        place, value = at_data[rating]
        gradient[place] -= value * positive[row] * scale
        place, value = at_model[rating]
        gradient[place] += value * negative[row] * scale
    return gradient


@pytest.mark.parametrize("steps", [1, 3])
def test_softmax_step_is_a_slow_loop_over_ratings(steps):
    model = filled(SoftmaxRBM(5, 3, 4))
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


def test_levels_are_drawn_from_the_softmax():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0]).repeat(40_000, 1)
    torch.manual_seed(0)
    share = sample_levels(logits).bincount(minlength=4) / 40_000
    torch.testing.assert_close(share, logits[0].softmax(0), rtol=0, atol=0.01)


def test_gaussian_machine_and_step_are_the_formulas():
    model = filled(GaussianRBM(5, 4))
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


def test_binary_machine_and_step_are_the_dense_ones():
    model = filled(BinaryRBM(5, 4))
    cases, _, _ = some_cases(torch.ones(6, dtype=torch.uint8))
    batch = cases.take(torch.arange(4))
    v = torch.zeros(4, 5, dtype=torch.float64)
    v[batch.rows, batch.units] = 1
    before = (v @ model.weight + model.hidden_bias).sigmoid()
    torch.manual_seed(1)
    loss = model.contrastive_divergence(batch, 1)
    torch.manual_seed(1)
    logits = before.bernoulli() @ model.weight.T + model.visible_bias
    seen = logits.sigmoid().bernoulli()
    after = (seen @ model.weight + model.hidden_bias).sigmoid()
    torch.testing.assert_close(model.weight.grad, (seen.T @ after - v.T @ before).detach() / 4)
    torch.testing.assert_close(model.visible_bias.grad, (seen - v).sum(0) / 4)
    torch.testing.assert_close(model.hidden_bias.grad, (after - before).sum(0).detach() / 4)
    assert float(loss) == pytest.approx(F.binary_cross_entropy_with_logits(logits, v, reduction="sum").item() / 4)


def test_visible_biases_start_at_the_frequencies():
    model = SoftmaxRBM(2, 3, 4)
    model.set_visible_bias(torch.tensor([0, 0, 0, 1]), torch.tensor([2, 2, 1, 0]), prior=0.001)
    assert model.visible_bias[0].softmax(0).tolist() == pytest.approx([0, 1 / 3, 2 / 3], abs=1e-3)
    binary = BinaryRBM(2, 4)
    binary.set_visible_bias(torch.tensor([0, 0, 0]), cases=9)
    assert binary.visible_bias.sigmoid().tolist() == pytest.approx([0.35, 0.05])


def learn_by_heart(model, batch, learned, rate=2.0):
    optimizer = recommender.make_optimizer(model, Config(learning_rate=rate, decay=0.0), count=1)
    torch.manual_seed(0)
    train_until(learned, lambda: recommender.train_step(model, optimizer, batch, 1), at_most=6_000)


@pytest.mark.parametrize("kind", ["softmax", "gaussian", "binary"])
def test_a_step_forgets_the_gradients_of_the_step_before(kind):
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


def test_each_machine_learns_a_batch_by_heart():
    generator = torch.Generator().manual_seed(0)
    case, unit = (torch.rand(6, 12, generator=generator) < 0.6).nonzero(as_tuple=True)
    levels = torch.randint(0, 3, (len(case),), generator=generator)
    batch = Cases(case, unit, levels, 6).take(torch.arange(6))
    torch.manual_seed(0)
    model = SoftmaxRBM(12, 3, 40)

    def levels_are_learned():
        guess = model.logits(batch.units, model.hidden(batch), batch.rows).argmax(1)
        return float((guess == batch.values).float().mean()) > 0.95

    learn_by_heart(model, batch, levels_are_learned)
    numbers = Cases(case, unit, levels - 1.0, 6).take(torch.arange(6))
    gaussian = GaussianRBM(12, 40)

    def numbers_are_learned():
        error = gaussian.mean(numbers.units, gaussian.hidden(numbers), numbers.rows) - numbers.values
        return error.square().mean().item() < 0.2 * numbers.values.square().mean().item()

    learn_by_heart(gaussian, numbers, numbers_are_learned, rate=0.2)
    binary = BinaryRBM(12, 40)
    seen = torch.zeros(6, 12, dtype=torch.bool)
    seen[numbers.rows, numbers.units] = True
    assert float(seen.float().mean()) < 0.75, "to say yes always would be right too often"

    def choices_are_learned():
        return float(((binary.logits(binary.hidden(numbers)) > 0) == seen).float().mean()) > 0.85

    learn_by_heart(binary, numbers, choices_are_learned, rate=0.1)


def test_only_weights_are_pulled_to_zero_and_by_the_priors_share():
    model = SoftmaxRBM(3, 2, 4)
    optimizer = recommender.make_optimizer(model, Config(decay=6.0), count=300)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(model.weight)] == decays[id(model.rated_weight)] == 0.02
    assert decays[id(model.visible_bias)] == decays[id(model.hidden_bias)] == 0


# Measures.


class Fixed:
    """A predictor with a table of scores."""

    def __init__(self, known, table):
        self.known, self.table = known, table

    def stars(self, users, films):
        return self.table[users, films]

    def scores(self, users):
        return self.table[users]


def ratings_of(rows):
    users, films, stars = (torch.tensor(column) for column in zip(*rows, strict=True))
    return Ratings(users.int(), films.int(), (2 * stars).to(torch.uint8), torch.zeros(len(users), dtype=torch.int64))


def test_measures_by_hand():
    known = ratings_of([(0, 0, 5.0), (1, 1, 3.0)])
    held = ratings_of([(0, 1, 4.0), (0, 2, 2.0), (0, 12, 5.0), (1, 0, 4.5), (2, 3, 1.0)])
    table = torch.arange(20.0, 0.0, -1.0).repeat(3, 1)  # film 0 first, then 1, 2 ...
    # User 0 is shown films 1 to 10 and hits film 1, the first, but not film 12. User 1 is shown 0, 2 ... and hits the
    # first. User 2 likes nothing that was held out.
    found = measures.evaluate(Fixed(known, table), held, 20)
    assert found["precision_at_10"] == pytest.approx((1 / 10 + 1 / 10) / 2)
    assert found["recall_at_10"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["ndcg_at_10"] == pytest.approx((1 / (1 + 1 / torch.tensor(3.0).log2().item()) + 1) / 2)
    assert found["coverage"] == pytest.approx(11 / 20)
    errors = [5 - 4, 5 - 2, 5 - 5, 5 - 4.5, 5 - 1]  # predictions are cut to five stars
    assert found["mae"] == pytest.approx(sum(errors) / 5)
    assert found["rmse"] == pytest.approx((sum(e * e for e in errors) / 5) ** 0.5)


def test_a_known_film_is_never_suggested_and_nobodys_scores_are_changed():
    known = ratings_of([(0, film, 3.0) for film in range(10)])
    held = ratings_of([(0, 15, 5.0)])
    table = torch.arange(20.0, 0.0, -1.0).expand(1, -1)
    found = measures.evaluate(Fixed(known, table), held, 20)
    assert found["precision_at_10"] == pytest.approx(0.1)
    assert table[0].tolist() == list(range(20, 0, -1))


def test_many_users_are_sampled_and_chunked_alike(monkeypatch, planted):
    predictor = baselines.fit("bias", planted.train, planted, {})
    whole = measures.evaluate(predictor, planted.valid, planted.n_films)
    monkeypatch.setattr(measures, "CHUNK", 7)
    assert measures.evaluate(predictor, planted.valid, planted.n_films) == pytest.approx(whole)
    monkeypatch.setattr(measures, "RANKED_USERS", 100)
    some = measures.evaluate(predictor, planted.valid, planted.n_films)
    assert some["ndcg_at_10"] == pytest.approx(whole["ndcg_at_10"], abs=0.1)
    assert some["ndcg_at_10"] != whole["ndcg_at_10"]


# Nothing of the test split gets in.


def test_evaluation_refuses_a_predictor_that_has_seen_a_held_out_rating(planted):
    seen = planted.train + planted.test[:3]
    predictor = baselines.fit("bias", seen, planted, {})
    with pytest.raises(ValueError, match=r"3 of the 18,003 ratings to predict are in the predictor"):
        measures.evaluate(predictor, planted.test, planted.n_films)


@pytest.mark.parametrize(("visible", "by"), KINDS)
def test_feeding_the_test_split_changes_the_score_and_is_refused(config, small, visible, by):
    config = replace(config, visible=visible, cases=by)
    torch.manual_seed(0)
    model = make_model(config, small)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    known = small.train + small.valid
    honest = measures.evaluate(make_predictor(model, known, by, small), small.test, small.n_films)
    fed = make_predictor(model, known + small.test, by, small)
    with pytest.raises(ValueError, match="are in the predictor's input: remove them"):
        measures.evaluate(fed, small.test, small.n_films)
    leaked = measures.measure(recommender.Leaked(fed, known), small.test, small.n_films)
    measure = "ndcg_at_10" if visible == "binary" else "rmse"
    assert leaked[measure] != pytest.approx(honest[measure], rel=1e-3)


def test_choices_are_made_without_the_test_split(config, small):
    nonsense = replace(small, test=replace(small.test, half_stars=11 - small.test.half_stars))
    for data in (small, nonsense):
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


def test_a_film_without_ratings_has_the_mean(planted):
    known = planted.train[planted.train.films != 3]
    for name in ("film-mean", "bias"):
        predictor: Any = baselines.fit(name, known, planted, {})
        assert float(predictor.film[3]) == 0


def test_least_squares_is_ridge_regression():
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
        name: measures.evaluate(
            baselines.fit(name, planted.train, planted, settings.get(name, {})), planted.valid, planted.n_films
        )["rmse"]
        for name in ("global-mean", "film-mean", "bias", "factorization")
    }
    assert list(rmse.values()) == sorted(rmse.values(), reverse=True)


def test_the_baselines_program_is_given_the_validation_ratings_before_it_is_tested(options, planted):
    found = baselines.train(baselines.Config(data="planted", predictor="bias", run=options), planted)
    both = baselines.fit("bias", planted.train + planted.valid, planted, {})
    assert found["test_rmse"] == measures.evaluate(both, planted.test, planted.n_films)["rmse"]


def test_the_baselines_are_of_the_cpu(options, planted, monkeypatch):
    assert baselines.Config().run.device == "cpu"
    monkeypatch.setattr("common.run.devices.resolve_device", lambda _: torch.device("meta"))
    monkeypatch.setattr("common.run.devices.describe_device", str)
    with pytest.raises(ValueError, match="baselines run on a CPU, so --device must be cpu, got meta"):
        baselines.train(baselines.Config(data="planted", run=options), planted)


@pytest.mark.parametrize("program", ["recommender", "baselines", "sparse_throughput"])
def test_what_computes_in_single_precision_says_so(options, small, monkeypatch, program):
    """On a machine where `auto` means bf16."""
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


def test_popularity_has_no_idea_of_stars(options, planted):
    found = baselines.train(baselines.Config(data="planted", predictor="popularity", run=options), planted)
    assert "test_rmse" not in found
    assert found["test_precision_at_10"] > 0.1


# The program.


@pytest.mark.parametrize(("visible", "by"), KINDS)
def test_training_learns_repeats_and_restores(config, small, visible, by):
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


def test_each_film_follows_the_most_similar_one_that_is_left():
    similarity = torch.tensor([[1, 0.1, 0.9, 0.2], [0.1, 1, 0.3, 0.8], [0.9, 0.3, 1, 0.4], [0.2, 0.8, 0.4, 1]])
    assert recommender.by_similarity(similarity) == [0, 2, 3, 1]


def test_restored_machine_gives_the_same_measures(options, planted):
    config = Config(data="planted", epochs=2, hidden_size=8, run=options)
    found = recommender.train(config)
    model, restored, data = recommender.restore(next(options.out.rglob("model.safetensors")).parent)
    assert restored == config
    predictor = make_predictor(model, data.train + data.valid, config.cases, data)
    assert measures.evaluate(predictor, data.test, data.n_films)["rmse"] == pytest.approx(found["test_rmse"])


@pytest.fixture
def worsening(monkeypatch):
    """Let the step size grow without end, so that the first epoch is the best."""
    monkeypatch.setattr(recommender, "one_cycle", lambda step, steps, peak: 0.1 + 8 * step / steps)


def test_the_weights_of_the_best_epoch_are_saved(config, small, worsening):
    found = recommender.train(replace(config, epochs=4), small)
    (folder,) = (path.parent for path in config.run.out.rglob("model.safetensors"))
    history = [json.loads(line)["valid_rmse"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    model = make_model(config, small)
    load_weights(model, folder)
    saved = measures.evaluate(make_predictor(model, small.train, "films", small), small.valid, small.n_films)
    assert saved["rmse"] == pytest.approx(min(history))
    assert min(history) < history[-1]
    assert found["kept_epoch"] == 1 + history.index(min(history))


def test_an_interrupted_run_goes_on_to_the_same_weights(config, small, monkeypatch, worsening):
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


def test_the_kept_epoch_has_the_lowest_error_or_the_highest_ndcg_or_is_the_last():
    loss = recommender.validation_loss
    assert [loss({"rmse": error}, "gaussian", 1) for error in (0.9, 0.7)] == [0.9, 0.7]
    assert loss({"rmse": 0.1, "ndcg_at_10": 0.3}, "binary", 1) < loss({"rmse": 0.0, "ndcg_at_10": 0.2}, "binary", 2)
    for visible in ("softmax", "binary"):
        assert loss({}, visible, 2) < loss({}, visible, 1), "without validation ratings the last epoch is kept"


def test_gibbs_steps_grow_with_time(config, small, monkeypatch):
    seen = []
    step = recommender.train_step
    monkeypatch.setattr(
        recommender, "train_step", lambda model, optimizer, batch, k: seen.append(k) or step(model, optimizer, batch, k)
    )
    recommender.train(replace(config, cd_steps=(1, 2, 5)), small)
    assert seen == sorted(seen)
    assert [seen.count(k) for k in (1, 2, 5)] == [len(seen) // 3] * 3


def test_the_step_size_goes_through_one_cycle(config, small, monkeypatch):
    sizes = []
    change = recommender.set_learning_rate
    monkeypatch.setattr(
        recommender, "set_learning_rate", lambda optimizer, size: (sizes.append(size), change(optimizer, size))
    )
    recommender.train(replace(config, learning_rate=0.7), small)
    mean_ratings = len(small.train) / (len(sizes) / 3)
    assert mean_ratings < 500
    peak = 0.7 * mean_ratings / 500  # a mean over few ratings is mostly noise
    assert sizes == pytest.approx([one_cycle(step, len(sizes), peak) for step in range(len(sizes))])
    sizes.clear()
    recommender.train(replace(config, learning_rate=0.7, batch_size=None, epochs=1), small)
    assert max(sizes) == pytest.approx(0.7 * min(1, len(small.train) / len(sizes) / 500))


def test_the_trap_is_called_leaked_and_stands_beside_the_honest_figure(config, small):
    found = recommender.train(replace(config, trap=True), small)
    assert found["leaked_rmse"] != found["test_rmse"]
    plain = recommender.train(config, small)
    assert plain["test_rmse"] == found["test_rmse"]
    assert not any(name.startswith("leaked") for name in plain)


def test_who_rated_what_bears_on_the_machine_only_if_it_is_asked_to(config, small):
    for conditional in (True, False):
        model = make_model(replace(config, conditional=conditional), small)
        assert (model.rated_weight is not None) is conditional


def test_levels_of_half_and_of_whole_stars(planted):
    ratings = ratings_of([(0, film, float(film + 1)) for film in range(5)])
    assert level_numbers(ratings.half_stars, planted).tolist() == [1, 3, 5, 7, 9]
    whole = replace(planted, levels=torch.arange(1, 6).float())
    assert level_numbers(ratings.half_stars, whole).tolist() == [0, 1, 2, 3, 4]


def test_what_each_machine_sees(config, small):
    """Levels, residuals of the biases in units of their deviation, or the liked films alone."""
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


def test_within_ten_percent_of_the_noise_floor(options, planted):
    found = recommender.train(Config(data="planted", epochs=20, run=options), planted)
    assert planted.noise_floor is not None
    assert found["test_rmse"] < 1.1 * planted.noise_floor
    assert found["test_rmse"] > planted.noise_floor, "nobody can be better"
    assert found["test_rmse"] < 0.95 * found["bias_rmse"]
    assert found["test_ndcg_at_10"] > 1.2 * found["popularity_ndcg_at_10"]


def test_the_usual_batch_makes_32_steps_of_500_ratings_at_least():
    many = Cases(torch.arange(64_000) % 640, torch.arange(64_000), torch.zeros(64_000), 700)
    assert recommender.default_batch_size(many) == 20
    few = Cases(torch.arange(6_400) % 640, torch.arange(6_400), torch.zeros(6_400), 700)
    assert recommender.default_batch_size(few) == 50
    assert few.batches(50) == 13


@pytest.mark.parametrize("limit", [1, 30, 100, 1_000])
def test_a_handful_of_ratings_is_enough(options, limit):
    data = load_ratings("planted", limit=limit)
    for visible in ("gaussian", "softmax"):
        recommender.train(Config(data="planted", visible=visible, hidden_size=8, run=options), data)
    binary = Config(data="planted", visible="binary", hidden_size=8, run=options)
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
        ({"cases": "films", "visible": "binary"}, "--visible binary takes --cases users"),
        ({"cd_steps": ()}, "--cd-steps needs at least one number"),
        ({"cd_steps": (1, 0)}, "--cd-steps must be a number above 0"),
        ({"momentum": 1.0}, "--momentum must be at least 0 and below 1"),
        ({"decay": -1.0}, "--decay must not be negative"),
        ({"split_seed": -1}, "--split-seed must be between"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_bfloat16_is_refused(options):
    with pytest.raises(ValueError, match="the recommender's --precision must be fp32"):
        Config(run=replace(options, precision="bf16"))


@pytest.mark.parametrize("visible", ["gaussian", "softmax", "binary"])
def test_workload_is_the_training_step(visible, options):
    workload = recommender.workload(Config(visible=visible, run=options), torch.device("cpu"))
    loss: Any = workload.step()
    assert torch.isfinite(loss)
    assert workload.items == 2_400


@pytest.mark.parametrize(("visible", "count"), [("gaussian", 2_400), ("softmax", 2_400), ("binary", 300)])
def test_the_benchmark_shares_out_the_prior_as_training_does(visible, count, options, monkeypatch):
    """Over the ratings; over the cases where the gradient is a mean over these."""
    make, counts = recommender.make_optimizer, []
    monkeypatch.setattr(recommender, "make_optimizer", lambda m, c, n: counts.append(n) or make(m, c, n))
    recommender.workload(Config(visible=visible, run=options), torch.device("cpu"))
    assert counts == [count]


# Batches of what was rated, against the usual ways.


@pytest.mark.parametrize("way", ["dense", "loop"])
def test_the_ways_of_laying_out_ratings_take_the_same_step(way):
    torch.manual_seed(8)
    ratings = (torch.rand(7, 9) < 0.4).nonzero()  # no case rates a unit twice
    cases = Cases(ratings[:, 0], ratings[:, 1], torch.randint(4, (len(ratings),)), 7)
    batch = cases.take(torch.tensor([5, 0, 3, 6]))
    model = filled(SoftmaxRBM(9, 4, 6, conditional=False))
    gradients = []
    for name in ("sparse", way):
        torch.manual_seed(2)
        sparse_throughput.STEPS[name](model, batch)
        gradients.append({key: parameter.grad.clone() for key, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0])
    assert gradients[0]["weight"].abs().max() > 0


def test_the_layouts_are_compared_interleaved(options):
    found = sparse_throughput.train(
        sparse_throughput.Config(data="planted", hidden_size=4, rounds=2, run=replace(options, limit=500))
    )
    assert min(found["dense_ratio"], found["loop_ratio"]) > 0
    assert set(found) == {
        "sparse_epoch_seconds", "dense_epoch_seconds", "loop_epoch_seconds", "dense_ratio", "loop_ratio"
    }  # fmt: skip
