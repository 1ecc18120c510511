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
# # Overfitting and model selection
#
# A model is fitted to $N$ noisy points $y_i = \sin(\pi x_i) + \varepsilon_i$ and should predict the sine. A polynomial
# of degree $D$ has $D + 1$ weights. Ridge regression adds a penalty on the size of the weights:
#
# $$\min_w \; \frac1N \sum_i \Bigl(w_0 + \sum_{j=1}^{D} w_j x_i^j - y_i\Bigr)^2 + \lambda \sum_{j=1}^{D} w_j^2 .$$
#
# Cross-validation estimates the error on new data: the points are split into $K$ folds, and each fold is predicted by a
# model that was fitted to the others.
#
# The questions: does a larger model always have a larger error, what do more data or a penalty change, and what happens
# if you choose among many models by their validation error?

# %%
# %matplotlib inline
import torch

from ch02_nn.fitting import cross_validate, polynomial, rmse, sine
from common.drawing import plots

NOISE = 0.25
grid = torch.linspace(-1, 1, 201, dtype=torch.float64)[:, None]
truth = torch.sin(torch.pi * grid[:, 0])


def noisy_sine(points: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample noisy points of the sine."""
    return sine(points, NOISE, torch.Generator().manual_seed(seed))


# %% [markdown]
# ## How does the error depend on the degree?
#
# The cell fits polynomials of degree 0 to 14 to 24 points, for 30 different samples, and averages the errors (root mean
# square).
#
# **Before you run the cell:** which of the two errors decreases all the time, the error on the fitted points or the
# error to the sine? Where is the minimum of the other?

# %%
degrees = list(range(15))
errors: dict[str, list[float]] = {"fitted points": [], "sine": []}
for degree in degrees:
    fits = [(*noisy_sine(24, seed), polynomial(degree)(*noisy_sine(24, seed))) for seed in range(30)]
    errors["fitted points"].append(float(torch.tensor([rmse(fit, x, y) for x, y, fit in fits]).median()))
    errors["sine"].append(float(torch.tensor([rmse(fit, grid, truth) for _, _, fit in fits]).median()))
best_degree = min(degrees, key=lambda degree: errors["sine"][degree])
print("degree with the smallest error to the sine:", best_degree)
plots.line_panels(
    {"median RMSE": {name: (degrees, values) for name, values in errors.items()}},
    columns=1,
    xlabel="degree",
    log_y=True,
    marked=tuple(errors),
    size=1.5,
)

# %% [markdown]
# The error on the fitted points decreases with the degree, since each polynomial contains the smaller ones. The error
# to the sine has its minimum at a small odd degree: the sine is an odd function, and even powers only fit noise. Beyond
# it, the polynomial follows the noise.
#
# ## Do more points help, or a penalty?
#
# The degree stays at 14. On the left, the number of points grows; on the right, $\lambda$ grows with 24 points.
#
# **Before you run the cell:** how many points does a polynomial of degree 14 need to be as good as the best small one
# above? Is there a $\lambda$ that is as good?


# %%
def median_error(points: int, decay: float) -> float:
    """Return the median error to the sine of polynomials of degree 14 over 20 samples."""
    fits = [polynomial(14, decay)(*noisy_sine(points, seed)) for seed in range(20)]
    return float(torch.tensor([rmse(fit, grid, truth) for fit in fits]).median())


sizes = [24, 50, 100, 200, 400, 800, 1600, 3200]
decays = [1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0]
by_size = [median_error(size, 0.0) for size in sizes]
by_decay = [median_error(24, decay) for decay in decays]
level = errors["sine"][best_degree]
plots.line_panels(
    {
        "number of points, no penalty": {
            "degree 14": (sizes, by_size),
            f"degree {best_degree}, 24 points": (sizes, [level] * len(sizes)),
        },
        "penalty, 24 points": {
            "degree 14": (decays, by_decay),
            f"degree {best_degree}, 24 points": (decays, [level] * len(decays)),
        },
    },
    columns=2,
    ylabel="median RMSE",
    log_x=True,
    log_y=True,
    size=1.3,
)

# %% [markdown]
# More data remove overfitting: the error due to noise decreases with $\sqrt{(D + 1)/N}$. A penalty does the same
# without new data, in a certain range: too small, and the noise is fitted; too large, and the sine is not. Here it does
# not reach the polynomial of degree 3: choosing the right model is worth more than a penalty on the wrong one.
#
# ## What happens if you choose among many models by the validation error?
#
# A validation error is itself noisy. The next cell makes 200 "models" that all predict 0 plus random noise of standard
# deviation 0.05, evaluates them on 24 validation points and chooses the best one.
#
# **Before you run the cell:** is the validation error of the chosen model a good estimate of its error on new points?

# %%
generator = torch.Generator().manual_seed(0)
x, y = noisy_sine(24, 1000)
new_x, new_y = noisy_sine(20_000, 1001)
chosen = []
for count in (1, 10, 200):
    gaps = []
    for _ in range(100):
        offsets = 0.05 * torch.randn(count, 24, generator=generator, dtype=torch.float64)
        validation = (offsets - y).square().mean(1).sqrt()
        gaps.append(float(validation.min()))
    chosen.append(sum(gaps) / len(gaps))
honest = float((new_y.square().mean() + 0.05**2).sqrt())
for count, value in zip((1, 10, 200), chosen, strict=True):
    print(f"best of {count:3} models: validation RMSE {value:.3f}")

# %% [markdown]
# All models are equally good, but the best validation error decreases with the number of models: choosing the minimum
# of noisy numbers makes it too optimistic. Therefore the programs of this suite choose on the validation set and
# evaluate the chosen model once on a test set.
#
# ## Is cross-validation better than one split?
#
# **Before you run the cell:** how often does cross-validation with 24 points choose a degree whose error is at most 20
# % above that of the best degree? Compare it with a choice by the error on the fitted points.

# %%
hits = {"cross-validation": 0, "error on the fitted points": 0}
for seed in range(20):
    x, y = noisy_sine(24, seed)
    true_errors = [rmse(polynomial(degree)(x, y), grid, truth) for degree in range(13)]
    choices = {
        "cross-validation": [cross_validate(polynomial(degree), x, y, folds=5) for degree in range(13)],
        "error on the fitted points": [rmse(polynomial(degree)(x, y), x, y) for degree in range(13)],
    }
    for name, values in choices.items():
        hits[name] += true_errors[values.index(min(values))] <= 1.2 * min(true_errors)
print({name: f"{count} of 20" for name, count in hits.items()})

# %% [markdown]
# Cross-validation finds a good degree in many samples, though not in all: with 24 points its estimates are noisy, too.
# The error on the fitted points always chooses the largest degree.
#
# ## Continue
#
# - Set `NOISE = 0.05`: does the best degree grow?
# - `python -m ch02_nn.train fitting` repeats this for dropout and weight decay of networks; see chapter 2's
#   [page](../../ch02_nn/README.md).
