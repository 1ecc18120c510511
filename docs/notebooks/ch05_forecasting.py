# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Forecasting
#
# A linear autoregression predicts the value $h$ steps ahead from the last $P$ values and from sines and cosines of the
# period:
#
# $$\hat y_{t+h} = c_h + \sum_{p=0}^{P-1} a_{hp}\, y_{t-p} +
# \sum_{k=1}^{K} \Bigl(b_{hk} \sin \frac{2\pi k t}{P_0} + d_{hk} \cos \frac{2 \pi k t}{P_0}\Bigr),$$
#
# with the period $P_0$ and $K$ harmonics.
#
# The coefficients are fitted by least squares. A baseline without parameters is the seasonal naive forecast: the value
# one period ago.
#
# The embedded curve is a periodic profile (24 steps) plus a deviation whose conditional mean is known, so the best
# possible forecast is known as well. The questions: how does the error grow with the horizon, what do more lags and
# harmonics change, and what happens if the level of the series changes?

# %%
# %matplotlib inline
import torch

from ch05_rnn.series.autoregression import Autoregression, seasonal_naive
from ch05_rnn.series.forecast import errors
from common.data.series.series import load_series
from common.drawing import plots

PERIOD, HORIZON = 24, 48
series = load_series("curve")
values, time = series.values, torch.arange(len(series.values))
train, start, end = slice(0, series.train_end), series.train_end, series.valid_end
print(f"{len(values):,} values: {series.train_end:,} for training, {end - start:,} for validation")
window = slice(0, 120)
plots.line_panels({"the first five periods": {"y": (time[window], values[window])}}, columns=1, xlabel="t", size=1.6)

# %% [markdown]
# ## How does the error grow with the horizon?
#
# **Before you run the cell:** does the error of the seasonal naive forecast depend on the horizon? Where is the best
# possible forecast much better than the linear one?


# %%
def autoregression_forecasts(lags: int, harmonics: int) -> torch.Tensor:
    """Fit an autoregression to the training values; return its forecasts from every time."""
    model = Autoregression.fit(
        values[train], time[train], lags=lags, period=PERIOD, harmonics=harmonics, horizon=HORIZON
    )
    return model.forecast(values, time)


def rmse_by_step(forecasts: torch.Tensor) -> torch.Tensor:
    """Return the error on the validation values at each step ahead."""
    return errors(forecasts, values, start, end).square().mean(0).sqrt()


forecasts = {
    "autoregression": autoregression_forecasts(2, 4),
    "seasonal naive": seasonal_naive(values, PERIOD, HORIZON),
}
best = series.best(HORIZON)
assert best is not None
by_step = {name: rmse_by_step(forecast) for name, forecast in {**forecasts, "best possible": best}.items()}
ahead = range(1, HORIZON + 1)
plots.line_panels(
    {"error on validation values": {name: (ahead, error) for name, error in by_step.items()}},
    columns=1,
    xlabel="steps ahead",
    ylabel="RMSE",
    size=1.6,
)

# %% [markdown]
# The error of the autoregression grows with the horizon, since the deviation from the profile is forgotten slowly; far
# ahead only the profile is left. The seasonal naive forecast has the same error for all steps up to one period, because
# it copies a value that is 24 steps old. From step 25 on, that value is not known yet, and it copies one that is 48
# steps old. The best possible forecast is much better only for the first steps, where the nonlinear dependence can be
# used.
#
# ## What do more lags and harmonics change?
#
# **Before you run the cell:** which helps more, more lags or more harmonics? With 48 lags and no harmonics, is the
# period known?

# %%
lags = [1, 2, 4, 8, 16, 24, 48]
table = {
    f"{harmonics} harmonics": [
        float(rmse_by_step(autoregression_forecasts(lag, harmonics)).square().mean().sqrt()) for lag in lags
    ]
    for harmonics in (0, 1, 4)
}
for name, found in table.items():
    print(f"{name}: " + ", ".join(f"{error:.3f} ({lag} lags)" for lag, error in zip(lags, found, strict=True)))
plots.line_panels(
    {"RMSE over 48 steps": {name: (lags, found) for name, found in table.items()}},
    columns=1,
    xlabel="lags",
    log_x=True,
    marked=tuple(table),
    size=1.5,
)

# %% [markdown]
# With four harmonics, two to four lags are enough. Without harmonics, the values themselves must reveal the phase: with
# few lags the forecast cannot tell a rising from a falling part of the curve; with 24 or more lags it can use the last
# period, with its noise.
#
# ## What happens if the series changes?
#
# From the first validation value on, 1.5 is added to the series (a new sensor, for example).
#
# **Before you run the cell:** a hundred steps later, each model has seen only new values in its window. Whose forecasts
# are as good as before: the autoregression with harmonics, the one with 48 lags and no harmonics, or the seasonal naive
# one?

# %%
shifted = values.clone()
shifted[start:] += 1.5
later = start + 100
extra = {}
for name, (lag, harmonics) in {"4 harmonics, 2 lags": (2, 4), "no harmonics, 48 lags": (48, 0)}.items():
    model = Autoregression.fit(
        values[train], time[train], lags=lag, period=PERIOD, harmonics=harmonics, horizon=HORIZON
    )
    new, old = (errors(model.forecast(y, time), y, later, end).square().mean(0).sqrt() for y in (shifted, values))
    extra[name] = new / old
new, old = (
    errors(seasonal_naive(y, PERIOD, HORIZON), y, later, end).square().mean(0).sqrt() for y in (shifted, values)
)
extra["seasonal naive"] = new / old
plots.line_panels(
    {"RMSE after the change / RMSE without it": {name: (ahead, ratio) for name, ratio in extra.items()}},
    columns=1,
    xlabel="steps ahead",
    size=1.6,
)

# %% [markdown]
# The seasonal naive forecast is as good as before, since all values it copies are new. The autoregressions contain the
# old level in their constant: a shift of the level looks like a deviation from the profile that will disappear. One
# step ahead the last values correct most of it; the further ahead, the more the forecasts return to the old level.
#
# ## Continue
#
# - Fit the models to `shifted[: start + 200]` and forecast the rest.
# - The page on [sequences](../../ch05_rnn/SEQUENCES.md) compares these baselines with an LSTM, also on a series in
#   which a response depends on a cue 30 to 60 steps earlier.
