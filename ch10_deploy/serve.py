"""Serve exported networks over HTTP.

    python -m ch10_deploy.serve
    python -m ch10_deploy.serve --models models --host 0.0.0.0 --port 8000 --api-key-file key.txt

Every flag can be given by the environment instead, as DEPLOY_PORT=8000 for --port 8000; a flag counts more. SIGTERM
ends the server gently: it says that it is not ready any more, goes on answering for --drain-seconds, answers what it
has begun, and ends.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from ch10_deploy.gate import Gate, Limits
from ch10_deploy.models import newest_export
from ch10_deploy.server import create_app
from common.cli import one_line_errors, parse
from common.config import flag, require, require_positive

DOOR = "python -m ch10_deploy.serve"

BACKLOG = 2048
"""Connections that may wait to be taken up."""

LISTENERS = 32
"""How often the port is listened on. The event loop takes up one connection a turn from each listener, and under load a
turn is long: with a single one, newcomers (probes among them) waited for seconds beside 512 connections."""

LEAST_KEY = 16
"""Characters that an API key has at least."""


@dataclass(frozen=True)
class Options:
    """Which networks, where, and how much at once."""

    models: Path | None = None
    """Folder with the exported networks; by default those of the newest export."""
    out: Path = Path("runs")
    """Where the newest export is looked for."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 listens on all, as within a container."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    api_key_file: Path | None = None
    """File with the key that requests must carry in the header X-API-Key; by default none is asked for."""
    concurrency: int = Limits.concurrency
    """Requests that are answered at once; more are refused with 503."""
    max_body: int = Limits.body
    """Bytes of a request's body."""
    timeout: float = Limits.seconds
    """Seconds that a request may take to arrive, and as many to be answered."""
    drain_seconds: float = 2.0
    """How long to go on answering after SIGTERM: as long as others may take to notice."""

    def __post_init__(self) -> None:
        require_positive(self, "concurrency", "max_body", "timeout")
        require(0 <= self.port < 2**16, "--port must be between 0 and 65535", self.port)
        require(0 <= self.drain_seconds < float("inf"), "--drain-seconds must not be negative", self.drain_seconds)


def words_of(environment: Mapping[str, str]) -> list[str]:
    """Turn DEPLOY_PORT=8000 and its like into flags; empty ones say nothing.

    Raises ValueError for an empty DEPLOY_API_KEY_FILE: who sets it wants a key, and must not serve without.
    """
    if environment.get("DEPLOY_API_KEY_FILE") == "":
        raise ValueError("DEPLOY_API_KEY_FILE is empty: name the file with the key, or unset it to ask for none")
    names = {f"DEPLOY_{field.name.upper()}": field.name for field in fields(Options)}
    return [
        word for name, value in environment.items() if value and name in names for word in (flag(names[name]), value)
    ]


def read_key(path: Path | None) -> str | None:
    """Read the API key; raises ValueError where it is too short to be one."""
    if path is None:
        return None
    key = path.read_text(encoding="utf-8").strip()
    require(len(key) >= LEAST_KEY, f"the key in {path} must have at least {LEAST_KEY} characters", len(key))
    return key


class Server(uvicorn.Server):
    """Uvicorn's server, which drains before it ends and says where it listens."""

    def __init__(self, config: uvicorn.Config, gate: Gate, drain_seconds: float, what: str) -> None:
        super().__init__(config)
        self.gate, self.drain_seconds, self.what = gate, drain_seconds, what
        self.ends_at = float("inf")
        self.waiting: dict[Any, float] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and say where."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        key = "without a key: whoever reaches it may ask" if self.gate.key is None else "with a key"
        print(f"serving  {self.what} ({key}) at http://{shown}:{port}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM begin to drain; on Ctrl-C, or when told twice, end as soon as what has begun is answered."""
        if sig == signal.SIGTERM and not self.gate.draining:
            self.gate.draining = True
            self.ends_at = time.monotonic() + self.drain_seconds
            return
        if sig == signal.SIGINT:
            super().handle_exit(sig, frame)
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: hang up on the idle, and tell whether it is time to end."""
        self.hang_up()
        return await super().on_tick(counter) or time.monotonic() >= self.ends_at

    def hang_up(self) -> None:
        """Close connections on which the head of a request does not come in time: uvicorn would wait for ever."""
        now = time.monotonic()
        before, self.waiting = self.waiting, {}
        connections: set[Any] = self.server_state.connections  # every protocol for HTTP/1 keeps these two
        for connection in connections:
            at_rest = connection.cycle is None or connection.cycle.response_complete
            if at_rest and connection.timeout_keep_alive_task is None:  # while that runs, uvicorn watches
                self.waiting[connection] = before.get(connection, now)
        for connection, since in self.waiting.items():
            if now - since > self.gate.limits.seconds:
                connection.transport.close()


def listen(host: str, port: int) -> socket.socket:
    """Open the port; raises OSError, with the flags that choose another, where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise OSError(f"cannot listen on {host}:{port} ({reason}): choose another with --host and --port") from error


def serve(options: Options) -> None:
    """Load the networks and answer requests until a signal comes."""
    limits = Limits(concurrency=options.concurrency, body=options.max_body, seconds=options.timeout)
    folder = options.models or newest_export(options.out)
    app = create_app(folder, limits, read_key(options.api_key_file))
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        http="httptools",
        server_header=False,
        ws="none",
        lifespan="off",
        timeout_keep_alive=75,  # longer than a load balancer's: it must never reuse a connection that is just ending
        timeout_graceful_shutdown=int(options.timeout) + 1,
    )
    what = f"{', '.join(app.state.names)} from {folder}"
    server = Server(config, app.state.gate, options.drain_seconds, what)
    port = listen(options.host, options.port)
    server.run([port, *(port.dup() for _ in range(LISTENERS - 1))])


def main(words: Sequence[str] | None = None) -> None:
    """Read the environment and the command line."""
    with one_line_errors():
        arguments = [*words_of(os.environ), *(sys.argv[1:] if words is None else words)]
        serve(parse(Options, arguments, prog=DOOR, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
