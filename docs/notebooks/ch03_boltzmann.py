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
# # Restricted Boltzmann machines
#
# A restricted Boltzmann machine (RBM) gives each pair of binary vectors $v$ (visible) and $h$ (hidden) an energy and a
# probability:
#
# $$E(v, h) = -a^\top v - b^\top h - v^\top W h, \qquad P(v, h) = \frac{e^{-E(v, h)}}{Z} .$$
#
# $Z$ sums over all states. The gradient of the log-likelihood with respect to $W$ is
# $\langle v h^\top \rangle_\text{data} - \langle v h^\top \rangle_\text{model}$. The second mean needs samples of the
# model, which come from Gibbs chains: sample $h$ given $v$, then $v$ given $h$, and so on. Contrastive divergence
# (CD-$k$) starts a chain at each data point and takes $k$ steps. Persistent CD continues the chains of the previous
# update.
#
# With few hidden units, $Z$ can be computed exactly, so the true likelihood is known. The questions: how much
# likelihood does CD-1 lose, how many Gibbs steps does a chain need, and can the energy of an image be compared between
# two models?

# %%
# %matplotlib inline
import torch

from ch03_autoencoder_rbm.boltzmann.gibbs import RBM, ContrastiveDivergence, gibbs, sample
from ch03_autoencoder_rbm.boltzmann.likelihood import exact_log_partition, log_likelihood, mean_free_energy
from common.drawing import plots

# %% [markdown]
# ## The data: bars
#
# Images of 4 × 4 pixels that show one vertical bar or one horizontal bar: 8 different images. The best possible model
# gives each the probability $1/8$, a log-likelihood of $-\log 8 \approx -2.08$ nats per image.

# %%
SIDE = 4
bars = torch.zeros(2 * SIDE, SIDE, SIDE)
for number in range(SIDE):
    bars[number, number] = 1
    bars[SIDE + number, :, number] = 1
data = bars.flatten(1)
plots.image_grid(0.1 + 0.7 * data.view(-1, 1, SIDE, SIDE), columns=8, size=0.6)

# %% [markdown]
# ## Does contrastive divergence increase the likelihood?
#
# Each variant makes 2,000 updates with a learning rate that decreases to zero. The first starts its chains at the data
# and takes one step, the second takes ten steps, the third keeps its chains.
#
# **Before you run the cell:** which variant has the lowest likelihood at the end?

# %%
UPDATES = 2_000


def trained_rbm(*, steps: int, chains: int) -> tuple[RBM, list[int], list[float]]:
    """Train an RBM with 8 hidden units; return it and its exact log-likelihood every 100 updates."""
    torch.manual_seed(0)
    rbm = RBM(SIDE * SIDE, 8)
    learner = ContrastiveDivergence(rbm, chains=chains, steps=steps)
    batch = data.repeat(4, 1)
    updates, values = [], []
    for update in range(UPDATES + 1):
        if update % 100 == 0:
            updates.append(update)
            values.append(log_likelihood(rbm, data, exact_log_partition(rbm)))
        learner.step(rbm, batch, 0.2 * (1 - update / UPDATES))
    return rbm, updates, values


variants = {
    "CD-1": trained_rbm(steps=1, chains=0),
    "CD-10": trained_rbm(steps=10, chains=0),
    "persistent CD": trained_rbm(steps=1, chains=100),
}
print({name: f"{values[-1]:.2f}" for name, (_, _, values) in variants.items()}, "nats per image; best possible -2.08")
plots.line_panels(
    {"exact log-likelihood": {name: (updates, values) for name, (_, updates, values) in variants.items()}},
    columns=1,
    xlabel="update",
    ylabel="nats per image",
    ylim=(-8.0, -2.0),
    size=1.6,
)

# %% [markdown]
# CD-1 reaches the lowest likelihood of the three. Its chains take one step away from the data; states with high
# probability that are far from the data are never visited, so nothing lowers their probability. More steps or
# persistent chains find such states. The update of CD-$k$ is not the gradient of the likelihood, so the likelihood can
# even decrease during training.
#
# ## How far does a chain go?
#
# The cell starts 200 chains at the first image (a horizontal bar). It counts how many show one of the eight bars, and
# how many still show the first one.
#
# **Before you run the cell:** the RBM was trained with persistent CD. After how many steps have the chains forgotten
# the start, that is, show each bar equally often?


# %%
def fractions(rbm: RBM, steps: list[int]) -> dict[str, list[float]]:
    """Return the fractions of 200 chains that show a bar, and the first bar, after the given numbers of steps."""
    torch.manual_seed(1)
    q, done = rbm.hidden_probability(data[:1].repeat(200, 1)), 0
    found: dict[str, list[float]] = {"first bar": [], "any bar": []}
    for step in steps:
        v, q = gibbs(rbm, q, step - done)
        done = step
        same = (v[:, None] == data).all(2)  # (chains, bars)
        found["first bar"].append(float(same[:, 0].float().mean()))
        found["any bar"].append(float(same.any(1).float().mean()))
    return found


counts = [1, 3, 10, 30, 100, 300, 1000]
chain = {name: fractions(rbm, counts) for name, (rbm, _, _) in variants.items()}
plots.line_panels(
    {
        name: {kind: (counts, values) for kind, values in found.items()}
        | {"any bar / 8": (counts, [value / 8 for value in found["any bar"]])}
        for name, found in chain.items()
    },
    columns=3,
    xlabel="Gibbs steps",
    ylabel="fraction of chains",
    log_x=True,
    ylim=(0, 1),
)

# %% [markdown]
# A chain leaves the first bar only by states of low probability, so it needs many steps: the better a model separates
# the bars, the slower its chains are. This is the reason for persistent chains during training, and for annealed
# importance sampling when the likelihood of a large model is estimated.
#
# ## Can free energies be compared?
#
# The free energy $F(v) = -\log \sum_h e^{-E(v, h)}$ is minus the log-probability up to $\log Z$:
# $\log P(v) = -F(v) - \log Z$.
#
# **Before you run the cell:** a model's free energy of the data is lower than that of another. Is its likelihood
# higher?

# %%
for name, (rbm, _, values) in variants.items():
    print(
        f"{name:14} mean free energy of the data {mean_free_energy(rbm, data):8.2f}   "
        f"log Z {exact_log_partition(rbm):7.2f}   log-likelihood {values[-1]:6.2f}"
    )
rbm = variants["persistent CD"][0]
shifted = RBM(SIDE * SIDE, 8)
shifted.load_state_dict(rbm.state_dict())
shifted.hidden_bias += 3.0
print(
    f"hidden biases + 3: mean free energy {mean_free_energy(shifted, data):.2f}, "
    f"log-likelihood {log_likelihood(shifted, data, exact_log_partition(shifted)):.2f}"
)

# %% [markdown]
# No. Larger biases lower the free energy of *every* image, and $\log Z$ grows as well. Free energies of one model can
# be compared, because $\log Z$ is the same: the programs of this chapter use the gap between the free energies of
# training and validation images to detect overfitting. Between models, $\log Z$ is needed.
#
# The last cell draws samples: the image probabilities $p(v \mid h)$ after 1,000 steps of the persistent variant.

# %%
torch.manual_seed(2)
_, q = gibbs(rbm, rbm.hidden_probability(data), 1_000)
images = rbm.visible_probability(sample(q)).view(-1, 1, SIDE, SIDE)
plots.image_grid(0.1 + 0.7 * images, columns=8, size=0.6)

# %% [markdown]
# ## Continue
#
# - Use a constant learning rate of 0.1 in `trained_rbm`: which variant becomes unstable?
# - Chapter 3's [page](../../ch03_autoencoder_rbm/README.md) trains RBMs with 500 hidden units and estimates $Z$ by
#   annealed importance sampling. Exercises 3 to 5 ask for the free energy, CD, and the effective number of chains.
