"""Tables: encoding, models, cross-validation without leakage, permutation importance, and the submission."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ch02_nn import fitting
from ch02_nn.tables import models, tables
from ch02_nn.tables.encoding import Encoding, Levels, Scale
from ch02_nn.tables.validation import folds, out_of_fold, permutation_importance, rmse
from common import cli
from common.data.source import DataCard
from common.data.tables.loading import TableSet, load_table
from common.data.tables.table import Categories, Numbers, Table
from conftest import train_until

NAN = math.nan
CPU = torch.device("cpu")


def numbers(*values):
    return Numbers(torch.tensor(values, dtype=torch.float64))


def categories(*values):
    levels = tuple(sorted({value for value in values if value is not None}))
    return Categories(levels, torch.tensor([-1 if value is None else levels.index(value) for value in values]))


def made_up(rows=60, seed=0):
    """A table with all kinds of columns, and a target that depends on them."""
    generator = torch.Generator().manual_seed(seed)
    area = torch.rand(rows, generator=generator, dtype=torch.float64) * 100
    town = torch.randint(0, 3, (rows,), generator=generator)
    pool = torch.randint(-1, 1, (rows,), generator=generator)
    y = 12 + 0.01 * area + 0.3 * town + 0.2 * pool
    area = area.where(torch.rand(rows, generator=generator) > 0.2, NAN)
    columns = {"area": Numbers(area), "town": Categories(("a", "b", "c"), town), "pool": Categories(("yes",), pool)}
    return Table(columns), y


def made_up_set(rows=60):
    table, y = made_up(rows)
    return TableSet(DataCard("made-up", True, "0", "made up"), table, y, "y")


@pytest.fixture
def small(options, monkeypatch):
    """A Config and grids that take a moment."""
    for name, grid in {"PENALTIES": (1e-3, 1.0), "DROPOUTS": (0.1,), "DECAYS": (0.1,)}.items():
        monkeypatch.setattr(tables, name, grid)
    monkeypatch.setattr(tables, "RATES", (0.1,))
    monkeypatch.setattr(tables, "LEAVES", (2,))
    return tables.Config(folds=3, hidden_size=8, steps=10, run=options)


# Encoding.


def test_one_hot_and_scaling_by_hand():
    train = Table(
        {
            "area": numbers(1, 3, NAN, 5),
            "year": numbers(2000, 2000, 2000, 2000),
            "age": numbers(0, 2, 2, 0),
            "street": categories("a", "b", "b", "c"),
            "pool": categories(None, "good", None, None),
            "fence": categories(None, None, None, None),
        }
    )
    encoding = Encoding.fit(train, rare=2)
    assert encoding.names() == [
        "area",
        "area missing",
        "age",
        "street = b",
        "street other",
        "pool missing",
        "pool other",
    ]
    h = 0.75**0.5  # sample standard deviation of 0, 2, 2, 0 is 2 / sqrt(3)
    expected = [
        [-1.0, 0, -h, 0, 1, 1, 0],
        [0.0, 0, h, 1, 0, 0, 1],
        [0.0, 1, h, 1, 0, 1, 0],
        [1.0, 0, -h, 0, 1, 1, 0],
    ]
    torch.testing.assert_close(encoding.features(train), torch.tensor(expected, dtype=torch.float64))
    codes = [[1.0, 0, 1, 0], [3.0, 2, 0, 1], [NAN, 2, 0, 0], [5.0, 0, 1, 0]]
    torch.testing.assert_close(encoding.codes(train), torch.tensor(codes, dtype=torch.float64), equal_nan=True)


def test_what_the_training_rows_lack_is_encoded_too():
    train = Table({"area": numbers(1, 2, 3, 6), "street": categories("a", "a", "b", "b")})
    encoding = Encoding.fit(train, rare=2)
    assert encoding.names() == ["area", "street = a", "street = b"]
    new = Table({"area": numbers(NAN, 3), "street": categories("c", None)})
    assert encoding.features(new).tolist() == [[0, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(
        encoding.codes(new), torch.tensor([[NAN, NAN], [3, NAN]], dtype=torch.float64), equal_nan=True
    )
    rare = Encoding.fit(Table({"street": categories("a", "a", "b")}), rare=2)
    assert rare.names() == ["street = a", "street other"]
    unseen = Table({"street": categories("c", None, "b", "a")})
    assert rare.features(unseen).tolist() == [[0, 1], [0, 1], [0, 1], [1, 0]]


def test_levels_are_found_by_name_in_another_file():
    """A level's code depends on the file; its feature must not."""
    encoding = Encoding.fit(Table({"x": categories("b", "c", "b", "c")}), rare=1)
    assert encoding.features(Table({"x": categories("c", "a", "b")})).tolist() == [[0, 1], [0, 0], [1, 0]]


rows_of_levels = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=2, max_size=30)


@settings(max_examples=100, deadline=None)
@given(rows_of_levels, st.integers(1, 5))
def test_each_training_row_has_one_feature_of_each_category(values, rare):
    if len(set(values)) < 2:
        return
    table = Table({"x": categories(*values)})
    encoding = Encoding.fit(table, rare)
    features = encoding.features(table)
    assert features.shape == (len(values), len(encoding.names()))
    assert features.sum(1).tolist() == [1] * len(values)
    assert (features.sum(0) > 0).all()
    part = encoding.columns["x"]
    assert isinstance(part, Levels)
    assert {level for level in values if values.count(level) >= rare} == set(part.own)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.integers(-1000, 1000), min_size=3, max_size=30))
def test_scaled_numbers_have_mean_0_and_deviation_1(values):
    known = [value for value in values if value is not None]
    scale = Scale.fit(numbers(*(NAN if value is None else value for value in values)).values)
    if len(set(known)) < 2:
        assert scale is None
        return
    assert scale is not None
    table = Table({"x": numbers(*(NAN if value is None else value for value in values))})
    z = scale.features(table, "x")
    assert z.shape[1] == 1 + (None in values)
    there = torch.tensor([value is not None for value in values])
    assert float(z[there, 0].mean()) == pytest.approx(0, abs=1e-9)
    assert float(z[there, 0].std()) == pytest.approx(1)
    assert z[~there].tolist() == [[0, 1]] * (len(values) - len(known))


def test_an_encoding_survives_json():
    table, _ = made_up()
    encoding = Encoding.fit(table, rare=5)
    assert Encoding.from_record(json.loads(json.dumps(encoding.record()))) == encoding


def test_columns_that_do_not_vary_are_refused():
    with pytest.raises(ValueError, match="none of the input columns varies in the 2 training rows"):
        Encoding.fit(Table({"a": numbers(1, 1), "b": categories("x", "x"), "c": numbers(NAN, NAN)}), rare=1)


# Models.


def test_ridge_solves_the_normal_equations():
    """(X^T X + N lambda I) w = X^T y, centred."""
    table, y = made_up()
    model = models.ridge(0.3, rare=5)(table, y)
    assert isinstance(model, models.TableModel)
    assert isinstance(model.function, models.Linear)
    x = model.encoding.features(table)
    a, n = x - x.mean(0), len(y)
    w = torch.linalg.solve(a.T @ a + n * 0.3 * torch.eye(a.shape[1], dtype=a.dtype), a.T @ (y - y.mean()))
    torch.testing.assert_close(model.function.weight.detach(), w)
    torch.testing.assert_close(model(table), a @ w + y.mean())


def test_ridge_is_scikit_learns():
    from sklearn.linear_model import Ridge

    table, y = made_up()
    x = Encoding.fit(table, 5).features(table).numpy()
    expected = Ridge(alpha=len(y) * 0.01).fit(x, y.numpy()).predict(x)
    torch.testing.assert_close(models.ridge(0.01, rare=5)(table, y)(table), torch.from_numpy(expected))


def mlp(**changes):
    settings = {"rare": 5, "hidden_size": 16, "steps": 60, "learning_rate": 1e-2, "seed": 0, "device": CPU}
    return models.mlp(changes.pop("dropout", 0.0), changes.pop("decay", 0.0), **settings | changes)


def test_an_mlp_learns_a_table():
    table, _ = made_up(20)
    table = Table({**table.columns, "area": numbers(*range(20))})
    y = 12 + 0.1 * table.numbers("area") + (table.categories("town").codes == 1).double()
    steps = [50]
    train_until(
        lambda: rmse(mlp(steps=steps[-1])(table, y)(table), y) < 0.05 * float(y.std()),
        lambda: steps.append(2 * steps[-1]),
        at_most=6,
        every=1,
    )


def test_an_mlp_is_the_network_of_the_standardised_target():
    table, y = made_up()
    model = mlp(steps=1, dropout=0.5)(table, y)
    assert isinstance(model, models.TableModel)
    assert isinstance(model.function, fitting.Regressor)
    assert not model.training
    x = model.encoding.features(table).float()
    torch.testing.assert_close(model(table), model.function(x).detach().double() * y.std() + y.mean())


def test_every_fold_starts_from_the_same_weights_and_weights_decay():
    table, y = made_up()
    predictions = []
    for noise, decay in ((1, 0.0), (2, 0.0), (1, 50.0)):
        torch.manual_seed(noise)
        predictions.append(mlp(decay=decay)(table, y)(table))
    assert torch.equal(predictions[0], predictions[1])
    assert float(predictions[2].std()) < 0.5 * float(predictions[0].std())


def test_an_mlp_that_diverges_says_so(monkeypatch):
    table, y = made_up()
    monkeypatch.setattr(fitting, "train_step", lambda *_: torch.tensor(NAN))
    with pytest.raises(FloatingPointError, match="the loss of the MLP is nan: lower --learning-rate"):
        mlp()(table, y)


def test_trees_split_missing_values_and_categories():
    missing, kind = [n % 2 == 0 for n in range(120)], ["abc"[n % 3] for n in range(120)]
    table = Table({"x": numbers(*(NAN if m else n % 7 for n, m in enumerate(missing))), "kind": categories(*kind)})
    y = torch.tensor([10.0 * m + {"a": 1, "b": 5, "c": 0}[k] for m, k in zip(missing, kind, strict=True)]).double()
    assert rmse(models.trees(0.3, 4, rare=5)(table, y)(table), y) < 0.01
    new = Table({"x": numbers(1, NAN), "kind": categories("d", None)})
    assert models.trees(0.3, 4, rare=5)(table, y)(new).isfinite().all()


def test_trees_get_categories_as_categories(monkeypatch):
    """Two groups of levels that no order of the codes separates: one split of a set does."""
    levels = [f"{n:02}" for n in range(20)] * 30
    y = torch.tensor([float(int(level) % 2) for level in levels]).double()
    predictor = models.trees(0.5, 2, rare=5, iterations=20)(Table({"x": categories(*levels)}), y)
    assert rmse(predictor(Table({"x": categories(*levels)})), y) < 0.01


# Cross-validation.


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 5))
def test_every_row_is_in_one_validation_fold(rows, count, seed):
    if count > rows:
        with pytest.raises(ValueError, match=f"{rows} rows cannot be cut into {count} folds"):
            folds(rows, count, torch.Generator())
        return
    parts = folds(rows, count, torch.Generator().manual_seed(seed))
    assert len(parts) == count
    assert sorted(torch.cat(parts).tolist()) == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_each_row_is_predicted_by_a_model_that_did_not_see_it():
    y = torch.arange(11.0).double()
    table = Table({"x": Numbers(y)})

    def fit(seen, targets):
        assert torch.equal(seen.numbers("x"), targets)

        def predict(new):
            assert not set(new.numbers("x").tolist()) & set(targets.tolist())
            assert len(new) + len(seen) == 11
            return new.numbers("x") + 2

        return predict

    parts = folds(11, 4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(out_of_fold(fit, table, y, parts), y + 2)
    assert rmse(y + 2, y) == 2


CANDIDATES = {
    "ridge": models.ridge(0.01, rare=5),
    "mlp": mlp(dropout=0.2, decay=0.1),
    "trees": models.trees(0.1, 4, rare=5),
    "mean": models.mean(),
}


@pytest.mark.parametrize("name", CANDIDATES)
def test_what_is_fitted_does_not_depend_on_the_validation_rows(name):
    """Neither their inputs nor their targets: mean, deviation, levels and weights are of the other folds."""
    table, y = made_up()
    probe, _ = made_up(30, seed=1)
    part = folds(60, 3, torch.Generator().manual_seed(0))[0]
    area, town, pool = table.numbers("area").clone(), table.categories("town"), table.categories("pool")
    area[part], other_y = 1e6, y.clone()
    other_y[part] = -100.0
    codes = town.codes.clone()
    codes[part] = torch.where(codes[part] == 0, 3, -1)
    other = Table({"area": Numbers(area), "town": Categories((*town.levels, "z"), codes), "pool": pool})
    fitted = []

    def fit(rows, targets):
        predict = CANDIDATES[name](rows, targets)
        if len(fitted) % 3 == 0:  # the first fold, whose validation rows differ
            encoding = Encoding.fit(rows, 5)
            fitted.append((encoding, predict(probe), predict(table[part])))
        else:
            fitted.append(None)
        return predict

    parts = folds(60, 3, torch.Generator().manual_seed(0))
    one, two = out_of_fold(fit, table, y, parts), out_of_fold(fit, other, other_y, parts)
    assert fitted[0][0] == fitted[3][0]
    assert torch.equal(fitted[0][1], fitted[3][1])
    assert torch.equal(fitted[0][2], one[part])
    assert not torch.equal(one[parts[1]], two[parts[1]]), "the other folds were fitted to the rows that differ"


def test_permutation_importance_by_hand():
    """The predictor w x with y = w x: exchanging x in a known order adds w^2 (x - x')^2."""
    x, y = torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor([3.0, 6.0, 12.0]).double()
    table = Table({"x": Numbers(x), "useless": numbers(5, 6, 7)})
    importance = permutation_importance(
        lambda t: 3 * t.numbers("x"), table, y, torch.Generator().manual_seed(3), repeats=2
    )
    generator = torch.Generator().manual_seed(3)
    orders = [torch.randperm(3, generator=generator) for _ in range(2)]
    expected = sum(float((9 * (x - x[order]).square()).mean().sqrt()) for order in orders) / 2
    assert expected > 0
    assert importance == {"x": pytest.approx(expected), "useless": 0}


def test_what_does_not_matter_to_the_price_has_no_importance():
    data = load_table("houses")
    assert data.best is not None
    generator = torch.Generator().manual_seed(0)
    importance = permutation_importance(data.best, data.inputs, data.target.log(), generator, repeats=1)
    assert importance["Fence"] == importance["MonthSold"] == 0
    assert max(importance, key=lambda name: importance[name]) == "LivingArea"
    assert min(value for name, value in importance.items() if name not in ("Fence", "MonthSold")) > 0


# The program.


def run_folder(config):
    return max(config.run.out.glob("*/tables/*"), key=lambda path: path.stat().st_mtime_ns)


def test_training_repeats_restores_and_shows(small):
    data = made_up_set()
    first, second = tables.train(small, data), tables.train(small, data)
    assert first == second
    one, two = (path.parent for path in sorted(small.run.out.rglob("model.safetensors")))
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    kept, config = tables.restore(one)
    assert config == small
    order = torch.randperm(60, generator=torch.Generator().manual_seed(small.run.seed))
    test = order[:12]
    for name, model in kept.items():
        assert rmse(model(data.inputs[test]), data.target[test]) == pytest.approx(first[f"{name}_test_rmse"], rel=1e-6)
    for name in ("predictions", "folds", "importance"):
        assert (one / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_another_seed_makes_other_splits_and_weights(small):
    data = made_up_set()
    first = tables.train(small, data)
    second = tables.train(replace(small, run=replace(small.run, seed=1)), data)
    assert first["mean_test_rmse"] != second["mean_test_rmse"]


def test_what_is_selected_and_fitted_does_not_depend_on_the_test_rows(small):
    data = made_up_set()
    test = torch.randperm(60, generator=torch.Generator().manual_seed(small.run.seed))[:12]
    area, y = data.inputs.numbers("area").clone(), data.target.clone()
    area[test], y[test] = 1e6, -100.0
    other = replace(data, inputs=Table({**data.inputs.columns, "area": Numbers(area)}), target=y)
    one, two = tables.train(small, data), tables.train(small, other)
    changed = {name for name in one if one[name] != two[name]}
    assert changed == {f"{model}_test_rmse" for model in ("mean", "ridge", "mlp", "trees")}
    first, second = sorted(small.run.out.glob("*/tables/*"))
    for name in ("model.safetensors", "encoding.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_settings_with_the_lowest_error_are_selected(small, monkeypatch):
    table, y = made_up()
    parts = folds(60, 3, torch.Generator().manual_seed(0))
    selected = tables.select(small, CPU, table, y, parts)
    assert selected["ridge"].candidate.settings == {"penalty": 1e-3}
    expected = out_of_fold(models.ridge(1e-3, rare=small.rare), table, y, parts)
    torch.testing.assert_close(selected["ridge"].predictions, expected)
    assert selected["ridge"].error == pytest.approx(rmse(expected, y))


def test_logarithms_are_predicted_and_measured(small):
    data = made_up_set()
    of_logarithms = tables.train(small, data)
    prices = replace(data, target=data.target.exp(), log_target=True)
    metrics = tables.train(small, prices)
    for name, value in of_logarithms.items():
        if name.endswith("rmse"):
            assert metrics[name.removesuffix("rmse") + "log_rmse"] == pytest.approx(value, rel=1e-3)


def write_houses(folder):
    """A training file with 40 rows, and a test file with 3, in the layout of Kaggle."""
    rows = [(n, 50 + 7 * n % 60, "ab"[n % 2], "NA" if n % 5 else "Gd") for n in range(1, 44)]
    lines = [f"{n},{area},{zone},{pool}" for n, area, zone, pool in rows]
    prices = [round(1000 * math.exp(0.01 * area + (zone == "a"))) for _, area, zone, _ in rows]
    train = [f"{line},{price}" for line, price in zip(lines, prices, strict=True)][:40]
    (folder / "train.csv").write_text("\n".join(["Id,LotArea,MSZoning,PoolQC,SalePrice", *train, ""]))
    (folder / "test.csv").write_text("\n".join(["Id,LotArea,MSZoning,PoolQC", *lines[40:], ""]))
    return prices[40:]


def test_a_submission_is_written_in_kaggles_layout(small, tmp_path, monkeypatch, capsys):
    write_houses(tmp_path)

    def fit(table, y):
        assert len(y) in (22, 21, 32, 40)
        return lambda new: new.numbers("LotArea") / 10 + (0 if len(y) == 40 else 1)

    monkeypatch.setattr(models, "ridge", lambda *_, **__: fit)
    monkeypatch.setattr(tables, "save", lambda *_: None)
    monkeypatch.setattr(tables, "candidates", lambda *_: [tables.Candidate("ridge", {"penalty": 1.0}, fit)])
    config = replace(small, csv=tmp_path / "train.csv", target="SalePrice", predict=tmp_path / "test.csv")
    tables.train(config)
    areas = [50 + 7 * n % 60 for n in (41, 42, 43)]
    expected = f"Id,SalePrice\n41,{areas[0] / 10:g}\n42,{areas[1] / 10:g}\n43,{areas[2] / 10:g}\n"
    assert (run_folder(small) / "submission.csv").read_bytes() == expected.encode()
    assert "3 rows by ridge penalty 1, fitted to all 40 rows" in capsys.readouterr().out
    chosen = tmp_path / "out" / "mine.csv"
    tables.train(replace(config, log_target=True, submission=chosen))
    values = [f"{math.exp(area / 10):.10g}" for area in areas]
    expected = "Id,SalePrice\n" + "".join(f"{n},{v}\n" for n, v in zip((41, 42, 43), values, strict=True))
    assert chosen.read_bytes() == expected.encode()


def test_houses_are_read_from_files_and_predicted(small, tmp_path):
    prices = write_houses(tmp_path)
    config = replace(small, csv=tmp_path / "train.csv", target="SalePrice", log_target=True)
    metrics = tables.train(replace(config, predict=tmp_path / "test.csv"))
    assert metrics["ridge_test_log_rmse"] < 0.1 * metrics["mean_test_log_rmse"]
    header, *lines = (run_folder(small) / "submission.csv").read_text().splitlines()
    assert header == "Id,SalePrice"
    written = [float(line.partition(",")[2]) for line in lines]
    assert written == pytest.approx(prices, rel=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--csv", "no.csv", "--target", "y"], "no.csv does not exist: --csv takes a file"),
        (["--csv", "no.csv"], "--csv needs --target, the column to predict"),
        (["--target", "y"], "--target needs --csv, the file, got y"),
        (["--predict", "test.csv"], "--predict needs --csv, the file, got test.csv"),
        (["--submission", "s.csv"], "--submission needs --predict, got s.csv"),
        (["--csv", "a.csv", "--target", "y", "--data", "diabetes"], "--csv takes the place of --data"),
        (
            ["--csv", "a.csv", "--target", "y", "--predict", "b.csv", "--submission", "./b.csv"],
            "--submission must not be a file that is read, got b.csv",
        ),
        (["--folds", "1"], "--folds must be at least 2, got 1"),
        (["--learning-rate", "0.1"], "--learning-rate must be below 0.1, because AdamW multiplies it"),
        (["--limit", "4"], "the training set needs a row for each of 5 folds, and the test set one, got 1500"),
    ],
)
def test_a_mistake_is_one_line(fails, tmp_path, words, message):
    assert message in fails(cli.main, tables, arguments=["tables", *words, "--out", str(tmp_path)])


def test_saved_weights_of_other_features_are_refused(small):
    tables.train(small, made_up_set())
    folder = run_folder(small)
    record = json.loads((folder / "encoding.json").read_text())
    del record["pool"]
    (folder / "encoding.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="does not fit ModuleDict"):
        tables.restore(folder)


def test_a_model_maps_rows_wherever_its_parameters_are():
    table, y = made_up()
    model = models.ridge(0.1, rare=5)(table, y)
    assert isinstance(model, nn.Module)
    assert model(table).dtype == torch.float64
    assert not model(table).requires_grad


@pytest.mark.slow
def test_models_come_close_to_the_best_possible_prediction_of_houses(options, monkeypatch):
    monkeypatch.setattr(tables, "report", lambda *_: None)
    monkeypatch.setattr(tables, "report_importance", lambda *_: None)
    metrics = tables.train(tables.Config(run=options))
    for model in ("ridge", "mlp", "trees"):
        for split in ("cross_validation", "test"):
            error, best = metrics[f"{model}_{split}_log_rmse"], metrics[f"best_possible_{split}_log_rmse"]
            assert best < error < 1.35 * best < metrics[f"mean_{split}_log_rmse"] / 2
