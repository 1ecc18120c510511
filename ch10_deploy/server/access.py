"""The access log: one line of JSON for each request, with the id that the answer carries as X-Request-ID.

A proxy or a client may send an id of its own; a new one replaces it where it is not plain and short, so that nobody can
write lines into the log.
"""

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic_core import to_json

ID = b"x-request-id"

PLAIN = re.compile(rb"[A-Za-z0-9._-]{1,64}")

MOST_PATH = 200
"""Characters of a path that are logged."""


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Give the id that a request brings, or a new one."""
    given = next((value for name, value in headers if name == ID), b"")
    return given.decode() if PLAIN.fullmatch(given) else secrets.token_hex(8)


class AccessLog:
    """Writes a line per request; health probes are left out unless they fail, since they come every few seconds."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    def write(self, request: str, client: Any, method: str, path: str, status: int, size: int, seconds: float) -> None:
        """Log a request: its id, who asked for what, and the status, bytes of the body and milliseconds."""
        if self.stream is None:
            return
        line = {
            "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
            "id": request,
            "client": client[0] if client else None,
            "method": method,
            "path": path[:MOST_PATH],
            "status": status,
            "bytes": size,
            "ms": round(1e3 * seconds, 2),
        }
        self.stream.write(to_json(line).decode() + "\n")
        self.stream.flush()
