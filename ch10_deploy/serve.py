"""Serve exported networks over HTTP.

    python -m ch10_deploy.serve
    python -m ch10_deploy.serve --models models --host 0.0.0.0 --port 8000 --api-key-file key.txt

Every flag can also be set by an environment variable, for example DEPLOY_PORT=8000 for --port 8000; flags take
precedence. On SIGTERM the server reports that it is not ready, answers requests for another --drain-seconds, completes
the running ones, and exits.
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
from ch10_deploy.server.connections import SPARE, Connection, ConnectionTable
from ch10_deploy.server.gate import Gate, Limits
from common.cli import one_line_errors, parse
from common.config import flag, require, require_positive

DOOR = "python -m ch10_deploy.serve"

BACKLOG = 2048
"""Connections that the system queues until they are accepted."""

LISTENERS = 32
"""Number of listening sockets on the port. The event loop accepts one connection per listener and iteration. Iterations
take long under load: with one listener and 512 connections, new connections, including probes, waited for seconds."""

SOCKET_BYTES = {socket.SO_RCVBUF: 2**14, socket.SO_SNDBUF: 2**16}
"""Sizes of the system's receive and send buffers per connection. With the default of megabytes, data that arrive on
hundreds of connections at the same time enter this process before any limit is applied."""

LARGE_BLOCK, M_MMAP_THRESHOLD = 2**15, -3
"""Size in bytes from which glibc allocates a block with mmap, and the number of this setting in malloc.h."""

KEEP_ALIVE = 75
"""Seconds until an idle connection is closed. A load balancer's timeout must be shorter, or it may send a request on a
connection that is being closed."""

OTHER_FILES = 64
"""File descriptors reserved for uses other than listeners and connections."""

MIN_KEY_LENGTH = 16
"""Minimum length of an API key, in characters."""


@dataclass(frozen=True)
class Options:
    """Settings of the server."""

    models: Path | None = None
    """Folder of exported models; by default the newest export."""
    out: Path = Path("runs")
    """Folder of runs that contains the newest export."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 listens on all interfaces, as needed in a container."""
    port: int = 8000
    """TCP port to listen on; 0 selects a free one."""
    api_key_file: Path | None = None
    """File with the API key that requests must send in the header X-API-Key; by default no key is required."""
    concurrency: int = Limits.concurrency
    """Maximum number of concurrent requests; further ones are refused with status 503."""
    connections: int = Limits.connections
    """Maximum number of open connections; reduced if the limit of open files (ulimit -n) is too low. Beyond it, the
    connection that has waited longest for its client is closed."""
    max_body: int = Limits.body
    """Maximum size of a request body, in bytes."""
    timeout: float = Limits.seconds
    """Maximum time in seconds for each of: receiving a request, computing its response, the client reading it."""
    access_log: bool = True
    """Write one JSON line per request to stderr, except for successful health probes."""
    drain_seconds: float = 2.0
    """Seconds to continue answering after SIGTERM, so that load balancers notice the shutdown."""

    def __post_init__(self) -> None:
        require_positive(self, "concurrency", "connections", "max_body", "timeout")
        require(0 <= self.port < 2**16, "--port must be between 0 and 65535", self.port)
        require(0 <= self.drain_seconds < float("inf"), "--drain-seconds must not be negative", self.drain_seconds)


def flags_of(environment: Mapping[str, str]) -> list[str]:
    """Convert environment variables such as DEPLOY_PORT=8000 to flags; empty ones are ignored.

    Raises ValueError for an empty DEPLOY_API_KEY_FILE, so that the server cannot start without a key by mistake.
    """
    if environment.get("DEPLOY_API_KEY_FILE") == "":
        raise ValueError("DEPLOY_API_KEY_FILE is empty: name the file with the key, or unset it to require none")
    names = {f"DEPLOY_{field.name.upper()}": field.name for field in fields(Options)}
    return [
        word for name, value in environment.items() if value and name in names for word in (flag(names[name]), value)
    ]


def read_key(path: Path | None) -> str | None:
    """Read the API key from a file; raises ValueError if it is too short."""
    if path is None:
        return None
    key = path.read_text(encoding="utf-8").strip()
    require(len(key) >= MIN_KEY_LENGTH, f"the key in {path} must have at least {MIN_KEY_LENGTH} characters", len(key))
    return key


class Server(uvicorn.Server):
    """Uvicorn server that drains at shutdown and prints its address at the start."""

    def __init__(self, config: uvicorn.Config, gate: Gate, drain_seconds: float, what: str) -> None:
        super().__init__(config)
        self.gate, self.drain_seconds, self.what = gate, drain_seconds, what
        self.ends_at = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and print the address."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        key = "no API key required" if self.gate.key is None else "API key required"
        print(f"serving  {self.what} ({key}) at http://{shown}:{port}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining on SIGTERM; on Ctrl-C or a second SIGTERM, exit once the running requests are complete."""
        if sig == signal.SIGTERM and not self.gate.draining:
            self.gate.draining = True
            self.ends_at = time.monotonic() + self.drain_seconds
            return
        if sig == signal.SIGINT:
            super().handle_exit(sig, frame)
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Close overdue connections, ten times per second; return whether the server should exit."""
        connections: set[Any] = self.server_state.connections
        for connection in list(connections):
            connection.close_if_overdue()
        return await super().on_tick(counter) or time.monotonic() >= self.ends_at


def connection_limit(wanted: int) -> int:
    """Return the wanted number of connections, reduced to what the limit of open files allows.

    Raises ValueError if it allows none.
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
    """Open the listening socket; raises OSError, naming the flags --host and --port, if this fails."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise OSError(f"cannot listen on {host}:{port} ({reason}): choose another with --host and --port") from error
    for side, size in SOCKET_BYTES.items():
        listener.setsockopt(socket.SOL_SOCKET, side, size)  # inherited by accepted connections
    return listener


def return_large_blocks() -> None:
    """Make glibc return freed large blocks to the system, so that a burst of bodies does not fragment the heap."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other C libraries do not have this setting
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def serve(options: Options) -> None:
    """Load the models and answer requests until a signal arrives."""
    return_large_blocks()
    limits = Limits(
        concurrency=options.concurrency,
        connections=connection_limit(options.connections),
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
    """Configure uvicorn for the application."""
    connection: Any = partial(Connection, gate=gate, table=ConnectionTable(gate.limits.connections))
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # replaced by server/access.py, which has request ids
        http=connection,
        server_header=False,
        ws="none",
        lifespan="off",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(gate.limits.seconds) + 1,
    )


def main(words: Sequence[str] | None = None) -> None:
    """Read the environment and the command line, and serve."""
    with one_line_errors():
        arguments = [*flags_of(os.environ), *(sys.argv[1:] if words is None else words)]
        serve(parse(Options, arguments, prog=DOOR, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
