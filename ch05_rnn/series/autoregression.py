"""Forecasting baselines: seasonal naive and linear autoregression.

Dimensions: N values, P lags, K harmonics, H horizon, F features per time step.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def harmonics(time: Tensor, period: int, count: int) -> Tensor:
    """(N,) times -> (N, 2K) sin and cos of the first K harmonics of the period, at most period / 2"""
    angle = 2 * math.pi * time.double().unsqueeze(1) / period * torch.arange(1, min(count, period // 2) + 1)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def targets(values: Tensor, horizon: int) -> Tensor:
    """(N,) values -> (N - H, H) the next H values after each of the first N - H"""
    return values[1:].unfold(0, horizon, 1)


def seasonal_naive(values: Tensor, period: int, horizon: int) -> Tensor:
    """(N,) values -> (N, H) forecasts y_{t+h} = y_{t+h-kP}, k the smallest for which y is known; NaN at the start"""
    ahead = torch.arange(1, horizon + 1)
    back = ahead - period * -(-ahead // period)  # h - kP, between 1 - P and 0
    place = torch.arange(len(values)).unsqueeze(1) + back
    return values[place.clamp(min=0)].where(place >= 0, math.nan)


@dataclass(frozen=True)
class Autoregression:
    """y_{t+h} = c_h + sum_p a_hp y_{t-p} + sum_k (b_hk sin + d_hk cos)(2 pi k t / period), with coefficients for each h

    Fitted by least squares in closed form: min_A |X A - Y|^2.
    """

    lags: int
    period: int
    harmonics: int
    A: Tensor
    """(F, H)"""

    @classmethod
    def fit(
        cls, values: Tensor, time: Tensor, *, lags: int, period: int, harmonics: int, horizon: int
    ) -> "Autoregression":
        """Fit to (N,) values at (N,) times."""
        X = design(values, time, lags, period, harmonics)
        Y = targets(values, horizon)[lags - 1 :]
        A = torch.linalg.lstsq(X[: len(Y)], Y, driver="gelsd").solution  # by SVD: X may be rank-deficient
        return cls(lags, period, harmonics, A)

    def forecast(self, values: Tensor, time: Tensor) -> Tensor:
        """(N,) values at (N,) times -> (N, H) forecasts from each time; NaN for the first P - 1 times"""
        forecasts = design(values, time, self.lags, self.period, self.harmonics) @ self.A
        return torch.cat([forecasts.new_full((self.lags - 1, forecasts.shape[1]), math.nan), forecasts])


def design(values: Tensor, time: Tensor, lags: int, period: int, count: int) -> Tensor:
    """(N,) values, (N,) times -> (N - P + 1, F) design matrix: constant, harmonics, last P values"""
    waves = harmonics(time[lags - 1 :], period, count)
    return torch.cat([torch.ones(len(waves), 1, dtype=torch.float64), waves, values.unfold(0, lags, 1)], dim=1)
