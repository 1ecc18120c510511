"""The two forecasting networks: an LSTM, and a multilayer perceptron (MLP) that receives the last P values only.

Dimensions: N values, B batch, T window length, F features per time step, P lags, H horizon.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.series.autoregression import harmonics


class Forecaster(nn.Module):
    """A network that forecasts the next H values after every value of a series.

    With `residual`, its outputs are the differences from the last value. A level of the series that did not occur in
    training then shifts the forecasts, but not what the outputs have to be (Zeng et al. 2023, NLinear).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, period: int, harmonics: int, residual: bool, mean: float, std: float) -> None:
        super().__init__()
        self.period, self.harmonics, self.residual = period, harmonics, residual
        self.waves = 2 * min(harmonics, period // 2)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def features(self, values: Tensor, time: Tensor) -> Tensor:
        """(N,) values at (N,) times -> (N, F) features: standardised value, harmonics of the period"""
        scaled = (values - float(self.mean)) / float(self.std)
        return torch.cat([scaled.unsqueeze(1), harmonics(time, self.period, self.harmonics)], dim=1).float()

    def outputs(self, features: Tensor) -> Tensor:
        """(B, T, F) features -> (B, T, H) outputs of the network"""
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, F) features -> (B, T, H) standardised forecasts after each step"""
        outputs = self.outputs(features)
        return features[..., :1] + outputs if self.residual else outputs

    @torch.inference_mode()
    def forecast(self, values: Tensor, time: Tensor) -> Tensor:
        """(N,) values at (N,) times -> (N, H) forecasts from each time, in one pass over the series"""
        features = self.features(values, time).to(self.mean.device)
        scaled = self(features.unsqueeze(0)).squeeze(0).double().cpu()
        return scaled * float(self.std) + float(self.mean)


class LSTMForecaster(Forecaster):
    """An LSTM and a linear output layer."""

    def __init__(
        self,
        *,
        period: int,
        harmonics: int,
        hidden_size: int,
        horizon: int,
        residual: bool = False,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        super().__init__(period, harmonics, residual, mean, std)
        self.lstm = nn.LSTM(1 + self.waves, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, horizon)

    def outputs(self, features: Tensor) -> Tensor:
        """(B, T, F) features -> (B, T, H)"""
        return self.output(self.lstm(features)[0])


class MLPForecaster(Forecaster):
    """Two hidden layers over the last P values and the harmonics of the present time."""

    def __init__(
        self,
        *,
        period: int,
        harmonics: int,
        lags: int,
        hidden_size: int,
        horizon: int,
        residual: bool = False,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        super().__init__(period, harmonics, residual, mean, std)
        self.lags = lags
        self.layers = nn.Sequential(
            nn.Linear(lags + self.waves, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, horizon),
        )

    def outputs(self, features: Tensor) -> Tensor:
        """(B, T, F) features -> (B, T, H); values before the first one are zeros"""
        values, waves = features[..., 0], features[..., 1:]
        lagged = F.pad(values, (self.lags - 1, 0)).unfold(1, self.lags, 1)  # (B, T, P)
        return self.layers(torch.cat([lagged, waves], dim=2))
