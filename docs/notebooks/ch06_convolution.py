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
# # Convolution
#
# A convolutional layer slides a kernel of $K \times K$ weights over an image with $C$ channels. Output channel $o$ at
# the position $(i, j)$ is
#
# $$y_{oij} = b_o + \sum_{c=1}^{C} \sum_{u=0}^{K-1} \sum_{v=0}^{K-1} w_{ocuv}\; x_{c,\, si + u - p,\, sj + v - p}$$
#
# with the stride $s$ and the padding $p$ (zeros around the image). The same weights are used at every position. A layer
# has $O (C K^2 + 1)$ parameters, whatever the size of the image.
#
# The questions: what happens to the output if the image is shifted, how many pixels influence one output after several
# layers, and does a network recognise shifted digits?

# %%
# %matplotlib inline
import torch
from torch import nn

from ch04_cuda.networks import accuracy, mlp, scaled, train_step
from ch06_cnn.convolution.augment import augment, random_flips
from ch06_cnn.convolution.layers import avg_pool2d, conv2d, max_pool2d
from common.data.images.loading import load_images
from common.data.images.shapes import NAMES, draw_shapes
from common.drawing import plots

shapes = draw_shapes(10, torch.Generator().manual_seed(3))

# %% [markdown]
# ## What does a kernel do?
#
# **Before you run the cell:** three kernels are applied to grey images: a mean over 5 × 5 pixels, the difference of
# left and right neighbours, and the sum of the second differences (Laplace). Which one is 0 in areas of constant grey?

# %%
grey = shapes.pixels.float().mean(1, keepdim=True) / 255
mean = torch.full((1, 1, 5, 5), 1 / 25)
horizontal = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).view(1, 1, 3, 3) / 4
laplace = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).view(1, 1, 3, 3)
rows = [
    grey,
    conv2d(grey, mean, padding=2),
    0.5 + conv2d(grey, horizontal, padding=1),
    0.5 + conv2d(grey, laplace, padding=1) / 2,
]
plots.image_grid(
    torch.cat([row.clamp(0, 1) for row in rows]),
    columns=10,
    row_names=["image", "mean", "horizontal difference", "Laplace"],
    titles=list(NAMES) + [""] * 30,
)

# %% [markdown]
# The difference and the Laplace kernel sum to 0, so they are 0 (shown as grey) where the image is constant, and respond
# to edges. At the border, the padding with zeros looks like an edge. A network learns such kernels from data.
#
# ## What happens to the output if the image is shifted?
#
# **Before you run the cell:** the image is shifted by one pixel to the right. Is the output of the convolution shifted
# by one pixel, too? And after a max pooling with stride 2? After a global mean?

# %%
torch.manual_seed(0)
image = torch.rand(1, 1, 32, 32, dtype=torch.float64)
weight = torch.randn(4, 1, 3, 3, dtype=torch.float64)
found = {}
for shift in (1, 2):
    moved = image.roll(shift, dims=3)
    one, other = conv2d(image, weight), conv2d(moved, weight)  # no padding
    pooled, pooled_other = max_pool2d(one, 2), max_pool2d(other, 2)
    means = [float((avg_pool2d(y, 30).flatten(1)).norm()) for y in (one, other)]
    found[shift] = (
        float((other[..., shift:] - one[..., :-shift]).abs().max()),
        float((pooled_other[..., 1:] - pooled[..., :-1]).abs().max()),
        abs(means[1] / means[0] - 1),
    )
    print(
        f"shift by {shift}: convolution differs by {found[shift][0]:.1e} from the shifted output, "
        f"pooling (shifted by one cell) by {found[shift][1]:.1e}, global mean by {100 * found[shift][2]:.1f} %"
    )

# %% [markdown]
# A convolution with stride 1 is equivariant: shifting the input shifts the output. Pooling with stride 2 is equivariant
# only to shifts by 2 pixels; after a shift by 1, its windows contain other pixels. The global mean is almost invariant:
# only the pixels at the border change. Random shifts as augmentation teach a network what its strides destroy.
#
# ## How many pixels influence one output?
#
# The receptive field after $L$ layers with kernels $K$ and stride 1 has $1 + L (K - 1)$ pixels per side. The cell
# measures the gradient of the central output with respect to the image, averaged over random weights.
#
# **Before you run the cell:** after 4 layers of 3 × 3 kernels the field has 9 × 9 pixels. Is the influence of its
# pixels equal? What does one pooling layer in the middle change?


# %%
def influence(*layers: str, size: int = 41) -> torch.Tensor:
    """Return the mean absolute gradient of the central output with respect to the pixels, scaled to [0, 1]."""
    total = torch.zeros(size, size)
    for seed in range(20):
        torch.manual_seed(seed)
        pixels = torch.zeros(1, 4, size, size, requires_grad=True)
        y = pixels
        for layer in layers:
            y = (
                max_pool2d(y + 1e-3 * torch.rand_like(y), 2)
                if layer == "pool"
                else conv2d(y, torch.randn(4, 4, 3, 3), padding=1)
            )
        (gradient,) = torch.autograd.grad(y[..., y.shape[2] // 2, y.shape[3] // 2].sum(), pixels)
        total += gradient[0].abs().sum(0)
    return total / total.max()


fields = {
    "2 convolutions": influence("conv", "conv"),
    "4 convolutions": influence(*["conv"] * 4),
    "8 convolutions": influence(*["conv"] * 8),
    "2, pooling, 2": influence("conv", "conv", "pool", "conv", "conv"),
}
sides = {name: int((field.amax(0) > 0).sum()) for name, field in fields.items()}
print("pixels per side:", sides)
plots.image_grid(
    torch.stack([field[None].sqrt() for field in fields.values()]), columns=4, titles=list(fields), size=1.6
)

# %% [markdown]
# The influence is largest in the centre and falls off like a bell curve: there are more paths through the network from
# the centre than from the border (the picture shows square roots, to make small values visible). A pooling layer
# doubles the growth of all later layers, so few layers can see a whole object.
#
# ## Does a network recognise shifted digits?
#
# Two networks are trained on the embedded digits, which are centred: a multilayer perceptron, and two convolutions
# followed by the mean of each channel over all positions. They are tested on digits that are shifted to the right.
#
# **Before you run the cell:** which accuracy is higher without a shift, and which one with a shift of 6 pixels?

# %%
data = load_images("digits")


def convolutional() -> nn.Module:
    """Build two convolutions and a linear layer on the mean of each channel."""
    return nn.Sequential(
        *(nn.Conv2d(1, 12, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(12, 32, 5, stride=2, padding=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )


shifts, scores = [0, 1, 2, 3, 4, 5, 6], {}
for name, network in (("perceptron", lambda: mlp(60)), ("convolutional", convolutional)):
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(150):
        index = torch.arange(step * 64, step * 64 + 64) % len(data.train.pixels)
        train_step(model, optimizer, scaled(data.train.pixels[index]), data.train.labels[index].long())
    scores[name] = [accuracy(model, data.valid.pixels.roll(shift, dims=3), data.valid.labels) for shift in shifts]
plots.line_panels(
    {"accuracy on validation digits": {name: (shifts, values) for name, values in scores.items()}},
    columns=1,
    xlabel="shift in pixels",
    ylim=(0, 1),
    marked=tuple(scores),
    size=1.5,
)

# %% [markdown]
# Without a shift, the perceptron is better: it can use the absolute place of every pixel. It has never seen shifted
# digits, and fails on them. The convolutional network finds the same features at another place, and the mean over the
# positions hardly changes. It is best at a shift of 4 pixels, the product of its two strides; at the shifts between,
# the windows contain other pixels. (Pixels that leave the image on the right enter it on the left.)
#
# ## What does augmentation produce?
#
# **Before you run the cell:** flips, shifts by up to 4 pixels and an erased square: for which of the ten shapes could a
# flip change the class?

# %%
torch.manual_seed(1)
batch = shapes.pixels.repeat(3, 1, 1, 1)
images = augment(batch, random_flips(len(batch), torch.device("cpu")), shift=4, cutout=8)
plots.image_grid(torch.cat([shapes.pixels, images]), columns=10, row_names=["image", "1", "2", "3"])

# %% [markdown]
# For none of these shapes: mirror images belong to the same class. It is different for digits, letters and traffic
# signs. An augmentation is a statement about the classes.
#
# ## Continue
#
# - Compare `nn.Conv2d(4, 4, 3, dilation=2)` in `influence`: how large is the field?
# - Chapter 6's [page](../../ch06_cnn/README.md) trains networks on CIFAR-10; exercises 1 and 2
#   (`python -m ch06_cnn.exercises 1`) ask for im2col and the receptive field.
