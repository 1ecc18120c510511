"""Send malformed requests and attacks to a server; count its responses and measure its memory and latency.

    python -m ch10_deploy.train fuzzing
    python -m ch10_deploy.train fuzzing --requests 10000

Schemathesis generates half of the requests, valid and invalid ones, from the server's openapi.json. The others are
random bytes, mutated requests, and valid requests with a mutated body; a mutation changes, deletes, doubles or inserts
bytes. Among them is an image that decompresses to 1 GB. The attacks of `attacks.py` follow: endless heads, compressed
comments, clients that never read, and hundreds of idle connections. Meanwhile another process probes `/healthz` and
samples the server's memory.

`responses_5xx` counts responses with status 500 or more, except 503, according to the server's own /metrics.
`responses_503` counts the responses with which an overloaded server refuses requests.
"""

import contextlib
import random
import re
import socket
import time
import urllib.request
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from pydantic_core import to_json

from ch10_deploy.attack.attacks import ATTACKS, BOUNDARY, PATIENCE, heavy_png, png, upload_bytes
from ch10_deploy.attack.probing import watched
from ch10_deploy.attack.server_process import Running, running
from ch10_deploy.attack.serving import card_of
from ch10_deploy.inference.models import newest_export
from ch10_deploy.loadtest import draw_images
from common.config import RunOptions, require_positive
from common.progress import say, track
from common.run import Run

HALF_CLOSE_SECONDS = 0.5
"""Seconds without a response after which the client closes its sending side."""


@dataclass(frozen=True)
class Config:
    """Settings of the fuzzing."""

    models: Path | None = None
    """Folder of exported models; by default the newest export."""
    requests: int = 1_500
    """Number of generated and malformed requests."""
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        require_positive(self, "requests")


@dataclass(frozen=True)
class Request:
    """An HTTP request; the length is computed from the body, so that a mutated body arrives complete."""

    path: str
    body: bytes
    kind: str = "application/json"
    method: str = "POST"

    def encoded(self, host: str) -> bytes:
        """Encode the request."""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {self.kind}\r\n"
        return f"{head}Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n".encode() + self.body


def upload(file: bytes, path: str = "/predict/image") -> Request:
    """Build the request of a form that uploads a file."""
    return Request(path, upload_bytes(file), f"multipart/form-data; boundary={BOUNDARY}")


def valid_requests() -> list[Request]:
    """Build a valid request for each endpoint with parameters, and uploads of three decompression bombs."""
    grey, colour = draw_images(1)[0], [[[1, 2, 3]] * 32] * 32
    return [
        *(Request("/predict", to_json({"pixels": image})) for image in (grey, colour)),
        Request("/predict/batch", to_json({"images": [grey, grey]})),
        Request("/decode", b'{"latent": [0.5, -1.5]}'),
        Request("/denoise", b'{"digit": 7, "guidance": 1.5, "steps": 2}'),
        Request("/generate", b'{"prompt": "The", "length": 20, "temperature": 0.8, "top_k": 5, "seed": 1}'),
        Request("/recommend", b'{"likes": ["The Golden Quarry (1990)"], "dislikes": [], "top": 5}'),
        Request("/ask", b'{"story": "Mary went to the garden. John took the milk.", "question": "Where is Mary?"}'),
        Request("/maze", b'{"seed": 7}'),
        Request("/balance", b'{"agent": "ppo", "states": [[0.1, -0.2, 0.03, 0.4]]}'),
        Request("/films?query=the&limit=5", b"", method="GET"),
        upload(png(28, 28, 0, bytes(28 * 29))),
        upload(png(32_000, 32_000, 0, bytes(10**6))),
        upload(heavy_png()),
        upload(png(64, 48, 2, bytes(48 * (3 * 64 + 1))), "/detect?threshold=0.1"),
        upload(png(32_000, 32_000, 0, bytes(10**6)), "/detect"),
        upload(png(64, 48, 0, bytes(48 * 65)), "/segment"),
    ]


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Change, delete, double or insert some bytes."""
    part = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(len(part) + 1)
        match generator.randrange(4):
            case 0:
                part[place : place + 1] = generator.randbytes(1)
            case 1:
                del part[place : place + generator.randint(1, 40)]
            case 2:
                part[place:place] = part[place : place + generator.randint(1, 200)]
            case _:
                part[place:place] = generator.choice(
                    (b"1e999", b"-1", b"9", b",", b"NaN", b'"', b"[" * 300, b"\x00", b"null")
                )
    return bytes(part)


def malformed_requests(count: int, host: str, generator: random.Random) -> Iterator[bytes]:
    """Yield `count` malformed requests: random bytes, mutated requests, and requests with a mutated body."""
    good = valid_requests()
    for number in range(count):
        request = generator.choice(good)
        if number % 4 == 0:
            yield generator.randbytes(generator.randint(1, 3_000)) + b"\r\n\r\n"
        elif number % 4 == 1:
            yield mutated(request.encoded(host), generator)
        else:
            yield replace(request, body=mutated(request.body, generator)).encoded(host)


def ask(where: tuple[str, int], request: bytes) -> int | None:
    """Send bytes and return the status of the response; None if the server closes the connection without one.

    The server waits for the rest of an incomplete request, so the client soon closes its sending side. Raises
    TimeoutError if the server neither answers nor closes the connection.
    """
    answer = b""
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(where, timeout=HALF_CLOSE_SECONDS) as connection,
    ):
        connection.sendall(request)
        try:
            answer = connection.recv(65_536)
        except TimeoutError:
            connection.settimeout(PATIENCE)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65_536)
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else None


def send_malformed(server: Running, count: int, generator: random.Random) -> Counter[int | None]:
    """Send malformed requests and count the statuses of the responses."""
    host, port = where = server.where()
    return Counter(ask(where, request) for request in malformed_requests(count, f"{host}:{port}", generator))


def answered(server: Running) -> Counter[int]:
    """Read the number of responses by status from the server's /metrics."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=PATIENCE) as answer:
        text = answer.read().decode()
    counted: Counter[int] = Counter()
    for status, number in re.findall(r'^requests_total\{.*status="(\d+)"\} (\S+)$', text, re.MULTILINE):
        counted[int(status)] += int(float(number))
    return counted


@contextlib.contextmanager
def subnormals() -> Iterator[None]:
    """Keep subnormal numbers, which hypothesis draws; `common.device` flushes them to zero in this process."""
    torch.set_flush_denormal(False)
    try:
        yield
    finally:
        torch.set_flush_denormal(True)


@subnormals()
def send_generated(server: Running, count: int, seed: int) -> Counter[int | None]:
    """Send valid and invalid requests generated by schemathesis; count the statuses of the responses.

    The status is None if the server closes the connection or has exited.
    """
    import requests
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis.errors import Unsatisfiable

    with warnings.catch_warnings(action="ignore"):
        import schemathesis
        from schemathesis.core.result import Ok

    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    sources = [
        (result.ok(), mode) for result in schema.get_all_operations() if isinstance(result, Ok) for mode in modes
    ]
    statuses: Counter[int | None] = Counter()
    while sources and statuses.total() < count:
        each = -(-(count - statuses.total()) // len(sources))
        operation, mode = sources.pop(0)
        asked = settings(
            max_examples=each,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        )

        @seeded(seed)
        @asked
        @given(case=operation.as_strategy(generation_mode=mode))
        def send_case(case: "schemathesis.Case") -> None:
            try:
                statuses[case.call(timeout=PATIENCE).status_code] += 1
            except requests.ConnectionError:
                statuses[None] += 1

        with contextlib.suppress(Unsatisfiable):  # a request without parameters cannot be invalid
            send_case()
    return statuses


def train(config: Config) -> dict[str, float]:
    """Start a server, send it malformed requests and attacks, and return the metrics."""
    models = config.models or newest_export(config.run.out)
    with Run.open(__name__, config, card_of(models), arithmetic="fp32") as run, running(models) as server:
        began, generator = time.perf_counter(), random.Random(config.run.seed)
        send_malformed(server, min(100, config.requests), generator)  # warm-up, before memory is measured
        if (code := server.process.poll()) is not None:
            raise ChildProcessError(f"the server exited during the first requests (exit code {code})")
        before = server.memory()
        with watched(server.where(), server.process.pid) as quiet:
            invented = send_generated(server, config.requests // 2, config.run.seed)
            broken = send_malformed(server, config.requests - invented.total(), generator)
        statuses = invented + broken
        report("invented", invented)
        report("broken", broken)
        with watched(server.where(), server.process.pid) as attacked:
            for attack in track(ATTACKS, "attacks"):
                report(attack.__name__.replace("_", " "), attack(server.where()))
        alive = server.process.poll() is None
        counts = answered(server) if alive else Counter({500: 1})
        report("all", counts)
        growth = max(quiet.memory, attacked.memory) - before
        measures = {
            "requests": statuses.total(),
            "attacks": len(ATTACKS),
            "responses_5xx": sum(number for status, number in counts.items() if status >= 500 and status != 503),
            "responses_503": counts[503],
            "refused": sum(number for status, number in statuses.items() if status and 400 <= status < 500),
            "memory_growth_mb": max(growth, 0) / 1e6,
            "healthz_p99_ms": quiet.percentile(0.99),
            "attacks_healthz_p99_ms": attacked.percentile(0.99),
            "probes_failed": quiet.failed + attacked.failed,
            "asking_seconds": time.perf_counter() - began,
        }
        return run.finish(run=measures)


def report(title: str, counted: Counter[int | None] | Counter[int]) -> None:
    """Print the number of responses by status."""
    shown = (
        f"{status or ('still open' if status == 0 else 'no answer')}: {n:,}" for status, n in counted.most_common()
    )
    say(title, ", ".join(shown) or "no requests")
