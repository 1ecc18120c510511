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
# # Recommending films
#
# A recommender predicts the stars $r_{ui}$ that user $u$ gives film $i$. A simple model is a sum of biases, with the
# mean $\mu$:
#
# $$\hat r_{ui} = \mu + b_u + c_i, \qquad
# b_u = \frac{\sum_i (r_{ui} - \mu - c_i)}{n_u + \lambda},$$
#
# where $n_u$ is the number of ratings of the user, and $c_i$ has the same form. The prior $\lambda$ pulls users with
# few ratings to the mean. Matrix factorisation adds an interaction $p_u^\top q_i$ of $D$ factors per user and film.
#
# The embedded ratings were generated from known factors ($D = 3$) with noise, so the lowest possible error is known.
# The questions: why is a prior needed, what happens with too many factors, and does a low error in stars mean good
# recommendations?

# %%
# %matplotlib inline
import torch

from ch03_autoencoder_rbm.films.baseline_models.biases import Biases, Popularity
from ch03_autoencoder_rbm.films.baseline_models.ease import EASE
from ch03_autoencoder_rbm.films.baseline_models.factorization import Factorization
from ch03_autoencoder_rbm.films.evaluation import evaluate
from common.data.ratings.loading import load_ratings
from common.drawing import plots

data = load_ratings("planted")
print(f"{data.n_users} users, {data.n_films} films, {len(data.train):,} training ratings")
print(f"lowest possible RMSE on the test ratings: {data.noise_floor:.3f}")

# %% [markdown]
# ## What happens to users with three ratings?
#
# The cell keeps only three training ratings of every user and fits biases with several priors $\lambda$ (for users and
# films alike).
#
# **Before you run the cell:** which $\lambda$ has the smallest validation error with all ratings, and is the best one
# larger or smaller with three ratings per user?

# %%
order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
shuffled = data.train[order]
place = torch.zeros(len(shuffled), dtype=torch.long)  # how many earlier ratings the user has
seen: dict[int, int] = {}
for number, user in enumerate(shuffled.users.tolist()):
    place[number] = seen.get(user, 0)
    seen[user] = int(place[number]) + 1
few = shuffled[place < 3]
priors = [0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
by_prior = {
    name: [
        evaluate(Biases(known, data, prior, prior), data.valid, data.n_films, ranked=False)["rmse"] for prior in priors
    ]
    for name, known in (("all ratings", data.train), ("three ratings per user", few))
}
best_prior = {name: priors[values.index(min(values))] for name, values in by_prior.items()}
print("best prior:", best_prior)
plots.line_panels(
    {"RMSE of the biases on validation ratings": {name: (priors, values) for name, values in by_prior.items()}},
    columns=1,
    xlabel="prior",
    ylabel="stars",
    log_x=True,
    marked=tuple(by_prior),
    size=1.6,
)

# %% [markdown]
# With three ratings per user, a mean of three noisy numbers is taken for the user's taste, and the error is large
# without a prior. The best $\lambda$ is the ratio of the variance of the noise to that of the biases; it is larger than
# 0 in both cases, but with many ratings $n_u \gg \lambda$ makes it unimportant.
#
# ## How many factors are too many?
#
# **Before you run the cell:** the data were generated with three factors. What happens to the training and the
# validation error with 1, 3, 10 and 30 factors and a weak penalty?

# %%
factors = [1, 2, 3, 5, 10, 20]
errors: dict[str, list[float]] = {"training": [], "validation": [], "validation, larger penalty": []}
for count in factors:
    weak = Factorization(data.train, data, count, 0.02, torch.Generator().manual_seed(0))
    strong = Factorization(data.train, data, count, 0.1, torch.Generator().manual_seed(0))
    users, films = data.train.users.long(), data.train.films.long()
    errors["training"].append(float((weak.stars(users, films) - data.train.stars).square().mean().sqrt()))
    errors["validation"].append(evaluate(weak, data.valid, data.n_films, ranked=False)["rmse"])
    errors["validation, larger penalty"].append(evaluate(strong, data.valid, data.n_films, ranked=False)["rmse"])
floor = data.noise_floor or 0.0
plots.line_panels(
    {
        "RMSE": {name: (factors, values) for name, values in errors.items()}
        | {"lowest possible (test)": (factors, [floor] * len(factors))}
    },
    columns=1,
    xlabel="factors",
    ylabel="stars",
    marked=tuple(errors),
    size=1.6,
)

# %% [markdown]
# With the weak penalty, the training error falls far below the lowest possible error: the additional factors fit the
# noise, and the validation error grows. A larger penalty makes the number of factors unimportant, which is why the
# programs of this chapter tune both on the validation ratings.
#
# ## Does a low error mean good recommendations?
#
# EASE ranks films with a linear model and predicts no stars. Popularity recommends the films with the most ratings to
# everyone. NDCG@10 measures how near the top of a list of ten the films are that the user rated with four stars or
# more.
#
# **Before you run the cell:** order popularity, biases, factorisation and EASE by NDCG@10. Which of them recommend the
# same ten films to everyone?

# %%
models = {
    "popularity": Popularity(data.train, data),
    "biases": Biases(data.train, data),
    "factorisation": Factorization(data.train, data, 3, 0.1, torch.Generator().manual_seed(0)),
    "EASE": EASE(data.train, data, 200.0),
}
scores = {name: evaluate(model, data.valid, data.n_films) for name, model in models.items()}
for name, found in scores.items():
    rmse = f"{found['rmse']:.3f}" if "rmse" in found else "none"
    print(f"{name:14} RMSE {rmse:>6}   NDCG@10 {found['ndcg_at_10']:.3f}   coverage {found['coverage']:.2f}")
plots.bars(list(scores), [found["ndcg_at_10"] for found in scores.values()], title="NDCG@10", label="NDCG@10")

# %% [markdown]
# RMSE is measured on films that the user chose to rate; ranking is measured on all films. The scores of biases and
# factorisation are the number of ratings of a film times the probability of four stars or more, since most films that a
# user does not rate are films that the user never meets. Popularity ignores the user: only a small share of the
# catalogue is ever recommended (coverage). It is hard to beat nevertheless, and a recommender should always be compared
# with it.
#
# ## Continue
#
# - Rank by the expected stars alone: `plain = Biases(...)`, and set `plain.count` to ones. How much is lost?
# - The page on [recommenders](../../ch03_autoencoder_rbm/RECOMMENDER.md) compares these baselines with an RBM on
#   MovieLens.
