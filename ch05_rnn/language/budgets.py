"""Loss against training time: an LSTM and a Transformer, each trained with several time budgets.

    python -m ch05_rnn.train budgets                                                 # seconds: a quick look
    python -m ch05_rnn.train budgets --data tiny-shakespeare --budgets 60 180 600 1800    # one minute to half an hour

Each point of a curve is a complete training of its own, whose learning-rate schedule ends with its budget. All use the
same text and the default settings of the network, without n-gram baselines.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from ch05_rnn.language import language_model
from common.config import RunOptions, require, require_positive
from common.data.text.corpora import load_corpus
from common.run import Run

NETWORKS = {
    "lstm": ("LSTM", language_model.Config()),
    "transformer": ("Transformer", language_model.Config(network="transformer")),
}
"""Label and settings of each network."""

MEASURES = {
    "held_out_loss": "state carried over",
    "held_out_window_loss": "windows of 64 characters",
}
"""Metrics of a training that are compared, and what they are titled."""


@dataclass(frozen=True)
class Config:
    """Text and budgets of the comparison."""

    data: Literal["auto", "tiny-shakespeare", "wikitext-2", "pydoc"] = "auto"
    """Data set, read as characters; auto takes Tiny Shakespeare if it is on disk or can be downloaded, else the
    embedded Python help texts."""
    budgets: tuple[float, ...] = (5.0, 10.0)
    """Training times in seconds."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require(len(self.budgets) > 0, "--budgets must name at least one", self.budgets)
        require_positive(self, "budgets")


def train(config: Config) -> dict[str, float]:
    """Train both networks with every budget and draw the losses; return all of them."""
    text = load_corpus(config.data, limit=config.run.limit)
    metrics = {}
    with Run.open(__name__, config, text.card) as run:
        for budget in config.budgets:
            for name, (_, settings) in NETWORKS.items():
                out = run.folder / "networks" / f"{name}-{budget:g}"
                options = replace(config.run, out=out, resume=False)
                own = replace(settings, data=config.data, budget=budget, ngram_orders=(), run=options)
                results = language_model.train(own, text)
                metrics |= {f"{name}_{budget:g}_{measure}": results[measure] for measure in MEASURES}
        report(run, metrics)
        return run.finish(run=metrics)


def report(run: Run, metrics: dict[str, float]) -> None:
    """Draw each loss against the budget."""
    from common.drawing import plots

    budgets = sorted(run.config.budgets)
    minutes = [budget / 60 for budget in budgets]
    panels = {
        title: {
            label: (minutes, [metrics[f"{name}_{budget:g}_{measure}"] for budget in budgets])
            for name, (label, _) in NETWORKS.items()
        }
        for measure, title in MEASURES.items()
    }
    labels = [label for label, _ in NETWORKS.values()]
    figure = plots.line_panels(
        panels,
        columns=len(panels),
        xlabel="training time, minutes",
        ylabel="loss, nats per character",
        log_x=True,
        share_y=True,
        marked=labels,
        size=1.2,
    )
    for axes in figure.axes:  # label the budgets, not powers of ten
        axes.set_xticks(minutes, [f"{minute:.2g}" for minute in minutes], minor=False)
        axes.set_xticks([], minor=True)
    run.figure("budgets", figure)
