"""Regression on tables: ridge, MLP and boosted trees on house sales, diabetes data or a CSV file; Kaggle submission.

    python -m ch02_nn.train tables
    python -m ch02_nn.train tables --data diabetes
    python -m ch02_nn.train tables --csv train.csv --target SalePrice --log-target --categorical MSSubClass
    python -m ch02_nn.train tables --csv train.csv --target SalePrice --log-target --predict test.csv

The embedded table contains invented house sales whose best possible prediction is known. Kaggle's house prices are two
CSV files: train.csv with the target, and test.csv without it. A fifth of the rows is the test set. K-fold
cross-validation on the other rows selects the hyperparameters of each model, with the same folds for all models. Each
model is then fitted to these rows with its best hyperparameters, and evaluated once on the test set. All estimates,
including scales and levels of categories, use only the rows that a model is fitted to.

Ridge and MLP are saved for `restore`. Trees are not: scikit-learn saves them as pickles, which can execute code.

Dimensions: N rows, F features, K folds.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from ch02_nn import fitting
from ch02_nn.tables import models
from ch02_nn.tables.encoding import Encoding
from ch02_nn.tables.models import Linear, TableModel
from ch02_nn.tables.validation import Fit, Predictor, folds, out_of_fold, permutation_importance, rmse
from common.config import RunOptions, read_config, require, require_positive
from common.data.tables.cells import format_cells
from common.data.tables.loading import TableName, TableSet, load_csv, load_table, read_new_rows
from common.data.tables.table import Table
from common.files import read_json, write_text
from common.progress import print_table, say, track
from common.run import Run, load_weights

PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
"""Values of the penalty lambda of ridge regression."""
DROPOUTS, DECAYS = (0.0, 0.2), (1.0, 3.0, 10.0)
"""Values of dropout and weight decay of the MLP."""
RATES, LEAVES = (0.02, 0.1, 0.2, 0.4), (2, 4)
"""Values of learning rate and number of leaves of the trees."""
TEST_SHARE = 0.2
SHOWN_COLUMNS = 20
"""Maximum number of columns in the figure of permutation importance."""


@dataclass(frozen=True)
class Config:
    """Data, models and validation."""

    data: TableName = "houses"
    """Embedded table: invented house sales, or scikit-learn's diabetes data."""
    csv: Path | None = None
    """CSV file with a header, replaces --data. NA, NaN, ? and empty cells are missing values."""
    target: str | None = None
    """Column of the CSV file to predict."""
    id: str | None = None
    """Column that identifies the rows. It is copied to the submission and not used as input. Default: Id, if the file
    has it."""
    categorical: tuple[str, ...] = ()
    """Numeric columns to treat as categories."""
    log_target: bool = False
    """Predict the logarithm of the target and report the RMSE of the logarithms, as in Kaggle's house prices; always on
    for the embedded house sales."""
    predict: Path | None = None
    """CSV file without the target, to predict by the model with the lowest cross-validation error, fitted to all rows
    of --csv."""
    submission: Path | None = None
    """Output file of --predict. Default: submission.csv in the run folder."""
    folds: int = 5
    """Number of folds K of the cross-validation."""
    rare: int = 5
    """Minimum number of training rows of a category; rarer categories of a column share one feature."""
    hidden_size: int = 64
    """Number of units of each of the two hidden layers of the MLP."""
    steps: int = 150
    """Training steps of the MLP with AdamW; each step uses all training rows."""
    learning_rate: float = 1e-2
    """Peak learning rate of AdamW with a one-cycle schedule."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "rare", "hidden_size", "steps", "learning_rate")
        require(self.learning_rate * max(DECAYS) < 1, f"--learning-rate must be below {1 / max(DECAYS):g}, "
                "1 / (largest weight decay)", self.learning_rate)  # fmt: skip
        require(self.folds >= 2, "--folds must be at least 2", self.folds)
        require(self.csv is None or self.data == "houses", "--csv replaces --data: give only one of them", self.data)
        require(self.csv is None or self.target is not None, "--csv needs --target, the column to predict", self.target)
        for name in ("target", "id", "categorical", "predict"):
            value = getattr(self, name)
            require(not value or self.csv is not None, f"--{name} needs --csv", value)
        require(self.submission is None or self.predict is not None, "--submission needs --predict", self.submission)
        for path in (self.csv, self.predict):
            same = self.submission and path and Path(self.submission).resolve() == Path(path).resolve()
            require(not same, "--submission must not be an input file", self.submission)


@dataclass(frozen=True)
class Candidate:
    """Model with hyperparameters."""

    model: str
    settings: Mapping[str, float]
    fit: Fit

    def describe(self) -> str:
        """Format the hyperparameters: `penalty 0.001`."""
        return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in self.settings.items())


def candidates(config: Config, device: torch.device) -> Iterator[Candidate]:
    """Yield all models with all combinations of their hyperparameters."""
    yield Candidate("mean", {}, models.mean())
    for penalty in PENALTIES:
        yield Candidate("ridge", {"penalty": penalty}, models.ridge(penalty, rare=config.rare))
    mlp = partial(
        models.mlp,
        rare=config.rare,
        hidden_size=config.hidden_size,
        steps=config.steps,
        learning_rate=config.learning_rate,
        seed=config.run.seed,
        device=device,
    )
    for dropout, decay in product(DROPOUTS, DECAYS):
        yield Candidate("mlp", {"dropout": dropout, "weight_decay": decay}, mlp(dropout, decay))
    for rate, leaves in product(RATES, LEAVES):
        yield Candidate(
            "trees", {"learning_rate": rate, "leaves": leaves}, models.trees(rate, leaves, rare=config.rare)
        )


def load(config: Config) -> TableSet:
    """Load the table of a Config."""
    if config.csv is None or config.target is None:
        return load_table(config.data)
    return load_csv(
        config.csv,
        config.target,
        id_name=config.id,
        categorical=config.categorical,
        log_target=config.log_target,
    )


def split(rows: int, config: Config, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split the indices of the rows at random into training and test set."""
    order = torch.randperm(rows, generator=generator)
    held_out = int(TEST_SHARE * rows)
    train_rows, test_rows = order[held_out:][: config.run.limit], order[:held_out][: config.run.limit]
    enough = len(train_rows) >= config.folds and len(test_rows) > 0
    sizes = f"{len(train_rows)} and {len(test_rows)}"
    require(enough, f"training and test set need at least {config.folds} (one per fold) and 1 rows", sizes)
    return train_rows, test_rows


@dataclass(frozen=True)
class Predictions:
    """Rows, their targets, and the predictions of each model."""

    table: Table
    targets: Tensor
    """(N,)"""
    models: dict[str, Tensor]
    """(N,) predictions by name of the model"""

    def errors(self) -> dict[str, float]:
        """Compute the RMSE of each model."""
        return {model: rmse(predictions, self.targets) for model, predictions in self.models.items()}


@dataclass(frozen=True)
class Selected:
    """Hyperparameters of a model with the lowest cross-validation error."""

    candidate: Candidate
    predictions: Tensor
    """(N,) predictions of the training rows, each by a model fitted to the other folds"""
    error: float
    """RMSE of these predictions"""


def select(
    config: Config, device: torch.device, table: Table, y: Tensor, parts: Sequence[Tensor]
) -> dict[str, Selected]:
    """Cross-validate all candidates on (N,) targets and print their errors; return the best one of each model."""
    rows, selected = [], {}
    for candidate in track(list(candidates(config, device)), "cross-validation"):
        predictions = out_of_fold(candidate.fit, table, y, parts)
        error = rmse(predictions, y)
        rows.append([f"{candidate.model} {candidate.describe()}", error])
        if candidate.model not in selected or error < selected[candidate.model].error:
            selected[candidate.model] = Selected(candidate, predictions, error)
    print_table([f"{len(y):,} training rows, {len(parts)} folds", "cross-validation RMSE"], rows)
    return selected


def train(config: Config, data: TableSet | None = None) -> dict[str, float]:
    """Select the hyperparameters of each model by cross-validation; return the errors of the selected models."""
    data = data or load(config)
    new_rows = None if config.predict is None else read_new_rows(config.predict, data)
    y = data.target.log() if data.log_target else data.target
    with Run.open(__name__, config, data.card) as run:
        for name, reason in data.left_out.items():
            say("left out", f"{name}: {reason}")
        train_rows, test_rows = split(len(y), config, run.generator)
        table, targets = data.inputs[train_rows], y[train_rows]
        test, test_targets = data.inputs[test_rows], y[test_rows]
        parts = folds(len(targets), config.folds, run.generator)
        selected = select(config, run.device, table, targets, parts)
        fitted = {model: chosen.candidate.fit(table, targets) for model, chosen in selected.items()}
        save(run, fitted)
        lowest = min(selected.values(), key=lambda chosen: chosen.error).candidate
        if new_rows is not None:
            submit(run, data, lowest, *new_rows)
        validated = Predictions(table, targets, {model: chosen.predictions for model, chosen in selected.items()})
        tested = Predictions(test, test_targets, {model: predict(test) for model, predict in fitted.items()})
        if data.best is not None:
            validated.models["best_possible"], tested.models["best_possible"] = data.best(table), data.best(test)
        measure = "log_rmse" if data.log_target else "rmse"
        metrics = {f"{model}_cross_validation_{measure}": error for model, error in validated.errors().items()}
        metrics |= {f"{model}_test_{measure}": error for model, error in tested.errors().items()}
        for model, chosen in selected.items():
            metrics |= {f"{model}_{name}": value for name, value in chosen.candidate.settings.items()}
        report(run, data, validated, tested, parts)
        report_importance(run, data, lowest.model, fitted[lowest.model], tested)
        return run.finish(run=metrics)


def save(run: Run, fitted: Mapping[str, Predictor]) -> None:
    """Save ridge regression, MLP and their common encoding."""
    saved = {name: model for name, model in fitted.items() if isinstance(model, TableModel)}
    with run.writing("encoding.json") as path:
        path.write_text(json.dumps(saved["ridge"].encoding.record(), indent=2) + "\n", encoding="utf-8")
    run.save(nn.ModuleDict(saved))


def restore(folder: Path) -> tuple[dict[str, TableModel], Config]:
    """Load ridge regression, MLP and Config of a run folder; models of --log-target predict logarithms."""
    config = read_config(folder, Config)
    encoding = Encoding.from_record(read_json(folder / "encoding.json"))
    features = len(encoding.names())
    functions = {"ridge": Linear(features), "mlp": fitting.Regressor(features, config.hidden_size, dropout=0.0)}
    saved = {name: TableModel(encoding, function) for name, function in functions.items()}
    load_weights(nn.ModuleDict(saved).eval(), folder)
    return saved, config


def submit(run: Run, data: TableSet, candidate: Candidate, ids: Sequence[str], new: Table) -> None:
    """Fit a model to all rows and write its predictions of new rows in Kaggle's format, `Id,SalePrice`."""
    y = data.target.log() if data.log_target else data.target
    predictions = candidate.fit(data.inputs, y)(new)
    values = predictions.exp() if data.log_target else predictions
    path = run.config.submission or run.folder / "submission.csv"
    columns = {data.id_name or "": ids, data.target_name: [f"{value:.10g}" for value in values.tolist()]}
    write_text(path, format_cells(columns))
    say(
        "wrote",
        f"{path}: {len(ids):,} rows by {candidate.model} {candidate.describe()}, fitted to all {len(y):,} rows",
    )


def report(run: Run, data: TableSet, validated: Predictions, tested: Predictions, parts: Sequence[Tensor]) -> None:
    """Print the errors; draw predictions against true values, and errors by fold."""
    from common.drawing import plots

    scale = "RMSE of logarithms" if data.log_target else "RMSE"
    cross_validation, test = validated.errors(), tested.errors()
    rows = [[model.replace("_", " "), cross_validation[model], test[model]] for model in test]
    print_table([scale, "cross-validation", f"{len(tested.table):,} test rows"], rows)

    shown = {name.replace("_", " "): tested.models[name] for name in tested.models if name != "mean"}
    ends = [float(tested.targets.min()), float(tested.targets.max())]
    figure = plots.line_panels(
        {name: {"prediction = truth": (ends, ends)} for name in shown},
        columns=len(shown),
        xlabel=f"log {data.target_name}" if data.log_target else data.target_name,
        ylabel="prediction",
        dots={name: {"test rows": (tested.targets, predictions)} for name, predictions in shown.items()},
        share_y=True,
    )
    run.figure("predictions", figure)
    numbers = range(1, len(parts) + 1)
    lines: dict[str, plots.Line] = {
        name.replace("_", " "): (numbers, [rmse(predictions[part], validated.targets[part]) for part in parts])
        for name, predictions in validated.models.items()
        if name != "mean"
    }
    panels = {"cross-validation": lines}
    figure = plots.line_panels(panels, columns=1, xlabel="fold", ylabel=scale, marked=[*lines], size=1.4)
    figure.axes[0].set_xticks(numbers)
    run.figure("folds", figure)


def report_importance(run: Run, data: TableSet, model: str, predict: Predictor, tested: Predictions) -> None:
    """Draw the permutation importance of the columns for a model and for the best possible prediction."""
    from common.drawing import plots

    predictors = {model: predict} | ({"best possible": data.best} if data.best is not None else {})
    importance = {
        name: permutation_importance(predictor, tested.table, tested.targets, run.generator)
        for name, predictor in predictors.items()
    }
    columns = sorted(tested.table.columns, key=lambda column: -importance[model][column])[:SHOWN_COLUMNS]
    bars = {name: [values[column] for column in columns] for name, values in importance.items()}
    run.figure(
        "importance", plots.bar_groups(columns, bars, title="permutation importance", label="increase of the RMSE")
    )
