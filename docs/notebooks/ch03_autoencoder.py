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
# # Autoencoders and principal components
#
# An autoencoder compresses an image $x \in [0, 1]^{784}$ to a code $z = f(x)$ of $Z$ numbers and reconstructs it,
# $\hat x = g(z)$. Encoder $f$ and decoder $g$ are trained to minimise the mean squared error
#
# $$L = \frac{1}{784} \sum_{i=1}^{784} (\hat x_i - x_i)^2 .$$
#
# Principal component analysis (PCA) is the best *linear* compression: among all linear $f$ and $g$, it has the smallest
# error on its training images. It is computed in closed form.
#
# The questions: how much does a linear code lose as it gets smaller, can an autoencoder with few training steps beat
# it, what happens to images of a kind that was not in the training data, and can the code be trained to remove noise?

# %%
# %matplotlib inline
import torch

from ch03_autoencoder_rbm.digits.autoencoder import (
    Autoencoder,
    noisy,
    principal_components,
    reconstruct,
    squared_error,
    train_step,
)
from ch03_autoencoder_rbm.preprocessing import intensities
from common.data.images.loading import load_images
from common.drawing import plots

data = load_images("digits")
inputs = intensities(data.valid.pixels)
print(f"{len(data.train.pixels):,} training images, {len(inputs)} validation images of the embedded digits")

# %% [markdown]
# ## How small can a linear code be?
#
# The embedded digits are scans of 8 × 8 pixels, enlarged to 28 × 28.
#
# **Before you run the cell:** how many components do you need until the reconstruction is almost perfect? The image has
# 784 pixels.

# %%
sizes = [1, 2, 4, 8, 16, 32, 48, 64, 80]
pca_errors = []
for size in sizes:
    projected = principal_components(data.train.pixels, inputs, size)
    pca_errors.append(float(squared_error(projected, data.valid.pixels).mean()))
print({size: round(error, 5) for size, error in zip(sizes, pca_errors, strict=True)})
plots.line_panels(
    {"error of PCA on validation images": {"PCA": (sizes, pca_errors)}},
    columns=1,
    xlabel="components",
    ylabel="mean squared error",
    log_y=True,
    marked=("PCA",),
    size=1.5,
)

# %% [markdown]
# The error falls by a nearly constant factor per component up to 64, the number of pixels of the original scans. The
# enlargement adds pixels but hardly any information, and the linear code finds this.
#
# ## Does a nonlinear code help?
#
# The autoencoder of this chapter has a code of 64 numbers and one hidden layer of 128 units on each side. The cell
# trains it for 300 steps.
#
# **Before you run the cell:** PCA with 64 components has almost no error on these images. Will the autoencoder be
# better after 300 steps, or worse?


# %%
def trained_autoencoder(noise: float, steps: int) -> tuple[Autoencoder, list[float]]:
    """Train an autoencoder to reconstruct the images from noisy ones; return the validation error every 20 steps."""
    torch.manual_seed(0)
    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), 0.004, fused=True)
    pixels = intensities(data.train.pixels)
    history = []
    for step in range(steps):
        batch = pixels[torch.randint(len(pixels), (256,))]
        train_step(model, optimizer, noisy(batch, noise), batch)
        if step % 20 == 19:
            _, outputs = reconstruct(model, data.valid.pixels, noise)
            history.append(float(squared_error(outputs, data.valid.pixels).mean()))
    return model, history


model, history = trained_autoencoder(0.0, 300)
steps = range(20, 301, 20)
plots.line_panels(
    {
        "validation error": {
            "autoencoder, 64 numbers": (steps, history),
            "PCA, 8 components": (steps, [pca_errors[3]] * len(steps)),
            "PCA, 32 components": (steps, [pca_errors[5]] * len(steps)),
        }
    },
    columns=1,
    xlabel="step",
    ylabel="mean squared error",
    log_y=True,
    size=1.5,
)

# %% [markdown]
# After 300 steps, the autoencoder with 64 numbers has an error between those of PCA with 8 and 32 components. A
# nonlinear code *can* be better than PCA with 64 components, but it must be found by gradient descent, while PCA is a
# closed form. These images are enlarged by a linear interpolation, so a linear code of 64 numbers is nearly exact.
# Compare the two on MNIST with `python -m ch03_autoencoder_rbm.train autoencoder`.
#
# ## What happens to images that are not digits?
#
# The cell reconstructs digits, digits turned upside down, and inverted digits (white background).
#
# **Before you run the cell:** which of the three has the largest error?

# %%
originals = data.valid.pixels[:8]
variants = {"digits": originals, "upside down": originals.flip(2), "inverted": 255 - originals}
rows, names, errors = [], [], {}
for name, images in variants.items():
    _, outputs = reconstruct(model, images)
    errors[name] = float(squared_error(outputs, images).mean())
    rows += [intensities(images), outputs]
    names += [name, f"error {errors[name]:.3f}"]
plots.image_grid(torch.cat(rows).view(-1, 1, 28, 28), columns=8, row_names=names)

# %% [markdown]
# The network produces what resembles its training images: the reconstruction of an inverted digit still consists of
# white strokes on black. The error of a reconstruction is therefore used to detect anomalies. Upside-down digits are
# closer to the training images, since they consist of the same strokes.
#
# ## Can the code remove noise?
#
# If the input is noisy and the target is clean, the network must learn which pixels belong together (denoising
# autoencoder, Vincent et al. 2008).
#
# **Before you run the cell:** which one removes more noise of standard deviation 0.4: PCA with 64 components, PCA with
# 8 components, or the autoencoder?

# %%
NOISE = 0.4
denoiser, _ = trained_autoencoder(NOISE, 200)
disturbed, outputs = reconstruct(denoiser, data.valid.pixels, NOISE)
results = {"noisy input": disturbed}
for size in (64, 8):
    results[f"PCA, {size} components"] = principal_components(data.train.pixels, disturbed, size)
results["denoising autoencoder"] = outputs
denoised = {name: float(squared_error(images, data.valid.pixels).mean()) for name, images in results.items()}
print({name: round(error, 4) for name, error in denoised.items()})
plots.image_grid(
    torch.cat([inputs[:8], *(images[:8].clamp(0, 1) for images in results.values())]).view(-1, 1, 28, 28),
    columns=8,
    row_names=["original", *results],
)

# %% [markdown]
# PCA with 64 components keeps the part of the noise in its 64 directions. PCA with 8 components removes more noise, but
# also more of the digit; the two errors are similar. The denoising autoencoder was trained for this task and has the
# smallest error.
#
# ## Continue
#
# - The denoiser was trained with noise of 0.4. Give it images with noise of 0.1: does it still help?
# - Chapter 3's [page](../../ch03_autoencoder_rbm/README.md) shows the code in two dimensions; exercises 1 and 2
#   (`python -m ch03_autoencoder_rbm.exercises 1`) ask for the denoising step and for PCA.
