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
# # Generative adversarial networks
#
# A generator $G$ maps noise $z$ to images, a discriminator $D$ gives a logit $\ell$ whose sigmoid $\sigma(\ell)$ is the
# probability that an image is real. The discriminator minimises
#
# $$-\mathbb{E}_x \log \sigma(D(x)) - \mathbb{E}_z \log(1 - \sigma(D(G(z)))) .$$
#
# In the minimax game the generator minimises $\mathbb{E}_z \log(1 - \sigma(D(G(z))))$ (saturating loss). In practice it
# minimises $-\mathbb{E}_z \log \sigma(D(G(z)))$ (non-saturating loss).
#
# The questions: what do the two losses do if the discriminator is much better, what is the best possible discriminator,
# and how does one see that a generator produces too few kinds of images?

# %%
# %matplotlib inline
import torch
from torch.nn import functional as F

from ch08_vae.adversarial.gan import Config, generate, make_pair, pixel_variance, scaled
from ch08_vae.adversarial.losses import discriminator_loss, generator_loss
from ch08_vae.adversarial.steps import make_optimizer, train_step
from common.data.images.loading import load_images
from common.drawing import plots

data = load_images("digits")
real = scaled(data.train.pixels)

# %% [markdown]
# ## What is the gradient of each loss?
#
# **Before you run the cell:** at the start, the discriminator rejects generated images with certainty, $\ell \ll 0$.
# What are the derivatives of the two losses with respect to $\ell$ there?

# %%
logit = torch.linspace(-8, 8, 161, requires_grad=True)
saturating, non_saturating = -F.softplus(logit), F.softplus(-logit)  # log(1 - sigmoid), -log sigmoid
slopes = {
    "saturating": torch.autograd.grad(saturating.sum(), logit)[0],
    "non-saturating": torch.autograd.grad(non_saturating.sum(), logit)[0],
}
plots.line_panels(
    {
        "loss": {
            "saturating": (logit.detach(), saturating.detach()),
            "non-saturating": (logit.detach(), non_saturating.detach()),
        },
        "derivative": {name: (logit.detach(), slope) for name, slope in slopes.items()},
    },
    columns=2,
    xlabel="logit of a generated image",
    size=1.2,
)

# %% [markdown]
# The derivative is $-\sigma(\ell)$ for the saturating loss and $-(1 - \sigma(\ell))$ for the other one. Both push the
# logit up. For $\ell \ll 0$ the first one vanishes: the generator learns nothing exactly when it is worst. For
# $\ell > 0$ it is the other way round.
#
# ## Does this happen in a network?
#
# The cell trains only the discriminator and measures the gradient norm of the generator after each few steps.
#
# **Before you run the cell:** which of the two gradient norms decreases, by which order of magnitude?

# %%
torch.manual_seed(0)
pair = make_pair(Config(latent_size=16, width=8))
optimizer = make_optimizer(pair.discriminator, 2e-3)
z = torch.randn(64, 16)
steps: list[int] = []
norms: dict[str, list[float]] = {"saturating": [], "non-saturating": []}
for step in range(61):
    if step % 6 == 0:
        steps.append(step)
        for name in norms:
            logits = pair.discriminator(pair.generator(z))
            loss = -F.softplus(logits).mean() if name == "saturating" else generator_loss("non-saturating", logits)
            gradients = torch.autograd.grad(loss, list(pair.generator.parameters()))
            norms[name].append(float(torch.stack([g.norm() for g in gradients]).norm()))
    index = torch.randint(len(real), (64,))
    with torch.no_grad():
        fakes = pair.generator(z)
    optimizer.zero_grad()
    discriminator_loss("non-saturating", pair.discriminator(real[index]), pair.discriminator(fakes)).backward()
    optimizer.step()
print("ratio of the norms at the end:", f"{norms['non-saturating'][-1] / norms['saturating'][-1]:.0f}")
plots.line_panels(
    {"gradient norm of the generator": {name: (steps, values) for name, values in norms.items()}},
    columns=1,
    xlabel="steps of the discriminator alone",
    log_y=True,
    marked=tuple(norms),
    size=1.5,
)

# %% [markdown]
# The norm of the saturating loss falls as the discriminator gets better; that of the non-saturating loss does not. The
# ratio is $(1 - \sigma(\ell)) / \sigma(\ell)$, which grows exponentially with $-\ell$.
#
# ## What is the best possible discriminator?
#
# If real and generated points have the densities $p$ and $q$, the best discriminator has
# $\sigma(D(x)) = p(x) / (p(x) + q(x))$, thus the logit $\log p(x) - \log q(x)$.
#
# **Before you run the cell:** $p = N(0, 1)$ and $q = N(1, 1)$. Which function of $x$ is the best logit? A logistic
# regression is trained on samples: does it find this function?

# %%
torch.manual_seed(0)
p, q = torch.randn(20_000, 1), torch.randn(20_000, 1) + 1
line = torch.nn.Linear(1, 1)
descent = torch.optim.LBFGS(line.parameters(), max_iter=30)


def closure() -> torch.Tensor:
    """Compute the loss of the discriminator and its gradient."""
    descent.zero_grad()
    loss = discriminator_loss("non-saturating", line(p), line(q))
    loss.backward()
    return loss


descent.step(closure)
final = float(closure().detach())
slope, offset = float(line.weight.detach()), float(line.bias.detach())
print(f"learned logit {offset:.2f} + ({slope:.2f}) x, best logit 0.50 - 1.00 x")
print(f"loss {final:.3f}, loss of equal densities 1.386")

# %% [markdown]
# $\log p - \log q = -x^2/2 + (x - 1)^2/2 = \frac12 - x$. If the generator is perfect, the best logit is 0 everywhere
# and the loss is $2 \log 2 \approx 1.386$: a discriminator loss of 1.386 can mean a perfect generator or an untrained
# discriminator.
#
# ## How does one see too little variety?
#
# The cell trains both networks for a short time and compares the variance of the pixels over the samples with that of
# real images.
#
# **Before you run the cell:** all samples equal to one perfect digit: what is their pixel variance relative to real
# images?

# %%
torch.manual_seed(0)
pair = make_pair(Config(latent_size=16, width=8))
optimizers = make_optimizer(pair.generator, 2e-3), make_optimizer(pair.discriminator, 2e-3)
z = torch.randn(100, 16)
reference = pixel_variance((real.flatten(1) + 1) / 2)
seen, variances, shown = [], [], []
for step in range(101):
    if step % 20 == 0:
        samples = generate(pair.generator, z)
        seen.append(step)
        variances.append(pixel_variance(samples) / reference)
    if step in (0, 20, 100):
        shown.append(samples[:10])
    train_step(pair, optimizers, real[torch.randint(len(real), (64,))])
single = pixel_variance(((real[:1].flatten(1) + 1) / 2).repeat(100, 1))
print("relative pixel variance by step:", {step: round(value, 2) for step, value in zip(seen, variances, strict=True)})
print("one digit repeated:", single)
plots.image_grid(torch.cat(shown).view(-1, 1, 28, 28), columns=10, row_names=["step 0", "step 20", "step 100"])

# %% [markdown]
# A generator that always makes the same image has the variance 0, and a discriminator that judges single images need
# not notice. After 100 steps the samples still look alike, and their variance is well below that of real digits.
# Therefore chapter 8 reports the relative variance, the number of digit classes that occur, and the Fréchet distance,
# in addition to looking at samples.
#
# ## Continue
#
# - Train for 600 steps in the last cell. Which digits appear first?
# - Chapter 8's [page](../../ch08_vae/README.md); `python -m ch08_vae.exercises 5` asks for the gradient of the
#   generator's loss.
