"""Replay buffer: a ring buffer of transitions with uniform or prioritised sampling and n-step returns.

Consecutive transitions are strongly correlated: the agent walks along one corridor for many steps. Sampling old
transitions at random breaks the correlation, and each transition is used for several updates.

The buffer has a row for each time step and a column for each environment, so the next transition of an environment is
in the next row:

    R = r[t] + g r[t+1] + ... + g^(k-1) r[t+k-1],  with TD target  R + g^k max over a of Q(s[t+k], a)

with k = n, or less if the episode ends earlier. The maximum is omitted after termination (the exit), but not after
truncation (the time limit).

Dimensions: T rows, M environments, B batch, n steps.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from common.config import require
from common.data.mazes.batch import Step
from common.device import widest_float


class Batch(NamedTuple):
    """Sampled transitions, each field (B,)."""

    state: Tensor
    action: Tensor
    n_step_return: Tensor
    """R: discounted sum of the next k rewards."""
    next_state: Tensor
    """State after k steps."""
    discount: Tensor
    """g^k, the factor of the next state's value; 0 if the next state is terminal."""
    weight: Tensor
    """Importance-sampling weight, which corrects the bias of prioritised sampling."""
    index: Tensor
    """Index in the flattened buffer."""


class ReplayBuffer:
    """Ring buffer of the last T transitions of each of M environments.

    With alpha > 0, sampling is prioritised (Schaul et al. 2016): a transition has probability P = p^alpha / sum of
    p^alpha, where its priority p is its last absolute TD error, and the importance-sampling weight w = (N P)^-beta for
    N transitions, divided by the largest weight of the batch. New transitions get the largest priority so far.
    """

    MIN_PRIORITY = 1e-6
    """Added to every priority, so that a transition with a TD error of zero can still be sampled."""

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
        require(rows >= n_steps >= 1, "a replay buffer must hold at least n steps", f"{rows} rows, n={n_steps}")
        self.discount, self.n_steps, self.alpha = discount, n_steps, alpha
        shape = (rows, environments)
        self.state, self.action, self.next_state = (
            torch.zeros(shape, dtype=torch.int64, device=device) for _ in range(3)
        )
        self.reward = torch.zeros(shape, device=device)
        self.terminated, self.done = (torch.zeros(shape, dtype=torch.bool, device=device) for _ in range(2))
        self.priority = torch.zeros(shape if alpha > 0 else (0,), device=device)
        self.max_priority = torch.ones((), device=device)
        self.added = 0

    def __len__(self) -> int:
        """Return the number of rows with complete n-step returns."""
        return max(0, min(self.added, len(self.state)) - self.n_steps + 1)

    def add(self, state: Tensor, action: Tensor, step: Step) -> None:
        """Add one transition of every environment: (M,) states, (M,) actions and the results of the step."""
        row = self.added % len(self.state)
        self.state[row], self.action[row], self.next_state[row] = state, action, step.next_state
        self.reward[row], self.terminated[row] = step.reward, step.terminated
        self.done[row] = step.terminated | step.truncated
        self.added += 1
        if self.alpha > 0:
            self.priority[row] = 0  # the new transition has no complete n-step return yet
            if len(self) > 0:
                self.priority[(row - self.n_steps + 1) % len(self.state)] = self.max_priority

    def sample(self, batch_size: int, *, beta: float = 1.0) -> Batch:
        """Sample a batch of transitions, uniformly or by priority."""
        assert len(self) > 0, "the replay buffer has no complete n-step return yet"
        rows, environments = self.state.shape
        device = self.state.device
        if self.alpha > 0:
            p = self.priority.flatten().to(widest_float(device)).pow(self.alpha)
            cumulative = p.cumsum(0)
            u = torch.rand(batch_size, device=device, dtype=p.dtype) * cumulative[-1]
            index = torch.searchsorted(cumulative, u, right=True)
            weight = (len(self) * environments * p[index] / cumulative[-1]).pow(-beta)
            weight = (weight / weight.max()).float()
        else:
            oldest = max(0, self.added - rows)
            row = (oldest + torch.randint(len(self), (batch_size,), device=device)) % rows
            index = row * environments + torch.randint(environments, (batch_size,), device=device)
            weight = torch.ones(batch_size, device=device)
        return self._with_returns(index, weight)

    def _with_returns(self, index: Tensor, weight: Tensor) -> Batch:
        rows, environments = self.state.shape
        row, column = index // environments, index % environments
        state, action = self.state[row, column], self.action[row, column]
        n_step_return, discount = self.reward[row, column], torch.full_like(weight, self.discount)
        next_state, done = self.next_state[row, column], self.done[row, column]
        terminated = self.terminated[row, column]
        for _ in range(self.n_steps - 1):
            row = (row + 1) % rows
            continues = ~done
            n_step_return = n_step_return + continues * discount * self.reward[row, column]
            discount = torch.where(continues, discount * self.discount, discount)
            next_state = torch.where(continues, self.next_state[row, column], next_state)
            terminated = torch.where(continues, self.terminated[row, column], terminated)
            done = done | self.done[row, column]
        return Batch(state, action, n_step_return, next_state, discount * ~terminated, weight, index)

    def update_priorities(self, batch: Batch, td_errors: Tensor) -> None:
        """Set the priorities of a batch's transitions to their absolute (B,) TD errors."""
        if self.alpha > 0:
            priority = td_errors.abs() + self.MIN_PRIORITY
            self.priority.view(-1)[batch.index] = priority
            self.max_priority = torch.maximum(self.max_priority, priority.max())

    def state_dict(self) -> dict[str, Tensor | int]:
        """Return the contents for checkpoints."""
        return {name: value for name, value in vars(self).items() if name not in ("discount", "n_steps", "alpha")}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Load the contents from a checkpoint."""
        for name, value in state.items():
            setattr(self, name, value.to(self.state.device) if isinstance(value, Tensor) else value)
