"""Build the FastAPI application that serves the exported networks without torch.

    python -m ch10_deploy.serve

Short requests are computed in the event loop itself, since the digit network takes less time than passing the request
to another thread. The server is one process; in a cluster, run several pods.
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

from ch10_deploy.inference.cards import field_path
from ch10_deploy.inference.models import Model
from ch10_deploy.inference.trials import load_tried_models
from ch10_deploy.server.access import ID, AccessLog
from ch10_deploy.server.endpoints import (
    JSON,
    JsonRoute,
    add_balancing,
    add_denoising,
    add_drawing,
    add_films,
    add_images,
    add_mazes,
    add_stories,
    add_text,
    as_json,
)
from ch10_deploy.server.gate import HEADERS, Gate, Limits, Metrics
from ch10_deploy.server.pictures import add_pictures
from ch10_deploy.server.refusal import Refusal

PAGE = Path(__file__).parents[1] / "playground"
"""Folder of the playground's files; they are read once at the start, so no request accesses the file system."""

MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


SILENT: Any = dict.fromkeys(("tracing", "metrics", "logs", "auto_configure"), False)
"""Disable the telemetry of recent FastAPI versions, which environment variables can enable."""


class Problem(BaseModel):
    """Body of an error response."""

    detail: str
    """Reason of the error."""
    field: str | None = None
    """Field of the request that is wrong, if there is one."""


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        400: "the request is not valid HTTP or JSON",
        401: "the API key is missing or wrong",
        404: "no such model or page",
        405: "method not allowed",
        408: "the request took too long to arrive",
        413: "the request body is too large",
        414: "the request's address is too long",
        415: "the body has an unsupported content type",
        422: "a field is invalid",
        431: "the request's head is too large",
        503: "the server is overloaded or shutting down",
    }.items()
}


def handle_errors(app: FastAPI) -> None:
    """Register handlers that answer every error with a `Problem`."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
        return as_json(refusal.answer(), refusal.status, refusal.headers())

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return as_json(Refusal(f"the body is not valid JSON: {first['ctx']['error']}").answer(), 400)
        field = field_path(first["loc"][1:])  # the first part is `body` or `query`
        return as_json(Refusal(first["msg"], field=field or None).answer(), 422)

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        refusal = Refusal(f"{request.method} {request.url.path}: {error.detail}")
        headers = dict(error.headers or {})
        if "GET" in headers.get("allow", headers.get("Allow", "")):
            headers = {"allow": "GET, HEAD"}  # the gate handles HEAD as GET
        return as_json(refusal.answer(), error.status_code, headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, _: Exception) -> Response:
        identity = (ID, request.scope["request_id"].encode())  # the same id as in the log
        # this response bypasses the gate, which adds the headers to others
        headers = {name.decode(): value.decode() for name, value in (*HEADERS, identity)}
        return as_json(Refusal("internal error; see the server log").answer(), 500, headers)


def add_probes(app: FastAPI, gate: Gate, models: Mapping[str, Model]) -> None:
    """Add the endpoints for liveness, readiness, metrics, model cards and the OpenAPI description."""

    @app.get("/healthz")
    async def healthz() -> Response:
        """Report that the process is alive."""
        return as_json({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        """Report whether the server accepts requests."""
        if gate.draining:
            raise Refusal("the server is shutting down", status=503)
        return as_json({"status": "ready", "models": [*models]})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return the metrics for Prometheus."""
        return Response(generate_latest(gate.metrics.registry), media_type="text/plain; version=0.0.4")

    listed = to_json([model.public_card() for model in models.values()])

    @app.get("/models")
    async def cards() -> Response:
        """Return the model cards: data, metrics, inputs, outputs and checksums."""
        return Response(listed, media_type=JSON)

    @app.get("/openapi.json", include_in_schema=False)
    async def description() -> Response:
        """Return the OpenAPI description; built once, since this takes milliseconds."""
        return Response(written(), media_type=JSON)

    @cache
    def written() -> bytes:
        return to_json(app.openapi())


def add_page(app: FastAPI) -> None:
    """Add the playground's page and its files."""
    files = {path.name: path.read_bytes() for path in PAGE.glob("*.*") if path.suffix in MEDIA}

    def page(name: str) -> Response:
        if name not in files:
            raise Refusal(f"no such file: {name!r}", status=404)
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
    """Build the application for the models of a folder; errors are those of `load_tried_models`.

    Each model runs once before this returns, so a listening server is ready.
    """
    loaded, metrics = load_tried_models(models), Metrics()
    app = FastAPI(
        title="Companion networks",
        version="1",
        openapi_url=None,  # served from memory by add_probes
        docs_url=None,  # the documentation pages load scripts from another host
        redoc_url=None,
        redirect_slashes=False,  # a redirect would point to the host named in the request
        telemetry=SILENT,
        responses=PROBLEMS,
    )
    app.router.route_class = JsonRoute
    gate = Gate(app.router, limits or Limits(), metrics, api_key, log)
    app.state.gate, app.state.names = gate, [*loaded]
    app.add_middleware(gate.wrap)
    handle_errors(app)
    add_images(app, loaded)  # first: routes are matched in this order, and /predict has the most requests
    add_probes(app, gate, loaded)
    add_drawing(app, loaded)
    add_denoising(app, loaded)
    add_text(app, loaded)
    add_stories(app, loaded)
    add_films(app, loaded)
    add_mazes(app, loaded)
    add_balancing(app, loaded)
    add_pictures(app, loaded)
    add_page(app)
    return app
