"""One connection, and all of them together: bounds that uvicorn's HTTP/1 protocol does not have.

Uvicorn reads the head of a request however long it is, queues every request that a client sends ahead of its answers,
and waits forever for a client that does not read. Here a head has a limit in bytes and in headers, a few requests may
wait, and the number of connections is bounded: a newcomer takes the place of the connection that has been waiting
longest for its client, so that a probe gets through when others hold all connections open.
"""

import time
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ch10_deploy.server.access import ID, request_id
from ch10_deploy.server.gate import HEADERS, Gate, encoded
from ch10_deploy.server.refusal import Refusal

BUFFERED = 2**14
"""Bytes of answers that may wait in this process for a client to read, before the next one waits."""

SPARE = 32
"""Connections beyond the limit, for moments at which no connection waits for its client."""


class Crowd:
    """All open connections, in the order in which they were last of use: opened, or answered."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open: dict[Connection, None] = {}

    def enter(self, connection: "Connection") -> None:
        """Take a connection in; close another one, or else this one, where there are too many."""
        if len(self.open) >= self.most and not self._make_room() and len(self.open) >= self.most + SPARE:
            connection.transport.abort()
            return
        self.open[connection] = None

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for its client; tell whether there was one."""
        longest = next((connection for connection in self.open if connection.waits_for_client()), None)
        if longest is None:
            return False
        self.leave(longest)
        longest.transport.abort()
        return True

    def answered(self, connection: "Connection") -> None:
        """Move a connection behind all others."""
        if connection in self.open:
            del self.open[connection]
            self.open[connection] = None

    def leave(self, connection: "Connection") -> None:
        """Forget a connection."""
        self.open.pop(connection, None)


class Connection(HttpToolsProtocol):
    """A connection with limits."""

    def __init__(self, *arguments: Any, gate: Gate, crowd: Crowd, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.gate, self.crowd, self.limits = gate, crowd, gate.limits
        self.head = 0
        """Bytes of the present request's head, and of its trailers."""
        self.unfinished = 0
        """Bytes that arrived since the parser last made something of them: a header that does not end, for example."""
        self.refusal: Refusal | None = None
        self.deaf = False
        """Set when nothing more is read: the rest of what arrives is thrown away until the connection is closed."""
        self.answering: RequestResponseCycle | None = None
        self.head_since: float | None = None
        self.unread_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        """Count the connection, and let it hold few bytes that its client does not read."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=BUFFERED)
        self.crowd.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered; uvicorn tells only the last one that arrived."""
        self.crowd.leave(self)
        self.pipeline.clear()
        if self.answering is not None and not self.answering.response_complete:
            self.answering.disconnected = True
            self.answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrives, in pieces that are as long as a head may be."""
        if self.deaf:
            return
        self._unset_keepalive_if_required()
        whole, parser = memoryview(data), self.parser
        assert parser is not None, "it is there as long as the connection"
        try:
            for start in range(0, len(whole), self.limits.head):
                piece = whole[start : start + self.limits.head]
                self.unfinished += len(piece)
                parser.feed_data(piece)
                if self.unfinished > self.limits.head:
                    self._refuse(f"a request's head has at most {self.limits.head:,} bytes", 431)
        except httptools.HttpParserUpgrade:  # answered as any other request: this server speaks nothing but HTTP/1
            self._listen_no_more()
        except httptools.HttpParserError:
            self._turn_away(self.refusal or Refusal("this is not HTTP/1.1", status=400))

    def _refuse(self, reason: str, status: int) -> None:
        self.refusal = Refusal(reason, status=status)
        raise httptools.HttpParserCallbackError(reason)

    def _listen_no_more(self) -> None:
        """Answer the requests that have arrived whole, and then close."""
        self.deaf = True
        self.cycle.keep_alive = False

    def _turn_away(self, refusal: Refusal) -> None:
        """Refuse what does not parse; where earlier requests are still to be answered, only close after them."""
        pending = self.cycle is not None and not self.cycle.response_complete
        if pending and not self.cycle.more_body:
            self._listen_no_more()
            return
        self.deaf = True
        if pending and (self.cycle is not self.answering or self.cycle.response_started):
            self.transport.close()  # a second answer would be taken for a part of the first
            return
        identity = request_id(self.headers or ())
        body, headers = encoded(refusal)
        headers = [*self.server_state.default_headers, *headers, *HEADERS, (ID, identity.encode())]
        lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
        self.transport.write(STATUS_LINE[refusal.status] + lines + b"connection: close\r\n\r\n" + body)
        self.transport.close()
        self.gate.measures.count("other", refusal.status, 0.0)
        self.gate.log.write(identity, self.client, "-", "-", refusal.status, len(body), 0.0)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin to count."""
        self.head = self.unfinished = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Collect the address, up to the limit."""
        self._add_to_head(len(url), "a request's address and headers have", 414)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header, or a trailer, up to the limits."""
        self._add_to_head(len(name) + len(value) + 4, "a request's head has", 431)
        if len(self.headers) >= self.limits.headers:
            self._refuse(f"a request has at most {self.limits.headers:,} headers", 431)
        super().on_header(name, value)

    def _add_to_head(self, size: int, what: str, status: int) -> None:
        self.head += size
        self.unfinished = 0
        if self.head > self.limits.head:
            self._refuse(f"{what} at most {self.limits.head:,} bytes", status)

    def on_headers_complete(self) -> None:
        """Begin to answer, or queue the request if it is not one too many."""
        if len(self.pipeline) >= self.limits.pipelined:
            self._refuse("too many requests ahead of their answers", 400)  # not sent: those before it are answered
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Collect a part of the body."""
        self.unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self.unfinished = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Answer the next request, or rest."""
        self.crowd.answered(self)
        if self.answering is not None:
            self.answering.body = bytearray()  # of a request that was refused before anybody read its body
        super().on_response_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: a client may ask for another protocol, and uvicorn would log two lines of advice each time."""

    # Who keeps the server waiting.

    def waits_for_client(self) -> bool:
        """Tell whether only the client can bring this connection on: it rests, sends slowly, or does not read."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused

    def hang_up_if_overdue(self) -> None:
        """Close the connection where a head, or the reading of an answer, takes longer than the limit."""
        now, limit = time.monotonic(), self.limits.seconds
        at_rest = self.cycle is None or self.cycle.response_complete
        awaits_head = at_rest and self.timeout_keep_alive_task is None  # while that runs, uvicorn watches
        self.head_since = (self.head_since or now) if awaits_head else None
        unread = self.transport.get_write_buffer_size() > 0
        self.unread_since = (self.unread_since or now) if unread else None
        if self.unread_since is not None and now - self.unread_since > limit:
            self.transport.abort()  # close would wait until the answers have been read
        elif self.head_since is not None and now - self.head_since > limit:
            self.transport.close()
