"""The server: every exported network behind an endpoint of its own, and nothing of torch.

    python -m ch10_deploy.serve

A request is answered in the event loop itself, by one thread: the digit network takes a fraction of what handing it to
another thread would. There is one process; more of them are the cluster's business.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from prometheus_client import generate_latest
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from ch10_deploy.inference.cards import place_of
from ch10_deploy.inference.models import Model
from ch10_deploy.inference.trials import load_tried_models
from ch10_deploy.server.access import ID, AccessLog
from ch10_deploy.server.endpoints import (
    JSON,
    JsonRoute,
    add_drawing,
    add_films,
    add_images,
    add_mazes,
    add_text,
    as_json,
)
from ch10_deploy.server.gate import HEADERS, Gate, Limits, Measures
from ch10_deploy.server.refusal import Refusal

PAGE = Path(__file__).parents[1] / "playground"
"""Files of the page, read once at the start: no request reaches the file system."""

MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


SILENT: Any = dict.fromkeys(("tracing", "metrics", "logs", "auto_configure"), False)
"""Recent versions of FastAPI report to others where the environment says so; here /metrics is what there is to know."""


class Problem(BaseModel):
    """A refusal."""

    detail: str
    """The reason."""
    field: str | None = None
    """The field that it is about."""


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        400: "the request cannot be read: no HTTP, or no JSON",
        401: "the API key is missing or wrong",
        404: "there is no such model or page",
        405: "another method",
        408: "the request took too long to arrive",
        413: "the request's body is too large",
        414: "the request's address is too long",
        415: "the body is of another type",
        422: "a field is wrong",
        431: "the request's head is too large",
        503: "too much at once, or the server is about to end",
    }.items()
}


def handle_errors(app: FastAPI) -> None:
    """Answer every mistake in the one form of a Problem."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
        return as_json(refusal.answer(), refusal.status, refusal.headers())

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return as_json(Refusal(f"the body is no JSON: {first['ctx']['error']}").answer(), 400)
        field = place_of(first["loc"][1:])  # after where it was: in the body, in the query
        return as_json(Refusal(first["msg"], field=field or None).answer(), 422)

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        refusal = Refusal(f"{request.method} {request.url.path}: {error.detail}")
        headers = dict(error.headers or {})
        if "GET" in headers.get("allow", headers.get("Allow", "")):
            headers = {"allow": "GET, HEAD"}  # the gate turns HEAD into GET
        return as_json(refusal.answer(), error.status_code, headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, _: Exception) -> Response:
        identity = (ID, request.scope["request_id"].encode())  # by it the log finds the request
        headers = {name.decode(): value.decode() for name, value in (*HEADERS, identity)}  # it does not pass the gate
        return as_json(Refusal("internal error; see the server log").answer(), 500, headers)


def add_probes(app: FastAPI, gate: Gate, models: Mapping[str, Model]) -> None:
    """Say whether the server lives, whether it wants requests, how it does, and what it has."""

    @app.get("/healthz")
    async def healthz() -> Response:
        """Tell that the process lives."""
        return as_json({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        """Tell whether requests are welcome."""
        if gate.draining:
            raise Refusal("the server is about to end", status=503)
        return as_json({"status": "ready", "models": [*models]})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Give what Prometheus reads."""
        return Response(generate_latest(gate.measures.registry), media_type="text/plain; version=0.0.4")

    listed = to_json([model.public_card() for model in models.values()])

    @app.get("/models")
    async def cards() -> Response:
        """Give the cards: data, measures, inputs and outputs, and checksums."""
        return Response(listed, media_type=JSON)

    @app.get("/openapi.json", include_in_schema=False)
    async def description() -> Response:
        """Describe the endpoints; written once, since it takes some milliseconds."""
        return Response(written(), media_type=JSON)

    @cache
    def written() -> bytes:
        return to_json(app.openapi())


def add_page(app: FastAPI) -> None:
    """Give the page that people play with, and its files."""
    files = {path.name: path.read_bytes() for path in PAGE.glob("*.*") if path.suffix in MEDIA}

    def page(name: str) -> Response:
        if name not in files:
            raise Refusal(f"there is no file {name!r}", status=404)
        return Response(files[name], media_type=MEDIA[Path(name).suffix])

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return page("index.html")

    @app.get("/playground/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        return page(name)


def create_app(
    models: Path, limits: Limits | None = None, api_key: str | None = None, log: AccessLog | None = None
) -> FastAPI:
    """Build the application around the models of a folder; errors are those of `load_tried_models`.

    Each model has answered once before this returns, so a server that listens is ready.
    """
    loaded, measures = load_tried_models(models), Measures()
    app = FastAPI(
        title="Companion networks",
        version="1",
        openapi_url=None,  # served from memory, see below
        docs_url=None,  # the pages of documentation would load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # the redirect would lead to whatever host the request names
        telemetry=SILENT,
        responses=PROBLEMS,
    )
    app.router.route_class = JsonRoute
    gate = Gate(app.router, limits or Limits(), measures, api_key, log)
    app.state.gate, app.state.names = gate, [*loaded]
    app.add_middleware(gate.around)
    handle_errors(app)
    add_images(app, loaded)  # first: routes are tried one after the other, and this is asked most
    add_probes(app, gate, loaded)
    add_drawing(app, loaded)
    add_text(app, loaded)
    add_films(app, loaded)
    add_mazes(app, loaded)
    add_page(app)
    return app
