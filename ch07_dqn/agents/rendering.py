"""Pictures of an episode: frames of CartPole, Acrobot, MountainCar and mazes, as text or as a GIF.

gymnasium draws the first three with pygame. Here Pillow draws them from the observations, so pygame is not needed.
Other environments are drawn by gymnasium, with the packages that they need.

Dimensions: H x W pixels of a frame.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ch07_dqn.agents.evaluation import Policy
from ch07_dqn.agents.vector_environment import VectorEnvironment

Frame = NDArray[np.uint8]
"""(H, W, 3) bytes."""

WIDTH, HEIGHT = 300, 200
GROUND, LINE, BODY, JOINT = "white", "#555555", "#1f4e79", "#d1651c"
BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
"""Characters that show two pixels, one above the other."""


def draw_cart_pole(draw: ImageDraw.ImageDraw, observation: NDArray[Any]) -> None:
    """Draw cart and pole from (position in m, velocity, angle in rad, angular velocity)."""
    scale, height = WIDTH / 4.8, 150
    x, angle = WIDTH / 2 + scale * float(observation[0]), float(observation[2])
    draw.line([(0, height + 10), (WIDTH, height + 10)], fill=LINE, width=2)
    draw.rectangle([x - 22, height - 10, x + 22, height + 9], fill=BODY)
    top = x + scale * math.sin(angle), height - scale * math.cos(angle)
    draw.line([(x, height - 10), (top[0], top[1] - 10)], fill=JOINT, width=7)


def draw_acrobot(draw: ImageDraw.ImageDraw, observation: NDArray[Any]) -> None:
    """Draw both links and the height to reach, from (cos, sin) of the first angle and of the second, relative one."""
    cos1, sin1, cos2, sin2 = (float(value) for value in observation[:4])
    scale, centre = HEIGHT / 4.6, (WIDTH / 2, HEIGHT / 2)
    elbow = centre[0] + scale * sin1, centre[1] + scale * cos1
    cos, sin = cos1 * cos2 - sin1 * sin2, sin1 * cos2 + cos1 * sin2
    hand = elbow[0] + scale * sin, elbow[1] + scale * cos
    draw.line([(0, centre[1] - scale), (WIDTH, centre[1] - scale)], fill=LINE, width=2)
    draw.line([centre, elbow, hand], fill=BODY, width=8)
    for x, y in (centre, elbow):
        draw.ellipse([x - 6, y - 6, x + 6, y + 6], fill=JOINT)


def draw_mountain_car(draw: ImageDraw.ImageDraw, observation: NDArray[Any]) -> None:
    """Draw the valley, the flag at 0.5 and the car, from (position, velocity)."""

    def place(position: float) -> tuple[float, float]:
        return (position + 1.2) / 1.8 * WIDTH, HEIGHT - 20 - 130 * (math.sin(3 * position) * 0.45 + 0.55)

    draw.line([place(-1.2 + 1.8 * step / 100) for step in range(101)], fill=LINE, width=3)
    x, y = place(0.5)
    draw.line([(x, y), (x, y - 28)], fill=LINE, width=2)
    draw.polygon([(x, y - 28), (x, y - 16), (x - 14, y - 22)], fill=JOINT)
    x, y = place(float(observation[0]))
    draw.ellipse([x - 9, y - 19, x + 9, y - 1], fill=BODY)


DRAWN: dict[str, Callable[[ImageDraw.ImageDraw, NDArray[Any]], None]] = {
    "CartPole": draw_cart_pole,
    "Acrobot": draw_acrobot,
    "MountainCar": draw_mountain_car,
}
"""Environments that are drawn from their observations."""


def play_episode(
    policy: Policy, name: str, *, seed: int = 0, time_limit: int | None = None
) -> tuple[list[Frame], float]:
    """Play one episode with a policy; return a frame per state and the return.

    Raises ValueError if a package that draws the environment is missing.
    """
    paint = DRAWN.get(name.partition("-")[0])
    options = {} if paint else {"render_mode": "rgb_array"}
    environment = VectorEnvironment(name, 1, seed=seed, split="test", time_limit=time_limit, **options)
    single = environment.vector.envs[0]

    def frame(observation: NDArray[Any]) -> Frame:
        if paint is None:
            try:
                return np.asarray(single.render(), dtype=np.uint8)
            except gymnasium.error.DependencyNotInstalled as error:
                raise ValueError(f"{name} cannot be drawn: {error}") from error
        image = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
        paint(ImageDraw.Draw(image), observation)
        return np.asarray(image)

    observation, total, ended = environment.observation, 0.0, False
    frames = [frame(observation[0].numpy())]
    while not ended:
        action = int(policy(observation)[0]) + environment.first_action
        state, reward, terminated, truncated, _ = single.step(action)
        observation, total, ended = (
            environment.tensor(np.array([state])),
            total + float(reward),
            terminated or truncated,
        )
        frames.append(frame(observation[0].numpy()))
    return frames, total


def text_of(frame: Frame, columns: int = 75) -> str:
    """Draw a frame with block characters, each for two pixels: dark ones on a light ground, or the other way round."""
    height, width = frame.shape[:2]
    rows = max(1, round(columns * height / width / 2))
    small = Image.fromarray(frame).convert("L").resize((columns, 2 * rows), Image.Resampling.BOX)
    pixels = np.asarray(small).astype(float)
    ink = np.abs(pixels - np.median(pixels)) > 25
    lines = [
        "".join(BLOCKS[pixels] for pixels in zip(*pair, strict=True)) for pair in ink.reshape(rows, 2, -1).tolist()
    ]
    return "\n".join(line.rstrip() for line in lines)


def write_gif(file: Path, frames: Sequence[Frame], milliseconds: int) -> None:
    """Write frames as an animated GIF."""
    pictures = [Image.fromarray(frame).quantize(16) for frame in frames]
    durations = [milliseconds] * (len(pictures) - 1) + [1_200]
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=durations, loop=0)
