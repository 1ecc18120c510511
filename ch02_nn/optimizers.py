"""Optimizers by hand: each update rule is implemented as a torch.optim.Optimizer.

Names and defaults of the options are those of torch.optim. In the rules, theta is a parameter, g its gradient, eta the
learning rate, and t = 1, 2, ... the step. The weight decay lambda adds lambda theta, the gradient of lambda theta² / 2,
to g, unless a rule states otherwise. `lr` may also be a tensor that broadcasts with the parameters, to run the same
problem with several learning rates at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]


class Rule(torch.optim.Optimizer, ABC):
    """Base class: add weight decay to the gradient of each parameter and call `_update`."""

    decoupled = False
    """Whether `_update` applies the weight decay, instead of this class."""

    def __init__(self, params: Iterable[Any], **settings: Any) -> None:
        check(type(self).__name__, settings)
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; an optional closure first computes the gradients and returns the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise ValueError(f"{type(self).__name__} needs dense gradients, got a sparse gradient")
                decay = 0.0 if self.decoupled else group["weight_decay"]
                self._update(p, p.grad + decay * p if decay else p.grad, self.state[p], group)
        return loss

    @abstractmethod
    def _update(self, p: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        """Update parameter p in place from its gradient g, its state, and the options of its group."""


def check(rule: str, settings: dict[str, Any]) -> None:
    """Raise ValueError, naming rule and option, for a hyperparameter out of range."""
    for name, value in settings.items():
        below_one = name in ("momentum", "dampening", "alpha", "decay", "rho", "betas")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool):
                continue
            low, high = (0.0, 1.0) if below_one else (0.0, float("inf"))
            number = torch.as_tensor(number)
            if not bool(((low <= number) & (number < high)).all()):
                bounds = "at least 0 and below 1" if below_one else "a finite number of at least 0"
                raise ValueError(f"{rule}: {name} must be {bounds}, got {value}")


def zeros(state: State, p: Tensor, *names: str) -> list[Tensor]:
    """Return the named state tensors of a parameter, initialised with zeros."""
    for name in names:
        if name not in state:
            state[name] = torch.zeros_like(p)
    return [state[name] for name in names]


class SGD(Rule):
    """theta <- theta - eta g (Robbins & Monro 1951)"""

    def __init__(self, params: Iterable[Any], lr: float | Tensor = 1e-3, weight_decay: float = 0) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay)

    def _update(self, p: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:  # noqa: ARG002
        p -= group["lr"] * g


class Momentum(Rule):
    """v <- mu v + (1 - dampening) g, theta <- theta - eta v; in the first step v = g (Polyak 1964)"""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0.9,
        dampening: float = 0,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)

    def _update(self, p: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        if "v" in state:
            state["v"].mul_(group["momentum"]).add_((1 - group["dampening"]) * g)
        else:
            state["v"] = g.clone()
        p -= group["lr"] * state["v"]


class Nesterov(Rule):
    """v <- mu v + g, theta <- theta - eta (g + mu v): Nesterov momentum (Sutskever et al. 2013)"""

    def __init__(
        self, params: Iterable[Any], lr: float | Tensor = 1e-3, momentum: float = 0.9, weight_decay: float = 0
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def _update(self, p: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        (v,) = zeros(state, p, "v")
        v.mul_(group["momentum"]).add_(g)
        p -= group["lr"] * (g + group["momentum"] * v)


class Adagrad(Rule):
    """s <- s + g², theta <- theta - eta g / (sqrt s + eps) (Duchi et al. 2011)"""

    def __init__(
        self, params: Iterable[Any], lr: float | Tensor = 1e-2, eps: float = 1e-10, weight_decay: float = 0
    ) -> None:
        super().__init__(params, lr=lr, eps=eps, weight_decay=weight_decay)

    def _update(self, p: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        (s,) = zeros(state, p, "s")
        s += g * g
        p -= group["lr"] * g / (s.sqrt() + group["eps"])


class RMSprop(Rule):
    """c <- alpha c + (1 - alpha) g², theta <- theta - eta g / (sqrt c + eps) (Tieleman & Hinton 2012)

    `centered` replaces c by c - m², where m is the running mean of g. With momentum, v <- mu v + g / (sqrt c + eps) and
    theta <- theta - eta v.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
    ) -> None:
        options = {"alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered}
        super().__init__(params, lr=lr, weight_decay=weight_decay, **options)

    def _update(self, p: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        c, v = zeros(state, p, "c", "v")
        c.mul_(group["alpha"]).add_((1 - group["alpha"]) * g * g)
        variance = c
        if group["centered"]:
            (m,) = zeros(state, p, "m")
            m.mul_(group["alpha"]).add_((1 - group["alpha"]) * g)
            variance = c - m * m
        v.mul_(group["momentum"]).add_(g / (variance.sqrt() + group["eps"]))  # with momentum 0, v is the update itself
        p -= group["lr"] * v


class GorgoniaRMSProp(Rule):
    """c <- rho c + (1 - rho) g², theta <- theta - eta g / sqrt(c + eps) - lambda theta: RMSProp of Gorgonia

    Three differences from torch: eps = 1e-8 is under the root, so the divisor is at least 1e-4 instead of 1e-8; rho is
    0.999 instead of 0.99, so the first step is up to eta / sqrt(1 - rho) = 32 eta instead of 10 eta; the weight decay
    subtracts lambda theta, without the factor eta.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        decay: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(params, lr=lr, decay=decay, eps=eps, weight_decay=weight_decay)

    def _update(self, p: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        (c,) = zeros(state, p, "c")
        c.mul_(group["decay"]).add_((1 - group["decay"]) * g * g)
        p -= group["lr"] * g / (c + group["eps"]).sqrt() + group["weight_decay"] * p


class Adadelta(Rule):
    """d = g sqrt(a + eps) / sqrt(c + eps), theta <- theta - eta d (Zeiler 2012); d has the units of theta.

    c <- rho c + (1 - rho) g² is updated before d is computed, a <- rho a + (1 - rho) d² after it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)

    def _update(self, p: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        c, a = zeros(state, p, "c", "a")
        c.mul_(group["rho"]).add_((1 - group["rho"]) * g * g)
        d = g * (a + group["eps"]).sqrt() / (c + group["eps"]).sqrt()
        a.mul_(group["rho"]).add_((1 - group["rho"]) * d * d)
        p -= group["lr"] * d


class Adam(Rule):
    """theta <- theta - eta m^ / (sqrt v^ + eps) (Kingma & Ba 2015, algorithm 1)

    The running means are m <- b1 m + (1 - b1) g and v <- b2 v + (1 - b2) g². m^ = m / (1 - b1^t) and
    v^ = v / (1 - b2^t) correct the bias of their initialisation with zeros.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _update(self, p: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        (m, v), (b1, b2) = zeros(state, p, "m", "v"), group["betas"]
        t = state["t"] = state.get("t", 0) + 1
        m.mul_(b1).add_((1 - b1) * g)
        v.mul_(b2).add_((1 - b2) * g * g)
        p -= group["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + group["eps"])


class AdamW(Adam):
    """theta <- theta - eta lambda theta, then as Adam: decoupled weight decay (Loshchilov & Hutter 2019)"""

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def _update(self, p: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        p -= group["lr"] * group["weight_decay"] * p
        super()._update(p, g, state, group)


OPTIMIZERS: dict[str, Callable[..., Rule]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "gorgonia-rmsprop": GorgoniaRMSProp,
    "adadelta": Adadelta,
    "adam": Adam,
    "adamw": AdamW,
}

LIBRARY: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "gorgonia-rmsprop": GorgoniaRMSProp,
    "adadelta": torch.optim.Adadelta,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
"""Optimizers of torch.optim under the same names; torch does not have Gorgonia's RMSProp."""
