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
# # Numerical stability
#
# A relative error $\varepsilon$ of the input of a function $f$ changes the result by a relative error of about
# $k(x)\,\varepsilon$, with the condition number
#
# $$k(x) = \left| \frac{x f'(x)}{f(x)} \right|.$$
#
# If $k$ is large, the *problem* is ill-conditioned: every formula loses digits. If $k$ is small and the result is
# inaccurate nevertheless, the *formula* is unstable, and another formula helps. Neural networks contain several such
# formulas: softmax, its logarithm, and $\log(1 + e^x)$.
#
# This notebook asks where the usual formulas fail, what failure does to a gradient, and whether float64 or a better
# formula is the remedy.

# %%
# %matplotlib inline
import torch

from ch01_graphs.numerics import (
    FORMULAS,
    condition_number,
    evaluate_both,
    exact_value_and_gradient,
    float32_error,
    non_finite,
)
from ch02_nn import losses
from common.drawing import plots

# %% [markdown]
# ## Where does log(softmax) fail?
#
# For two logits $[x, 0]$, the logarithm of the first softmax output is
#
# $$\log \frac{e^x}{e^x + e^0} = -\log(1 + e^{-x}).$$
#
# It is close to $x$ for negative $x$, and close to 0 for positive $x$. The largest float32 number is
# $3.4 \times 10^{38} \approx e^{88.7}$; the smallest positive normal number is $1.2 \times 10^{-38} \approx e^{-87.3}$.
#
# **Before you run the cell:** `softmax` itself is stable in PyTorch. At which $x$ does its logarithm fail, on the left
# or on the right? Is the result too large, too small, or not finite? What happens to the gradient there?

# %%
name = "log(softmax([x, 0]))"
x = torch.linspace(-150, 50, 401)
written, rewritten = evaluate_both(name, x)
value, gradient = exact_value_and_gradient(name, x)
failing = x[~written.value.isfinite()]
print("as written:", written.formula)
print("rewritten: ", rewritten.formula)
print(f"not finite as written: {len(failing)} values for x below {float(failing.max()):g}")
print(f"gradients not finite: {non_finite(written.gradient)} as written, {non_finite(rewritten.gradient)} rewritten")
plots.line_panels(
    {
        "value": {"exact": (x, value), "as written": (x, written.value)},
        "gradient": {"exact": (x, gradient), "as written": (x, written.gradient)},
    },
    columns=2,
    xlabel="x",
    size=1.3,
)

# %% [markdown]
# The formula fails on the left. Softmax itself is correct: $e^{-110}$ is smaller than the smallest float32 number and
# is rounded to 0. Its logarithm is then $-\infty$ although the correct value is $-110$. The gradient is
# $0 \cdot \infty = \mathrm{NaN}$. A single such NaN makes every weight of a network NaN in the next update. A confident
# wrong prediction (a logit difference of 110) is enough.
#
# The stable formula subtracts first and never takes the logarithm of a rounded number:
# $\log p_k = z_k - m - \log \sum_j e^{z_j - m}$ with $m = \max_j z_j$.
#
# ## What happens if you use float64 instead?
#
# float64 has a range up to $e^{709}$.
#
# **Before you run the cell:** does float64 remove the failure of `log(1 + exp(x))`, or does it move it? What does the
# loss function of chapter 2 return in float32 at the same inputs?

# %%
for dtype in (torch.float32, torch.float64):
    for size in (50.0, 100.0, 1000.0):
        z = torch.tensor([[size]], dtype=dtype)
        naive = (1 + z.exp()).log()
        stable = losses.binary_cross_entropy(z, torch.zeros_like(z))
        print(
            f"{str(dtype).removeprefix('torch.')}  x = {size:6g}   log(1 + exp(x)) = {float(naive):8g}"
            f"   binary cross-entropy = {float(stable):g}"
        )

# %% [markdown]
# float64 moves the failure from $x \approx 88$ to $x \approx 709$. The stable formula $\max(x, 0) + \log(1 + e^{-|x|})$
# is exact to rounding for every $x$ in float32, and costs no memory.
#
# ## When does no formula help?
#
# Three problems in float32: $\log x$ near 1, $x - 1$ near 1, and $e^x - 1$ near 0. With $t = \tanh(x / 2)$, the last
# one can also be written as $2t / (1 - t)$.
#
# **Before you run the cell:** two of the problems are ill-conditioned, and one has an unstable formula. Which is which?

# %%
problems = {
    "log(x) at 1.0001": (lambda x: x.log(), 1.0001),
    "x - 1 at 1.0001": (lambda x: x - 1, 1.0001),
    "exp(x) - 1 at 0.00001": (lambda x: x.exp() - 1, 1e-5),
    "2t / (1 - t) at 0.00001": (lambda x: 2 * (x * 0.5).tanh() / (1 - (x * 0.5).tanh()), 1e-5),
}
table = {}
for title, (function, x0) in problems.items():
    table[title] = condition_number(function, x0), float32_error(function, x0)
    print(f"{title:24} condition number {table[title][0]:10.3g}   relative error in float32 {table[title][1]:.1e}")

# %% [markdown]
# $\log x$ and $x - 1$ have a condition number of 10,000 at 1.0001: the rounding of the input to float32 alone causes a
# relative error of up to $10^4 \times 6 \times 10^{-8}$. A better formula cannot know the lost digits; the input must
# be more precise, or the program must work with $x - 1$ from the start, as `log1p` does.
#
# $e^x - 1$ has the condition number 1 near 0, and still the result is wrong in the third digit: $e^{0.00001}$ is
# rounded to a float32 number near 1, where neighbours are $1.2 \times 10^{-7}$ apart, and the subtraction leaves about
# $10^{-5}$. The equivalent formula with $\tanh$ has no such subtraction and is accurate.
#
# ## Which formulas does `simplify` repair?
#
# **Before you run the cell:** of the six formulas of this chapter, how many are not finite somewhere between -200 and
# 200 as written?

# %%
x = torch.linspace(-200, 200, 401)
broken = {}
for title in FORMULAS:
    before, after = evaluate_both(title, x)
    broken[title] = (
        non_finite(before.value) + non_finite(before.gradient),
        (non_finite(after.value) + non_finite(after.gradient)),
    )
plots.bar_groups(
    list(broken),
    {
        "as written": [float(counts[0]) for counts in broken.values()],
        "after simplify": [float(counts[1]) for counts in broken.values()],
    },
    title="values and gradients that are not finite",
    label="number, of 802",
)

# %% [markdown]
# All six formulas fail somewhere as written, if only in the gradient; after `simplify`, none does.
#
# ## Continue
#
# - The [page](../../ch01_graphs/README.md) of chapter 1 has the rewriting rules, and the magnitudes at which results
#   are wrongly rounded to 0 without being infinite.
# - Exercises 6 and 7 (`python -m ch01_graphs.exercises 6`) ask for a stable `logsumexp` and a stable variance.
