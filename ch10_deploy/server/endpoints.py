"""Define the endpoints of the models: requests, validation and responses.

FastAPI validates small bodies with pydantic; pixels are validated by `image_decoding`, in a fraction of the time. Types
are strict (strings and booleans are not accepted as numbers), and unknown fields are refused.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import from_json, to_json
from starlette.datastructures import UploadFile
from starlette.types import Receive, Scope, Send

from ch10_deploy.inference import image_decoding as pixels
from ch10_deploy.inference.agents.balancing import Balancer
from ch10_deploy.inference.drawing.denoising import Denoiser
from ch10_deploy.inference.generation import TextGenerator
from ch10_deploy.inference.models import Model, require_model
from ch10_deploy.inference.planning import MazePlanner
from ch10_deploy.inference.question_answering import Reader
from ch10_deploy.inference.recommendation import FilmRecommender
from ch10_deploy.server.refusal import Refusal

T = TypeVar("T")

BURST = 16
"""Number of symbols that are generated before the text yields to other requests."""

TEXT_SLOTS = 8
"""Slots for texts that are generated concurrently; further texts are refused with status 503. They share one thread. At
0.25 ms per symbol (README), eight texts of maximum length (a prompt of 2,000 symbols and 2,000 new ones) take less than
10 s."""

SLOTS_OF = {"recurrent": 1, "transformer": 4}
"""Slots that a text of each network occupies: the Transformer takes three to four times as long per symbol."""

MAX_STEPS = 50
"""Maximum number of steps of the diffusion model; each computes the network for two images."""

DENOISING_SLOTS = 4
"""Slots for images that the diffusion model generates concurrently; further requests are refused with status 503."""

MAX_IMAGES = 64
"""Maximum number of images in a batch."""

MAX_STATES = 64
"""Maximum number of states of a cart in a request."""

JSON, FORM = "application/json", "multipart/form-data"


class Strict(BaseModel):
    """Base class of request bodies: strict types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Create a JSON response."""
    return Response(to_json(value), status, headers, media_type="application/json")


def body_of(kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Describe a request body for openapi.json."""
    schema = {"type": "object", "required": [*properties], "properties": properties, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


def require_type(request: Request, kind: str) -> None:
    """Raise Refusal (415) if the body has another content type or is compressed."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != kind:
        raise Refusal(f"the body must be {kind}, got {found[:60] or 'no content-type'}", status=415)
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise Refusal(f"the body must not be compressed, got content-encoding {coding[:60]}", status=415)


async def json_of(request: Request, field: str, like: str) -> Any:
    """Read the only field of a JSON body; raises Refusal if it is not JSON or has other fields."""
    require_type(request, JSON)
    try:
        record = from_json(await request.body())
    except ValueError as error:
        raise Refusal(f"the body is not valid JSON: {error}", status=400) from error
    if type(record) is not dict or field not in record:
        raise Refusal(f"the body must be an object like {like}", field=field)
    for other in record:
        if other != field:
            raise Refusal(f"unknown field: the body must be an object like {like}", field=other)
    return record[field]


def worker(models: Mapping[str, Model], name: str, kind: Callable[[Model], T]) -> Callable[[], T]:
    """Create the object that runs a model, if served; return a getter that raises Refusal (404) if it is not."""
    made = [kind(models[name])] if name in models else []

    def get() -> T:
        require_model(models, name)
        return made[0]

    return get


IMAGE = {
    "oneOf": [
        {"type": "array", "description": "28x28", "minItems": 28, "maxItems": 28},
        {"type": "array", "description": "32x32x3", "minItems": 32, "maxItems": 32},
    ]
}


class JsonRoute(APIRoute):
    """A route whose body, if it has one, must be JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Check the content type before FastAPI reads the body."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            require_type(request, JSON)
            return await handle(request)

        return handle if self.body_field is None else checked


class DirectRoute(APIRoute):
    """A route whose function receives the request and returns the response, without FastAPI's validation."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint itself."""
        return self.endpoint


def classify(models: Mapping[str, Model], images: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """(B, H, W[, 3]) images -> the model's name and classes, and (B, K) probabilities"""
    name = "digits" if images.ndim == 3 else "pictures"
    model = require_model(models, name)
    return {"model": name, "classes": model.serving.classes}, model(pixels=images)["probabilities"]


def classify_one(models: Mapping[str, Model], image: np.ndarray) -> dict[str, Any]:
    """Classify one image."""
    answer, (probabilities,) = classify(models, image[np.newaxis])
    label = answer["classes"][int(probabilities.argmax())]
    return {**answer, "label": label, "probabilities": probabilities.tolist()}


def classify_batch(models: Mapping[str, Model], value: Any) -> dict[str, Any]:
    """Classify a list of images; raises Refusal, naming the field, if one is invalid."""
    if type(value) is not list or not 1 <= len(value) <= MAX_IMAGES:
        found = f"a list of {len(value)}" if type(value) is list else "another type"
        raise Refusal(f"must be a list of 1 to {MAX_IMAGES} images, got {found}", field="images")
    images = [pixels.from_lists(image, f"images[{number}]") for number, image in enumerate(value)]
    for number, image in enumerate(images):
        if image.shape != images[0].shape:
            raise Refusal("all images of a batch must have the size of the first", field=f"images[{number}]")
    answer, probabilities = classify(models, np.stack(images))
    labels = [answer["classes"][best] for best in probabilities.argmax(1)]
    rows = [{"label": label, "probabilities": row} for label, row in zip(labels, probabilities.tolist(), strict=True)]
    return {**answer, "predictions": rows}


async def file_of(request: Request) -> bytes:
    """Read the only file of a form; raises Refusal if it is missing or there are other fields."""
    require_type(request, FORM)
    async with request.form(max_files=1, max_fields=0) as form:
        if [*form] != ["file"] or not isinstance(file := form["file"], UploadFile):
            raise Refusal("the form must have exactly one field, the file `file`", field="file")
        return await file.read()


def add_images(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Add the endpoints that classify images."""

    async def predict(request: Request) -> Response:
        """Classify an image of 28x28 grey pixels or 32x32 [red, green, blue]."""
        value = await json_of(request, "pixels", '{"pixels": [[0, 255, ...], ...]}')
        return as_json(classify_one(models, pixels.from_lists(value)))

    async def predict_batch(request: Request) -> Response:
        """Classify up to 64 images of one size."""
        value = await json_of(request, "images", '{"images": [[[0, 255, ...], ...], ...]}')
        return as_json(await asyncio.to_thread(classify_batch, models, value))

    async def predict_image(request: Request) -> Response:
        """Classify a PNG file of 28x28 or 32x32 pixels."""
        image = await asyncio.to_thread(pixels.from_png, await file_of(request))
        return as_json(classify_one(models, image))

    batch = {"type": "array", "minItems": 1, "maxItems": MAX_IMAGES, "items": IMAGE}
    file = {"type": "string", "format": "binary"}
    for path, answer, body in (
        ("/predict", predict, body_of(JSON, {"pixels": IMAGE})),
        ("/predict/batch", predict_batch, body_of(JSON, {"images": batch})),
        ("/predict/image", predict_image, body_of(FORM, {"file": file})),
    ):
        app.router.add_api_route(path, answer, methods=["POST"], openapi_extra=body, route_class_override=DirectRoute)


class LatentRequest(Strict):
    """A point in the decoder's latent space."""

    latent: Annotated[list[Annotated[float, Field(ge=-1_000, le=1_000)]], Field(min_length=1, max_length=1_000)]


def add_drawing(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Add the endpoint of the decoder."""

    @app.post("/decode")
    async def decode(point: LatentRequest) -> Response:
        """Decode a point in the latent space to 28x28 grey levels from 0 to 255."""
        model = require_model(models, "decoder")
        needed, given = model.serving.latent_size, len(point.latent)
        if given != needed:
            raise Refusal(f"must have {needed} numbers, got {given}", field="latent")
        image = model(latent=np.array([point.latent], np.float32))["pixels"][0]
        return as_json({"pixels": np.rint(image).astype(int).tolist()})


class DenoisingRequest(Strict):
    """A digit and the settings of its generation."""

    digit: Annotated[int, Field(ge=0, le=999)] = 0
    guidance: Annotated[float, Field(ge=0, le=10)] = 2.0
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 20
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


def add_denoising(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Add the endpoint of the diffusion model."""
    denoiser = worker(models, "diffusion", Denoiser)
    slots = Slots(DENOISING_SLOTS, "images are being generated")

    @app.post("/denoise")
    async def denoise(wish: DenoisingRequest) -> Response:
        """Generate a digit from noise; the response has the images of all steps."""
        chosen = denoiser()
        with slots.occupied(1):
            work = asyncio.to_thread(chosen.denoise, wish.digit, wish.guidance, wish.steps, wish.seed)
            return as_json(await work)


WRITERS: dict[str, str] = {"recurrent": "text", "transformer": "transformer"}
"""Model of each network that generates text."""


class TextRequest(Strict):
    """A prompt, the network, and the settings of the generation."""

    network: Literal["recurrent", "transformer"] = "recurrent"
    prompt: Annotated[str, Field(max_length=2_000)] = ""
    length: Annotated[int, Field(ge=1, le=2_000)] = 500
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.8
    top_k: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


async def in_bursts(pieces: Iterator[str]) -> AsyncIterator[str]:
    """Join pieces to bursts, and let other requests run after each burst."""
    while burst := [*islice(pieces, BURST)]:
        yield "".join(burst)
        await asyncio.sleep(0)


class Slots:
    """Slots for longer computations; only the event loop uses them, so they need no lock."""

    def __init__(self, count: int, what: str) -> None:
        self.free, self.what = count, what

    @contextlib.contextmanager
    def occupied(self, count: int) -> Iterator[None]:
        """Occupy this number of slots; raises Refusal (503) if fewer are free."""
        if self.free < count:
            raise Refusal(f"too many {self.what} at once: try again in a second", status=503)
        self.free -= count
        try:
            yield
        finally:
            self.free += count


class TextStream(StreamingResponse):
    """Stream a text while it is generated; it occupies slots until it has been sent or the client has disconnected."""

    def __init__(self, pieces: Iterator[str], slots: Slots, count: int) -> None:
        super().__init__(in_bursts(pieces), media_type="text/plain; charset=utf-8")
        self.slots, self.count = slots, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the text; raises Refusal (503) if too few slots are free."""
        with self.slots.occupied(self.count):  # released here, since a generator that never starts could not do it
            await super().__call__(scope, receive, send)


def add_text(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Add the endpoint of the language models."""
    generators = {network: worker(models, name, TextGenerator) for network, name in WRITERS.items()}
    slots = Slots(TEXT_SLOTS, "texts are being generated")

    @app.post("/generate", response_class=StreamingResponse)
    async def generate(text: TextRequest) -> Response:
        """Continue a prompt; the text is streamed while it is generated."""
        generator = generators[text.network]()
        pieces = generator.generate(
            generator.encode(text.prompt),
            length=text.length,
            temperature=text.temperature,
            top_k=text.top_k,
            seed=text.seed,
        )
        return TextStream(pieces, slots, SLOTS_OF[text.network])


class QuestionRequest(Strict):
    """A story and a question about it."""

    story: Annotated[str, Field(min_length=1, max_length=5_000)]
    question: Annotated[str, Field(min_length=1, max_length=200)]


def add_stories(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Add the endpoint of the memory network."""
    reader = worker(models, "stories", Reader)

    @app.post("/ask")
    async def ask(asked: QuestionRequest) -> Response:
        """Answer a question about a story, with the attention of each hop to each statement."""
        return as_json(await asyncio.to_thread(reader().answer, asked.story, asked.question))


Title = Annotated[str, Field(min_length=1, max_length=200)]


class RecommendationRequest(Strict):
    """Films that a user likes and dislikes."""

    likes: Annotated[list[Title], Field(max_length=20)] = []
    dislikes: Annotated[list[Title], Field(max_length=20)] = []
    top: Annotated[int, Field(ge=1, le=100)] = 10


def parse_integer(text: Any) -> Any:
    """Parse an integer of a query string; raises ValueError unless it consists of digits."""
    if isinstance(text, str):
        if not re.fullmatch("[0-9]{1,9}", text):
            raise ValueError("must be a whole number in decimal digits")
        return int(text)
    return text


class FilmSearch(Strict):
    """A search for titles."""

    query: Annotated[str, Field(max_length=200)] = ""
    limit: Annotated[int, Field(ge=1, le=100), BeforeValidator(parse_integer)] = 10


def add_films(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Add the endpoints of the recommender."""
    recommender = worker(models, "films", FilmRecommender)

    @app.get("/films")
    async def films(search: Annotated[FilmSearch, Query()]) -> Response:
        """List films with titles similar to the query; without a query, those with the most ratings."""
        return as_json({"films": await asyncio.to_thread(recommender().films, search.query, search.limit)})

    @app.post("/recommend")
    async def recommend(person: RecommendationRequest) -> Response:
        """Recommend films, each with those of the user's films that contributed most."""
        return as_json(await asyncio.to_thread(recommender().recommend, person.likes, person.dislikes, person.top))


class MazeRequest(Strict):
    """The seed of a maze."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


def add_mazes(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Add the endpoint of the planner."""
    planner = worker(models, "maze", MazePlanner)

    @app.post("/maze")
    async def maze(choice: MazeRequest) -> Response:
        """Plan a path through a maze that is not in the training set."""
        return as_json(await asyncio.to_thread(planner().solve, choice.seed))


Coordinate = Annotated[float, Field(ge=-1_000, le=1_000)]


class BalancingRequest(Strict):
    """States of a cart with a pole, and the agent that chooses its actions."""

    agent: Literal["ppo", "dqn"] = "ppo"
    states: Annotated[
        list[Annotated[list[Coordinate], Field(min_length=1, max_length=100)]],
        Field(min_length=1, max_length=MAX_STATES),
    ]


def add_balancing(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Add the endpoint of the agents that balance a pole."""
    balancers = {name: worker(models, name, Balancer) for name in ("ppo", "dqn")}

    @app.post("/balance")
    async def balance(asked: BalancingRequest) -> Response:
        """Choose the action of each state: 0 pushes the cart to the left, 1 to the right."""
        return as_json(balancers[asked.agent]().decide(asked.states))
