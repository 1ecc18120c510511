"""Check API key, concurrency, body size and time of each request before its endpoint; count and log it.

This is plain ASGI middleware, which takes a few microseconds per request. The body is read here, before the request
occupies one of the `concurrency` slots, so a slow client delays only itself.
"""

import asyncio
import contextlib
import hmac
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from pydantic_core import to_json

from ch10_deploy.server.access import ID, AccessLog, request_id
from ch10_deploy.server.refusal import Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

PROBES = ("/healthz", "/readyz", "/metrics")
"""Health probes and metrics: exempt from the request limit and from authentication."""

URGENT = ("/healthz", "/readyz")
"""Probes that do not wait for their turn."""

PUBLIC = ("/", "/playground/")
"""The page and its files, which require no key; requests that the page sends require it."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]

DISCARD_FACTOR = 32
"""Multiple of the body limit up to which a larger body is read and discarded, since a client that is still sending
would not read the response."""

STARTS_PER_ITERATION = 16
"""Requests started per iteration of the event loop. A probe waits for a few iterations; if all 256 requests were
started in one iteration, the probe would wait for all of them."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the buckets of the latency histogram, in seconds."""


@dataclass(frozen=True)
class Limits:
    """Limits of the server."""

    concurrency: int = 256
    """Maximum number of concurrent requests; further ones are refused with status 503."""
    body: int = 2**18
    """Maximum size of a request body, in bytes."""
    held: int = 2**23
    """Maximum total size of the bodies that are being received, in bytes; beyond it, requests are refused with 503."""
    seconds: float = 10.0
    """Maximum time for each of: receiving a head, receiving a body, computing and sending a response, reading it."""
    head: int = 2**14
    """Maximum size of a request's address and headers, in bytes."""
    headers: int = 100
    """Maximum number of headers of a request."""
    pipelined: int = 8
    """Maximum number of requests that wait on a connection while another one is answered."""
    connections: int = 1_024
    """Maximum number of open connections."""


class Metrics:
    """Metrics for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self.seconds = Histogram(
            "request_seconds",
            "Time from the arrival of a request to the end of its response.",
            ["path"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.running = Gauge("requests_running", "Requests being answered.", registry=self.registry)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._known: dict[tuple[str, int], Any] = {}

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a response."""
        pair = self._known.get((path, status))
        if pair is None:  # looking up a label takes longer than counting
            pair = self.requests.labels(path, str(status)), self.seconds.labels(path)
            self._known[path, status] = pair
        counter, histogram = pair
        counter.inc()
        histogram.observe(seconds)


class Turns:
    """Start a few requests per iteration of the event loop, in order of arrival."""

    def __init__(self, each: int) -> None:
        self.each = each
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Wait until the request may start, at the earliest in the next iteration."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        if not self.waiting:
            loop.call_soon(self._next, loop)
        self.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                self.waiting.remove(turn)
            raise

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(min(self.each, len(self.waiting))):
            first = self.waiting.popleft()
            if not first.done():
                first.set_result(None)
        if self.waiting:
            loop.call_soon(self._next, loop)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return an ASGI `receive` that returns the body once, then waits for the client to disconnect."""
    remaining: list[bytes] = [body]

    async def replayed() -> Message:
        if remaining:
            return {"type": "http.request", "body": remaining.pop(), "more_body": False}
        return await receive()

    return replayed


def encoded(refusal: Refusal) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Encode a refusal as body and headers."""
    body = to_json(refusal.answer())
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return body, headers + [(name.encode(), value.encode()) for name, value in refusal.headers().items()]


async def refuse(refusal: Refusal, send: Send) -> None:
    """Send a refusal as the response."""
    body, headers = encoded(refusal)
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Gate:
    """ASGI middleware with the limits; `draining` is set while the server shuts down."""

    def __init__(
        self, app: App, limits: Limits, metrics: Metrics, api_key: str | None = None, log: AccessLog | None = None
    ) -> None:
        self.app, self.limits, self.metrics = app, limits, metrics
        self.key = None if api_key is None else api_key.encode()
        self.log = log or AccessLog(None)
        self.running, self.held, self.draining = 0, 0, False
        self.turns = Turns(STARTS_PER_ITERATION)
        metrics.running.set_function(lambda: self.running)

    def wrap(self, app: App) -> "Gate":
        """Wrap an application."""
        self.app = app
        return self

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request: apply the limits, call the application, count and log."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = size = 0
        method = scope["method"]
        identity = scope["request_id"] = request_id(scope["headers"])
        if method == "HEAD":  # handled as GET; uvicorn omits the body
            scope = {**scope, "method": "GET"}

        async def sending(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS, (ID, identity.encode())]
                if self.draining:  # the client's next request should reach another server
                    message["headers"].append((b"connection", b"close"))
            else:
                size += 0 if method == "HEAD" else len(message.get("body", b""))
            await send(message)

        try:
            await self._forward(scope, receive, sending)
        except Refusal as refusal:
            if not status:  # otherwise the response has started, and uvicorn closes the connection
                await refuse(refusal, sending)
        finally:
            route, seconds = scope.get("route"), time.perf_counter() - began
            path = getattr(route, "path", "other")
            self.metrics.count(path, status or 500, seconds)
            if path not in PROBES or status >= 400:
                raw_path = scope.get("raw_path", b"").decode("ascii", "replace")
                self.log.write(identity, scope.get("client"), method, raw_path, status or 500, size, seconds)

    async def _forward(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request to the application; raise Refusal if a limit is exceeded."""
        path = scope["path"]
        if path in PROBES:
            if path not in URGENT:
                await self.turns.wait()
            await self.app(scope, receive, send)
            return
        if self.key is not None and not (path == PUBLIC[0] or path.startswith(PUBLIC[1])):
            given = dict(scope["headers"]).get(b"x-api-key", b"")
            if not hmac.compare_digest(given, self.key):  # in constant time
                raise Refusal("the API key is missing or wrong: send it in the header X-API-Key", status=401)
        body = await self._body(receive)
        if self.running >= self.limits.concurrency:
            raise Refusal("too many requests at once: try again in a second", status=503)
        try:
            async with asyncio.timeout(self.limits.seconds):
                with self._slot(send) as sending:
                    await self.turns.wait()  # requests that arrive together are counted before one is answered
                    await self.app(scope, _replay(body, receive), sending)
        except TimeoutError:
            raise Refusal(f"no answer within {self.limits.seconds:g} seconds", status=503) from None

    @contextlib.contextmanager
    def _slot(self, send: Send) -> Iterator[Send]:
        """Occupy a slot until the end of the response is passed to uvicorn, not until the client has received it."""
        self.running += 1
        occupied = True

        async def sending(message: Message) -> None:
            nonlocal occupied
            if occupied and message["type"] == "http.response.body" and not message.get("more_body"):
                self.running -= 1
                occupied = False
            await send(message)

        try:
            yield sending
        finally:
            self.running -= occupied

    async def _body(self, receive: Receive) -> bytes:
        """Read the body of a request; raise Refusal if it is too large or slow, or all bodies exceed their limit."""
        most, body, size = self.limits.body, bytearray(), 0
        try:
            async with asyncio.timeout(self.limits.seconds):
                while size <= DISCARD_FACTOR * most:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal("the client disconnected before its request was complete", status=400)
                    part = message.get("body", b"")
                    size += len(part)
                    if size <= most:
                        if self.held + len(part) > self.limits.held:
                            raise Refusal("too many large bodies at once: try again in a second", status=503)
                        self.held += len(part)
                        body += part
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise Refusal(f"the request did not arrive within {self.limits.seconds:g} seconds", status=408) from None
        finally:
            self.held -= len(body)
        if size > most:
            raise Refusal(f"the request body may have at most {most:,} bytes", status=413)
        return bytes(body)
