"""Train and export the models of chapter 10's tests: one of each network that the server has, small and hardly trained.

    python tests/make_models.py
    python tests/make_models.py ppo dqn     # only these

Writes NAME.onnx and NAME.json to tests/data/models. `tests/ch10/test_export.py` compares them with new exports; if it
finds them out of date, run this command and commit the files.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

MODELS = Path(__file__).resolve().parent / "data" / "models"


class SmallClassifier(nn.Module):
    """Chapter 3's digit classifier with 8 hidden units."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 10))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, P) scaled pixels -> (B, K) logits"""
        return self.layers(pixels)


def train_all(folder: Path, *, small: bool = False) -> None:
    """Train each network that chapter 10 serves for a moment, without figures; `small` ones have small files."""
    from ch03_autoencoder_rbm.digits import feedforward
    from ch03_autoencoder_rbm.films import recommender
    from ch05_rnn.language import language_model
    from ch05_rnn.memory import bag_of_ngrams, memory_network
    from ch06_cnn.convolution import cnn
    from ch06_cnn.detection import detection
    from ch06_cnn.segmentation import segmentation
    from ch06_cnn.style import fast_style
    from ch07_dqn.agents import dqn, ppo
    from ch07_dqn.planning import generalise
    from ch08_vae.autoencoding import pictures, vae
    from ch08_vae.diffusion import diffusion
    from ch08_vae.diffusion import pictures as denoising
    from common.config import RunOptions
    from common.data.text import stories

    with pytest.MonkeyPatch.context() as patch:  # the figures take most of the time of such short runs
        drawn = (feedforward, recommender, cnn, pictures, language_model, memory_network, generalise, ppo, dqn)
        for drawing in (*drawn, denoising, detection, segmentation, fast_style):
            patch.setattr(drawing, "report", lambda *_: None)
        patch.setattr(language_model, "generation_speed", lambda *_, **__: 1.0)
        patch.setattr(recommender, "COMPARED_BASELINES", ("bias", "popularity"))
        patch.setattr(bag_of_ngrams, "STEPS", 1)
        patch.setattr(diffusion, "MONITORED", 50)
        patch.setattr(stories, "TRAIN", 200)
        run = RunOptions(device="cpu", precision="fp32", threads=1, out=folder)
        few, letters = replace(run, limit=300), replace(run, limit=20_000)
        feedforward.train(feedforward.Config(data="digits", epochs=8, run=run))
        films = recommender.Config(data="planted", epochs=3, hidden_size=8 if small else 100, run=run)
        recommender.train(films)
        cnn.train(cnn.Config(data="shapes", network="linear" if small else "book", epochs=1, run=few))
        quick: dict = {"epochs": 3, "importance_samples": 50, "likelihood_images": 2, "run": few}
        vae.train(vae.Config(data="digits", latent_size=2, hidden=(16, 8) if small else (256, 128), **quick))
        noisy = diffusion.Config(
            data="digits", epochs=1, width=4 if small else 8, sampling_steps=2, run=replace(run, limit=100)
        )
        diffusion.train(noisy)
        language_model.train(language_model.Config(data="pydoc", hidden_size=48, epochs=1, run=letters))
        sizes: dict = {"embedding_size": 32, "hidden_size": 64, "layers": 2, "heads": 2, "steps": 16, "epochs": 1}
        language_model.train(language_model.Config(data="pydoc", network="transformer", **sizes, run=letters))
        memory_network.train(memory_network.Config(embedding_size=16, epochs=1, run=run))
        tiny: dict = {"epochs": 1, "width": 4, "run": replace(run, limit=16)}
        detection.train(detection.Config(filters=8, **tiny))
        segmentation.train(segmentation.Config(**tiny))
        fast_style.train(fast_style.Config(images=4, image_size=32, size=64, blocks=1, steps=1, **tiny))
        generalise.train(generalise.Config(rows=3, columns=4, epochs=1, mazes=100, tests=20, large_tests=2, run=run))
        # The small policy balances the pole in the tests of the server and the page.
        steps: dict = {} if small else {"environment_steps": 256, "epochs": 1}
        ppo.train(ppo.Config(**steps, run=run))
        dqn.train(dqn.Config(hidden_size=16, environment_steps=256, warm_up=128, epochs=1, run=run))


def export_all(runs: Path, out: Path, names: Sequence[Any] = ()) -> Path:
    """Export networks of `train_all`, by default all; return the folder of the models."""
    from ch10_deploy.exporting import export
    from ch10_deploy.inference.models import NAMES
    from common.config import RunOptions

    options = RunOptions(device="cpu", precision="fp32", threads=1, out=out)
    export.train(export.Config(models=(*names,) or NAMES, runs=runs, data="embedded", run=options))
    return next(out.glob("ch10_deploy/export/*/models"))


def main() -> None:
    """Make the models of the tests again, or those named on the command line."""
    from ch03_autoencoder_rbm.digits import feedforward

    names = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(feedforward, "FeedForward", SmallClassifier)
        runs = Path(folder) / "runs"
        train_all(runs, small=True)
        models = export_all(runs, Path(folder) / "exports", names)
        if not names:
            shutil.rmtree(MODELS, ignore_errors=True)
        shutil.copytree(models, MODELS, ignore=shutil.ignore_patterns("*.md"), dirs_exist_ok=True)
    for path in sorted(MODELS.iterdir()):
        print(f"{path.stat().st_size:>9,} {path.name}")


if __name__ == "__main__":
    sys.path.insert(0, str(MODELS.parents[2]))
    main()
