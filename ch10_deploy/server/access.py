"""Write the access log: one JSON line per request, with the id that the response carries as X-Request-ID.

A proxy or a client may send its own id. It is replaced if it is longer than 64 characters or contains characters other
than letters, digits, dots, underscores and hyphens, so that clients cannot inject lines into the log.
"""

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic_core import to_json

ID = b"x-request-id"

VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

MAX_PATH = 200
"""Maximum number of characters of a path in the log."""


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the id that a request carries, or a new one."""
    given = next((value for name, value in headers if name == ID), b"")
    return given.decode() if VALID_ID.fullmatch(given) else secrets.token_hex(8)


class AccessLog:
    """Write one line per request; the gate omits successful health probes, which arrive every few seconds."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    def write(self, request: str, client: Any, method: str, path: str, status: int, size: int, seconds: float) -> None:
        """Log a request: id, client, method, path, status, body size in bytes and duration."""
        if self.stream is None:
            return
        line = {
            "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
            "id": request,
            "client": client[0] if client else None,
            "method": method,
            "path": path[:MAX_PATH],
            "status": status,
            "bytes": size,
            "ms": round(1e3 * seconds, 2),
        }
        self.stream.write(to_json(line).decode() + "\n")
        self.stream.flush()
