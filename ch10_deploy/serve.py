"""Serve exported networks over HTTP.

    python -m ch10_deploy.serve
    python -m ch10_deploy.serve --models models --host 0.0.0.0 --port 8000 --api-key-file key.txt

Every flag can be given by the environment instead, as DEPLOY_PORT=8000 for --port 8000; a flag counts more. SIGTERM
ends the server gently: it says that it is not ready any more, goes on answering for --drain-seconds, answers what it
has begun, and ends.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from ch10_deploy.inference.models import newest_export
from ch10_deploy.server.access import AccessLog
from ch10_deploy.server.app import create_app
from ch10_deploy.server.connections import SPARE, Connection, Crowd
from ch10_deploy.server.gate import Gate, Limits
from common.cli import one_line_errors, parse
from common.config import flag, require, require_positive

DOOR = "python -m ch10_deploy.serve"

BACKLOG = 2048
"""Connections that may wait to be taken up."""

LISTENERS = 32
"""How often the port is listened on. The event loop takes up one connection a turn from each listener, and under load a
turn is long: with a single one, newcomers (probes among them) waited for seconds beside 512 connections."""

SOCKET_BYTES = {socket.SO_RCVBUF: 2**14, socket.SO_SNDBUF: 2**16}
"""Bytes that the system keeps of what a connection has sent and is to receive. By default they are megabytes: hundreds
of connections whose data arrive in the same moment bring all of it into this process before any limit is applied."""

LARGE_BLOCK, M_MMAP_THRESHOLD = 2**15, -3
"""From how many bytes on a block of memory is one of its own, and the name of that setting in glibc's malloc.h."""

KEEP_ALIVE = 75
"""Seconds for which an idle connection is kept: longer than a load balancer's, which must never use one that is just
being closed."""

OTHER_FILES = 64
"""Files that the process may have open besides listeners and connections."""

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
    connections: int = Limits.connections
    """Connections that are open at once, or fewer where the limit of open files (ulimit -n) asks for it; a new one
    takes the place of the one that has waited longest for its client."""
    max_body: int = Limits.body
    """Bytes of a request's body."""
    timeout: float = Limits.seconds
    """Seconds that a request may take to arrive, and as many to be answered, and the answer to be read."""
    access_log: bool = True
    """Write a line of JSON to stderr for each request, except for health probes that succeed."""
    drain_seconds: float = 2.0
    """How long to go on answering after SIGTERM: as long as others may take to notice."""

    def __post_init__(self) -> None:
        require_positive(self, "concurrency", "connections", "max_body", "timeout")
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
        """Ten times a second: hang up on who keeps the server waiting, and tell whether it is time to end."""
        connections: set[Any] = self.server_state.connections
        for connection in list(connections):
            connection.hang_up_if_overdue()
        return await super().on_tick(counter) or time.monotonic() >= self.ends_at


def most_connections(wanted: int) -> int:
    """Give the number of connections that the limit of open files leaves room for, `wanted` at most.

    Raises ValueError where there is room for none.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = LISTENERS + SPARE + OTHER_FILES
    if files == resource.RLIM_INFINITY:
        return wanted
    require(files > taken, f"the limit of open files must be above {taken}: raise it with ulimit -n", files)
    return min(wanted, files - taken)


def listen(host: str, port: int) -> socket.socket:
    """Open the port; raises OSError, with the flags that choose another, where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise OSError(f"cannot listen on {host}:{port} ({reason}): choose another with --host and --port") from error
    for side, size in SOCKET_BYTES.items():
        listener.setsockopt(socket.SOL_SOCKET, side, size)  # connections inherit it
    return listener


def return_large_blocks() -> None:
    """Have glibc return large blocks to the system when they are freed: bodies that arrive together leave no holes."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other C libraries have no such setting
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def serve(options: Options) -> None:
    """Load the networks and answer requests until a signal comes."""
    return_large_blocks()
    limits = Limits(
        concurrency=options.concurrency,
        connections=most_connections(options.connections),
        body=options.max_body,
        seconds=options.timeout,
    )
    folder = options.models or newest_export(options.out)
    log = AccessLog(sys.stderr if options.access_log else None)
    app = create_app(folder, limits, read_key(options.api_key_file), log)
    gate: Gate = app.state.gate
    what = f"{', '.join(app.state.names)} from {folder}"
    server = Server(uvicorn_config(app, gate), gate, options.drain_seconds, what)
    port = listen(options.host, options.port)
    server.run([port, *(port.dup() for _ in range(LISTENERS - 1))])


def uvicorn_config(app: Any, gate: Gate) -> uvicorn.Config:
    """Say how uvicorn is to serve an application."""
    connection: Any = partial(Connection, gate=gate, crowd=Crowd(gate.limits.connections))
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # ours has ids
        http=connection,
        server_header=False,
        ws="none",
        lifespan="off",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(gate.limits.seconds) + 1,
    )


def main(words: Sequence[str] | None = None) -> None:
    """Read the environment and the command line."""
    with one_line_errors():
        arguments = [*words_of(os.environ), *(sys.argv[1:] if words is None else words)]
        serve(parse(Options, arguments, prog=DOOR, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
