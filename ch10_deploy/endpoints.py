"""The endpoints of the networks: what is asked of each, and the answer.

Small bodies are checked by pydantic, as FastAPI does; the pixels of an image by hand, in a fraction of the time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, Query, Request, UploadFile
from fastapi.responses import Response, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from pydantic_core import from_json, to_json
from starlette.types import Receive, Scope, Send

from ch10_deploy import pixels
from ch10_deploy.models import Model, require_model
from ch10_deploy.refusal import Refusal
from ch10_deploy.taste import Taste
from ch10_deploy.walking import Walker
from ch10_deploy.writing import Writer

T = TypeVar("T")

BURST = 16
"""Symbols of a text that are written before it is the others' turn."""

WRITERS = 8
"""Texts that are written at once; more are refused with 503. They share one thread: at a quarter of a millisecond a
symbol (README), so many of the longest, prompts of 2,000 symbols before 2,000 new ones, still end within 10 s."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(to_json(value), status, headers, media_type="application/json")


def body_of(properties: dict[str, Any]) -> dict[str, Any]:
    """Describe a JSON body for openapi.json."""
    schema = {"type": "object", "required": [*properties], "properties": properties}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


async def json_of(request: Request) -> Any:
    """Read a JSON body; raises Refusal where it is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(f"the body must be application/json, got {kind[:60] or 'no content-type'}", status=415)
    try:
        return from_json(await request.body())
    except ValueError as error:
        raise Refusal(f"the body is no JSON: {error}", status=400) from error


def worker(models: Mapping[str, Model], name: str, kind: Callable[[Model], T]) -> Callable[[], T]:
    """Make what works with a network, if it is there; give a function that returns it, or raises Refusal (404)."""
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


class Straight(APIRoute):
    """A route whose function is handed the request and gives the response; FastAPI does nothing in between."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Give the function itself."""
        return self.endpoint


def add_images(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Say what is on an image."""

    def classify(image: np.ndarray) -> Response:
        name = "digits" if image.ndim == 2 else "pictures"
        model = require_model(models, name)
        probabilities = model(pixels=image[np.newaxis])["probabilities"][0]
        classes = model.serving["classes"]
        answer = {"model": name, "label": classes[int(probabilities.argmax())], "classes": classes}
        return as_json({**answer, "probabilities": probabilities.tolist()})

    async def predict(request: Request) -> Response:
        """Say what is on an image of 28x28 grey pixels, or of 32x32 [red, green, blue]."""
        record = await json_of(request)
        if type(record) is not dict or "pixels" not in record:
            raise Refusal('the body is an object as {"pixels": [[0, 255, ...], ...]}', field="pixels")
        return classify(pixels.from_lists(record["pixels"]))

    extra = {"requestBody": body_of({"pixels": IMAGE})}
    app.router.add_api_route("/predict", predict, methods=["POST"], openapi_extra=extra, route_class_override=Straight)

    @app.post("/predict/image")
    async def predict_image(file: UploadFile) -> Response:
        """Say what is on a PNG file of 28x28 or 32x32 pixels."""
        return classify(pixels.from_png(await file.read()))


class Point(BaseModel):
    """A place in the space of digits."""

    latent: Annotated[list[Annotated[float, Field(ge=-1_000, le=1_000)]], Field(min_length=1, max_length=1_000)]


def add_drawing(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Draw what lies at a place of the autoencoder's space."""

    @app.post("/decode")
    async def decode(point: Point) -> Response:
        """Draw the digit at a place: 28x28 brightnesses from 0 to 255."""
        model = require_model(models, "decoder")
        needed, given = model.serving["latent_size"], len(point.latent)
        if given != needed:
            raise Refusal(f"must hold {needed} numbers, got {given}", field="latent")
        picture = model(latent=np.array([point.latent], np.float32))["pixels"][0]
        return as_json({"pixels": np.rint(picture).astype(int).tolist()})


class Beginning(BaseModel):
    """How a text begins, and how it is to go on."""

    prompt: Annotated[str, Field(max_length=2_000)] = ""
    length: Annotated[int, Field(ge=1, le=2_000)] = 500
    temperature: Annotated[Finite, Field(ge=0, le=2)] = 0.8
    top_k: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


async def in_bursts(pieces: Iterator[str]) -> AsyncIterator[str]:
    """Join pieces, and give way to others after each burst."""
    while some := [*islice(pieces, BURST)]:
        yield "".join(some)
        await asyncio.sleep(0)  # the others' turn


class Written(StreamingResponse):
    """A text as it is written; it takes one of the places while it is sent, however that ends."""

    def __init__(self, pieces: Iterator[str], places: asyncio.Semaphore) -> None:
        super().__init__(in_bursts(pieces), media_type="text/plain; charset=utf-8")
        self.places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the text; raises Refusal (503) where all places are taken."""
        if self.places.locked():
            raise Refusal(f"{WRITERS} texts are being written: try again in a second", status=503)
        async with self.places:  # not in the generator: who leaves before it has begun would keep the place
            await super().__call__(scope, receive, send)


def add_text(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Go on with a text."""
    writer_of, places = worker(models, "text", Writer), asyncio.Semaphore(WRITERS)

    @app.post("/generate", response_class=StreamingResponse)
    async def generate(text: Beginning) -> Response:
        """Go on with a text: what comes after the prompt, as it is written."""
        writer = writer_of()
        pieces = writer.write(
            writer.numbers(text.prompt),
            length=text.length,
            temperature=text.temperature,
            top_k=text.top_k,
            seed=text.seed,
        )
        return Written(pieces, places)


Title = Annotated[str, Field(min_length=1, max_length=200)]


class Person(BaseModel):
    """What somebody likes, and does not."""

    likes: Annotated[list[Title], Field(max_length=20)] = []
    dislikes: Annotated[list[Title], Field(max_length=20)] = []
    top: Annotated[int, Field(ge=1, le=100)] = 10


def add_films(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Find films, and suggest some."""
    taste = worker(models, "films", Taste)

    @app.get("/films")
    async def films(
        query: Annotated[str, Query(max_length=200)] = "", limit: Annotated[int, Query(ge=1, le=100)] = 10
    ) -> Response:
        """List films whose titles look like what is asked for; without a question, the best known."""
        return as_json({"films": await asyncio.to_thread(taste().films, query, limit)})

    @app.post("/recommend")
    async def recommend(person: Person) -> Response:
        """Suggest films, and say which of the person's own have driven each suggestion."""
        return as_json(await asyncio.to_thread(taste().recommend, person.likes, person.dislikes, person.top))


class Choice(BaseModel):
    """Which maze."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


def add_mazes(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Walk through mazes."""
    walker = worker(models, "maze", Walker)

    @app.post("/maze")
    async def maze(choice: Choice) -> Response:
        """Walk through a maze that the planner has never seen."""
        return as_json(await asyncio.to_thread(walker().walk, choice.seed))
