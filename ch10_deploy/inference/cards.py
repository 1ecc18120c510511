"""Validate model cards, the JSON files beside the graphs.

A card may have been edited, so every field is checked before the server uses it. The part for the server (`serving`)
has a pydantic model for each kind of network. Types are strict and unknown fields are refused. One checksum covers the
card and the graph.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

MAX_BYTES = 2**24
"""Maximum size of a card in bytes; the titles of 62,000 films take 3 MB."""

EXPORT_AGAIN = "export again with python -m ch10_deploy.train"

Words = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


def require_base64(text: str) -> str:
    """Raise ValueError unless a text is base64."""
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"must be base64 ({error})") from error
    return text


Pictures = Annotated[list[Annotated[str, Field(min_length=1), AfterValidator(require_base64)]], Field(min_length=1)]
"""PNG files in base64; `trials.py` decodes them."""

Side = Annotated[int, Field(ge=1, le=4_096)]
"""Height or width of a network's input in pixels."""


Byte = Annotated[int, Field(ge=0, le=255)]


class Part(BaseModel):
    """A part of a card."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Data(Part):
    """The data set that the network was trained on; further fields are allowed."""

    model_config = ConfigDict(extra="allow")

    name: str
    embedded: bool
    sha256: str | None


class Value(Part):
    """Element type and shape of an input or output, with names for dynamic dimensions."""

    type: str
    shape: list[int | str]


class Parity(Part):
    """Differences between the exports and the original."""

    tolerance: float
    onnx: float
    program: float
    examples: int


class Classes(Part):
    """Server's part of a classifier's card."""

    classes: Words


class Latent(Part):
    """Server's part of a decoder's card."""

    latent_size: Annotated[int, Field(ge=1, le=10_000)]


class Denoising(Part):
    """Server's part of a diffusion model's card: its noise schedule, from t = 0, and the number of its classes."""

    abar: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=3, max_length=10_001)]
    digits: Annotated[int, Field(ge=1, le=1_000)]

    @model_validator(mode="after")
    def _more_noise_in_every_step(self) -> Self:
        if self.abar[0] != 1 or any(after >= before for before, after in pairwise(self.abar)):
            raise ValueError("abar must begin with 1 and decrease")
        return self


class Symbols(Part):
    """Server's part of a language model's card: its vocabulary, and the numbers of two symbols in it."""

    symbols: Words
    unknown: Annotated[int, Field(ge=0)] | None
    first: Annotated[int, Field(ge=0)]
    state_size: Annotated[int, Field(ge=1, le=10_000_000)]

    @model_validator(mode="after")
    def _numbers_are_symbols(self) -> Self:
        for name in ("unknown", "first"):
            number = getattr(self, name)
            if number is not None and number >= len(self.symbols):
                raise ValueError(f"{name} is {number}, but there are {len(self.symbols)} symbols")
        return self


class Answers(Part):
    """Data for serving a memory network."""

    words: Words
    answers: Words
    memory_size: Annotated[int, Field(ge=1, le=1_000)]


class Films(Part):
    """Server's part of a recommender's card: film titles and the number of ratings of each film."""

    titles: Words
    counts: list[Annotated[int, Field(ge=0)]]
    most_rated: Annotated[int, Field(ge=1, le=1_000)]

    @model_validator(mode="after")
    def _one_count_each(self) -> Self:
        if len(self.counts) != len(self.titles):
            raise ValueError(f"expected {len(self.titles)} counts, one per title, got {len(self.counts)}")
        return self


class Mazes(Part):
    """Server's part of a planner's card: mazes with one start S and one exit E, and the lengths of shortest paths."""

    mazes: Annotated[list[Words], Field(min_length=1)]
    shortest: list[Annotated[int, Field(ge=0)]]

    @model_validator(mode="after")
    def _drawings(self) -> Self:
        if len(self.shortest) != len(self.mazes):
            raise ValueError(f"expected {len(self.mazes)} shortest paths, one per maze, got {len(self.shortest)}")
        for number, rows in enumerate(self.mazes):
            letters = "".join(rows)
            if len({len(row) for row in rows}) > 1 or letters.count("S") != 1 or letters.count("E") != 1:
                raise ValueError(f"mazes[{number}] must have rows of one length, one S and one E")
        return self


class Control(Part):
    """Server's part of an agent's card: the names of the numbers that it observes, and of its actions."""

    observation: Words
    actions: Words


class Objects(Part):
    """Server's part of a detector's card: its classes, the size of its input, and pictures to try."""

    classes: Words
    height: Side
    width: Side
    examples: Pictures


Colour = tuple[Byte, Byte, Byte]
"""Red, green and blue."""


class Masks(Part):
    """Server's part of a segmentation network's card: its classes, their colours, its input, and pictures to try."""

    classes: Words
    colours: list[Colour]
    stride: Annotated[int, Field(ge=1, le=1_024)]
    size: tuple[Side, Side] | None
    examples: Pictures

    @model_validator(mode="after")
    def _one_colour_each(self) -> Self:
        if len(self.colours) != len(self.classes):
            raise ValueError(f"expected {len(self.classes)} colours, one per class, got {len(self.colours)}")
        return self


class Styles(Part):
    """Server's part of a style network's card: its stride, and pictures to try."""

    stride: Annotated[int, Field(ge=1, le=1_024)]
    examples: Pictures


class Card(Part):
    """Fields of every card."""

    name: str
    chapter: str
    program: str
    run: str
    data: Data
    metrics: dict[str, float]
    inputs: Annotated[dict[str, Value], Field(min_length=1)]
    outputs: Annotated[dict[str, Value], Field(min_length=1)]
    weights_sha256: str
    parity: Parity
    versions: dict[str, str]
    exported: str
    sha256: str


class ClassifierCard(Card):
    """Card of `digits` or `pictures`."""

    name: Literal["digits", "pictures"]
    serving: Classes


class DecoderCard(Card):
    """Card of `decoder`."""

    name: Literal["decoder"]
    serving: Latent


class DiffusionCard(Card):
    """Card of `diffusion`."""

    name: Literal["diffusion"]
    serving: Denoising


class TextCard(Card):
    """Card of `text` or `transformer`."""

    name: Literal["text", "transformer"]
    serving: Symbols


class StoriesCard(Card):
    """Card of `stories`."""

    name: Literal["stories"]
    serving: Answers


class FilmsCard(Card):
    """Card of `films`."""

    name: Literal["films"]
    serving: Films


class MazeCard(Card):
    """Card of `maze`."""

    name: Literal["maze"]
    serving: Mazes


class AgentCard(Card):
    """Card of `ppo` or `dqn`."""

    name: Literal["ppo", "dqn"]
    serving: Control


class DetectionCard(Card):
    """Card of `detection`."""

    name: Literal["detection"]
    serving: Objects


class SegmentationCard(Card):
    """Card of `segmentation`."""

    name: Literal["segmentation"]
    serving: Masks


class StyleCard(Card):
    """Card of `style`."""

    name: Literal["style"]
    serving: Styles


CARDS: dict[str, type[Card]] = {
    "digits": ClassifierCard,
    "pictures": ClassifierCard,
    "decoder": DecoderCard,
    "diffusion": DiffusionCard,
    "text": TextCard,
    "transformer": TextCard,
    "stories": StoriesCard,
    "films": FilmsCard,
    "maze": MazeCard,
    "ppo": AgentCard,
    "dqn": AgentCard,
    "detection": DetectionCard,
    "segmentation": SegmentationCard,
    "style": StyleCard,
}


def checksum(card: Mapping[str, Any], graph: bytes) -> str:
    """Compute the SHA-256 of a card, without its field `sha256`, followed by the graph."""
    rest = {name: value for name, value in card.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode() + b"\n" + graph).hexdigest()


def field_path(parts: tuple[int | str, ...]) -> str:
    """Format the path of a field: ("serving", "mazes", 3) becomes `serving.mazes[3]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


def read_card(path: Path) -> tuple[Card, dict[str, Any]]:
    """Read and validate a card; return it together with its JSON content.

    Raises ValueError, naming the file and the first invalid field.
    """
    if path.stem not in CARDS:
        raise ValueError(f"{path}: the models are {', '.join(CARDS)}: rename the card, or {EXPORT_AGAIN}")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES:,} bytes, so it is not a model card: {EXPORT_AGAIN}")
    try:
        record = from_json(data, allow_inf_nan=False)  # also limits the nesting depth
        if not isinstance(record, dict):
            raise ValueError(f"a model card must be an object, got {type(record).__name__}")
    except ValueError as error:
        raise ValueError(f"{path} is not a readable model card ({error}): {EXPORT_AGAIN}") from error
    try:
        return CARDS[path.stem].model_validate_json(data), record
    except ValidationError as error:
        first = error.errors()[0]
        field = field_path(first["loc"]) or "card"
        raise ValueError(f"{path}: {field}: {first['msg']}: correct the card, or {EXPORT_AGAIN}") from error
