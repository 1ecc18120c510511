"""Where the networks come from: the newest finished run of each program, or a training now."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ch03_autoencoder_rbm.digits import feedforward
from ch03_autoencoder_rbm.films import recommender
from ch05_rnn.language import language_model
from ch06_cnn.convolution import cnn
from ch07_dqn import generalise
from ch08_vae import vae
from ch10_deploy.exporting import graphs
from ch10_deploy.exporting.graphs import Graph
from common.config import RunOptions, read_config
from common.folder import finished_runs


@dataclass(frozen=True)
class Source:
    """The program that trains a network, and how it is made a graph."""

    program: ModuleType
    graph: Callable[[Path, str], Graph]
    embedded: str
    """The embedded data."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the server asks of a training."""
    quick: dict[str, Any] = field(default_factory=dict)
    """What makes it a matter of seconds."""
    quick_limit: int | None = None
    """And its --limit."""

    def suits(self, folder: Path) -> bool:
        """Tell whether a run was trained with the settings that are needed."""
        config = read_config(folder, self.program.Config)
        return all(getattr(config, name) == value for name, value in self.settings.items())

    def newest(self, runs: Path) -> Path | None:
        """Find the newest finished run that suits."""
        return next((folder for folder in finished_runs(runs, self.program) if self.suits(folder)), None)

    def train(self, options: RunOptions, out: Path, *, embedded: bool, full: bool) -> Path:
        """Train now, below a folder of our own; return the run's folder."""
        config = self.program.Config(**self.settings, **({} if full else self.quick))
        if embedded:
            config = replace(config, **({} if self.embedded == "mazes" else {"data": self.embedded}))
        limit = options.limit or (None if full else self.quick_limit)
        shared = {name: getattr(options, name) for name in ("seed", "device", "precision")}
        run = replace(config.run, **shared, limit=limit, out=out)
        self.program.train(replace(config, run=run))
        folder = self.newest(out)
        assert folder is not None, "a training that ends leaves a run"
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
    "text": Source(language_model, graphs.text, "pydoc", settings={"level": "char"}, quick={"budget": 6.0}),
    "films": Source(
        recommender, graphs.films, "planted", settings={"visible": "gaussian", "cases": "films"}, quick={"epochs": 20}
    ),
    "maze": Source(
        generalise,
        graphs.maze,
        "mazes",
        settings={"network": "planner"},
        quick={"budget": 20.0, "tests": 200, "large_tests": 50},
    ),
}
