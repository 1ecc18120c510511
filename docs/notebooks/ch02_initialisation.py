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
# # Activation functions and initial weights
#
# A layer computes $x_{l} = f(z_l)$ with $z_l = W_l x_{l-1}$. Backpropagation multiplies the gradient by the derivative
# and by the transposed weights:
#
# $$d_{l-1} = W_l^\top \bigl(f'(z_l) \odot d_l\bigr).$$
#
# If every layer multiplies the standard deviation of $x$ or of $d$ by a factor $c \ne 1$, it is $c^L$ times as large
# after $L$ layers. For weights with the variance $\sigma^2$ and $I$ inputs, a linear layer has $c = \sigma\sqrt{I}$.
# The usual initialisations choose $\sigma$ so that $c \approx 1$: Glorot's $\sigma^2 = 2 / (I + O)$, He's
# $\sigma^2 = 2 / I$.
#
# The questions: what does the sigmoid do to the gradient of a deep network, what happens if ReLU is combined with the
# wrong initialisation, and does that matter for training?

# %%
# %matplotlib inline
import torch

from ch02_nn.activations import ACTIVATIONS
from ch02_nn.classifier import Classifier, measure, scaled, train_step
from ch02_nn.initialisation import INITIALISATIONS, signals
from common.data.images.loading import load_images
from common.drawing import plots

WIDTH, DEPTH = 256, 30

# %% [markdown]
# ## How large is the derivative of an activation function?
#
# **Before you run the cell:** at which $z$ is the derivative of the sigmoid largest, and how large is it there? Compare
# it with tanh, ReLU and GELU.

# %%
z = torch.linspace(-4, 4, 321, dtype=torch.float64)
names = ("sigmoid", "tanh", "relu", "gelu")
largest = {name: float(ACTIVATIONS[name].derivative(z).max()) for name in names}
print("largest derivative:", {name: round(value, 3) for name, value in largest.items()})
plots.line_panels(
    {
        "f(z)": {name: (z, ACTIVATIONS[name].function(z)) for name in names},
        "derivative": {name: (z, ACTIVATIONS[name].derivative(z)) for name in names},
    },
    columns=2,
    xlabel="z",
    size=1.2,
)

# %% [markdown]
# The derivative of the sigmoid is at most $1/4$. With weights of $c = 1$, a gradient shrinks by at least this factor in
# each layer: after 30 layers by $4^{-30} \approx 10^{-18}$.
#
# ## Which activation function keeps the gradient alive?
#
# The next cell sends normally distributed inputs through 30 layers with Glorot's weights, and normally distributed
# gradients back.
#
# **Before you run the cell:** order sigmoid, tanh and ReLU by the gradient that reaches layer 1.


# %%
def propagate(activation: str, initialisation: str) -> tuple[list[float], list[float]]:
    """Return the standard deviations of activations and gradients in each layer of a random network."""
    generator = torch.Generator().manual_seed(0)
    x, d = torch.randn(2, 64, WIDTH, generator=generator)
    weights = [torch.empty(WIDTH, WIDTH) for _ in range(DEPTH)]
    for weight in weights:
        INITIALISATIONS[initialisation](weight, generator)
    return signals(weights, x, d, ACTIVATIONS[activation]).deviations()


layers = list(range(1, DEPTH + 1))
found = {name: propagate(name, "glorot-normal") for name in ("sigmoid", "tanh", "relu")}
print("gradient at layer 1:", {name: f"{back[0]:.1e}" for name, (_, back) in found.items()})
plots.line_panels(
    {
        "activations": {name: (layers, forward) for name, (forward, _) in found.items()},
        "gradients": {name: (layers, back) for name, (_, back) in found.items()},
    },
    columns=2,
    xlabel="layer",
    ylabel="standard deviation",
    log_y=True,
    size=1.2,
)

# %% [markdown]
# The gradient of the sigmoid network vanishes: it is about $10^{-19}$ at layer 1. tanh loses little, because its
# derivative is 1 at $z = 0$, and its activations shrink slowly. ReLU halves the variance in every layer, because half
# of its inputs are negative; activations and gradients shrink by $\sqrt{1/2}$ per layer, together
# $2^{-15} \approx 3 \times 10^{-5}$.
#
# ## What does a factor of the square root of 2 change?
#
# He's initialisation doubles the variance of the weights to compensate for ReLU's loss.
#
# **Before you run the cell:** which curve is flat, ReLU with He's or tanh with He's initialisation? What happens to the
# other one?

# %%
pairs = [("relu", "glorot-normal"), ("relu", "he-normal"), ("tanh", "he-normal"), ("relu", "unit-normal")]
backs = {f"{activation}, {name}": propagate(activation, name)[1] for activation, name in pairs}
plots.line_panels(
    {"gradients": {name: (layers, back) for name, back in backs.items()}},
    columns=1,
    xlabel="layer",
    ylabel="standard deviation",
    log_y=True,
    size=1.6,
)

# %% [markdown]
# ReLU with He's initialisation is flat. With tanh, the same weights are too large: the activations saturate where the
# derivative is small, but the large weights more than compensate for it, and the gradient grows slowly towards the
# first layer. Weights with $\sigma = 1$ multiply the gradient by $\sqrt{256 / 2} \approx 11$ in each layer; after 30
# layers it has grown by more than 30 orders of magnitude.
#
# ## Does it matter for training?
#
# A network of ten hidden layers of 64 units is trained on the embedded digits with Adam, 60 steps.
#
# **Before you run the cell:** which combinations learn at all? Remember that Adam divides by the size of the gradient.

# %%
data = load_images("digits", limit=400)
pixels, labels = scaled(data.train.pixels), data.train.labels.long()
accuracy = {}
for activation, initialisation in [("sigmoid", "glorot-uniform"), ("relu", "glorot-uniform"), ("relu", "he-normal")]:
    torch.manual_seed(0)
    model = Classifier((784, *[64] * 10, 10), activation, initialisation)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(60):
        train_step(model, optimizer, pixels, labels)
    with torch.no_grad():
        accuracy[f"{activation}, {initialisation}"] = measure(model(pixels), labels)["accuracy"]
plots.bars(list(accuracy), list(accuracy.values()), title="accuracy on the training images", label="accuracy")

# %% [markdown]
# The sigmoid network stays at chance, about 10 %: its first layers receive gradients so small that the images do not
# influence the output before many more steps. Both ReLU networks learn. Adam hides the smaller gradient of Glorot's
# initialisation, because it divides each gradient by its own size; plain gradient descent would not.
#
# ## Continue
#
# - Change `torch.optim.Adam` to `torch.optim.SGD(model.parameters(), 0.1)` and compare.
# - Chapter 2's [page](../../ch02_nn/README.md) and `python -m ch02_nn.exercises 4` treat initialisation in detail.
