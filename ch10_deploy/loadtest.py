"""Measure throughput and latency of a server on this machine with a closed-loop load generator.

    python -m ch10_deploy.loadtest
    python -m ch10_deploy.loadtest --connections 512 --seconds 20
    python -m ch10_deploy.loadtest --requests 10000

Each connection sends a request, waits for the response, and sends the next (a closed loop). After a response with
`Retry-After` it first waits that long. Only servers on loopback addresses are accepted.
"""

import asyncio
import ipaddress
import math
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np
from pydantic_core import to_json

from common.cli import one_line_errors, parse
from common.config import require

DOOR = "python -m ch10_deploy.loadtest"

VARIETY = 32
"""Number of different images; requests cycle through them."""


@dataclass(frozen=True)
class Options:
    """Settings of the load test."""

    url: str = "http://127.0.0.1:8000"
    """URL of the server, on this machine."""
    connections: int = 32
    """Number of concurrent connections."""
    seconds: float = 10.0
    """Duration in seconds."""
    requests: int | None = None
    """Stop after this number of responses; by default only --seconds limits the test."""
    patience: float = 10.0
    """Seconds to wait for outstanding responses at the end; requests without a response are counted as hung."""
    api_key: str | None = None
    """API key, if the server requires one."""

    def __post_init__(self) -> None:
        require(1 <= self.connections <= 10_000, "--connections must be between 1 and 10,000", self.connections)
        require(0 < self.seconds <= 600, "--seconds must be above 0 and at most 600", self.seconds)
        require(1 <= (self.requests or 1) <= 10**7, "--requests must be between 1 and 10,000,000", self.requests)
        require(0 < self.patience <= 600, "--patience must be above 0 and at most 600", self.patience)


@dataclass
class Tally:
    """Counts and latencies of the responses."""

    began: float = 0.0
    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    """Latency of each response, with any status."""
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    """Requests whose connection closed before a response."""
    hung: int = 0
    """Requests without a response after --patience seconds."""
    unconnected: int = 0
    """Connections that could not be opened."""

    def metrics(self) -> dict[str, float]:
        """Compute the metrics; `refused` counts responses with status 503, `errors` other failures."""
        times = np.array(self.milliseconds or [math.nan])
        refused = self.statuses[503]
        good = self.statuses[200]
        return {
            "requests": len(self.milliseconds),
            "requests_per_second": good / self.seconds,
            "p50_ms": float(np.percentile(times, 50)),
            "p99_ms": float(np.percentile(times, 99)),
            "slowest_ms": float(times.max()),
            "refused": refused,
            "errors": sum(self.statuses.values()) - good - refused + self.lost + self.hung + self.unconnected,
        }


def address(url: str) -> tuple[str, int]:
    """Parse a URL into host and port; raises ValueError if the host is not this machine."""
    parts: SplitResult = urlsplit(url)
    require(parts.scheme == "http" and parts.hostname is not None, "--url must look like http://127.0.0.1:8000", url)
    host, port = parts.hostname or "", parts.port or 80
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"--url: unknown host {host!r} ({error.strerror})") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not all(ipaddress.ip_address(each).is_loopback for each in addresses):
        raise ValueError(
            f"--url: {host} is another machine: only servers on this one are tested, as in http://127.0.0.1:{port}"
        )
    return addresses[0], port


def draw_images(count: int) -> list[list[list[int]]]:
    """Generate random 28x28 images with about as many nonzero pixels as a handwritten digit."""
    rng = np.random.default_rng(0)
    ink = rng.random((count, 28, 28)) < 0.19
    return np.where(ink, rng.integers(1, 256, ink.shape), 0).tolist()


def request_bytes(host: str, path: str, body: bytes, api_key: str | None = None) -> bytes:
    """Encode an HTTP request."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    if api_key is not None:
        lines.append(f"X-API-Key: {api_key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def digit_requests(host: str, api_key: str | None = None) -> list[bytes]:
    """Encode requests for /predict, each with a different image."""
    bodies = [to_json({"pixels": image}) for image in draw_images(VARIETY)]
    return [request_bytes(host, "/predict", body, api_key) for body in bodies]


class ClientConnection(asyncio.Protocol):
    """Send requests over one connection, one after the other; kept simple, since it runs on the server's machine."""

    def __init__(self, requests: Sequence[bytes], number: int, tally: Tally, most: float) -> None:
        self.requests, self.number, self.tally, self.most = requests, number, tally, most
        self.buffer, self.expected = b"", -1
        self.sent_at: float | None = None
        self.stopping = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport: Any = transport  # uvloop's transports are not subclasses of asyncio's
        self._send_next()

    def _send_next(self) -> None:
        if self.stopping or len(self.tally.milliseconds) >= self.most:
            self.transport.close()
            return
        self.number += 1
        self.sent_at = time.perf_counter()
        self.transport.write(self.requests[self.number % len(self.requests)])

    def data_received(self, data: bytes) -> None:
        """Collect a response; once it is complete, count it and send the next request."""
        self.buffer += data
        if self.expected < 0:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            self.expected = end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            self.last = b"connection: close" in head
            self.pause = int(head.partition(b"retry-after:")[2].partition(b"\r\n")[0] or 0)
        if len(self.buffer) < self.expected:
            return
        assert self.sent_at is not None
        self.tally.milliseconds.append(1e3 * (time.perf_counter() - self.sent_at))
        self.tally.statuses[int(self.buffer[9:12])] += 1
        self.buffer, self.expected, self.sent_at = b"", -1, None
        if self.last:
            self.transport.close()
        elif self.pause:  # clients that try again at once would leave the server no time for the others
            asyncio.get_running_loop().call_later(self.pause, self._send_next)
        else:
            self._send_next()

    def stop(self) -> None:
        """Send no further request; an outstanding response is still awaited."""
        self.stopping = True
        if self.sent_at is None:
            self.transport.close()

    def give_up(self) -> None:
        """Count the outstanding request as hung and close the connection."""
        self.tally.hung += 1
        self.sent_at = None
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Count a request without a response as lost."""
        if self.sent_at is not None:
            self.tally.lost += 1
        if not self.closed.done():
            self.closed.set_result(None)


async def run_connection(
    where: tuple[str, int], requests: Sequence[bytes], number: int, tally: Tally, options: Options, until: float
) -> None:
    """Send requests over one connection until the time is up; reconnect if the server closes it."""
    loop, most = asyncio.get_running_loop(), options.requests or math.inf
    while time.perf_counter() < until and len(tally.milliseconds) < most:
        try:
            _, client = await loop.create_connection(lambda: ClientConnection(requests, number, tally, most), *where)
        except OSError:
            tally.unconnected += 1
            return
        await asyncio.wait([client.closed], timeout=until - time.perf_counter())
        client.stop()
        await asyncio.wait([client.closed], timeout=options.patience)
        if not client.closed.done():
            client.give_up()


async def load(options: Options) -> Tally:
    """Run the load test against a server."""
    where, tally = address(options.url), Tally()
    requests = digit_requests(f"{where[0]}:{where[1]}", options.api_key)
    tally.began = time.perf_counter()
    until = tally.began + options.seconds
    await asyncio.gather(
        *(run_connection(where, requests, number, tally, options, until) for number in range(options.connections))
    )
    tally.seconds = time.perf_counter() - tally.began
    return tally


def run_load(options: Options) -> Tally:
    """Run the load test in a new event loop; raises ConnectionError if there was no response at all."""
    try:
        import uvloop

        tally = uvloop.run(load(options))
    except ImportError:  # uvloop does not support every system
        tally = asyncio.run(load(options))
    if not tally.milliseconds:
        raise ConnectionError(f"no server answers at {options.url}: start a server with python -m ch10_deploy.serve")
    return tally


def report(tally: Tally) -> None:
    """Print the metrics."""
    measures = tally.metrics()
    print(f"responses  {measures['requests']:,.0f} in {tally.seconds:.1f} s")
    print(f"throughput {measures['requests_per_second']:,.0f} requests/s answered with 200")
    p50, p99, slowest = (measures[f"{name}_ms"] for name in ("p50", "p99", "slowest"))
    print(f"latency    p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {slowest:.1f} ms")
    print(f"statuses   {', '.join(f'{status}: {count:,}' for status, count in sorted(tally.statuses.items()))}")
    print(f"errors     {tally.lost} lost, {tally.hung} hung, {tally.unconnected} not connected")


def main(words: list[str] | None = None) -> None:
    """Read the command line and run the load test; exit with 1 if there were errors."""
    with one_line_errors():
        options = parse(
            Options, sys.argv[1:] if words is None else words, prog=DOOR, description=(__doc__ or "").strip()
        )
        tally = run_load(options)
        report(tally)
        sys.exit(1 if tally.metrics()["errors"] else 0)


if __name__ == "__main__":
    main()
