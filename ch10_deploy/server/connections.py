"""Limits for each connection and for the number of connections, which uvicorn's HTTP/1 protocol lacks.

Uvicorn reads request heads of any length, queues any number of pipelined requests, and waits forever for a client that
does not read. Here the size of a head, its number of headers and the number of pipelined requests are limited. The
number of connections is limited as well: a new one replaces the one that has waited longest for its client, so health
probes succeed even if other clients hold all connections open.
"""

import time
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ch10_deploy.server.access import ID, request_id
from ch10_deploy.server.gate import HEADERS, Gate, encoded
from ch10_deploy.server.refusal import Refusal

BUFFERED = 2**14
"""Bytes of responses that are buffered for a client; above this, the next response waits."""

SPARE = 32
"""Maximum number of connections beyond the limit, accepted if no connection is waiting for its client."""


class ConnectionTable:
    """All open connections, ordered by the time of their last response or of their opening."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open: dict[Connection, None] = {}

    def enter(self, connection: "Connection") -> None:
        """Add a connection; if there are too many, close one that waits for its client; if there is none, use SPARE."""
        if len(self.open) >= self.most and not self._make_room() and len(self.open) >= self.most + SPARE:
            connection.transport.abort()
            return
        self.open[connection] = None

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for its client; return whether there was one."""
        longest = next((connection for connection in self.open if connection.waits_for_client()), None)
        if longest is None:
            return False
        self.leave(longest)
        longest.transport.abort()
        return True

    def answered(self, connection: "Connection") -> None:
        """Mark a connection as the most recently used."""
        if connection in self.open:
            del self.open[connection]
            self.open[connection] = None

    def leave(self, connection: "Connection") -> None:
        """Remove a connection."""
        self.open.pop(connection, None)


class Connection(HttpToolsProtocol):
    """Uvicorn's HTTP/1 connection with limits."""

    def __init__(self, *arguments: Any, gate: Gate, table: ConnectionTable, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.gate, self.table, self.limits = gate, table, gate.limits
        self.head = 0
        """Bytes of the current request's head and trailers."""
        self.unfinished = 0
        """Bytes received since the last event of the parser, for example of a header that does not end."""
        self.refusal: Refusal | None = None
        self.ignores_input = False
        """Set when received data are discarded until the connection is closed."""
        self.answering: RequestResponseCycle | None = None
        self.head_since: float | None = None
        self.unread_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        """Register the connection and limit its write buffer."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=BUFFERED)
        self.table.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the request that is being answered; uvicorn notifies only the last one that arrived."""
        self.table.leave(self)
        self.pipeline.clear()
        if self.answering is not None and not self.answering.response_complete:
            self.answering.disconnected = True
            self.answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received data, in pieces no longer than the limit of a head."""
        if self.ignores_input:
            return
        self._unset_keepalive_if_required()
        received, parser = memoryview(data), self.parser
        assert parser is not None, "uvicorn removes it only when the connection is lost"
        try:
            for start in range(0, len(received), self.limits.head):
                piece = received[start : start + self.limits.head]
                self.unfinished += len(piece)
                parser.feed_data(piece)
                if self.unfinished > self.limits.head:
                    self._refuse(f"the head of a request may have at most {self.limits.head:,} bytes", 431)
        except httptools.HttpParserUpgrade:  # answered like any other request: this server supports only HTTP/1
            self._ignore_input()
        except httptools.HttpParserError:
            self._reject(self.refusal or Refusal("this is not HTTP/1.1", status=400))

    def _refuse(self, reason: str, status: int) -> None:
        self.refusal = Refusal(reason, status=status)
        raise httptools.HttpParserCallbackError(reason)

    def _ignore_input(self) -> None:
        """Answer the complete requests, then close."""
        self.ignores_input = True
        self.cycle.keep_alive = False

    def _reject(self, refusal: Refusal) -> None:
        """Refuse data that cannot be parsed; if earlier requests are pending, close after their responses instead."""
        pending = self.cycle is not None and not self.cycle.response_complete
        if pending and not self.cycle.more_body:
            self._ignore_input()
            return
        self.ignores_input = True
        if pending and (self.cycle is not self.answering or self.cycle.response_started):
            self.transport.close()  # a second response would be read as part of the first
            return
        identity = request_id(self.headers or ())
        body, headers = encoded(refusal)
        headers = [*self.server_state.default_headers, *headers, *HEADERS, (ID, identity.encode())]
        lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
        self.transport.write(STATUS_LINE[refusal.status] + lines + b"connection: close\r\n\r\n" + body)
        self.transport.close()
        self.gate.metrics.count("other", refusal.status, 0.0)
        self.gate.log.write(identity, self.client, "-", "-", refusal.status, len(body), 0.0)

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        """Reset the counters for a new request."""
        self.head = self.unfinished = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Receive a part of the address, up to the limit."""
        self._add_to_head(len(url), "address and headers of a request", 414)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header or trailer, up to the limits."""
        self._add_to_head(len(name) + len(value) + 4, "the head of a request", 431)
        if len(self.headers) >= self.limits.headers:
            self._refuse(f"a request may have at most {self.limits.headers:,} headers", 431)
        super().on_header(name, value)

    def _add_to_head(self, size: int, what: str, status: int) -> None:
        self.head += size
        self.unfinished = 0
        if self.head > self.limits.head:
            self._refuse(f"{what} may have at most {self.limits.head:,} bytes", status)

    def on_headers_complete(self) -> None:
        """Start or queue the request, unless too many are queued."""
        if len(self.pipeline) >= self.limits.pipelined:
            self._refuse("too many pipelined requests", 400)  # never sent, since earlier requests are pending
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Receive a part of the body."""
        self.unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Complete a request."""
        self.unfinished = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Start the next request, or become idle."""
        self.table.answered(self)
        if self.answering is not None:
            self.answering.body = bytearray()  # free the body of a request that was refused before the body was read
        super().on_response_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Suppress uvicorn's two log lines for each client that requests another protocol."""

    # Slow clients.

    def waits_for_client(self) -> bool:
        """Return whether the connection is idle, or its client sends slowly or does not read."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused

    def close_if_overdue(self) -> None:
        """Close the connection if a head takes too long to arrive or a response takes too long to be read."""
        now, limit = time.monotonic(), self.limits.seconds
        idle = self.cycle is None or self.cycle.response_complete
        awaits_head = idle and self.timeout_keep_alive_task is None  # this task of uvicorn closes idle connections
        self.head_since = (self.head_since or now) if awaits_head else None
        unread = self.transport.get_write_buffer_size() > 0
        self.unread_since = (self.unread_since or now) if unread else None
        if self.unread_since is not None and now - self.unread_since > limit:
            self.transport.abort()  # close would wait until the responses have been read
        elif self.head_since is not None and now - self.head_since > limit:
            self.transport.close()
