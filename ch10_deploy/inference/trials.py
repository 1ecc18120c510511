"""Send a first request to each model before the server starts.

A card and a graph can be valid and still not match, for example if there are more classes than probabilities. With this
check the server does not start; without it, clients would receive status 500.
"""

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ch10_deploy.inference.agents.balancing import Balancer
from ch10_deploy.inference.cards import EXPORT_AGAIN
from ch10_deploy.inference.drawing.denoising import Denoiser
from ch10_deploy.inference.generation import TextGenerator
from ch10_deploy.inference.image_decoding import SHAPES
from ch10_deploy.inference.models import Model, load_models, one_line
from ch10_deploy.inference.object_detection import ObjectDetector
from ch10_deploy.inference.picture_files import from_file
from ch10_deploy.inference.planning import MazePlanner
from ch10_deploy.inference.question_answering import Reader
from ch10_deploy.inference.recommendation import GOOD, FilmRecommender
from ch10_deploy.inference.segmentation import Segmenter
from ch10_deploy.inference.style import LEAST, Stylist
from ch10_deploy.server.refusal import Refusal


def require_shape(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError if an output does not have the shape that the card implies, or is not finite."""
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}, the card requires {shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} is not finite")


def try_classifier(model: Model) -> None:
    """Classify a black image."""
    side = {"digits": 28, "pictures": 32}[model.card.name]
    probabilities = model(pixels=np.zeros((1, *SHAPES[side]), np.uint8))["probabilities"]
    require_shape("probabilities", probabilities, (1, len(model.serving.classes)))


def try_decoder(model: Model) -> None:
    """Decode the origin of the latent space."""
    picture = model(latent=np.zeros((1, model.serving.latent_size), np.float32))["pixels"]
    require_shape("pixels", picture, (1, *SHAPES[28]))


def try_diffusion(model: Model) -> None:
    """Generate an image in one step."""
    denoiser = Denoiser(model)
    noise = model(images=np.zeros((1, *SHAPES[28]), np.float32), times=np.array([1]), classes=np.array([0]))["noise"]
    require_shape("noise", noise, (1, *SHAPES[28]))
    require_shape("noise", denoiser.noise(np.zeros(SHAPES[28]), len(denoiser.abar) - 1, 0, 2.0), SHAPES[28])


def try_text(model: Model) -> None:
    """Generate two symbols."""
    generator = TextGenerator(model)
    logits = model(token=np.array([generator.first]), state=np.zeros((1, generator.state_size), np.float32))["logits"]
    require_shape("logits", logits, (1, len(generator.symbols)))
    [*generator.generate([generator.first], length=2, temperature=1.0, top_k=None, seed=0)]


def try_stories(model: Model) -> None:
    """Answer a question of one word about a story of one word."""
    reader = Reader(model)
    numbers = np.full((1, 1), len(reader.index) - 1)
    outputs = model(story=numbers, question=numbers)
    require_shape("probabilities", outputs["probabilities"], (len(reader.answers),))
    story = np.repeat(numbers, reader.memory_size, axis=0)
    require_shape("attention", model(story=story, question=numbers)["attention"][:, 0], (reader.memory_size,))


def try_films(model: Model) -> None:
    """Recommend a film to a user who likes the first one."""
    recommender, films = FilmRecommender(model), len(model.serving.titles)
    answer = model(films=np.array([0]), stars=np.array([GOOD], np.float32))
    require_shape("expected", answer["expected"], (2, films))
    require_shape("scores", answer["scores"], (films,))
    recommender.suggest({0: GOOD}, 1)


def try_maze(model: Model) -> None:
    """Plan a path through the first maze."""
    MazePlanner(model).solve(0)


def try_agent(model: Model) -> None:
    """Choose the action of a cart at rest."""
    balancer = Balancer(model)
    scores = balancer.scores(np.zeros((1, len(balancer.observation))))
    require_shape("scores", scores, (1, len(balancer.actions)))


def try_examples(model: Model) -> None:
    """Decode the pictures that the page offers."""
    for number, example in enumerate(model.serving.examples):
        try:
            from_file(base64.b64decode(example))
        except Refusal as refusal:
            raise ValueError(f"examples[{number}]: {refusal.reason}") from refusal


def try_detection(model: Model) -> None:
    """Detect objects in a black picture."""
    detector = ObjectDetector(model)
    outputs = detector.outputs(np.zeros((detector.height, detector.width, 3), np.uint8))
    anchors = len(outputs["boxes"])
    require_shape("boxes", outputs["boxes"], (anchors, 4))
    require_shape("probabilities", outputs["probabilities"], (anchors, len(detector.classes)))
    try_examples(model)


def try_segmentation(model: Model) -> None:
    """Segment a black picture of the smallest size."""
    segmenter = Segmenter(model)
    height, width = segmenter.size or (segmenter.stride, segmenter.stride)
    logits = segmenter.logits(np.zeros((height, width, 3), np.uint8))
    require_shape("logits", logits, (len(segmenter.classes), height, width))
    try_examples(model)


def try_style(model: Model) -> None:
    """Give a black picture of the smallest size the style."""
    side = -(-LEAST // Stylist(model).stride) * model.serving.stride
    stylised = model(pixels=np.zeros((1, side, side, 3), np.uint8))["stylised"]
    require_shape("stylised", stylised, (1, side, side, 3))
    try_examples(model)


TRIALS: dict[str, Callable[[Model], None]] = {
    "digits": try_classifier,
    "pictures": try_classifier,
    "decoder": try_decoder,
    "diffusion": try_diffusion,
    "text": try_text,
    "transformer": try_text,
    "stories": try_stories,
    "films": try_films,
    "maze": try_maze,
    "ppo": try_agent,
    "dqn": try_agent,
    "detection": try_detection,
    "segmentation": try_segmentation,
    "style": try_style,
}


def try_model(model: Model, path: Path) -> Model:
    """Send one request to a model and return the model; raises ValueError, naming the card's file, if this fails."""
    try:
        TRIALS[path.stem](model)
    except Exception as error:  # clients would see any exception as status 500
        reason = f"the network cannot answer a first request ({one_line(error)})"
        raise ValueError(f"{path}: {reason}: {EXPORT_AGAIN}") from error
    return model


def load_tried_models(folder: Path) -> dict[str, Model]:
    """Load all models of a folder and send one request to each; errors are those of `load_models` and `try_model`."""
    return {name: try_model(model, folder / f"{name}.json") for name, model in load_models(folder).items()}
