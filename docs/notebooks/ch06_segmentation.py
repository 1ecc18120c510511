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
# # Segmentation: measures and losses
#
# A segmentation assigns a class to each pixel. With $n_{ij}$ pixels of the class $i$ predicted as class $j$, the pixel
# accuracy is $\sum_i n_{ii} / \sum_{ij} n_{ij}$, and the intersection over union of class $i$ is
#
# $$\mathrm{IoU}_i = \frac{n_{ii}}{\sum_j n_{ij} + \sum_j n_{ji} - n_{ii}} .$$
#
# Networks are trained with the cross-entropy of the pixels, or with the Dice loss,
# $1 - \frac1K \sum_k \frac{2 \sum p_k y_k + s}{\sum p_k + \sum y_k + s}$, with the probabilities $p_k$ and $y_k = 1$
# for pixels of the class $k$.
#
# The questions: why is the pixel accuracy misleading, how much do errors at the border cost, and what do the two losses
# do with a class of few pixels?

# %%
# %matplotlib inline
import torch

from ch06_cnn.segmentation.losses import cross_entropy, dice_loss
from ch06_cnn.segmentation.measures import class_ious, confusion_matrix, mean_iou, pixel_accuracy
from ch06_cnn.segmentation.transposed import bilinear_kernel, transposed_convolution
from common.drawing import plots

SIDE = 64
y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")


def disc(radius: float, row: float = 31.5, column: float = 31.5) -> torch.Tensor:
    """Return a (1, S, S) mask with the class 1 in a disc."""
    return (((y - row) ** 2 + (x - column) ** 2).sqrt() <= radius).long()[None]


# %% [markdown]
# ## Why is the pixel accuracy misleading?
#
# The image contains one disc. The "network" predicts background everywhere.
#
# **Before you run the cell:** for a radius of 5 pixels in an image of 64 × 64, how large are the pixel accuracy and the
# mean IoU?

# %%
radii = list(range(2, 29, 2))
nothing = torch.zeros(1, SIDE, SIDE, dtype=torch.long)
matrices = [confusion_matrix(disc(radius), nothing, 2) for radius in radii]
accuracies, ious = [pixel_accuracy(n) for n in matrices], [mean_iou(n) for n in matrices]
plots.line_panels(
    {
        "prediction: background everywhere": {
            "pixel accuracy": (radii, accuracies),
            "mean IoU": (radii, ious),
        }
    },
    columns=1,
    xlabel="radius of the disc",
    ylim=(0, 1),
    size=1.5,
)

# %% [markdown]
# The disc has 2 % of the pixels, so 98 % are right although the object is missed. The mean IoU is at most 0.5, because
# the IoU of the disc is 0. Small objects hardly count in the pixel accuracy; in the mean IoU each class has the same
# weight.
#
# ## How much do errors at the border cost?
#
# **Before you run the cell:** the prediction is a disc whose radius is one pixel too large. How large is the IoU of the
# class for a radius of 3, 10 and 25?

# %%
errors = {}
for name, change in (("radius + 1", 1.0), ("radius − 1", -1.0)):
    errors[name] = [float(class_ious(confusion_matrix(disc(radius), disc(radius + change), 2))[1]) for radius in radii]
moved = [float(class_ious(confusion_matrix(disc(r), disc(r, column=32.5), 2))[1]) for r in radii]
plots.line_panels(
    {
        "IoU of the disc": {
            **{name: (radii, values) for name, values in errors.items()},
            "moved by one pixel": (radii, moved),
        }
    },
    columns=1,
    xlabel="radius",
    ylim=(0, 1),
    size=1.5,
)

# %% [markdown]
# The IoU of a disc that is one pixel too large is $r^2 / (r + 1)^2$: 0.56 for $r = 3$ and 0.92 for $r = 25$. The same
# error of one pixel costs small objects much more. An IoU should be compared with what two people agree on, not with 1.
#
# ## What do the losses do with a class of few pixels?
#
# A "network" without an image has one parameter for all pixels: the logit $z$ of the disc. Its best value shows what a
# loss prefers.
#
# **Before you run the cell:** the disc has 2 % of the pixels. Which probability of the disc minimises the
# cross-entropy? Which one the Dice loss?

# %%
mask = disc(5)
share = float(mask.float().mean())
probabilities = torch.linspace(0.001, 0.999, 200)
losses = {"cross-entropy": [], "Dice": []}
for p in probabilities:
    logits = torch.stack([(1 - p).log(), p.log()]).view(1, 2, 1, 1).expand(1, 2, SIDE, SIDE)
    losses["cross-entropy"].append(float(cross_entropy(logits, mask)))
    losses["Dice"].append(float(dice_loss(logits, mask)))
minimum = {name: float(probabilities[torch.tensor(values).argmin()]) for name, values in losses.items()}
print(f"share of the disc {share:.3f}; probability with the lowest loss:", minimum)
plots.line_panels(
    {name: {name: (probabilities, values)} for name, values in losses.items()},
    columns=2,
    xlabel="probability of the disc, everywhere",
    size=1.2,
)

# %% [markdown]
# The minimum of the cross-entropy is at the share of the class, 2 %: a calibrated probability. The Dice loss is lowest
# near 0 as well, because the background is then predicted almost perfectly, but not at the share: it does not lead to
# calibrated probabilities. A network that cannot see where the object is predicts background with both losses.
#
# The next cell compares the gradients for a network that is undecided ($p = 0.5$ everywhere).
#
# **Before you run the cell:** which share of the absolute gradient with respect to the logits comes from the pixels of
# the disc?

# %%
shares: dict[str, list[float]] = {"cross-entropy": [], "Dice": []}
for radius in radii:
    for name, loss in (("cross-entropy", cross_entropy), ("Dice", dice_loss)):
        logits = torch.zeros(1, 2, SIDE, SIDE, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(logits, disc(radius)), logits)
        size = gradient[:, 1].abs()
        shares[name].append(float(size[disc(radius) == 1].sum() / size.sum()))
pixels = [float(disc(radius).float().mean()) for radius in radii]
plots.line_panels(
    {
        "share of the gradient from the disc": {
            **{name: (radii, values) for name, values in shares.items()},
            "share of the pixels": (radii, pixels),
        }
    },
    columns=1,
    xlabel="radius",
    ylim=(0, 1),
    size=1.5,
)

# %% [markdown]
# With the cross-entropy, each pixel has the same weight, and the share of the disc is its share of the pixels (the two
# lines coincide). The Dice loss divides by the size of each class: the share of a small disc is several times as large.
# The programs of this chapter can add both losses.
#
# ## What does upsampling do to a border?
#
# Networks compute coarse maps and enlarge them. A transposed convolution with the bilinear kernel is bilinear
# interpolation.
#
# **Before you run the cell:** the mask is reduced to an eighth and enlarged again. What happens to a disc with a radius
# of 3 pixels?

# %%
coarse = {radius: torch.nn.functional.avg_pool2d(disc(radius).float()[None], 8) for radius in (3, 8, 20)}
kernel = bilinear_kernel(8).float()[None, None]
enlarged = {radius: transposed_convolution(small, kernel, stride=8, padding=4) for radius, small in coarse.items()}
restored = {
    radius: float(class_ious(confusion_matrix(disc(radius), (large[0] > 0.5).long(), 2))[1])
    for radius, large in enlarged.items()
}
print("IoU after reducing and enlarging by 8:", {radius: round(value, 2) for radius, value in restored.items()})
plots.image_grid(
    torch.cat([*(disc(radius).float()[None] for radius in enlarged), *enlarged.values()]).clamp(0, 1),
    columns=3,
    titles=[f"radius {radius}" for radius in enlarged] + [f"IoU {value:.2f}" for value in restored.values()],
    size=1.3,
)

# %% [markdown]
# The small disc disappears: no pixel of the enlarged map is above 0.5. Skip connections from finer maps bring such
# details back; that is the idea of FCN's skips and of U-Net.
#
# ## Continue
#
# - Use 4 instead of 8 in the last cell.
# - The page on [segmentation](../../ch06_cnn/SEGMENTATION.md) trains FCN and U-Net with both losses.
