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
# # Values, discounting and exploration
#
# An agent in a maze gets the reward 1 for reaching the exit, and 0 otherwise. The optimal action value is defined by
# the Bellman equation
#
# $$Q(s, a) = r + \gamma \max_{a'} Q(s', a'),$$
#
# with the next state $s'$ and the discount factor $\gamma < 1$; the second term is missing if $s'$ is the exit. In a
# deterministic maze, $Q = \gamma^{d - 1}$ for the action that starts a path of $d$ steps. If the maze is known, value
# iteration repeats the equation for all states. If it is not, Q-learning applies it to the transitions that the agent
# observes:
#
# $$Q(s, a) \leftarrow Q(s, a) + \alpha \bigl(r + \gamma \max_{a'} Q(s', a') - Q(s, a)\bigr).$$
#
# The questions: what does the discount factor change if the best path is always the same, how far do values spread per
# sweep, and how much exploration is needed?

# %%
# %matplotlib inline
import torch

from ch07_dqn.mazes.one_maze import greedy_path, measure
from ch07_dqn.mazes.pictures import draw_values
from ch07_dqn.mazes.q_table import Config, train_step, value_iteration
from common.data.mazes.batch import MazeBatch
from common.data.mazes.maze import draw_mazes, letters, shortest_path
from common.drawing import plots

(maze,) = draw_mazes(1, 4, 6, seed=3, loops=(0.1,))
shape = (*maze.walls.shape, 4)
print(letters(maze))
print(f"shortest path: {len(shortest_path(maze)) - 1} steps")

# %% [markdown]
# ## What does the discount factor change?
#
# **Before you run the cell:** does the greedy path change with $\gamma$? How large is the value at the start for
# $\gamma = 0.5$ and for $\gamma = 0.99$? What would a network with an error of 0.01 in its values do in each case?

# %%
environment = MazeBatch([maze], environments=1)
start = environment.starts[0]
discounts = [0.5, 0.7, 0.9, 0.95, 0.99, 0.999]
gaps, at_start, lengths = [], [], []
for discount in discounts:
    table, sweeps = value_iteration(environment, discount)
    best = table[start].sort(descending=True).values
    at_start.append(float(best[0]))
    gaps.append(float(best[0] - best[1]))
    lengths.append(len(greedy_path(table.view(shape), maze)) - 1)
    print(
        f"discount {discount:5}: value at the start {best[0]:.2e}, difference to the second best {gaps[-1]:.1e}, "
        f"greedy path {lengths[-1]} steps, {sweeps} sweeps"
    )
plots.line_panels(
    {
        "value at the start": {
            "best action": (discounts, at_start),
            "difference to the second best": (discounts, gaps),
        },
    },
    columns=1,
    xlabel="discount factor",
    log_y=True,
    marked=("best action", "difference to the second best"),
    size=1.5,
)

# %% [markdown]
# With exact values, the path is the same for every $\gamma$. What changes is the difference between the best and the
# second best action. For small $\gamma$, all values far from the exit are nearly 0; for $\gamma$ near 1, all values are
# nearly equal. In both cases small errors decide the action. The difference is largest where $\gamma^d$ falls steeply,
# at about $\gamma = 1 - 1/d$.
#
# ## How fast do values spread?
#
# **Before you run the cell:** value iteration starts with zeros. After 5 sweeps, for which tiles is the value above 0?

# %%
panels = []
for sweeps in (1, 5, 15):
    table = torch.zeros(environment.table.numel() // 4, 4, dtype=torch.float64)
    next_state, rewards = environment.table.view(-1, 4), environment.rewards.view(-1, 4).double()
    for _ in range(sweeps):
        continues = next_state != environment.exits[0]
        table = rewards + 0.95 * table.amax(1)[next_state] * continues
    values = table.amax(1).view(maze.walls.shape)
    values[maze.exit] = 0  # an episode ends there
    panels.append(values)
known = [int(((panel > 0) & ~maze.walls).sum()) for panel in panels]
print("tiles with a value above 0 after 1, 5 and 15 sweeps:", known)
table, _ = value_iteration(environment, 0.95)
draw_values(table.view(shape), maze, greedy_path(table.view(shape), maze))

# %% [markdown]
# Each sweep spreads the reward by one step: after $n$ sweeps, exactly the tiles with at most $n$ steps to the exit have
# a value. A replay buffer with $n$-step returns makes the same information travel $n$ steps per update.
#
# ## How much exploration is needed?
#
# The Q-table starts with zeros. With the probability $\varepsilon$ an action is random, otherwise it has the largest
# value; ties are broken at random.
#
# **Before you run the cell:** order $\varepsilon = 0$, 0.3 and 1 by the number of steps until the greedy policy is a
# shortest path. Does purely random behaviour ($\varepsilon = 1$) learn the right values?

# %%
curves: dict[str, tuple[list[int], list[float]]] = {}
returns = {}
for epsilon in (0.0, 0.3, 1.0):
    torch.manual_seed(0)
    learner = MazeBatch([maze], environments=16)
    config = Config(environments=16, epsilon=epsilon, discount=0.95)
    values = torch.zeros(learner.table.numel() // 4, 4)
    steps, rates, finished = [], [], 0
    for step in range(1, 1_501):
        outcome = train_step(learner, values, config)
        finished += int(outcome.terminated.sum())
        if step % 25 == 0:
            steps.append(16 * step)
            rates.append(measure(values.view(shape), maze)["optimal_action_rate"])
    curves[f"epsilon {epsilon:g}"] = steps, rates
    returns[epsilon] = finished
print("episodes that reached the exit during training:", returns)
plots.line_panels(
    {"share of tiles with an optimal greedy action": curves},
    columns=1,
    xlabel="environment steps",
    ylim=(0, 1.02),
    size=1.6,
)

# %% [markdown]
# Q-learning is off-policy: even random behaviour leads to the optimal values, because the maximum in the update does
# not depend on the action that was taken. It visits all tiles. With $\varepsilon = 0$, the agent reaches the exit most
# often, but soon it only repeats the paths it knows, and the values of the other tiles stay unknown. Exploration
# matters for what is *learned*, exploitation for what is *earned*.
#
# ## Continue
#
# - Use `learning_rate=0.1` in the `Config`: the maze is deterministic, so why is 1 better?
# - Chapter 7's [page](../../ch07_dqn/README.md) replaces the table by networks; `python -m ch07_dqn.exercises` lists
#   the exercises.
