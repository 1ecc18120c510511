"""Time-series forecasting with an LSTM, compared with an MLP, a linear autoregression and a seasonal-naive baseline.

    python -m ch05_rnn.train forecast
    python -m ch05_rnn.train forecast --data delayed         # responses to cues 30 to 60 steps earlier
    python -m ch05_rnn.train forecast --data etth1 --residual    # hourly oil temperature of a transformer
    python -m ch05_rnn.train forecast --csv sales.csv --column units --period 7 --horizon 14

The series is split by time: the oldest part for training, the next for validation, the newest for the test. Every model
forecasts the next H values at once, from the values so far and the phase of the period. The LSTM and the MLP are
trained on the same batches for the same number of steps; of each the epoch with the lowest validation error is kept.
The MLP receives the last values only. For the embedded series the optimal forecast is known, and so is its error, which
is a lower bound.

Dimensions: N values, B batch, T window length, F features per time step, H horizon.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ch05_rnn.series.autoregression import Autoregression, seasonal_naive, targets
from ch05_rnn.series.networks import Forecaster, LSTMForecaster, MLPForecaster
from common import distributed
from common.benchmark import Workload
from common.best_weights import BestWeights
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.batches import Batches
from common.data.series.delayed import DELAYS, is_trigger
from common.data.series.series import Series, SeriesName, load_csv, load_series
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

    data: SeriesName = "curve"
    """Series: curve, where the next value is a nonlinear function of the last one; delayed, with responses to cues 30
    to 60 steps earlier; or etth1, the hourly oil temperature of a transformer, which is downloaded if it is missing."""
    csv: Path | None = None
    """CSV file with a header, in the order of time, instead of a named series."""
    column: str | None = None
    """Column of the CSV file."""
    period: int = 24
    """Seasonal period, in steps."""
    horizon: int = default_by("data", curve=24, delayed=8, etth1=24)
    """Forecast horizon, in steps. Default: 24, and 8 for the series delayed."""
    harmonics: int = 4
    """Number of harmonics of the period that are inputs of the networks and the autoregression."""
    window: int = default_by("data", curve=96, delayed=160, etth1=96)
    """Length of the training windows, in steps. Default: 96, and 160 for the series delayed."""
    mlp_lags: int = default_by("data", curve=4, delayed=24, etth1=48)
    """Number of last values that are inputs of the MLP. Default: 4 for the series curve, 24 for delayed, 48 for
    etth1."""
    epochs: int | None = None
    """Number of epochs. Default: as many as give 2,000 gradient steps."""
    batch_size: int = 64
    """Batch size in windows, over all processes."""
    learning_rate: float = default_by("data", curve=3e-2, delayed=3e-2, etth1=1e-2)
    """Peak learning rate of Adam for the LSTM (one-cycle schedule). Default: 3e-2, and 1e-2 for the series
    etth1."""
    mlp_learning_rate: float = default_by("data", curve=3e-2, delayed=3e-3, etth1=1e-3)
    """Peak learning rate of Adam for the MLP (one-cycle schedule). Default: 3e-2, 3e-3 and 1e-3 for the series curve,
    delayed and etth1."""
    residual: bool = False
    """The networks forecast the differences from the last value."""
    hidden_size: int = 64
    """Hidden units of the LSTM, and of each hidden layer of the MLP."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "period", "horizon", "harmonics", "window", "mlp_lags", "epochs", "batch_size")
        require_positive(self, "learning_rate", "mlp_learning_rate", "hidden_size")
        require(
            self.csv is None or self.data == "curve", "--csv takes the place of --data: give one of them", self.data
        )
        require(self.column is None or self.csv is not None, "--column needs --csv, the file", self.column)
        require(self.window >= 2, "--window must be at least 2", self.window)
        require(
            self.mlp_lags <= self.window // 2 + 1, "--mlp-lags must be at most half of --window, plus 1", self.mlp_lags
        )


class Networks(nn.Module):
    """The LSTM and the MLP, saved as one file."""

    def __init__(self, config: Config, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        shared: dict[str, Any] = {
            "period": config.period,
            "harmonics": config.harmonics,
            "hidden_size": config.hidden_size,
            "horizon": config.horizon,
            "residual": config.residual,
            "mean": mean,
            "std": std,
        }
        self.lstm = LSTMForecaster(**shared)
        self.mlp = MLPForecaster(lags=config.mlp_lags, **shared)


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


def make_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), all parameters in one fused step."""
    return torch.optim.Adam(model.parameters(), learning_rate, fused=True)


def errors(forecasts: Tensor, values: Tensor, start: int, end: int) -> Tensor:
    """(N, H) forecasts -> (M, H) errors of the forecasts whose H target values are all in start ... end - 1"""
    horizon = forecasts.shape[1]
    origins = slice(start - 1, end - horizon)
    return forecasts[origins] - targets(values, horizon)[origins]


def measure(error: Tensor, std: float) -> dict[str, float]:
    """(M, H) errors -> RMSE of the next value, RMSE and mean absolute error over all H steps, and scaled MSE

    The scaled MSE is the mean squared error over all H steps of the standardised series: divided by `std` squared, with
    the standard deviation of the training set.
    """
    mse = float(error.square().mean())
    return {
        "one_step_rmse": float(error[:, 0].square().mean().sqrt()),
        "all_steps_rmse": mse**0.5,
        "all_steps_mae": float(error.abs().mean()),
        "scaled_mse": mse / std**2,
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
    """Train the LSTM and the MLP, fit the other baselines and return the test metrics of all."""
    limit = config.run.limit
    if data is None and config.csv is not None:
        data = load_csv(config.csv, config.column, limit=limit)
    series = data or load_series(config.data, limit=limit)
    check_splits(series, config)
    values, time = series.values, series.first + torch.arange(len(series.values))
    past = values[: series.train_end]
    mean, std = float(past.mean()), float(past.std())

    def validate(model: Forecaster) -> dict[str, float]:
        error = errors(model.forecast(values, time), values, series.train_end, series.valid_end)
        return {name: value for name, value in measure(error, std).items() if name.endswith("rmse")}

    with Run.open(__name__, config, series.card) as run:
        networks = Networks(config, mean, std).to(run.device)
        lstm_optimizer = make_optimizer(networks.lstm, config.learning_rate)
        mlp_optimizer = make_optimizer(networks.mlp, config.mlp_learning_rate)
        lstm, mlp = distributed.wrap(networks.lstm), distributed.wrap(networks.mlp)
        best_lstm, best_mlp = BestWeights(networks.lstm), BestWeights(networks.mlp)
        parts = {"networks": networks, "lstm_optimizer": lstm_optimizer, "mlp_optimizer": mlp_optimizer}
        parts |= {"best_lstm": best_lstm, "best_mlp": best_mlp}
        features = networks.lstm.features(past, time[: len(past)]).to(run.device)
        target = targets((past - mean) / std, config.horizon).float().to(run.device)
        starts = torch.arange(0, len(target) - config.window + 1, STRIDE)
        batches = Batches(starts, batch_size=config.batch_size, device=run.device, generator=run.generator)
        epochs = config.epochs or -(-2_000 // len(batches))
        steps = epochs * len(batches)
        offsets = torch.arange(config.window, device=run.device)
        for epoch in run.epochs(epochs, len(batches), **parts):
            for step, (start,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                set_learning_rate(lstm_optimizer, one_cycle_at(step / steps, config.learning_rate))
                set_learning_rate(mlp_optimizer, one_cycle_at(step / steps, config.mlp_learning_rate))
                window = start.unsqueeze(1) + offsets
                batch = features[window], target[window]
                train_step(mlp, mlp_optimizer, *batch, bf16=run.bf16)
                loss = train_step(lstm, lstm_optimizer, *batch, bf16=run.bf16)
                run.step(loss, windows=len(start))
            valid_lstm, valid_mlp = validate(networks.lstm), validate(networks.mlp)
            best_lstm.update(valid_lstm["all_steps_rmse"], epoch)
            best_mlp.update(valid_mlp["all_steps_rmse"], epoch)
            run.log(valid_lstm=valid_lstm, valid_mlp=valid_mlp)
        best_lstm.restore()
        best_mlp.restore()
        regression = fit_autoregression(series, time, config)
        say("lags", f"{regression.lags} for the autoregression, selected on the validation set")
        forecasts = {
            "seasonal naive": seasonal_naive(values, config.period, config.horizon),
            "autoregression": regression.forecast(values, time),
            "MLP": networks.mlp.forecast(values, time),
            "LSTM": networks.lstm.forecast(values, time),
        }
        optimal = series.best(config.horizon)
        if optimal is not None:
            forecasts["best possible"] = optimal
        test = {name: errors(forecast, values, series.valid_end, len(values)) for name, forecast in forecasts.items()}
        run.save(networks)
        if run.is_main:
            report(run, series, forecasts, test, std)
        return run.finish(
            **{f"test_{name.lower().replace(' ', '_')}": measure(error, std) for name, error in test.items()}
        )


def report(run: Run, series: Series, forecasts: dict[str, Tensor], test: dict[str, Tensor], std: float) -> None:
    """Print the test errors; draw the error per step of the horizon, some forecasts, and the curves."""
    from common.drawing import plots

    rows = [[name, *measure(error, std).values()] for name, error in test.items()]
    horizon = f"next {run.config.horizon}"
    headings = ["", "RMSE, next value", f"RMSE, {horizon}", f"MAE, {horizon}", f"scaled MSE, {horizon}"]
    print_table(headings, rows, title="test set, forecasts from every time")
    ahead = torch.arange(1, run.config.horizon + 1)
    curves = {name: (ahead, error.square().mean(0).sqrt()) for name, error in test.items()}
    run.figure(
        "horizon",
        plots.line_panels({"forecast error": curves}, columns=1, xlabel="steps ahead", ylabel="RMSE", size=1.6),
    )
    run.figure("forecasts", draw_forecasts(series, forecasts, run.config.horizon))
    rmse = [f"valid_{name}_{steps}_rmse" for name in ("lstm", "mlp") for steps in ("one_step", "all_steps")]
    panels = {"mean squared error of the LSTM": ["train_loss"], "RMSE": rmse}
    run.figure("curves", plots.curves(run.history, panels))


def draw_forecasts(series: Series, forecasts: dict[str, Tensor], horizon: int) -> "Figure":
    """Draw the forecasts of all models but seasonal naive from some times of the test set, and the true values."""
    from common.drawing import plots

    values, panels, dots = series.values, {}, {}
    past = horizon if series.states is None else DELAYS.stop  # as many values as the cue may lie back
    for origin in forecast_origins(series, horizon):
        ahead, shown = torch.arange(1, horizon + 1), torch.arange(max(-past, -origin), horizon + 1)
        title = f"from step {origin - series.valid_end + 1:,} of the test set"
        lines = {name: forecast for name, forecast in forecasts.items() if name != "seasonal naive"}
        panels[title] = {name: (ahead, forecast[origin]) for name, forecast in lines.items()}
        dots[title] = {"true values": (shown, values[origin + shown])}
    return plots.line_panels(panels, columns=2, xlabel="steps ahead", dots=dots, share_y=True, size=1.35)


def forecast_origins(series: Series, horizon: int, count: int = 4) -> list[int]:
    """Return the times of the forecasts that are drawn: at regular distances, or the first triggers of the test set.

    At a trigger of the series `delayed`, the sign of the next values depends on the cue.
    """
    first, last = series.valid_end - 1, len(series.values) - horizon - 1
    if series.states is not None:
        triggers = (is_trigger(series.states[first : last + 1])).nonzero().flatten() + first
        if len(triggers) > 0:
            return triggers[:count].tolist()
    return torch.linspace(first, last, count).long().unique().tolist()


def restore(folder: Path) -> tuple[Networks, Config]:
    """Load both trained networks and their Config from a run folder."""
    config = read_config(folder, Config)
    networks = Networks(config)
    load_weights(networks, folder)
    return networks.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step of the LSTM on random features, for the device benchmark."""
    model = Networks(config).lstm.to(device)
    optimizer = make_optimizer(model, config.learning_rate)
    features = torch.randn(config.batch_size, config.window, model.lstm.input_size, device=device)
    target = torch.randn(config.batch_size, config.window, config.horizon, device=device)
    step = partial(train_step, model, optimizer, features, target, bf16=config.run.precision == "bf16")
    return Workload(step, items=config.batch_size, unit="windows")
