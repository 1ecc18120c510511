"""Under- and overfitting: polynomials, weight decay, dropout, and k-fold cross-validation.

    python -m ch02_nn.train fitting
    python -m ch02_nn.train fitting --folds 10

Polynomials of degree 0 to 15 are fitted to noisy points of a sine. Linear models and neural networks are fitted to
scikit-learn's diabetes data (442 patients, 10 measurements, disease progression after one year). K-fold
cross-validation chooses the hyperparameters: each fold is predicted by a model fitted to the other folds. The chosen
model is fitted to all folds, and evaluated once on the test data.

Dimensions: N samples, F features, D degree.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.config import RunOptions, require, require_positive
from common.data.source import DataCard, sha256_of
from common.progress import print_table, track
from common.run import Run

DEGREES = tuple(range(16))
DECAYS = (0.0, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
"""Values of the weight decay lambda for the polynomial of degree 15 and for linear regression."""
NETWORKS = ((0.0, 0.0), (0.0, 1.0), (0.2, 0.0), (0.5, 0.0), (0.5, 1.0))
"""Dropout probability and weight decay of the networks."""

Predictor = Callable[[Tensor], Tensor]
Fit = Callable[[Tensor, Tensor], Predictor]
"""Fits a model to inputs (N, F) and targets (N,); returns a function from inputs to predictions."""


@dataclass(frozen=True)
class Config:
    """Data, models and validation."""

    points: int = 24
    """Number of noisy points of the sine."""
    noise: float = 0.25
    """Standard deviation of the noise."""
    folds: int = 5
    """Number of folds K of the cross-validation."""
    hidden_size: int = 32
    """Number of units of each of the two hidden layers."""
    steps: int = 200
    """Training steps of a network with AdamW; each step uses all samples."""
    learning_rate: float = 1e-2
    """Learning rate of AdamW."""
    run: RunOptions = field(default_factory=lambda: RunOptions(device="cpu", precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "hidden_size", "steps", "learning_rate")
        require(0 <= self.noise < math.inf, "--noise must be a finite number of at least 0", self.noise)
        require(self.points >= 4, "--points must be at least 4", self.points)
        require(2 <= self.folds <= self.points, "--folds must be between 2 and --points", self.folds)


# Linear models.


def powers(x: Tensor, degree: int) -> Tensor:
    """(N, 1) -> (N, 1 + D): x⁰ ... x^D"""
    return x ** torch.arange(degree + 1, dtype=x.dtype)


def ridge(decay: float, features: Callable[[Tensor], Tensor] = lambda x: x) -> Fit:
    """Fit ridge regression (Hoerl & Kennard 1970): minimise mean (A w - y)² + lambda |w|², the constant unpenalised.

    The penalty is equivalent to one additional row of data per weight, sqrt(N lambda) w_j with target 0. Least squares
    with these rows solves A^T A w + N lambda w = A^T y without forming A^T A. Inputs and targets are centred first.
    """

    def fit(x: Tensor, y: Tensor) -> Predictor:
        a = features(x)
        centre, mean = a.mean(dim=0), y.mean()
        penalty = math.sqrt(len(y) * decay) * torch.eye(a.shape[1], dtype=a.dtype)
        left = torch.cat([a - centre, penalty])
        right = torch.cat([y - mean, torch.zeros(a.shape[1], dtype=y.dtype)])
        w = torch.linalg.lstsq(left, right[:, None], driver="gelsd").solution[:, 0]
        return lambda new: (features(new) - centre) @ w + mean

    return fit


def polynomial(degree: int, decay: float = 0.0) -> Fit:
    """Fit a polynomial, optionally with weight decay."""
    return ridge(decay, lambda x: powers(x, degree))


# Networks.


class Regressor(nn.Module):
    """Multilayer perceptron with two hidden layers of ReLU units, each followed by dropout."""

    def __init__(self, features: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, F) inputs -> (N,) predictions"""
        return self.layers(x)[:, 0]


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    """Take one training step; return the loss."""
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()


def network(dropout: float, decay: float, config: Config, device: torch.device) -> Fit:
    """Fit a network to standardised targets; its initial weights are the same in every fold."""

    def fit(x: Tensor, y: Tensor) -> Predictor:
        torch.manual_seed(config.run.seed)
        model = Regressor(x.shape[1], config.hidden_size, dropout).to(device)
        mean, deviation = y.mean(), y.std()
        inputs, targets = x.float().to(device), ((y - mean) / deviation).float().to(device)
        optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=decay, fused=True)
        for _ in range(config.steps):
            loss = train_step(model, optimizer, inputs, targets)
        if not bool(loss.isfinite()):
            raise FloatingPointError(f"the loss of a network is {float(loss):.3g}: lower --learning-rate")
        model.eval()  # disables dropout
        with torch.inference_mode():
            return lambda new: model(new.float().to(device)).detach().cpu().double() * deviation + mean

    return fit


# Validation.


def rmse(predictor: Predictor, x: Tensor, y: Tensor) -> float:
    """Compute the root mean squared error (RMSE)."""
    return float((predictor(x) - y).square().mean().sqrt())


def cross_validate(fit: Fit, x: Tensor, y: Tensor, folds: int) -> float:
    """Predict each fold by a model fitted to the others; return the RMSE over all samples."""
    if not 2 <= folds <= len(y):
        raise ValueError(
            f"cannot split {len(y)} samples into {folds} folds: the number of folds must be between 2 and {len(y)}"
        )
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))  # the same folds for all models
    squares = torch.zeros_like(y)
    for fold in range(folds):
        held_out = order[fold::folds]
        others = torch.ones(len(y), dtype=torch.bool)
        others[held_out] = False
        squares[held_out] = (fit(x[others], y[others])(x[held_out]) - y[held_out]).square()
    return float(squares.mean().sqrt())


def sine(points: int, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample (N, 1) inputs between -1 and 1 and noisy (N,) values of sin(pi x)."""
    x = torch.rand(points, 1, generator=generator, dtype=torch.float64) * 2 - 1
    return x, torch.sin(torch.pi * x[:, 0]) + noise * torch.randn(points, generator=generator, dtype=torch.float64)


def diabetes(limit: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Load (354, 10) training and (88, 10) test inputs with targets, standardised by the training inputs."""
    from sklearn.datasets import load_diabetes

    values, targets = load_diabetes(return_X_y=True, scaled=False)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    x, y = torch.from_numpy(values).double()[order], torch.from_numpy(targets).double()[order]
    held_out = len(y) // 5
    x, y, test_x, test_y = x[held_out:][:limit], y[held_out:][:limit], x[:held_out][:limit], y[:held_out][:limit]
    mean, deviation = x.mean(dim=0), x.std(dim=0).clamp(min=1e-12)
    return (x - mean) / deviation, y, (test_x - mean) / deviation, test_y


def train(config: Config) -> dict[str, float]:
    """Fit all models and choose by cross-validation; return the errors of the chosen ones on test data."""
    generator = torch.Generator().manual_seed(config.run.seed)
    x, y = sine(config.points, config.noise, generator)
    patients = diabetes(config.run.limit)
    require(
        len(patients[1]) >= max(config.folds, 3),
        "the diabetes training set needs at least 3 rows and one per fold: change --limit or --folds",
        len(patients[1]),
    )
    sizes = f"{len(y)} points of a sine; diabetes: {len(patients[1])} train, {len(patients[3])} test, scikit-learn's"
    with Run.open(__name__, config, DataCard("sine-and-diabetes", True, sha256_of(x, y, *patients), sizes)) as run:
        metrics = fit_sine(run, x, y)
        return run.finish(run={**metrics, **fit_diabetes(run, *patients)})


def fit_sine(run: Run, x: Tensor, y: Tensor) -> dict[str, float]:
    """Compare polynomials by degree and weight decay; the test data are the sine without noise."""
    test_x = torch.linspace(-1, 1, 401, dtype=torch.float64)[:, None]
    test_y = torch.sin(torch.pi * test_x[:, 0])
    top = DEGREES[-1]
    fits = {f"degree {degree}": polynomial(degree) for degree in DEGREES}
    fits |= {f"degree {top}, decay {decay:g}": polynomial(top, decay) for decay in DECAYS[1:]}
    rows, curves = [], {}
    for name, fit in fits.items():
        curves[name] = fit(x, y)
        validated = cross_validate(fit, x, y, run.config.folds)
        rows.append([name, rmse(curves[name], x, y), validated, rmse(curves[name], test_x, test_y)])
    print_table(["polynomial", "training RMSE", "cross-validation", "test (no noise)"], rows)
    degrees, decays = rows[: len(DEGREES)], rows[len(DEGREES) :]
    best, decayed = min(degrees, key=lambda row: row[2]), min(decays, key=lambda row: row[2])
    report_sine(run, x, y, degrees, {name: curves[name] for name in ("degree 1", best[0], f"degree {top}", decayed[0])})
    return {
        "degree": float(DEGREES[degrees.index(best)]),
        "degree_1_rmse": degrees[1][3],
        "chosen_degree_rmse": best[3],
        f"degree_{top}_rmse": degrees[-1][3],
        f"degree_{top}_decayed_rmse": decayed[3],
    }


def report_sine(run: Run, x: Tensor, y: Tensor, rows: list, curves: dict[str, Predictor]) -> None:
    """Draw four fits and the errors by degree."""
    from common.drawing import plots

    grid = torch.linspace(-1, 1, 401, dtype=torch.float64)
    panels: dict[str, dict[str, plots.Line]] = {
        name: {"fit": (grid, curve(grid[:, None])), "sine": (grid, torch.sin(torch.pi * grid))}
        for name, curve in curves.items()
    }
    dots: dict[str, dict[str, plots.Line]] = {name: {"points": (x[:, 0], y)} for name in curves}
    run.figure("polynomials", plots.line_panels(panels, columns=4, xlabel="x", dots=dots, ylim=(-2, 2)))
    errors = {
        name: (DEGREES, [row[column] for row in rows]) for column, name in ((1, "training"), (2, "cross-validation"))
    }
    run.figure("degrees", plots.line_panels({"RMSE": errors}, columns=1, xlabel="degree", log_y=True))


def fit_diabetes(run: Run, x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor) -> dict[str, float]:
    """Compare linear regression by weight decay, and networks by dropout and weight decay."""
    config: Config = run.config
    fits = {f"linear, decay {decay:g}": ridge(decay) for decay in DECAYS}
    for dropout, decay in NETWORKS:
        fits[f"network, dropout {dropout:g}, decay {decay:g}"] = network(dropout, decay, config, run.device)
    rows = []
    for name, fit in track(fits.items(), "models", len(fits)):
        rows.append([name, rmse(fit(x, y), x, y), cross_validate(fit, x, y, config.folds)])
    print_table(["diabetes", "training RMSE", "cross-validation"], rows)
    from common.drawing import plots

    run.figure("diabetes", plots.bars([*fits], [row[2] for row in rows], title="cross-validated RMSE", label="RMSE"))
    linear, networks = rows[: len(DECAYS)], rows[len(DECAYS) :]
    metrics = {"mean_test_rmse": rmse(lambda new: y.mean().expand(len(new)), test_x, test_y)}
    for kind, candidates in (("linear", linear), ("network", networks)):
        chosen = min(candidates, key=lambda row: row[2])
        print_table(["chosen", "cross-validation"], [[chosen[0], chosen[2]]])
        predictor = fits[chosen[0]](x, y)
        metrics |= {f"{kind}_validated_rmse": chosen[2], f"{kind}_test_rmse": rmse(predictor, test_x, test_y)}
    return metrics | {"plain_network_validated_rmse": networks[0][2], "plain_linear_validated_rmse": linear[0][2]}
