"""Comparison with Stable-Baselines3: the same environment, the same evaluation, alternating in one run.

    pip install '.[peers]'
    python -m ch07_dqn.train peers

Stable-Baselines3 (Raffin et al. 2021) uses the settings that its authors tuned for CartPole-v1 (rl-baselines3-zoo).
`seconds` is the time of a training without evaluations.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch

from ch07_dqn.agents import dqn, ppo
from ch07_dqn.agents.evaluation import Policy, final_test
from ch07_dqn.agents.vector_environment import task_of
from common.config import RunOptions, require, require_positive
from common.peers import import_peer
from common.progress import say
from common.run import Run

Algorithm = Literal["ppo", "dqn"]
ENVIRONMENT = "CartPole-v1"


@dataclass(frozen=True)
class Config:
    """Algorithms and number of seeds."""

    algorithms: tuple[Algorithm, ...] = get_args(Algorithm)
    """Algorithms to compare."""
    seeds: int = 3
    """Number of trainings of each agent, with different seeds."""
    environment_steps: int | None = None
    """Number of environment steps of every training. Default: the tuned numbers, and those of our programs."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "seeds", "environment_steps")
        require(len(self.algorithms) > 0, "--algorithms needs at least one algorithm", "none")


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation of an agent needs."""

    run: RunOptions
    environment: str = ENVIRONMENT
    time_limit: int | None = None


def stable_baselines(module: str = "stable_baselines3") -> Any:
    """Import a module of Stable-Baselines3; raise ValueError, with the command that installs it, if it is missing."""
    return import_peer(module, "Stable-Baselines3", "peers")


def make_peer_environments(count: int, seed: int) -> Any:
    """Create parallel environments of Stable-Baselines3."""
    return stable_baselines("stable_baselines3.common.env_util").make_vec_env(ENVIRONMENT, n_envs=count, seed=seed)


def train_ours(algorithm: Algorithm, config: Config, run: Run, seed: int) -> dict[str, float]:
    """Train our agent; return its test returns, training time and environment steps."""
    program = {"ppo": ppo, "dqn": dqn}[algorithm]
    options = replace(config.run, seed=seed, out=run.folder / "agents" / str(seed), resume=False)
    settings: Any = program.Config(environment=ENVIRONMENT, run=options)
    if config.environment_steps is not None:
        settings = replace(settings, environment_steps=config.environment_steps, epochs=1)
    result = program.train(settings)
    return {
        "return": result["test_return"],
        "seconds": result["train_seconds"],
        "environment_steps": result["environment_steps"],
    }


def train_peer(algorithm: Algorithm, config: Config, seed: int) -> dict[str, float]:
    """Train the agent of Stable-Baselines3; return its test returns, training time and environment steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, steps = {"ppo": peer_ppo, "dqn": peer_dqn}[algorithm](config.run.device, seed)
        steps = config.environment_steps or steps
        started = time.perf_counter()
        model.learn(steps)
        seconds = time.perf_counter() - started
    measures = final_test(policy_of(model), Evaluated(replace(config.run, seed=seed)), "cpu")
    say("peer", f"Stable-Baselines3 {algorithm}, seed {seed}: return {measures['return']:.1f} in {seconds:.1f} s")
    return {"return": measures["return"], "seconds": seconds, "environment_steps": float(model.num_timesteps)}


def linear(initial: float) -> Callable[[float], float]:
    """Return a schedule of Stable-Baselines3: linear from the initial value to zero."""
    return lambda remaining: remaining * initial


def peer_ppo(device: str, seed: int) -> tuple[Any, int]:
    """Create PPO of Stable-Baselines3 with the tuned settings; return it and the tuned number of environment steps."""
    model = stable_baselines().PPO(
        "MlpPolicy",
        make_peer_environments(8, seed),
        n_steps=32,
        batch_size=256,
        gae_lambda=0.8,
        gamma=0.98,
        n_epochs=20,
        ent_coef=0.0,
        learning_rate=linear(1e-3),
        clip_range=linear(0.2),
        seed=seed,
        device=device,
    )
    return model, 100_000


def peer_dqn(device: str, seed: int) -> tuple[Any, int]:
    """Create DQN of Stable-Baselines3 with the tuned settings; return it and the tuned number of environment steps."""
    model = stable_baselines().DQN(
        "MlpPolicy",
        make_peer_environments(1, seed),
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=1_000,
        gamma=0.99,
        target_update_interval=10,
        train_freq=256,
        gradient_steps=128,
        exploration_fraction=0.16,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
        seed=seed,
        device=device,
    )
    return model, 50_000


def policy_of(model: Any) -> Policy:
    """Return the deterministic policy of an agent of Stable-Baselines3."""

    def policy(observations: torch.Tensor) -> torch.Tensor:
        actions, _ = model.predict(observations.cpu().numpy(), deterministic=True)
        return torch.from_numpy(np.asarray(actions))

    return policy


def train(config: Config) -> dict[str, float]:
    """Train all agents with all seeds, ours and theirs in turn; return means over the seeds, and the lowest returns."""
    stable_baselines()
    with Run.open(__name__, config, task_of(ENVIRONMENT).card(), packages=("stable-baselines3",)) as run:
        threads = torch.get_num_threads()
        outcomes: dict[str, list[dict[str, float]]] = {}
        for seed in range(config.run.seed, config.run.seed + config.seeds):
            for algorithm in config.algorithms:
                outcomes.setdefault(f"ours_{algorithm}", []).append(train_ours(algorithm, config, run, seed))
                torch.set_num_threads(threads)
                outcomes.setdefault(f"sb3_{algorithm}", []).append(train_peer(algorithm, config, seed))
        metrics: dict[str, float] = {}
        for name, results in outcomes.items():
            for key in ("return", "seconds", "environment_steps"):
                metrics[f"{name}_{key}"] = statistics.fmean(result[key] for result in results)
            metrics[f"{name}_lowest_return"] = min(result["return"] for result in results)
        return run.finish(run=metrics)
