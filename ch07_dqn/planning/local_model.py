"""A model of the mazes, learned from the experience of random walks instead of given by the simulator.

The rules are assumed to be the same on all tiles and to depend on neighbouring tiles only. A small convolutional
network reads the 3 x 3 tiles around the agent (floor and exit) and predicts for each action

    m    the place of the next tile among the nine, as logits
    r    the reward among the distinct rewards of the experience, as logits
    e    whether the episode ends, as a logit

It learns from the action that the walk has taken, with the cross-entropy of each. Planning adds up the rewards of a
path, so the small errors of a regression would add up too; the most probable reward is exact where it is right.

Dimensions: T transitions, B mazes, H x W tiles, A = 4 actions, R distinct rewards.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch07_dqn.mazes.network import ACTIONS
from ch07_dqn.planning.planner import PLANES, planes_of
from ch07_dqn.planning.transitions import Transitions, exit_tiles, goals, move_half, transitions_of
from common.data.mazes.maze import Maze
from common.schedule import linear_at, set_learning_rate

PLACES = 9
"""Tiles of a neighbourhood, numbered by rows; the agent is on number 4."""

LEARNING_RATE, STEPS, BATCH = 1e-2, 600, 512
"""Initial learning rate of Adam (linear decay to zero), number of steps and batch size of the fit."""


class Experience(NamedTuple):
    """Transitions of random walks."""

    patch: Tensor
    """(T, 2, 3, 3) floor and exit around the agent; tiles outside the maze are walls"""
    action: Tensor
    """(T,)"""
    place: Tensor
    """(T,) place of the next tile in the neighbourhood"""
    reward: Tensor
    """(T,)"""
    ended: Tensor
    """(T,) 1 if the episode ended, else 0"""


class LocalModel(nn.Module):
    """Convolutional network that predicts next tile, reward and end of every action from the 3 x 3 tiles around it."""

    rewards: Tensor
    """(R,) distinct rewards, ascending"""

    def __init__(self, rewards: Tensor, channels: int = 64) -> None:
        super().__init__()
        self.register_buffer("rewards", rewards)
        outputs = ACTIONS * (PLACES + len(rewards) + 1)
        self.read = nn.Sequential(nn.Conv2d(PLANES, channels, 3), nn.ReLU(), nn.Conv2d(channels, outputs, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 2, H + 2, W + 2) image with a border -> m (B, H, W, A, 9), r (B, H, W, A, R), e (B, H, W, A)"""
        outputs = self.read(image).movedim(1, 3).unflatten(3, (ACTIONS, -1))
        place, reward, end = outputs.split([PLACES, len(self.rewards), 1], dim=4)
        return place, reward, end.squeeze(4)

    @torch.no_grad()
    def transitions(self, walls: Tensor, exits: Tensor) -> Transitions:
        """Predict the transitions of all states and actions: the most probable next tile, reward and end."""
        image = planes_of(walls, exits)
        place, reward, end = self(F.pad(image, (1, 1, 1, 1)))
        next_state = move(place.argmax(4))
        return Transitions(image, self.rewards[reward.argmax(4)], next_state, ~walls & ~goals(walls, exits), end > 0)


def move(place: Tensor) -> Tensor:
    """(B, H, W, A) places of the next tiles -> (B, H, W, A) next states; tiles outside the maze become the nearest"""
    count, height, width, _ = place.shape
    rows = torch.arange(height, device=place.device).view(1, -1, 1, 1) + place // 3 - 1
    columns = torch.arange(width, device=place.device).view(1, 1, -1, 1) + place % 3 - 1
    first = torch.arange(count, device=place.device).view(-1, 1, 1, 1) * height * width
    return first + rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)


def random_walks(mazes: Sequence[Maze], steps: int) -> Experience:
    """Collect `steps` transitions of uniformly random actions, one walk in each maze, or in the first `steps` mazes.

    Walks start at a random floor tile. Half of the exits are moved to a random one, as in the training of the planner;
    a walk that reaches the exit starts again at another random tile.
    """
    mazes = mazes[:steps]
    walls = torch.stack([maze.walls for maze in mazes])
    simulator = transitions_of(walls, move_half(walls, exit_tiles(mazes)))
    table, rewards, ends = (part.flatten(0, 2) for part in (simulator.next_state, simulator.reward, simulator.ended))
    patches = F.unfold(simulator.image, 3, padding=1).mT.flatten(0, 1)  # (B H W, 18)
    first, width = torch.arange(len(mazes)) * walls[0].numel(), walls.shape[2]

    def start() -> Tensor:
        return first + torch.multinomial(simulator.mask.flatten(1).float(), 1).squeeze(1)

    state, collected = start(), []
    for done in range(0, steps, len(mazes)):
        action = torch.randint(ACTIONS, (len(mazes),))
        next_state, ended = table[state, action], ends[state, action]
        rows, columns = next_state // width - state // width, next_state % width - state % width
        place = 3 * (rows + 1) + columns + 1
        step = Experience(patches[state].view(-1, PLANES, 3, 3), action, place, rewards[state, action], ended.float())
        collected.append([part[: steps - done] for part in step])
        state = torch.where(ended, start(), next_state)
    return Experience(*(torch.cat(parts) for parts in zip(*collected, strict=True)))


def train_step(model: LocalModel, optimizer: torch.optim.Optimizer, batch: Experience) -> Tensor:
    """Take one gradient step on a batch of transitions; return the loss."""
    taken = torch.arange(len(batch.action), device=batch.action.device)
    place, reward, end = (part[:, 0, 0][taken, batch.action] for part in model(batch.patch))
    loss = F.cross_entropy(place, batch.place) + F.binary_cross_entropy_with_logits(end, batch.ended)
    loss = loss + F.cross_entropy(reward, torch.searchsorted(model.rewards, batch.reward))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def fit(model: LocalModel, experience: Experience) -> None:
    """Train the model on random batches of the experience."""
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    device = next(model.parameters()).device
    data = Experience(*(part.to(device) for part in experience))
    for step in range(STEPS):
        set_learning_rate(optimizer, linear_at(step / STEPS, LEARNING_RATE))
        index = torch.randint(len(data.action), (BATCH,), device=device)
        train_step(model, optimizer, Experience(*(part[index] for part in data)))


def model_errors(model: LocalModel, mazes: Sequence[Maze]) -> dict[str, float]:
    """Compare the predictions for all states and actions of some mazes with the simulator."""
    device = next(model.parameters()).device
    walls = torch.stack([maze.walls for maze in mazes]).to(device)
    exits = exit_tiles(mazes, device) + torch.arange(len(mazes), device=device) * walls[0].numel()
    true, predicted = transitions_of(walls, exits), model.transitions(walls, exits)
    wrong_tile, wrong_end = true.next_state != predicted.next_state, true.ended != predicted.ended
    return {
        "next_tile_error_rate": float(wrong_tile[true.mask].float().mean()),
        "end_error_rate": float(wrong_end[true.mask].float().mean()),
        "reward_mae": float((true.reward - predicted.reward)[true.mask].abs().mean()),
    }
