"""Forecasts of a time series by an LSTM, beside what was a period ago and a line through the last values.

    python -m ch05_rnn.train forecast
    python -m ch05_rnn.train forecast --csv sales.csv --column units --period 7 --horizon 14

The series is cut in time: fitted to the oldest part, chosen on the next, tested on the newest. Each forecaster says the
next H values at once, from every time on, and knows the values up to that time and the place in the period. For the
embedded series the best forecast that is possible is known, and so is the error that nobody can get below.

Dimensions: N values, B batch, T steps of a window, F features of a time, H steps ahead.
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
"""Norm to which larger gradients are cut."""
LAGS = (1, 2, 4, 8, 16, 24, 48)
"""How many last values the autoregression may look at; the validation split chooses."""
STRIDE = 4
"""Steps between the starts of two training windows."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the forecasters."""

    csv: Path | None = None
    """File of comma-separated values with a header, in the order of time; without one the embedded series."""
    column: str | None = None
    """Column of that file."""
    period: int = 24
    """Steps after which the series resembles itself."""
    horizon: int = 24
    """Steps that are forecast."""
    harmonics: int = 4
    """Waves of the period whose place the LSTM and the autoregression are told."""
    window: int = 96
    """Steps through which the LSTM is trained at a time."""
    epochs: int | None = None
    """Passes over the training windows; by default as many as make 2,000 steps."""
    batch_size: int = 64
    """Windows a step, over all processes together."""
    learning_rate: float = 1e-2
    """Peak step size of Adam, which warms up and anneals in one cycle."""
    hidden_size: int = 64
    """Units of the LSTM."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "period", "horizon", "harmonics", "window", "epochs", "batch_size", "learning_rate")
        require_positive(self, "hidden_size")
        require(self.column is None or self.csv is not None, "--column needs --csv, the file", self.column)
        require(self.window >= 2, "--window must be at least 2", self.window)


class Forecaster(nn.Module):
    """An LSTM that says, after every value, what the next H will be."""

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
        """(N,) values at (N,) times -> (N, F) what the LSTM is given: the scaled value, the place in the period"""
        scaled = (values - float(self.mean)) / float(self.std)
        return torch.cat([scaled.unsqueeze(1), harmonics(time, self.period, self.harmonics)], dim=1).float()

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, F) features -> (B, T, H) the next values after each step, scaled"""
        return self.output(self.lstm(features)[0])

    @torch.inference_mode()
    def forecast(self, values: Tensor, time: Tensor) -> Tensor:
        """(N,) values at (N,) times -> (N, H) forecasts from each on, in one pass from the first value to the last"""
        features = self.features(values, time).to(self.mean.device)
        scaled = self(features.unsqueeze(0)).squeeze(0).double().cpu()
        return scaled * float(self.std) + float(self.mean)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, features: Tensor, wanted: Tensor, *, bf16: bool = False
) -> Tensor:
    """Take one gradient step on the weighted mean squared error; return it, still on the device.

    The error h steps ahead has the weight 1 / h: most of what lies far ahead is noise, and would drown what can be
    known of the next steps. The first half of a window only warms the state up: it has seen too little to be judged.
    """
    with torch.autocast(features.device.type, torch.bfloat16, enabled=bf16):
        forecasts = model(features)
    warm = features.shape[1] // 2
    weight = 1 / torch.arange(1, wanted.shape[2] + 1, device=wanted.device)
    loss = (forecasts.float() - wanted)[:, warm:].square().mean((0, 1)) @ (weight / weight.sum())
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), all parameters in one fused step."""
    return torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)


def errors(forecasts: Tensor, values: Tensor, start: int, end: int) -> Tensor:
    """(N, H) forecasts -> (M, H) how far they are off, from every time whose next H values are start ... end - 1"""
    horizon = forecasts.shape[1]
    origins = slice(start - 1, end - horizon)
    return forecasts[origins] - targets(values, horizon)[origins]


def measure(off: Tensor) -> dict[str, float]:
    """Root of the mean squared error of the next value, and of all H; and the mean absolute one of all."""
    return {
        "one_step_rmse": float(off[:, 0].square().mean().sqrt()),
        "all_steps_rmse": float(off.square().mean().sqrt()),
        "all_steps_mae": float(off.abs().mean()),
    }


def check_room(series: Series, config: Config) -> None:
    """Raise ValueError where a split is too short for the window, the period and the horizon, or never changes."""
    sizes = (series.train_end, series.valid_end - series.train_end, len(series.values) - series.valid_end)
    least = (max(config.window, 2 * config.period) + config.horizon, config.horizon, config.horizon)
    for name, size, needed in zip(("train", "valid", "test"), sizes, least, strict=True):
        require(
            size >= needed,
            f"the {name} split needs {needed} values: take a longer series, a larger --limit, or a smaller --window, "
            "--period or --horizon",
            size,
        )
    past = series.values[: series.train_end]
    changes = bool((past != past[0]).any())
    require(
        changes, "the train split must hold values that change: take another --column; its only value", float(past[0])
    )


def fit_autoregression(series: Series, time: Tensor, config: Config) -> Autoregression:
    """Fit an autoregression to the training split, with the number of lags that is best on the validation split."""
    past = slice(0, series.train_end)
    fitted = [
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
        for model in fitted
    ]
    return fitted[valid.index(min(valid))]


def train(config: Config, data: Series | None = None) -> dict[str, float]:
    """Fit the forecasters and return their test metrics."""
    limit = config.run.limit
    series = data or (load_csv(config.csv, config.column, limit=limit) if config.csv else load_series(limit=limit))
    check_room(series, config)
    values, time = series.values, series.first + torch.arange(len(series.values))
    past = values[: series.train_end]
    with Run.open(__name__, config, series.card) as run:
        model = Forecaster(config, float(past.mean()), float(past.std())).to(run.device)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        features = model.features(past, time[: len(past)]).to(run.device)
        wanted = targets((past - past.mean()) / past.std(), config.horizon).float().to(run.device)
        starts = torch.arange(0, len(wanted) - config.window + 1, STRIDE)
        batches = Batches(starts, batch_size=config.batch_size, device=run.device, generator=run.generator)
        epochs = config.epochs or -(-2_000 // len(batches))
        most = epochs * len(batches)
        inside = torch.arange(config.window, device=run.device)
        for epoch in run.epochs(epochs, len(batches), model=model, optimizer=optimizer):
            for step, (first,) in enumerate(batches, start=(epoch - 1) * len(batches)):
                set_learning_rate(optimizer, one_cycle_at(step / most, config.learning_rate))
                window = first.unsqueeze(1) + inside
                loss = train_step(parallel, optimizer, features[window], wanted[window], bf16=run.bf16)
                run.step(loss, windows=len(first))
            off = errors(model.forecast(values, time), values, series.train_end, series.valid_end)
            run.log(valid={name: value for name, value in measure(off).items() if name.endswith("rmse")})
        regression = fit_autoregression(series, time, config)
        say("lags", f"{regression.lags} for the autoregression, chosen on the validation split")
        forecasts = {
            "seasonal naive": seasonal_naive(values, config.period, config.horizon),
            "autoregression": regression.forecast(values, time),
            "LSTM": model.forecast(values, time),
        }
        best = series.best(config.horizon)
        if best is not None:
            forecasts["best possible"] = best
        off = {name: errors(its, values, series.valid_end, len(values)) for name, its in forecasts.items()}
        run.save(model)
        if run.is_main:
            report(run, series, forecasts, off)
        return run.finish(**{f"test_{name.lower().replace(' ', '_')}": measure(its) for name, its in off.items()})


def report(run: Run, series: Series, forecasts: dict[str, Tensor], off: dict[str, Tensor]) -> None:
    """Print the errors side by side; draw them against the steps ahead, some forecasts, and the curves."""
    from common.drawing import plots

    rows = [[name, *measure(its).values()] for name, its in off.items()]
    headings = ["", "rmse, next value", f"rmse, next {run.config.horizon}", f"mean error, next {run.config.horizon}"]
    print_table(headings, rows, title="the test split, from every time on")
    ahead = torch.arange(1, run.config.horizon + 1)
    lines = {name: (ahead, its.square().mean(0).sqrt()) for name, its in off.items()}
    run.figure(
        "horizon",
        plots.line_panels({"error of the forecasts": lines}, columns=1, xlabel="steps ahead", ylabel="rmse", size=1.6),
    )
    run.figure("forecasts", draw_forecasts(series, forecasts, run.config.horizon))
    panels = {"mean squared error": ["train_loss"], "rmse": ["valid_one_step_rmse", "valid_all_steps_rmse"]}
    run.figure("curves", plots.curves(run.history, panels))


def draw_forecasts(series: Series, forecasts: dict[str, Tensor], horizon: int, count: int = 6) -> "Figure":
    """Draw what each forecaster said at some times of the test split, and what came."""
    from common.drawing import plots

    values, panels, dots = series.values, {}, {}
    origins = torch.linspace(series.valid_end - 1, len(values) - horizon - 1, count).long().unique().tolist()
    for origin in origins:
        ahead, back = torch.arange(1, horizon + 1), torch.arange(1 - horizon, horizon + 1)
        title = f"from {origin - series.valid_end + 1:,} into the test split"
        panels[title] = {name: (ahead, its[origin]) for name, its in forecasts.items()}
        dots[title] = {"what came": (back, values[origin + back])}
    return plots.line_panels(panels, columns=min(3, len(panels)), xlabel="steps ahead", dots=dots, size=1.3)


def restore(folder: Path) -> tuple[Forecaster, Config]:
    """Rebuild the forecaster that a run saved."""
    config = read_config(folder, Config)
    model = Forecaster(config)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """The training step on one batch of noise, for the device benchmark."""
    model = Forecaster(config).to(device)
    optimizer = make_optimizer(model, config)
    features = torch.randn(config.batch_size, config.window, model.lstm.input_size, device=device)
    wanted = torch.randn(config.batch_size, config.window, config.horizon, device=device)
    step = partial(train_step, model, optimizer, features, wanted, bf16=config.run.precision == "bf16")
    return Workload(step, items=config.batch_size, unit="windows")
