"""A first request to each network, before the server says that it is ready.

A card and a graph may both be in order and not belong together: more classes than probabilities, for example. The first
client would find out by an answer with status 500; here the server does not start.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ch10_deploy.inference.cards import AGAIN
from ch10_deploy.inference.generation import Writer
from ch10_deploy.inference.image_decoding import SHAPES
from ch10_deploy.inference.models import Model, load_models, one_line
from ch10_deploy.inference.planning import MazePlanner
from ch10_deploy.inference.recommendation import GOOD, FilmRecommender


def require_shape(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError where an output has another shape than the card leads to expect, or is not finite."""
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}, by the card it must be {shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} is not finite")


def try_classifier(model: Model) -> None:
    """Classify a black image."""
    side = {"digits": 28, "pictures": 32}[model.card.name]
    probabilities = model(pixels=np.zeros((1, *SHAPES[side]), np.uint8))["probabilities"]
    require_shape("probabilities", probabilities, (1, len(model.serving.classes)))


def try_decoder(model: Model) -> None:
    """Draw the digit in the middle of the latent space."""
    picture = model(latent=np.zeros((1, model.serving.latent_size), np.float32))["pixels"]
    require_shape("pixels", picture, (1, *SHAPES[28]))


def try_text(model: Model) -> None:
    """Write a symbol."""
    writer = Writer(model)
    logits = model(token=np.array([writer.first]), state=np.zeros((1, writer.state_size), np.float32))["logits"]
    require_shape("logits", logits, (1, len(writer.symbols)))
    [*writer.write([writer.first], length=2, temperature=1.0, top_k=None, seed=0)]


def try_films(model: Model) -> None:
    """Suggest a film to somebody who likes the first one."""
    recommender, films = FilmRecommender(model), len(model.serving.titles)
    answer = model(films=np.array([0]), stars=np.array([GOOD], np.float32))
    require_shape("expected", answer["expected"], (2, films))
    require_shape("scores", answer["scores"], (films,))
    recommender.suggest({0: GOOD}, 1)


def try_maze(model: Model) -> None:
    """Walk through the first maze."""
    MazePlanner(model).walk(0)


TRIALS: dict[str, Callable[[Model], None]] = {
    "digits": try_classifier,
    "pictures": try_classifier,
    "decoder": try_decoder,
    "text": try_text,
    "films": try_films,
    "maze": try_maze,
}


def try_model(model: Model, path: Path) -> Model:
    """Ask a network once, and return it; raises ValueError, naming its card's file, where it cannot answer."""
    try:
        TRIALS[path.stem](model)
    except Exception as error:  # whatever it is, clients would see it as status 500
        raise ValueError(f"{path}: the network cannot answer a first request ({one_line(error)}): {AGAIN}") from error
    return model


def load_tried_models(folder: Path) -> dict[str, Model]:
    """Load every network of a folder and ask each once; errors are those of `load_models` and `try_model`."""
    return {name: try_model(model, folder / f"{name}.json") for name, model in load_models(folder).items()}
