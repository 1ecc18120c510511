"""The MLP of `by_hand` in JAX: an epoch of gradient descent with momentum as one compiled `lax.scan`.

JAX traces the step once and compiles the loop over all batches of an epoch, which then runs without Python.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ch04_cuda.networks import PIXEL_SCALE

if TYPE_CHECKING:
    from common.data.images.image_set import Split

SIZES = (784, 300, 100, 10)


def is_installed() -> bool:
    """Return whether JAX is installed, without importing it."""
    return importlib.util.find_spec("jax") is not None


@contextlib.contextmanager
def processors(count: int) -> Iterator[None]:
    """Restrict the process to `count` processors in the block; threads started in it keep the restriction."""
    if not hasattr(os, "sched_setaffinity"):  # not on macOS
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Training:
    """Training on JAX's default device; each call trains for one epoch and returns the number of images.

    On a CPU, JAX starts as many threads as there are processors at its first use, and has no option to change that.
    """

    def __init__(self, split: Split, config: Any, threads: int) -> None:
        import jax  # pyright: ignore[reportMissingImports]  # optional dependency
        from jax import numpy as jnp  # pyright: ignore[reportMissingImports]

        with processors(threads):
            jax.devices()

        batch_size = min(config.batch_size, len(split))
        self.images = len(split) // batch_size * batch_size  # whole batches only: a compiled loop has fixed shapes
        pixels, labels = jnp.asarray(split.pixels.flatten(1).numpy()), jnp.asarray(split.labels.numpy())

        def loss(weights: Any, images: Any, targets: Any) -> Any:
            a = images.astype(jnp.float32) * PIXEL_SCALE
            for number, (weight, bias) in enumerate(weights):
                a = a @ weight + bias
                if number + 1 < len(weights):
                    a = jax.nn.relu(a)
            return -jnp.take_along_axis(jax.nn.log_softmax(a), targets[:, None], axis=1).mean()

        def step(state: Any, index: Any) -> tuple[Any, Any]:
            weights, velocities = state
            value, gradients = jax.value_and_grad(loss)(weights, pixels[index], labels[index])
            velocities = jax.tree.map(lambda v, g: config.momentum * v + g, velocities, gradients)
            weights = jax.tree.map(lambda w, v: w - config.learning_rate * v, weights, velocities)
            return (weights, velocities), value

        @jax.jit
        def epoch(state: Any, key: Any) -> tuple[Any, Any]:
            order = jax.random.permutation(key, len(split))[: self.images].reshape(-1, batch_size)
            return jax.lax.scan(step, state, order)

        key = jax.random.key(config.run.seed)
        weights = []
        for inputs, outputs in itertools.pairwise(SIZES):
            key, use = jax.random.split(key)
            weights.append(
                (jax.random.uniform(use, (inputs, outputs), minval=-1, maxval=1) / inputs**0.5, jnp.zeros(outputs))
            )
        self.jax, self.epoch, self.key = jax, epoch, key
        self.state: Any = (weights, jax.tree.map(jnp.zeros_like, weights))
        self.losses: Any = None
        """Losses of the steps of the last epoch."""

    def __call__(self) -> float:
        """Train for one epoch; return the number of images."""
        self.key, use = self.jax.random.split(self.key)
        self.state, self.losses = self.epoch(self.state, use)
        self.jax.block_until_ready(self.state)
        return self.images
