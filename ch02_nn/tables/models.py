"""The four models of the tables: the mean, ridge regression, an MLP and gradient-boosted trees.

Each function takes settings and returns a function that fits an encoding and a model to training rows, so that
cross-validation fits both without the validation rows.

Dimensions: N rows, F features.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ch02_nn import fitting
from ch02_nn.schedules import one_cycle
from ch02_nn.tables.encoding import Encoding, Levels
from ch02_nn.tables.validation import Fit, Predictor
from common.data.tables.table import Table
from common.schedule import set_learning_rate


class Linear(nn.Module):
    """A linear function in double precision."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """(N, F) features -> (N,) predictions"""
        return x @ self.weight + self.bias


class TableModel(nn.Module):
    """Predicts the target of the rows of a table: encoding, function of the features, scale of the target."""

    def __init__(self, encoding: Encoding, function: nn.Module) -> None:
        super().__init__()
        self.encoding, self.function = encoding, function
        self.register_buffer("mean", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("deviation", torch.tensor(1.0, dtype=torch.float64))

    @torch.inference_mode()
    def forward(self, table: Table) -> Tensor:
        """(N rows) -> (N,) predictions in double precision on the CPU"""
        parameter = next(self.function.parameters())
        outputs = self.function(self.encoding.features(table).to(parameter))
        return outputs.cpu().double() * self.deviation.cpu() + self.mean.cpu()


def mean() -> Fit:
    """Predict the mean of the training targets."""
    return lambda _, y: lambda table: y.mean().expand(len(table))


def ridge(penalty: float, *, rare: int) -> Fit:
    """Fit ridge regression in closed form (`fitting.ridge`)."""

    def fit(table: Table, y: Tensor) -> TableModel:
        encoding = Encoding.fit(table, rare)
        x = encoding.features(table)
        line = fitting.ridge(penalty)(x, y)
        model = TableModel(encoding, function := Linear(x.shape[1]))
        with torch.no_grad():  # the values at 0 and at the unit vectors determine a linear function
            function.bias.copy_(line(torch.zeros(1, x.shape[1], dtype=x.dtype))[0])
            function.weight.copy_(line(torch.eye(x.shape[1], dtype=x.dtype)) - function.bias)
        return model

    return fit


def mlp(
    dropout: float,
    weight_decay: float,
    *,
    rare: int,
    hidden_size: int,
    steps: int,
    learning_rate: float,
    seed: int,
    device: torch.device,
) -> Fit:
    """Fit an MLP (`fitting.Regressor`) to standardised targets, with the same initial weights in every fold.

    Each step of AdamW (Loshchilov & Hutter 2019) uses all training rows; the learning rate follows one cycle.
    """

    def fit(table: Table, y: Tensor) -> TableModel:
        encoding = Encoding.fit(table, rare)
        x = encoding.features(table).float().to(device)
        torch.manual_seed(seed)
        model = TableModel(encoding, function := fitting.Regressor(x.shape[1], hidden_size, dropout).to(device))
        model.mean, model.deviation = y.mean(), y.std().clamp(min=1e-12)
        target = ((y - model.mean) / model.deviation).float().to(device)
        optimizer = torch.optim.AdamW(function.parameters(), learning_rate, weight_decay=weight_decay, fused=True)
        for step in range(steps):
            set_learning_rate(optimizer, one_cycle(step, steps, learning_rate))
            loss = fitting.train_step(function, optimizer, x, target)
        if not bool(loss.isfinite()):
            raise FloatingPointError(f"the loss of the MLP is {float(loss):.3g}: lower --learning-rate")
        return model.eval()  # without dropout

    return fit


def trees(learning_rate: float, leaves: int, *, rare: int, iterations: int = 400) -> Fit:
    """Fit scikit-learn's gradient-boosted trees (Friedman 2001; Ke et al. 2017), with its treatment of missing values.

    Trees split numbers without scaling and sets of categories without one-hot features.
    """

    def fit(table: Table, y: Tensor) -> Predictor:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

        encoding = Encoding.fit(table, rare)
        make: Any = HistGradientBoostingRegressor  # its annotations are incomplete
        model = make(
            learning_rate=learning_rate,
            max_leaf_nodes=leaves,
            max_iter=iterations,
            categorical_features=[isinstance(part, Levels) for part in encoding.columns.values()],
            early_stopping=False,
        )
        with threadpool_limits(torch.get_num_threads(), user_api="openmp"):
            model.fit(encoding.codes(table).numpy(), y.numpy())
        return lambda new: torch.from_numpy(model.predict(encoding.codes(new).numpy()))

    return fit
