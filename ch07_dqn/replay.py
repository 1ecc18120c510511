"""A memory of steps, drawn from at random: a ring buffer of tensors, uniform or prioritised, for returns of n steps.

A learner that only saw its newest steps would see the same corridor a hundred times in a row, and forget the others.
Drawing old steps at random breaks that up, and lets each step teach more than once.

The ring has a row for each moment and a column for each environment, so what an environment did next stands one row
further on:

    R = r[t] + g r[t+1] + ... + g^(k-1) r[t+k-1],  worth  R + g^k V(s[t+k])  in all

with k = n, or fewer steps where the episode ends before. At an exit V is left out, at a time limit it is not.

Dimensions: T rows, M environments, B batch, n steps.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from common.config import require
from common.data.mazes.batch import Step
from common.device import widest_float


class Batch(NamedTuple):
    """Steps out of the memory, each (B,)."""

    state: Tensor
    action: Tensor
    returned: Tensor
    """R: what the next n steps paid, discounted."""
    next_state: Tensor
    """The state after them."""
    discount: Tensor
    """g^k, the worth of a unit there; 0 where the exit was next_state."""
    weight: Tensor
    """What makes up for steps that are drawn more often than others."""
    place: Tensor
    """Where in the memory the step stands."""


class Replay:
    """The last T moments of M environments.

    With alpha > 0 a step is drawn with probability P = p^alpha / sum of p^alpha, where p is its latest error (Schaul et
    al. 2016), and counts w = (N P)^-beta, divided by the largest such weight in the batch. A step that was not drawn
    yet has the largest p so far: everything is looked at once, soon.
    """

    SMALLEST = 1e-6
    """Added to every error: a step without error is not lost for ever."""

    def __init__(
        self,
        rows: int,
        environments: int,
        *,
        discount: float,
        n_steps: int = 1,
        alpha: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        require(
            rows >= n_steps >= 1, "a memory must hold at least the n steps of a return", f"{rows} rows, n={n_steps}"
        )
        self.discount, self.n_steps, self.alpha = discount, n_steps, alpha
        shape = (rows, environments)
        self.state, self.action, self.next_state = (
            torch.zeros(shape, dtype=torch.int64, device=device) for _ in range(3)
        )
        self.reward = torch.zeros(shape, device=device)
        self.terminated, self.ended = (torch.zeros(shape, dtype=torch.bool, device=device) for _ in range(2))
        self.priority = torch.zeros(shape if alpha > 0 else (0,), device=device)
        self.largest = torch.ones((), device=device)
        self.added = 0

    def __len__(self) -> int:
        """Count the moments whose returns are complete."""
        return max(0, min(self.added, len(self.state)) - self.n_steps + 1)

    def add(self, state: Tensor, action: Tensor, step: Step) -> None:
        """Remember a moment: (M,) where the environments were, what they did and what came of it."""
        row = self.added % len(self.state)
        self.state[row], self.action[row], self.next_state[row] = state, action, step.next_state
        self.reward[row], self.terminated[row] = step.reward, step.terminated
        self.ended[row] = step.terminated | step.truncated
        self.added += 1
        if self.alpha > 0:
            self.priority[row] = 0  # what was here is gone, and what is here now has no return yet
            if len(self) > 0:
                self.priority[(row - self.n_steps + 1) % len(self.state)] = self.largest

    def sample(self, batch_size: int, *, beta: float = 1.0) -> Batch:
        """Draw so many steps, each as likely as its priority says."""
        assert len(self) > 0, "nothing to draw from yet"
        rows, environments = self.state.shape
        device = self.state.device
        if self.alpha > 0:
            p = self.priority.flatten().to(widest_float(device)).pow(self.alpha)
            chances = p.cumsum(0)
            drawn = torch.rand(batch_size, device=device, dtype=p.dtype) * chances[-1]
            place = torch.searchsorted(chances, drawn, right=True)
            weight = (len(self) * environments * p[place] / chances[-1]).pow(-beta)
            weight = (weight / weight.max()).float()
        else:
            oldest = max(0, self.added - rows)
            row = (oldest + torch.randint(len(self), (batch_size,), device=device)) % rows
            place = row * environments + torch.randint(environments, (batch_size,), device=device)
            weight = torch.ones(batch_size, device=device)
        return self._returns(place, weight)

    def _returns(self, place: Tensor, weight: Tensor) -> Batch:
        rows, environments = self.state.shape
        row, column = place // environments, place % environments
        state, action = self.state[row, column], self.action[row, column]
        returned, discount = self.reward[row, column], torch.full_like(weight, self.discount)
        next_state, ended = self.next_state[row, column], self.ended[row, column]
        terminated = self.terminated[row, column]
        for _ in range(self.n_steps - 1):
            row = (row + 1) % rows
            goes_on = ~ended
            returned = returned + goes_on * discount * self.reward[row, column]
            discount = torch.where(goes_on, discount * self.discount, discount)
            next_state = torch.where(goes_on, self.next_state[row, column], next_state)
            terminated = torch.where(goes_on, self.terminated[row, column], terminated)
            ended = ended | self.ended[row, column]
        return Batch(state, action, returned, next_state, discount * ~terminated, weight, place)

    def update(self, batch: Batch, errors: Tensor) -> None:
        """Let the errors (B,) of a batch be its steps' new priorities."""
        if self.alpha > 0:
            priority = errors.abs() + self.SMALLEST
            self.priority.view(-1)[batch.place] = priority
            self.largest = torch.maximum(self.largest, priority.max())

    def state_dict(self) -> dict[str, Tensor | int]:
        """Give all that is remembered."""
        return {name: value for name, value in vars(self).items() if name not in ("discount", "n_steps", "alpha")}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Take over what was remembered."""
        for name, value in state.items():
            setattr(self, name, value.to(self.state.device) if isinstance(value, Tensor) else value)
