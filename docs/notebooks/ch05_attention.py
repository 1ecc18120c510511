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
# # Attention
#
# Each position $t$ of a sequence has a query $q_t$, a key $k_t$ and a value $v_t$, all linear functions of its input.
# Attention returns a mean of the values, weighted by the similarity of query and keys:
#
# $$y_t = \sum_{s} a_{ts} v_s, \qquad
# a_{ts} = \frac{e^{q_t \cdot k_s / \sqrt D}}{\sum_{r} e^{q_t \cdot k_r / \sqrt D}},$$
#
# with $D$ numbers per query. In a language model, position $t$ may only read positions $s \le t$: all other scores are
# set to $-\infty$ (causal mask).
#
# The questions: what happens without the factor $1 / \sqrt D$, how far can a stack of layers look back if each one
# reads only a few positions, and how does a sum that ignores order learn about positions?

# %%
# %matplotlib inline
import math

import torch

from ch05_rnn.language.attention import MultiHeadAttention, attend, causal_mask, rotate, rotation
from common.drawing import plots

# %% [markdown]
# ## What happens without the factor $1/\sqrt{D}$?
#
# If the numbers in $q$ and $k$ are independent with variance 1, the variance of $q \cdot k$ is $D$. The cell draws
# random queries and keys for 32 positions. If the values are the rows of the identity matrix, `attend` returns the
# weights. Multiplying the queries by $\sqrt D$ undoes the scaling.
#
# **Before you run the cell:** how does the largest weight of a position change with $D$, with and without the scaling?
# What does that mean for the gradient of a softmax?

# %%
POSITIONS = 32
everything = torch.ones(POSITIONS, POSITIONS, dtype=torch.bool)
sizes = [1, 4, 16, 64, 256, 1024]
largest: dict[str, list[float]] = {"scaled": [], "not scaled": []}
slopes: dict[str, list[float]] = {"scaled": [], "not scaled": []}
for size in sizes:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 200, POSITIONS, size, generator=generator)
    for name, factor in (("scaled", 1.0), ("not scaled", math.sqrt(size))):
        weights = attend(factor * q, k, torch.eye(POSITIONS), everything)
        largest[name].append(float(weights.amax(-1).mean()))
        slopes[name].append(float((weights * (1 - weights)).sum(-1).mean()))  # trace of the Jacobian of softmax
plots.line_panels(
    {
        "mean largest weight": {name: (sizes, values) for name, values in largest.items()},
        "trace of the softmax Jacobian": {name: (sizes, values) for name, values in slopes.items()},
    },
    columns=2,
    xlabel="D",
    log_x=True,
    size=1.2,
)

# %% [markdown]
# Without scaling, the largest weight approaches 1 as $D$ grows: each position reads a single other one, chosen by
# chance, before any training. The derivative of softmax, $\partial a_s / \partial e_s = a_s (1 - a_s)$, is then nearly
# 0, and queries and keys receive almost no gradient. With scaling, both curves are flat.
#
# ## How far back can a stack of layers read?
#
# The causal mask of this chapter has a context $C$: position $t$ reads the positions $t - C + 1, \dots, t$. The cell
# stacks layers with residual connections and measures which inputs have a gradient to the output at the last of 40
# positions.
#
# **Before you run the cell:** with $C = 5$, how many positions does the output depend on after 1, 2, 4 and 8 layers?

# %%
CONTEXT, LENGTH, WIDTH = 5, 40, 16
reach = []
for layers in (1, 2, 4, 8):
    torch.manual_seed(0)
    x = torch.randn(1, LENGTH, WIDTH, requires_grad=True)
    y = x
    empty = torch.zeros(1, 2, 0, WIDTH // 2)
    for _ in range(layers):
        y = y + MultiHeadAttention(WIDTH, 2, CONTEXT, by_hand=True)(y, (empty, empty))[0]
    (gradient,) = torch.autograd.grad(y[0, -1].square().sum(), x)
    reach.append((gradient[0].norm(dim=1) > 0).float())
counts = [int(row.sum()) for row in reach]
print("positions that the last output depends on:", dict(zip((1, 2, 4, 8), counts, strict=True)))
plots.shades(
    torch.stack(reach),
    ["1 layer", "2 layers", "4 layers", "8 layers"],
    [str(t) if t % 5 == 0 else "" for t in range(LENGTH)],
    rows="",
    columns="position of the input",
    title="inputs that influence the last output",
)

# %% [markdown]
# Each layer adds $C - 1 = 4$ positions: $L$ layers reach $L (C - 1) + 1$ positions, here 5, 9, 17 and 33. A short
# context per layer therefore saves time and memory without making the network short-sighted.
#
# ## What happens to training if the mask is missing?
#
# **Before you run the cell:** the last input is changed. Which outputs change with the causal mask, and which without?
# Why would a language model that is trained without the mask have a loss near zero and be useless?

# %%
generator = torch.Generator().manual_seed(0)
q, k, v = torch.randn(3, 8, 4, generator=generator)
changed_k, changed_v = k.clone(), v.clone()
changed_k[-1] += 1
changed_v[-1] += 1
affected = {}
for name, mask in (("causal mask", causal_mask(8, 8, 8)), ("no mask", torch.ones(8, 8, dtype=torch.bool))):
    difference = (attend(q, changed_k, changed_v, mask) - attend(q, k, v, mask)).abs().amax(1)
    affected[name] = [t for t in range(8) if difference[t] > 0]
    print(f"{name:12} outputs that change: {affected[name]}")

# %% [markdown]
# With the mask, only the last output changes. Without it, all do: during training the target of position $t$ is the
# input at $t + 1$, and the network can copy it. When it generates text, the next input does not exist yet.
#
# ## Where do positions come from?
#
# Attention is a sum over positions. If the inputs are permuted, the outputs are permuted in the same way: the order is
# lost. Rotary embeddings rotate pairs of numbers in $q_t$ and $k_s$ by angles proportional to $t$ and $s$, with
# frequencies $\omega_i = 10000^{-2i/D}$. The score then depends only on the distance:
#
# $$q_t^\top R_t^\top R_s\, k_s = q_t^\top R_{s - t}\, k_s .$$
#
# **Before you run the cell:** the same query and key are placed at positions $(t, s)$ and $(t + 100, s + 100)$. Does
# the score change? How does the score of two equal vectors change with their distance?

# %%
SIZE = 64
q = torch.randn(SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
k = torch.randn(SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def score_at(first: torch.Tensor, second: torch.Tensor, t: int, s: int) -> float:
    """Return the score of two vectors that are rotated for the positions t and s."""
    turned = [
        rotate(vector[None], rotation(torch.tensor([place]), SIZE, torch.float64))[0]
        for vector, place in ((first, t), (second, s))
    ]
    return float(turned[0] @ turned[1]) / math.sqrt(SIZE)


pairs = {(t, s): score_at(q, k, t, s) for t, s in ((5, 2), (105, 102), (1005, 1002), (5, 3))}
print({f"({t}, {s})": round(value, 6) for (t, s), value in pairs.items()})
ones = torch.ones(SIZE, dtype=torch.float64)
distances = list(range(128))
plots.line_panels(
    {"score of two equal vectors": {"score": (distances, [score_at(ones, ones, 0, s) for s in distances])}},
    columns=1,
    xlabel="distance",
    size=1.5,
)

# %% [markdown]
# The score depends only on the distance: a shift of 100 or 1,000 changes nothing. For equal vectors it is largest at
# distance 0 and decreases with oscillations, because the rotations of the different frequencies get out of phase. The
# network can use this to prefer near positions, and can learn queries and keys that prefer a certain distance.
#
# ## Continue
#
# - Replace `CONTEXT = 5` by 2, 3 or 40. Is the formula still right?
# - The page on [Transformers](../../ch05_rnn/TRANSFORMER.md) trains a language model with these layers. Exercises 1 and
#   2 (`python -m ch05_rnn.exercises 1`) ask for the mask and for attention.
