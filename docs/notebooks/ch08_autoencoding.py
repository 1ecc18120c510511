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
# # Variational autoencoders
#
# A variational autoencoder (VAE) describes an image $x$ by a latent vector $z$ with the prior $p(z) = N(0, I)$ and a
# decoder $p(x \mid z)$. An encoder gives an approximate posterior $q(z \mid x) = N(\mu, \mathrm{diag}(\sigma^2))$. Both
# are trained to maximise the evidence lower bound (ELBO)
#
# $$\log p(x) \ge \mathbb{E}_{q}[\log p(x \mid z)] - \beta\, \mathrm{KL}(q(z \mid x) \,\|\, p(z)) \quad (\beta = 1),$$
#
# $$\mathrm{KL} = \tfrac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2) .$$
#
# The questions: what happens for $\beta = 0$ and for large $\beta$, how tight is the bound, and what does a wrong KL
# term do?

# %%
# %matplotlib inline
import torch

from ch08_vae.autoencoding.book import book_kl
from ch08_vae.autoencoding.networks import VAE, initialise_output_bias, kl_divergence, log_bernoulli, sample
from ch08_vae.autoencoding.vae import train_step
from ch08_vae.evaluation.likelihood import log_weights
from ch08_vae.preprocessing import binarised, fixed
from common.data.images.loading import load_images
from common.drawing import plots

data = load_images("digits")
valid = fixed(data.valid.pixels, "dynamic")

# %% [markdown]
# ## Is the KL term right?
#
# The book's program computes $\frac12 (\mu^2 + \sigma - 1 - \log \sigma)$, with $\sigma$ in place of $\sigma^2$.
#
# **Before you run the cell:** for which $\sigma$ is the book's term minimal? Is it larger or smaller than the exact
# one? Is the loss still an upper bound of $-\log p(x)$?

# %%
logvar = torch.linspace(-3, 2, 201)
mu = torch.zeros_like(logvar)
exact, book = kl_divergence(mu, logvar), book_kl(mu, logvar)
lowest = {name: float((logvar[term.argmin()] / 2).exp()) for name, term in (("exact", exact), ("book", book))}
print("sigma with the smallest term:", {name: round(value, 2) for name, value in lowest.items()})
print(
    f"at sigma = 0.3: exact {float(exact[(logvar + 2.408).abs().argmin()]):.2f} nats, "
    f"book {float(book[(logvar + 2.408).abs().argmin()]):.2f} nats"
)
plots.line_panels(
    {"KL term of one unit at mu = 0": {"exact": ((logvar / 2).exp(), exact), "book": ((logvar / 2).exp(), book)}},
    columns=1,
    xlabel="sigma",
    ylabel="nats",
    size=1.5,
)

# %% [markdown]
# Both terms are 0 at $\sigma = 1$, so the error is easily missed. Everywhere else the book's term is smaller, for
# $\sigma < 1$ less than half of the exact one. The loss is then no longer a bound of the likelihood, and training pays
# too little for precise codes.
#
# ## What happens for other values of beta?
#
# The cell trains a VAE with 8 latent units for 250 steps with $\beta = 0$, 1 and 20.
#
# **Before you run the cell:** which $\beta$ gives the best reconstructions, and which the best samples from the prior?
# What happens to the KL term for $\beta = 0$?

# %%
STEPS = 250


def trained_vae(beta: float) -> VAE:
    """Train a small VAE on the embedded digits."""
    torch.manual_seed(0)
    model = VAE(8, hidden=(64,))
    initialise_output_bias(model, data.train.pixels)
    optimizer = torch.optim.Adam(model.parameters(), 4e-3, fused=True)
    for _ in range(STEPS):
        index = torch.randint(len(data.train.pixels), (64,))
        train_step(model, optimizer, binarised(data.train.pixels[index], "dynamic"), beta=beta)
    return model.eval()


models = {beta: trained_vae(beta) for beta in (0.0, 1.0, 20.0)}
rows, names, measured = [valid[:10]], ["image"], {}
with torch.no_grad():
    for beta, model in models.items():
        logits, mean, variance = model(valid)
        reconstruction, kl = (
            float(log_bernoulli(logits, valid).mean()),
            float(kl_divergence(mean, variance).sum(1).mean()),
        )
        measured[beta] = reconstruction, kl
        elbo = reconstruction - kl
        print(f"beta {beta:4g}: log p(x | z) {reconstruction:7.1f}, KL {kl:7.1f}, ELBO {elbo:7.1f} nats per image")
        torch.manual_seed(1)
        rows += [logits[:10].sigmoid(), model.decode(torch.randn(10, 8)).sigmoid()]
        names += [f"reconstruction, beta {beta:g}", f"sample, beta {beta:g}"]
plots.image_grid(torch.cat(rows).view(-1, 1, 28, 28), columns=10, row_names=names)

# %% [markdown]
# With $\beta = 0$ nothing limits the code: the reconstructions are best, the posterior moves far from the prior (a
# large KL term), and samples of the prior are blurred mixtures, because the decoder was trained on other $z$. With
# $\beta = 20$ the code is too expensive: the KL term is 0, and reconstructions and samples are the mean image
# (posterior collapse). $\beta = 1$ has the largest ELBO, which is what it was trained for.
#
# ## How tight is the bound?
#
# With $k$ samples from the posterior, the importance-weighted bound $L_k = \mathbb{E} \log \frac1k \sum_i w_i$ with
# $w_i = p(x \mid z_i) p(z_i) / q(z_i \mid x)$ grows with $k$ to $\log p(x)$; $L_1$ is the ELBO.
#
# **Before you run the cell:** for which of the three models is the difference between $L_1$ and $L_{500}$ largest?

# %%
counts = [1, 2, 5, 10, 50, 100, 500]
bounds: dict[str, list[float]] = {}
for beta, model in models.items():
    torch.manual_seed(2)
    with torch.no_grad():
        log_w = log_weights(model, valid[:40], None, 500).double()
    bounds[f"beta {beta:g}"] = [
        float((log_w.unflatten(1, (500 // k, k)).logsumexp(2) - torch.tensor(float(k)).log()).mean()) for k in counts
    ]
gain = {name: values[-1] - values[0] for name, values in bounds.items()}
print("gain from 500 samples:", {name: round(value, 1) for name, value in gain.items()})
plots.line_panels(
    {"bound on validation images": {name: (counts, values) for name, values in bounds.items() if name != "beta 0"}},
    columns=1,
    xlabel="samples k",
    ylabel="nats per image",
    log_x=True,
    marked=tuple(bounds),
    size=1.5,
)

# %% [markdown]
# The gap is large if $q(z \mid x)$ is far from the true posterior. For $\beta = 0$ (not drawn, because its values are
# very low) the encoder was never asked to match it. Models should be compared by a tight bound, not by their ELBO
# alone.
#
# ## Why reparameterise?
#
# **Before you run the cell:** $z = \mu + \sigma \varepsilon$ with $\varepsilon \sim N(0, 1)$. What is the gradient of
# $\mathbb{E}[z^2]$ with respect to $\mu$ and $\sigma$? Does the sample estimate agree?

# %%
mu = torch.full((100_000,), 0.5, requires_grad=True)
logvar = torch.full((100_000,), -1.0, requires_grad=True)
torch.manual_seed(0)
sample(mu, logvar).square().sum().backward()
assert mu.grad is not None
assert logvar.grad is not None
estimates = float(mu.grad.mean()), float(logvar.grad.mean())
print(
    f"estimates {estimates[0]:.3f} and {estimates[1]:.3f}; exact 2 mu = 1 and sigma^2 = {torch.tensor(-1.0).exp():.3f}"
)

# %% [markdown]
# $\mathbb{E}[z^2] = \mu^2 + \sigma^2$, so the gradients are $2\mu$ and, with respect to $\log \sigma^2$, $\sigma^2$.
# The noise does not depend on the parameters, so the gradient passes through the sample.
#
# ## Continue
#
# - Train with 2 latent units, and draw `draw_manifold(model, "cpu")` of `ch08_vae.autoencoding.pictures`.
# - Chapter 8's [page](../../ch08_vae/README.md); exercises 1 to 4 (`python -m ch08_vae.exercises 1`) ask for the parts
#   of the ELBO.
