"""Define the endpoints of the networks that take whole pictures: requests, validation and responses.

A picture is sent as a form with one file, as to `/predict/image`; settings are in the query. Decoding and computing
take milliseconds to tenths of seconds, so they run in a thread. All pictures share it, since the maps of a network for
one large picture need much memory.
"""

import asyncio
import base64
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from pydantic import BeforeValidator, Field

from ch10_deploy.inference.models import Model, require_model
from ch10_deploy.inference.object_detection import ObjectDetector
from ch10_deploy.inference.picture_files import SizeLimit, from_file
from ch10_deploy.inference.segmentation import Segmenter
from ch10_deploy.inference.style import Stylist
from ch10_deploy.server.endpoints import FORM, Slots, Strict, as_json, body_of, file_of, parse_integer, worker

T = TypeVar("T")

PICTURE_SLOTS = 8
"""Slots for pictures that wait or are computed; further pictures are refused with status 503."""

SLOTS_OF = {"detection": 1, "segmentation": 2, "style": 4}
"""Slots that a picture of each network occupies, more if it takes longer."""

FILE = body_of(FORM, {"file": {"type": "string", "format": "binary", "description": "a PNG or JPEG file"}})


def parse_decimal(text: Any) -> Any:
    """Parse a decimal number of a query string; raises ValueError unless it is written with digits and a full stop."""
    if isinstance(text, str):
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?", text):
            raise ValueError("must be a decimal number such as 0.5")
        return float(text)
    return text


class Pictures:
    """Run functions on the pictures of requests, one at a time; each occupies slots until it is done."""

    def __init__(self) -> None:
        self.slots = Slots(PICTURE_SLOTS, "pictures are being computed")
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pictures")

    async def answer(
        self, request: Request, compute: Callable[..., T], *settings: Any, slots: int, limit: SizeLimit | None = None
    ) -> T:
        """Decode the picture and compute `compute(picture, *settings)`.

        Raises Refusal (503) if too few slots are free.
        """
        file = await file_of(request)
        with self.slots.occupied(slots):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.thread, lambda: compute(from_file(file, limit), *settings))


class Png(Response):
    """A PNG file."""

    media_type = "image/png"


class DetectionSettings(Strict):
    """Settings of the detection."""

    threshold: Annotated[float, Field(ge=0, le=1), BeforeValidator(parse_decimal)] = 0.5


class ExampleChoice(Strict):
    """A network and the number of an example."""

    model: Literal["detection", "segmentation", "style"]
    number: Annotated[int, Field(ge=0), BeforeValidator(parse_integer)] = 0


def add_pictures(app: FastAPI, models: Mapping[str, Model]) -> None:
    """Add the endpoints that take pictures, and the one that returns pictures to try."""
    pictures = Pictures()
    detector = worker(models, "detection", ObjectDetector)
    segmenter = worker(models, "segmentation", Segmenter)
    stylist = worker(models, "style", Stylist)

    @app.post("/detect", openapi_extra=FILE)
    async def detect(request: Request, settings: Annotated[DetectionSettings, Query()]) -> Response:
        """Detect the objects of a picture whose score is at least the threshold."""
        answer = pictures.answer(request, detector().detect, settings.threshold, slots=SLOTS_OF["detection"])
        return as_json(await answer)

    @app.post("/segment", openapi_extra=FILE)
    async def segment(request: Request) -> Response:
        """Find the class of each pixel of a picture: the mask, a palette PNG in base64, and the share of each class."""
        chosen = segmenter()
        answer = pictures.answer(request, chosen.segment, slots=SLOTS_OF["segmentation"], limit=chosen.limit)
        return as_json(await answer)

    @app.post("/stylise", openapi_extra=FILE, response_class=Png)
    async def stylise(request: Request) -> Response:
        """Give a picture the style of the network; the response is a PNG file of the same size."""
        chosen = stylist()
        return Png(await pictures.answer(request, chosen.stylise, slots=SLOTS_OF["style"], limit=chosen.limit))

    @app.get("/example", response_class=Png)
    async def example(choice: Annotated[ExampleChoice, Query()]) -> Response:
        """Return a picture to try with a network: the one with this number modulo the number of examples."""
        examples = require_model(models, choice.model).serving.examples
        return Png(base64.b64decode(examples[choice.number % len(examples)]))
