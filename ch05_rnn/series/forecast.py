"""Time-series forecasting with an LSTM, compared with seasonal-naive and linear autoregressive baselines.

    python -m ch05_rnn.train forecast
    python -m ch05_rnn.train forecast --csv sales.csv --column units --period 7 --horizon 14

The series is split by time: the oldest part for training, the next for validation, the newest for the test. Every model
forecasts the next H values at once, from the values so far and the phase of the period. For the embedded series the
optimal forecast is known, and so is its error, which is a lower bound.

Dimensions: N values, B batch, T window length, F features per time step, H horizon.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ch05_rnn.series.autoregression import Autoregression, harmonics, seasonal_naive, targets
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.batches import Batches
from common.data.series.series import Series, load_csv, load_series
from common.progress import print_table, say
from common.run import Run, load_weights
from common.schedule import one_cycle_at, set_learning_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLIP = 1.0
"""Maximum gradient norm; larger gradients are rescaled."""
LAGS = (1, 2, 4, 8, 16, 24, 48)
"""Candidate numbers of lags of the autoregression, selected on the validation set."""
STRIDE = 4
"""Steps between the starts of two training windows."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the forecasters."""

    csv: Path | None = None
    """CSV file with a header, in the order of time. Default: the embedded series."""
    column: str | None = None
    """Column of the CSV file."""
    period: int = 24
    """Seasonal period, in steps."""
    horizon: int = 24
    """Forecast horizon, in steps."""
    harmonics: int = 4
    """Number of harmonics of the period that are inputs of the LSTM and the autoregression."""
    window: int = 96
    """Length of the training windows, in steps."""
    epochs: int | None = None
    """Number of epochs. Default: as many as give 2,000 steps."""
    batch_size: int = 64
    """Batch size in windows, over all processes."""
    learning_rate: float = 1e-2
    """Peak learning rate of Adam (one-cycle schedule)."""
    hidden_size: int = 64
    """Hidden units of the LSTM."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "period", "horizon", "harmonics", "window", "epochs", "batch_size", "learning_rate")
        require_positive(self, "hidden_size")
        require(self.column is None or self.csv is not None, "--column needs --csv, the file", self.column)
        require(self.window >= 2, "--window must be at least 2", self.window)


class Forecaster(nn.Module):
    """An LSTM that forecasts the next H values after every value."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Config, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.period, self.harmonics = config.period, config.harmonics
        features = 1 + 2 * min(config.harmonics, config.period // 2)
        self.lstm = nn.LSTM(features, config.hidden_size, batch_first=True)
        self.output = nn.Linear(config.hidden_size, config.horizon)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def features(self, values: Tensor, time: Tensor) -> Tensor:
        """(N,) values at (N,) times -> (N, F) inputs of the LSTM: standardised value, harmonics of the period"""
        scaled = (values - float(self.mean)) / float(self.std)
        return torch.cat([scaled.unsqueeze(1), harmonics(time, self.period, self.harmonics)], dim=1).float()

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, F) features -> (B, T, H) standardised forecasts after each step"""
        return self.output(self.lstm(features)[0])

    @torch.inference_mode()
    def forecast(self, values: Tensor, time: Tensor) -> Tensor:
        """(N,) values at (N,) times -> (N, H) forecasts from each time, in one pass over the series"""
        features = self.features(values, time).to(self.mean.device)
        scaled = self(features.unsqueeze(0)).squeeze(0).double().cpu()
        return scaled * float(self.std) + float(self.mean)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, features: Tensor, target: Tensor, *, bf16: bool = False
) -> Tensor:
    """Take one gradient step on the weighted mean squared error; return it, still on the device.

    The error h steps ahead has the weight 1 / h, because the distant errors are mostly noise. The first half of a
    window warms up the hidden state and is not part of the loss.
    """
    with torch.autocast(features.device.type, torch.bfloat16, enabled=bf16):
        forecasts = model(features)
    warm_up = features.shape[1] // 2
    weight = 1 / torch.arange(1, target.shape[2] + 1, device=target.device)
    loss = (forecasts.float() - target)[:, warm_up:].square().mean((0, 1)) @ (weight / weight.sum())
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), all parameters in one fused step."""
    return torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)


def errors(forecasts: Tensor, values: Tensor, start: int, end: int) -> Tensor:
    """(N, H) forecasts -> (M, H) errors of the forecasts whose H target values are all in start ... end - 1"""
    horizon = forecasts.shape[1]
    origins = slice(start - 1, end - horizon)
    return forecasts[origins] - targets(values, horizon)[origins]


def measure(error: Tensor) -> dict[str, float]:
    """(M, H) errors -> RMSE of one-step forecasts, RMSE and mean absolute error over all H steps"""
    return {
        "one_step_rmse": float(error[:, 0].square().mean().sqrt()),
        "all_steps_rmse": float(error.square().mean().sqrt()),
        "all_steps_mae": float(error.abs().mean()),
    }


def check_splits(series: Series, config: Config) -> None:
    """Raise ValueError if a split is too short for the window, the period and the horizon, or is constant."""
    sizes = (series.train_end, series.valid_end - series.train_end, len(series.values) - series.valid_end)
    minimum = (max(config.window, 2 * config.period) + config.horizon, config.horizon, config.horizon)
    for name, size, needed in zip(("train", "valid", "test"), sizes, minimum, strict=True):
        require(
            size >= needed,
            f"the {name} split needs {needed} values: take a longer series, a larger --limit, or a smaller --window, "
            "--period or --horizon",
            size,
        )
    past = series.values[: series.train_end]
    varies = bool((past != past[0]).any())
    require(varies, "the train split must not be constant: take another --column; its only value", float(past[0]))


def fit_autoregression(series: Series, time: Tensor, config: Config) -> Autoregression:
    """Fit an autoregression to the training set, with the number of lags selected on the validation set."""
    past = slice(0, series.train_end)
    candidates = [
        Autoregression.fit(
            series.values[past],
            time[past],
            lags=lags,
            period=config.period,
            harmonics=config.harmonics,
            horizon=config.horizon,
        )
        for lags in LAGS
        if lags <= config.window
    ]
    valid = [
        float(
            errors(model.forecast(series.values, time), series.values, series.train_end, series.valid_end)
            .square()
            .mean()
        )
        for model in candidates
    ]
    return candidates[valid.index(min(valid))]


def train(config: Config, data: Series | None = None) -> dict[str, float]:
    """Train the LSTM, fit the baselines and return their test metrics."""
    limit = config.run.limit
    series = data or (load_csv(config.csv, config.column, limit=limit) if config.csv else load_series(limit=limit))
    check_splits(series, config)
    values, time = series.values, series.first + torch.arange(len(series.values))
    past = values[: series.train_end]
    with Run.open(__name__, config, series.card) as run:
        model = Forecaster(config, float(past.mean()), float(past.std())).to(run.device)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        features = model.features(past, time[: len(past)]).to(run.device)
        target = targets((past - past.mean()) / past.std(), config.horizon).float().to(run.device)
        starts = torch.arange(0, len(target) - config.window + 1, STRIDE)
        batches = Batches(starts, batch_size=config.batch_size, device=run.device, generator=run.generator)
        epochs = config.epochs or -(-2_000 // len(batches))
        steps = epochs * len(batches)
        offsets = torch.arange(config.window, device=run.device)
        for epoch in run.epochs(epochs, len(batches), model=model, optimizer=optimizer):
            for step, (start,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                set_learning_rate(optimizer, one_cycle_at(step / steps, config.learning_rate))
                window = start.unsqueeze(1) + offsets
                loss = train_step(parallel, optimizer, features[window], target[window], bf16=run.bf16)
                run.step(loss, windows=len(start))
            error = errors(model.forecast(values, time), values, series.train_end, series.valid_end)
            run.log(valid={name: value for name, value in measure(error).items() if name.endswith("rmse")})
        regression = fit_autoregression(series, time, config)
        say("lags", f"{regression.lags} for the autoregression, selected on the validation set")
        forecasts = {
            "seasonal naive": seasonal_naive(values, config.period, config.horizon),
            "autoregression": regression.forecast(values, time),
            "LSTM": model.forecast(values, time),
        }
        optimal = series.best(config.horizon)
        if optimal is not None:
            forecasts["best possible"] = optimal
        test = {name: errors(forecast, values, series.valid_end, len(values)) for name, forecast in forecasts.items()}
        run.save(model)
        if run.is_main:
            report(run, series, forecasts, test)
        return run.finish(**{f"test_{name.lower().replace(' ', '_')}": measure(error) for name, error in test.items()})


def report(run: Run, series: Series, forecasts: dict[str, Tensor], test: dict[str, Tensor]) -> None:
    """Print the test errors; draw the error per step of the horizon, some forecasts, and the curves."""
    from common.drawing import plots

    rows = [[name, *measure(error).values()] for name, error in test.items()]
    headings = ["", "RMSE, next value", f"RMSE, next {run.config.horizon}", f"MAE, next {run.config.horizon}"]
    print_table(headings, rows, title="test set, forecasts from every time")
    ahead = torch.arange(1, run.config.horizon + 1)
    curves = {name: (ahead, error.square().mean(0).sqrt()) for name, error in test.items()}
    run.figure(
        "horizon",
        plots.line_panels({"forecast error": curves}, columns=1, xlabel="steps ahead", ylabel="RMSE", size=1.6),
    )
    run.figure("forecasts", draw_forecasts(series, forecasts, run.config.horizon))
    panels = {"mean squared error": ["train_loss"], "RMSE": ["valid_one_step_rmse", "valid_all_steps_rmse"]}
    run.figure("curves", plots.curves(run.history, panels))


def draw_forecasts(series: Series, forecasts: dict[str, Tensor], horizon: int, count: int = 6) -> "Figure":
    """Draw the forecasts from some times of the test set, and the true values."""
    from common.drawing import plots

    values, panels, dots = series.values, {}, {}
    origins = torch.linspace(series.valid_end - 1, len(values) - horizon - 1, count).long().unique().tolist()
    for origin in origins:
        ahead, back = torch.arange(1, horizon + 1), torch.arange(1 - horizon, horizon + 1)
        title = f"from step {origin - series.valid_end + 1:,} of the test set"
        panels[title] = {name: (ahead, forecast[origin]) for name, forecast in forecasts.items()}
        dots[title] = {"true values": (back, values[origin + back])}
    return plots.line_panels(panels, columns=min(3, len(panels)), xlabel="steps ahead", dots=dots, size=1.3)


def restore(folder: Path) -> tuple[Forecaster, Config]:
    """Load a trained forecaster and its Config from a run folder."""
    config = read_config(folder, Config)
    model = Forecaster(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random features, for the device benchmark."""
    model = Forecaster(config).to(device)
    optimizer = make_optimizer(model, config)
    features = torch.randn(config.batch_size, config.window, model.lstm.input_size, device=device)
    target = torch.randn(config.batch_size, config.window, config.horizon, device=device)
    step = partial(train_step, model, optimizer, features, target, bf16=config.run.precision == "bf16")
    return Workload(step, items=config.batch_size, unit="windows")
