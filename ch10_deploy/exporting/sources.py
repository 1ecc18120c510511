"""Find the newest finished run of each program, or train a network."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ch03_autoencoder_rbm.digits import feedforward
from ch03_autoencoder_rbm.films import recommender
from ch05_rnn.language import language_model
from ch05_rnn.memory import memory_network
from ch06_cnn.convolution import cnn
from ch06_cnn.detection import detection
from ch06_cnn.segmentation import segmentation
from ch06_cnn.style import fast_style
from ch07_dqn.agents import dqn, ppo
from ch07_dqn.planning import generalise
from ch08_vae.autoencoding import vae
from ch08_vae.diffusion import diffusion
from ch10_deploy.exporting import denoising_graph, graphs, picture_graphs, policy_graphs
from ch10_deploy.exporting.graphs import Graph
from common.config import RunOptions, read_config
from common.run_folders.folder import finished_runs


@dataclass(frozen=True)
class Source:
    """The program that trains a network, and the function that builds its graph."""

    program: ModuleType
    graph: Callable[[Path, str], Graph]
    embedded: str | None
    """Name of the embedded data set; None if the program has no setting for the data, because it generates them."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that the server requires; other runs are not exported."""
    data: tuple[str, ...] | None = None
    """Data sets whose runs the server accepts; None for all."""
    quick: dict[str, Any] = field(default_factory=dict)
    """Settings of a short training run, which takes seconds."""
    quick_limit: int | None = None
    """The --limit of a short training run."""

    def suits(self, folder: Path) -> bool:
        """Return whether a run has the settings that the server requires."""
        config = read_config(folder, self.program.Config)
        accepted = self.data is None or config.data in self.data
        return accepted and all(getattr(config, name) == value for name, value in self.settings.items())

    def newest(self, runs: Path) -> Path | None:
        """Find the newest finished run with the required settings; None if there is none."""
        return next((folder for folder in finished_runs(runs, self.program) if self.suits(folder)), None)

    def train(self, options: RunOptions, out: Path, *, embedded: bool, full: bool) -> Path:
        """Train the network, with a run folder in `out`; return the run folder."""
        config = self.program.Config(**self.settings, **({} if full else self.quick))
        if embedded:
            config = replace(config, **({} if self.embedded is None else {"data": self.embedded}))
        limit = options.limit or (None if full else self.quick_limit)
        shared = {name: getattr(options, name) for name in ("seed", "device", "precision")}
        run = replace(config.run, **shared, limit=limit, out=out)
        self.program.train(replace(config, run=run))
        folder = self.newest(out)
        assert folder is not None, "a finished training run has a folder"
        return folder


SOURCES = {
    "digits": Source(feedforward, graphs.digits, "digits"),
    "pictures": Source(cnn, graphs.pictures, "shapes", quick={"epochs": 4}, quick_limit=6_000),
    "decoder": Source(
        vae,
        graphs.decoder,
        "digits",
        settings={"latent_size": 2, "conditional": False},
        quick={"epochs": 60, "importance_samples": 50, "likelihood_images": 50},
        quick_limit=2_000,
    ),
    "diffusion": Source(
        diffusion,
        denoising_graph.denoise,
        "digits",
        settings={"condition": "class"},
        data=("auto", "mnist", "fashion-mnist", "digits"),
        quick={"epochs": 20},
        quick_limit=1_300,
    ),
    "text": Source(
        language_model, graphs.text, "pydoc", settings={"level": "char", "network": "recurrent"}, quick={"budget": 6.0}
    ),
    "transformer": Source(
        language_model,
        graphs.transformer,
        "pydoc",
        settings={"level": "char", "network": "transformer"},
        quick={"budget": 6.0},
    ),
    "stories": Source(
        memory_network,
        graphs.stories,
        "stories",
        settings={"network": "end_to_end"},
        quick={"epochs": 8},
    ),
    "films": Source(
        recommender, graphs.films, "planted", settings={"visible": "gaussian", "cases": "films"}, quick={"epochs": 20}
    ),
    "maze": Source(
        generalise,
        graphs.maze,
        None,
        settings={"network": "planner"},
        quick={"budget": 20.0, "tests": 200, "large_tests": 50},
    ),
    "ppo": Source(
        ppo,
        policy_graphs.policy,
        None,
        settings={"environment": "CartPole-v1"},
    ),
    "dqn": Source(
        dqn,
        policy_graphs.action_values,
        None,
        settings={"environment": "CartPole-v1"},
        quick={"environment_steps": 60_000, "epochs": 12},
    ),
    "detection": Source(detection, picture_graphs.detect, "scenes", quick={"epochs": 4}, quick_limit=1_000),
    "segmentation": Source(
        segmentation,
        picture_graphs.segment,
        "scenes",
        settings={"upsampling": "torch"},
        quick={"epochs": 4},
        quick_limit=1_000,
    ),
    "style": Source(
        fast_style, picture_graphs.stylise, "photographs", quick={"epochs": 4, "steps": 1}, quick_limit=100
    ),
}
