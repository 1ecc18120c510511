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
# # Optimizers
#
# Gradient descent changes the parameters by $\theta \leftarrow \theta - \eta g$ with the learning rate $\eta$ and the
# gradient $g$. On a quadratic loss with curvature $\lambda$ along an axis, it multiplies the distance to the minimum by
# $1 - \eta\lambda$ in each step. It converges if $\eta < 2 / \lambda$ for the *largest* curvature, and it is slow along
# the axis with the *smallest*. The ratio of the two is the condition number $\kappa$ of the problem.
#
# Momentum and Adam change this:
#
# $$v \leftarrow \mu v + g, \quad \theta \leftarrow \theta - \eta v \qquad\text{(momentum)}$$
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad s \leftarrow \beta_2 s + (1 - \beta_2) g^2, \quad
# \theta \leftarrow \theta - \eta \frac{\hat m}{\sqrt{\hat s} + \epsilon} \qquad\text{(Adam)}$$
#
# The questions: how does the number of steps depend on $\kappa$, what happens if the parameters are rescaled or the
# axes are rotated, and what does a schedule do at the end of training?

# %%
# %matplotlib inline
import math

import torch

from ch02_nn.optimizers import OPTIMIZERS, SGD
from ch02_nn.schedules import SCHEDULES
from common.drawing import plots

# %% [markdown]
# ## How many steps does a badly conditioned problem need?
#
# The loss is $\frac12 (\lambda_1 \theta_1^2 + \lambda_2 \theta_2^2)$ with $\lambda_1 = 1$ and $\lambda_2 = \kappa$.
# Each optimizer gets the best of a grid of learning rates. The goal is a loss of $10^{-6}$ of the first one.
#
# **Before you run the cell:** if $\kappa$ becomes 100 times as large, by which factor does the number of steps of plain
# gradient descent grow? And with momentum?

# %%
RATES = tuple(10.0 ** (power / 4) for power in range(-24, 5))
AT_MOST = 4_000


def steps_needed(rule: str, hessian: torch.Tensor, start: torch.Tensor, **options: float) -> float:
    """Return the fewest steps to the goal over all learning rates; all learning rates are run at once."""
    rates = torch.tensor(RATES, dtype=torch.float64)[:, None]
    theta = start.repeat(len(RATES), 1).requires_grad_()
    optimizer = OPTIMIZERS[rule]([theta], lr=rates, **options)
    goal = 1e-6 * float(start @ hessian @ start) / 2
    for step in range(1, AT_MOST + 1):
        theta.grad = theta.detach() @ hessian
        optimizer.step()
        point = theta.detach()
        if ((point @ hessian * point).sum(1) / 2 <= goal).any():
            return step
    return math.inf


start = torch.tensor([1.0, 0.3], dtype=torch.float64)
kappas = [10.0, 30.0, 100.0, 300.0, 1000.0]
needed = {
    rule: [steps_needed(rule, torch.diag(torch.tensor([1.0, kappa], dtype=torch.float64)), start) for kappa in kappas]
    for rule in ("sgd", "momentum", "adam")
}
for rule, steps in needed.items():
    print(f"{rule:9}", dict(zip([f"{kappa:g}" for kappa in kappas], steps, strict=True)))
plots.line_panels(
    {"steps to the goal": {rule: (kappas, steps) for rule, steps in needed.items()}},
    columns=1,
    xlabel="condition number",
    log_x=True,
    log_y=True,
    marked=tuple(needed),
    size=1.5,
)

# %% [markdown]
# The steps of gradient descent grow in proportion to $\kappa$. Momentum of 0.9 needs about 100 steps for every $\kappa$
# of this range. Where its steps oscillate, the distance to the minimum shrinks by $\sqrt{0.9} \approx 0.95$ per step,
# which is slow for $\kappa = 10$ and fast for $\kappa = 1000$. With the best momentum for each problem, the number of
# steps grows in proportion to $\sqrt\kappa$. Adam depends little on $\kappa$ here: the axes of the problem are the
# coordinate axes, and Adam divides each coordinate by the size of its own gradient.
#
# ## What happens if the problem is rotated?
#
# The Hessian becomes $R^\top \mathrm{diag}(1, \kappa) R$ with a rotation $R$ by 45 degrees. Its curvatures and the
# distance to the minimum stay the same.
#
# **Before you run the cell:** which optimizers need the same number of steps as before?

# %%
angle = torch.tensor(math.pi / 4, dtype=torch.float64)
R = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
diagonal = torch.diag(torch.tensor([1.0, 100.0], dtype=torch.float64))
rotated = {
    rule: (steps_needed(rule, diagonal, start), steps_needed(rule, R.T @ diagonal @ R, start @ R))
    for rule in ("sgd", "momentum", "rmsprop", "adam")
}
for rule, (before, after) in rotated.items():
    print(f"{rule:9} axes along the coordinates: {before:5g} steps, rotated: {after:5g} steps")

# %% [markdown]
# Gradient descent and momentum do not notice the rotation: their steps are linear functions of the gradients. RMSprop
# and Adam scale each coordinate, which helps only if the axes of the problem are near the coordinate axes. In the
# rotated problem, both coordinates have gradients of the same size, and the division cannot separate the curvatures.
#
# ## What happens if a parameter is rescaled?
#
# Replace $\theta$ by $\theta / 1000$, for example because an input is given in metres instead of millimetres. The
# gradient becomes 1000 times as large. The next cell takes one step on $L = (\theta s - 1)^2$ for several scales $s$.
#
# **Before you run the cell:** how does the change of $\theta$ in the first step depend on $s$ for SGD and for Adam?

# %%
changes: dict[str, list[float]] = {"sgd": [], "adam": []}
scales = [0.001, 0.01, 0.1, 1.0, 10.0]
for rule, values in changes.items():
    for scale in scales:
        theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        optimizer = OPTIMIZERS[rule]([theta], lr=0.01)
        ((theta * scale - 1) ** 2).sum().backward()
        optimizer.step()
        values.append(float(theta.detach().abs()))
    shown = ", ".join(f"{value:.2g} (s = {s:g})" for value, s in zip(values, scales, strict=True))
    print(f"{rule:5} first change of theta: {shown}")

# %% [markdown]
# The step of SGD is proportional to the gradient, thus to $s$. The first step of Adam is $\eta$ at every scale, since
# $\hat m / \sqrt{\hat s} = g / |g|$. One learning rate therefore suits layers whose gradients differ by orders of
# magnitude. It also means that Adam does not take smaller steps near the minimum by itself.
#
# ## What does a schedule do?
#
# Gradients of random batches are noisy. The next cell minimises $\frac12\theta^2$ with gradients $\theta + \xi$,
# $\xi \sim N(0, 1)$, from 200 starts at once.
#
# **Before you run the cell:** with a constant learning rate, does $\theta^2$ go to zero? Which of the curves ends
# lowest?

# %%
STEPS, PEAK = 400, 0.2
generator = torch.Generator().manual_seed(0)
noise = torch.randn(STEPS, 200, generator=generator, dtype=torch.float64)
losses: dict[str, list[float]] = {}
for name in ("constant", "cosine", "one-cycle"):
    theta = torch.full((200,), 10.0, dtype=torch.float64, requires_grad=True)
    optimizer = SGD([theta], lr=PEAK)
    losses[name] = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = SCHEDULES[name](step, STEPS, PEAK)
        theta.grad = theta.detach() + noise[step]
        optimizer.step()
        losses[name].append(float((theta.detach() ** 2).mean() / 2))
print("last loss:", {name: f"{values[-1]:.1e}" for name, values in losses.items()})
plots.line_panels(
    {"mean loss": {name: (range(1, STEPS + 1), values) for name, values in losses.items()}},
    columns=1,
    xlabel="step",
    log_y=True,
    size=1.6,
)

# %% [markdown]
# With a constant learning rate, the loss stops at the level at which noise and descent balance:
# $\frac12 \eta / (2 - \eta) \approx 0.056$ for $\eta = 0.2$. A schedule that decreases the learning rate lowers this
# level until the end.
#
# ## Continue
#
# - Change the momentum: `steps_needed("momentum", diagonal, start, momentum=0.98)`.
# - The page on [optimizers](../../ch02_nn/OPTIMIZERS.md) compares nine of them on digits, each with a tuned learning
#   rate.
# - Exercises 7 and 8 (`python -m ch02_nn.exercises 7`) ask for AdamW and a schedule.
