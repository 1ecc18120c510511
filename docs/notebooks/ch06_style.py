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
# # Style: Gram matrices
#
# Let $F$ be the feature map of a layer, $C$ channels at $H W$ positions. Its Gram matrix
#
# $$G = \frac{1}{HW} F F^\top \in \mathbb{R}^{C \times C}$$
#
# contains the products of all pairs of channels, averaged over the positions. It describes *which* features occur
# together, but not *where*. Style transfer (Gatys et al. 2016) looks for a picture whose Gram matrices are those of a
# style picture and whose feature maps are those of a content picture.
#
# This notebook uses random filters as features; no trained network is needed. The questions: what does a Gram matrix
# forget, what does a picture look like that was optimised for the style alone, and how do the weights of content and
# style trade off?

# %%
# %matplotlib inline
import torch

from ch06_cnn.style.features import RandomFeatures
from ch06_cnn.style.losses import Objective, Weights, gram, style_loss
from ch06_cnn.style.pictures import as_floats, read
from common.drawing import plots

SIZE = 48
torch.manual_seed(0)
network = RandomFeatures()
style = as_floats(read("mosaic", SIZE))[:, :SIZE, :SIZE]
content = as_floats(read("flower", 72))[:, :SIZE, 8 : 8 + SIZE]

# %% [markdown]
# ## What does a Gram matrix forget?
#
# The cell compares the Gram matrices of the style picture with those of changed versions.
#
# **Before you run the cell:** order these changes by the style loss: shifted by 7 pixels, quarters exchanged, upside
# down, all pixels shuffled, colours exchanged (red and blue).


# %%
def mean_style_loss(image: torch.Tensor, target: torch.Tensor) -> float:
    """Return the style loss between two (3, S, S) pictures, the mean over the style layers."""
    with torch.no_grad():
        maps, targets = network(image[None]), network(target[None])
        losses = [float(style_loss(gram(maps[layer]), gram(targets[layer])[0])) for layer in network.style_layers]
    return sum(losses) / len(losses)


half = SIZE // 2
shuffled = style.flatten(1)[:, torch.randperm(SIZE * SIZE)].view_as(style)
changes = {
    "shifted": style.roll(7, dims=2),
    "quarters exchanged": style.roll((half, half), dims=(1, 2)),
    "upside down": style.flip(1),
    "red and blue exchanged": style.flip(0),
    "pixels shuffled": shuffled,
    "content picture": content,
}
losses = {name: mean_style_loss(image, style) for name, image in changes.items()}
for name, loss in losses.items():
    print(f"{name:24} {loss:.4f}")
plots.image_grid(
    torch.stack([style, *changes.values()]),
    columns=7,
    titles=["style", "shifted", "quarters", "upside down", "red, blue", "shuffled", "content"],
    size=1.1,
)

# %% [markdown]
# Shifting and exchanging quarters hardly changes the Gram matrices, since they are means over all positions; only at
# the borders and seams the features are new. Turning the picture upside down changes the orientation of all edges,
# exchanging colours changes every filter response. Shuffled pixels have the same colours, but the correlations of
# neighbours are lost.
#
# ## What is a picture without content?
#
# The cell starts from noise and minimises the style loss alone by gradient descent on the pixels.
#
# **Before you run the cell:** will the result be a copy of the style picture?


# %%
def optimise(weights: Weights, start: torch.Tensor, steps: int = 40) -> tuple[torch.Tensor, list[float]]:
    """Minimise the objective over the pixels of a (3, S, S) picture; return the picture and the losses."""
    objective = Objective(network, style, weights)
    target = objective.content(content[None])
    logits = start.clamp(0.02, 0.98).logit()[None].requires_grad_()
    optimizer = torch.optim.Adam([logits], 0.15)
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = objective(logits.sigmoid(), target)
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    return logits.detach().sigmoid()[0], history


noise = torch.rand(3, SIZE, SIZE)
texture, history = optimise(Weights(content=0.0, style=1.0, variation=0.0), noise)
print(
    f"style loss {history[0]:.3f} -> {history[-1]:.4f}, mean difference of a pixel to the style picture "
    f"{float((texture - style).abs().mean()):.2f}"
)
plots.image_grid(torch.stack([style, noise, texture]), columns=3, titles=["style", "start", "style alone"], size=1.6)

# %% [markdown]
# The result has the colours and the texture of the style picture in another arrangement: many pictures have nearly the
# same Gram matrices.
#
# ## How do content and style trade off?
#
# **Before you run the cell:** the optimisation starts from the content picture. What happens if the weight of the style
# is multiplied by 100?

# %%
results, measured = [], {}
for factor in (0.01, 0.1, 1.0, 10.0):
    image, _ = optimise(Weights(content=1.0, style=factor, variation=0.0), content, steps=25)
    objective = Objective(network, style, Weights(1.0, 1.0, 0.0))
    with torch.no_grad():
        c, s, _ = objective.parts(image[None], objective.content(content[None]))
    measured[factor] = float(c), float(s)
    results.append(image)
    print(f"style weight {factor:5g}: content loss {float(c):.3f}, style loss {float(s):.3f}")
plots.image_grid(
    torch.stack([content, *results]), columns=5, titles=["content", *(f"style × {f:g}" for f in measured)], size=1.3
)

# %% [markdown]
# With a small weight the picture hardly changes; with a large one it loses its colours and edges. A lower style loss
# costs content: the weight chooses a point on a curve between the two.
#
# ## Continue
#
# - Use `read("strokes", SIZE)` as style, or a photograph of your own: `read("my_picture.jpg", SIZE)`.
# - The page on [style transfer](../../ch06_cnn/STYLE_TRANSFER.md) uses trained features and larger pictures, and trains
#   a network that does it at once.
