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
# # Automatic differentiation
#
# Chapter 1 differentiates an expression in two ways.
#
# - **Tape** (`autodiff.py`): while the forward pass runs, each result stores its operands and a function
#   $g \mapsto (g_1, g_2, \dots)$ from its own gradient to the gradients of its operands. `backward` calls these
#   functions in reverse order.
# - **Symbolic** (`gradient.py`): the expression is a graph, and `grad` adds the gradient to it as further nodes.
#
# Both use the chain rule. If a value $x$ is an operand of several results $y_1, \dots, y_k$, its gradient is the sum
#
# $$\frac{\partial L}{\partial x} = \sum_{i=1}^{k} \frac{\partial L}{\partial y_i} \frac{\partial y_i}{\partial x}.$$
#
# This notebook asks what happens to a gradient if a variable is used twice, how large a symbolic gradient becomes for a
# deep expression, and where rounding errors limit a numerical check.

# %%
# %matplotlib inline
import torch

from ch01_graphs import draw
from ch01_graphs.autodiff import Variable
from ch01_graphs.expression import formula
from ch01_graphs.gradient import grad
from ch01_graphs.graph import Graph, ancestors
from ch01_graphs.simplify import simplify
from common.drawing import graphs, plots

# %% [markdown]
# ## What happens if a variable is used twice?
#
# The function is $L = x \cdot x + x$ at $x = 3$, so $\mathrm{d}L/\mathrm{d}x = 2x + 1 = 7$. In the second version, the
# factors are two variables $a$ and $b$ that both have the value 3.
#
# **Before you run the cell:** which gradients do $x$, $a$ and $b$ get? What is $x$'s gradient after a second call of
# `backward`?

# %%
x = Variable(3.0)
loss = x * x + x
loss.backward()
once = float(x.gradient)
loss.backward()
twice = float(x.gradient)

a, b = Variable(3.0), Variable(3.0)
(a * b + a).backward()
print(f"x is used three times: gradient {once:g}, after a second call of backward {twice:g}")
print(f"two variables: gradient of a {float(a.gradient):g}, gradient of b {float(b.gradient):g}")

# %% [markdown]
# The gradient of $x$ is the sum over its three uses: $3 + 3 + 1 = 7$. The gradients of $a$ (4) and $b$ (3) add up to
# the same number. The second call adds another 7, as in PyTorch; a training loop therefore sets the gradients to zero
# before each step. This is also why the gradient of a weight that is shared between time steps is a sum over the time
# steps (chapter 5).
#
# ## How large is a symbolic gradient?
#
# A graph can also be differentiated by hand-written rules without sharing results. Take $f_0 = x$ and
# $f_{n+1} = f_n \cdot f_n$, so $f_n = x^{2^n}$. Written out as a formula, $f_n$ has $2^n$ factors. The graph has $n$
# multiplications, since each $f_n$ is one node.
#
# **Before you run the cell:** does the number of nodes of the gradient grow linearly or exponentially with $n$?

# %%
depths = list(range(1, 11))
counts: dict[str, list[float]] = {"f": [], "f and df/dx": [], "factors of the formula": []}
for depth in depths:
    y = Graph().scalar("x")
    start = y
    for _ in range(depth):
        y = y * y
    (slope,) = grad(y, [start])
    counts["f"].append(len(ancestors([y.node])))
    counts["f and df/dx"].append(len(ancestors([y.node, slope.node])))
    counts["factors of the formula"].append(2.0**depth)

plots.line_panels(
    {"number of nodes": {name: (depths, values) for name, values in counts.items()}},
    columns=1,
    xlabel="depth n",
    log_y=True,
    marked=tuple(counts),
    size=1.5,
)

# %% [markdown]
# The gradient grows linearly. Reverse mode visits each node once and adds a constant number of nodes for it. It reuses
# the results of the forward pass: the factor $2 f_n$ in $f_{n+1}' = 2 f_n f_n'$ refers to the node $f_n$. The size of
# the gradient is therefore proportional to that of the expression, whatever the number of inputs.
#
# The graph below is the gradient at depth 2; `simplify` removes the multiplications by 1.

# %%
graph = Graph()
start = graph.scalar("x")
square = (start * start).named("square")
y = (square * square).named("y")
(slope,) = grad(y, [start])
small = simplify(y, slope)
print(f"dy/dx = {formula(small.outputs[1], depth=4)}, {small.nodes_before} nodes, {small.nodes_after} after simplify")
graphs.draw(draw.picture(*small.outputs))

# %% [markdown]
# ## How accurate is a numerical check?
#
# A gradient is usually checked with the central difference
#
# $$f'(x) \approx \frac{f(x + h) - f(x - h)}{2h}.$$
#
# Its truncation error is proportional to $h^2$. In addition, $f(x + h)$ and $f(x - h)$ are rounded; the difference of
# two nearly equal numbers keeps this error, and it is divided by $2h$. Its size is about $u\,|f(x)| / h$ with the unit
# roundoff $u$: $6 \times 10^{-8}$ in float32, $1.1 \times 10^{-16}$ in float64.
#
# **Before you run the cell:** which $h$ is best for $f(x) = e^{\tanh x}$ at $x = 0.5$ in float64, and is it smaller or
# larger in float32?


# %%
def f(x):
    """Compute e^tanh(x) for variables and tensors."""
    return x.tanh().exp()


point = Variable(0.5)
f(point).backward()
exact = float(point.gradient)
steps = torch.logspace(-14, 0, 57, dtype=torch.float64)
errors = {}
for dtype in (torch.float32, torch.float64):
    h = steps.to(dtype)
    x = torch.tensor(0.5, dtype=dtype)
    errors[str(dtype).removeprefix("torch.")] = ((f(x + h) - f(x - h)) / (2 * h) - exact).abs().double()
best = {name: float(steps[error.argmin()]) for name, error in errors.items()}
for name, h in best.items():
    print(f"{name}: smallest error {float(errors[name].min()):.1e} at h = {h:.0e}")
plots.line_panels(
    {"error of the central difference": {name: (steps, error.clamp(min=1e-14)) for name, error in errors.items()}},
    columns=1,
    xlabel="h",
    log_x=True,
    log_y=True,
    size=1.5,
)

# %% [markdown]
# On the right, both curves follow the truncation error, a straight line of slope 2. On the left, the rounding error
# dominates and grows as $h$ decreases. In float32, the smallest error is larger and is reached at a larger $h$. Setting
# the two errors equal gives $h \approx u^{1/3}$, about $10^{-5}$ in float64 and $4 \times 10^{-3}$ in float32. The
# tests of this suite therefore compare gradients in float64.
#
# ## Continue
#
# - Chapter 1's [page](../../ch01_graphs/README.md) derives the rules of the operations.
# - `python -m ch01_graphs.exercises 4` asks for the tape, exercise 5 for forward mode.
