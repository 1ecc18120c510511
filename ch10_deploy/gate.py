"""The gate in front of every endpoint: how many, how large, how long, who, and what is counted.

It is plain ASGI, a function around a function: a request costs it some microseconds. A request's body is read here,
before the request takes one of the places: who sends slowly makes nobody wait but himself.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from pydantic_core import to_json

from ch10_deploy.refusal import Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

PROBES = ("/healthz", "/readyz", "/metrics")
"""What those ask who keep the server alive: never refused because others are many, and without a key."""

OPEN = ("/", "/playground/")
"""The page and its files come without a key; what the page asks for does not."""

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

THROWN_AWAY = 32
"""A body that is too large is read on up to so many times the limit and thrown away: who is still sending would not
get to read the answer."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Borders of the histogram of seconds."""


@dataclass(frozen=True)
class Limits:
    """What a server takes upon itself."""

    concurrency: int = 256
    """Requests that are answered at once; more are refused with 503."""
    body: int = 2**18
    """Bytes of a request's body."""
    held: int = 2**26
    """Bytes of all bodies that are still arriving; who goes beyond is refused with 503."""
    seconds: float = 10.0
    """How long a body may take to arrive, and an answer to be made and sent."""


class Measures:
    """What Prometheus gets to read."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self.seconds = Histogram(
            "request_seconds",
            "From the request's arrival to its answer's end.",
            ["path"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.running = Gauge("requests_running", "Requests being answered.", registry=self.registry)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._known: dict[tuple[str, int], Any] = {}

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        pair = self._known.get((path, status))
        if pair is None:  # looking a label up costs more than counting
            pair = self.requests.labels(path, str(status)), self.seconds.labels(path)
            self._known[path, status] = pair
        counter, histogram = pair
        counter.inc()
        histogram.observe(seconds)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read to who asks for it; whoever asks again waits for the sender to go away."""
    left: list[bytes] = [body]

    async def again() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return again


async def refuse(refusal: Refusal, send: Send) -> None:
    """Send a refusal."""
    body = to_json(refusal.answer())
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in refusal.headers().items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Gate:
    """The gate; `draining` is set when the server is to end."""

    def __init__(self, app: App, limits: Limits, measures: Measures, api_key: str | None = None) -> None:
        self.app, self.limits, self.measures = app, limits, measures
        self.key = None if api_key is None else api_key.encode()
        self.running, self.held, self.draining = 0, 0, False
        measures.running.set_function(lambda: self.running)

    def around(self, app: App) -> "Gate":
        """Stand before an application."""
        self.app = app
        return self

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS]
                if self.draining:  # whoever comes again is to come to another server
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self._pass(scope, receive, sending)
        except Refusal as refusal:
            if not status:  # else the answer has begun, and the connection is cut: the sender notices
                await refuse(refusal, sending)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "other")
            self.measures.count(path, status or 500, time.perf_counter() - began)

    async def _pass(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through; raise Refusal for one that is not."""
        path = scope["path"]
        if path in PROBES:
            await self.app(scope, receive, send)
            return
        if self.key is not None and not (path == OPEN[0] or path.startswith(OPEN[1])):
            given = dict(scope["headers"]).get(b"x-api-key", b"")
            if not hmac.compare_digest(given, self.key):  # takes as long for a key that is nearly right
                raise Refusal("this server asks for its key in the header X-API-Key", status=401)
        body = await self._body(receive)
        if self.running >= self.limits.concurrency:
            raise Refusal("too many requests at once: try again in a second", status=503)
        self.running += 1
        try:
            async with asyncio.timeout(self.limits.seconds):
                await asyncio.sleep(0)  # so that all who came at the same moment are counted before one is answered
                await self.app(scope, _replay(body, receive), send)
        except TimeoutError:
            raise Refusal(f"no answer within {self.limits.seconds:g} seconds", status=503) from None
        finally:
            self.running -= 1

    async def _body(self, receive: Receive) -> bytes:
        """Read a request's body; raise Refusal where it is too large or too slow, or too much arrives at once."""
        most, body, size = self.limits.body, bytearray(), 0
        try:
            async with asyncio.timeout(self.limits.seconds):
                while size <= THROWN_AWAY * most:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal("the sender has gone before its request was complete", status=400)
                    part = message.get("body", b"")
                    size += len(part)
                    if size <= most:
                        if self.held + len(part) > self.limits.held:
                            raise Refusal("too much is arriving at once: try again in a second", status=503)
                        self.held += len(part)
                        body += part
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise Refusal(f"the request did not arrive within {self.limits.seconds:g} seconds", status=408) from None
        finally:
            self.held -= len(body)
        if size > most:
            raise Refusal(f"a request's body has at most {most:,} bytes", status=413)
        return bytes(body)
