"""The gate in front of every endpoint: how many, how large, how long, who, and what is counted.

It is plain ASGI, a function around a function: a request costs it some microseconds. A request's body is read here,
before the request takes one of the places: who sends slowly makes nobody wait but himself.
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
"""What those ask who keep the server alive: never refused because others are many, and without a key."""

URGENT = ("/healthz", "/readyz")
"""Of these, the ones that do not wait for their turn."""

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

TURN = 16
"""Requests that begin to be answered in one round of the event loop. A probe waits a few rounds; with all 256 requests
in one round, each round took as long as all of them together."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Borders of the histogram of seconds."""


@dataclass(frozen=True)
class Limits:
    """What a server takes upon itself."""

    concurrency: int = 256
    """Requests that are answered at once; more are refused with 503."""
    body: int = 2**18
    """Bytes of a request's body."""
    held: int = 2**23
    """Bytes of all bodies that are still arriving; who goes beyond is refused with 503."""
    seconds: float = 10.0
    """How long a head or a body may take to arrive, and an answer to be made, sent and read."""
    head: int = 2**14
    """Bytes of a request's address and headers."""
    headers: int = 100
    """Headers of a request."""
    pipelined: int = 8
    """Requests that may wait on a connection while another one is answered."""
    connections: int = 1_024
    """Connections that are open at once."""


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


class Turns:
    """Lets a few requests go on in each round of the event loop, in the order in which they came."""

    def __init__(self, each: int) -> None:
        self.each = each
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Wait for one's turn, which is never in the present round."""
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        if not self.waiting:
            loop.call_soon(self._next, loop)
        self.waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                self.waiting.remove(mine)
            raise

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(min(self.each, len(self.waiting))):
            first = self.waiting.popleft()
            if not first.done():
                first.set_result(None)
        if self.waiting:
            loop.call_soon(self._next, loop)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read to who asks for it; whoever asks again waits for the sender to go away."""
    left: list[bytes] = [body]

    async def again() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return again


def encoded(refusal: Refusal) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Give the body and the headers of a refusal."""
    body = to_json(refusal.answer())
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return body, headers + [(name.encode(), value.encode()) for name, value in refusal.headers().items()]


async def refuse(refusal: Refusal, send: Send) -> None:
    """Send a refusal."""
    body, headers = encoded(refusal)
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Gate:
    """The gate; `draining` is set when the server is to end."""

    def __init__(
        self, app: App, limits: Limits, measures: Measures, api_key: str | None = None, log: AccessLog | None = None
    ) -> None:
        self.app, self.limits, self.measures = app, limits, measures
        self.key = None if api_key is None else api_key.encode()
        self.log = log or AccessLog(None)
        self.running, self.held, self.draining = 0, 0, False
        self.turns = Turns(TURN)
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
        status = size = 0
        method = scope["method"]
        identity = scope["request_id"] = request_id(scope["headers"])
        if method == "HEAD":  # as GET; the server sends the head alone
            scope = {**scope, "method": "GET"}

        async def sending(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS, (ID, identity.encode())]
                if self.draining:  # whoever comes again is to come to another server
                    message["headers"].append((b"connection", b"close"))
            else:
                size += 0 if method == "HEAD" else len(message.get("body", b""))
            await send(message)

        try:
            await self._pass(scope, receive, sending)
        except Refusal as refusal:
            if not status:  # else the answer has begun, and the connection is cut: the sender notices
                await refuse(refusal, sending)
        finally:
            route, seconds = scope.get("route"), time.perf_counter() - began
            path = getattr(route, "path", "other")
            self.measures.count(path, status or 500, seconds)
            if path not in PROBES or status >= 400:
                asked = scope.get("raw_path", b"").decode("ascii", "replace")
                self.log.write(identity, scope.get("client"), method, asked, status or 500, size, seconds)

    async def _pass(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through; raise Refusal for one that is not."""
        path = scope["path"]
        if path in PROBES:
            if path not in URGENT:
                await self.turns.wait()
            await self.app(scope, receive, send)
            return
        if self.key is not None and not (path == OPEN[0] or path.startswith(OPEN[1])):
            given = dict(scope["headers"]).get(b"x-api-key", b"")
            if not hmac.compare_digest(given, self.key):  # takes as long for a key that is nearly right
                raise Refusal("this server asks for its key in the header X-API-Key", status=401)
        body = await self._body(receive)
        if self.running >= self.limits.concurrency:
            raise Refusal("too many requests at once: try again in a second", status=503)
        try:
            async with asyncio.timeout(self.limits.seconds):
                with self._place(send) as sending:
                    await self.turns.wait()  # all who came at the same moment are counted before one is answered
                    await self.app(scope, _replay(body, receive), sending)
        except TimeoutError:
            raise Refusal(f"no answer within {self.limits.seconds:g} seconds", status=503) from None

    @contextlib.contextmanager
    def _place(self, send: Send) -> Iterator[Send]:
        """Take one of the places until the last of the answer is handed over: reading it is the client's business."""
        self.running += 1
        taken = True

        async def sending(message: Message) -> None:
            nonlocal taken
            if taken and message["type"] == "http.response.body" and not message.get("more_body"):
                self.running -= 1
                taken = False
            await send(message)

        try:
            yield sending
        finally:
            self.running -= taken

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
