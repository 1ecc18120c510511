"""Generate digits with chapter 8's diffusion model: DDIM steps with guidance, and the images on the way.

Dimensions: N steps.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from ch10_deploy.inference.models import Model
from ch10_deploy.server.refusal import Refusal

SIDE = 28


def as_bytes(images: np.ndarray) -> list[list[list[int]]]:
    """(N, 28, 28) in [-1, 1], or noise beyond -> grey levels from 0 to 255"""
    return np.rint(255 * np.clip((images + 1) / 2, 0, 1)).astype(int).tolist()


class Denoiser:
    """Turn noise into a digit in several steps."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.abar = np.array(model.serving.abar)
        self.digits: int = model.serving.digits

    def noise(self, x: np.ndarray, t: int, digit: int, guidance: float) -> np.ndarray:
        """(28, 28) image at time t -> predicted noise e_u + w (e_c - e_u), with the class e_c and without it e_u"""
        images = np.repeat(x[np.newaxis].astype(np.float32), 2, axis=0)
        e_u, e_c = self.model(images=images, times=np.array([t, t]), classes=np.array([self.digits, digit]))["noise"]
        return e_u + guidance * (e_c - e_u)

    def denoise(self, digit: int, guidance: float, steps: int, seed: int) -> dict[str, Any]:
        """Generate an image; return the times, the image at each, and the image predicted in each step.

        A step is that of DDIM without added noise (Song et al. 2021, equation 12), as `ddim_step` in chapter 8. Raises
        Refusal if the model has fewer classes or steps.
        """
        if digit >= self.digits:
            raise Refusal(f"must be below {self.digits}, the number of classes, got {digit}", field="digit")
        if steps >= len(self.abar):
            raise Refusal(f"must be at most {len(self.abar) - 1}, got {steps}", field="steps")
        times = [round(t) for t in np.linspace(len(self.abar) - 1, 0, steps + 1)]
        states, predictions = [np.random.default_rng(seed).standard_normal((SIDE, SIDE))], []
        for t, s in pairwise(times):
            x, signal, noise = states[-1], np.sqrt(self.abar[t]), np.sqrt(1 - self.abar[t])
            x_0 = np.clip((x - noise * self.noise(x, t, digit, guidance)) / signal, -1, 1)
            epsilon = (x - signal * x_0) / noise
            states.append(np.sqrt(self.abar[s]) * x_0 + np.sqrt(1 - self.abar[s]) * epsilon)
            predictions.append(x_0)
        return {"times": times, "images": as_bytes(np.array(states)), "predicted": as_bytes(np.array(predictions))}
