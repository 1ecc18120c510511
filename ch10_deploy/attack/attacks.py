"""Attack a server over loopback; each attack exhausted the memory or blocked the responses of a server without limits.

Connections, bytes and seconds are bounded. Each attack returns the number of responses by status. Status None stands
for connections that the server closed without a response, status 0 for those that it should have closed but did not.
"""

import contextlib
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

Statuses = Counter[int | None]

Address = tuple[str, int]

PATIENCE = 15.0
"""Timeout of a connection, in seconds."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"

BOUNDARY = "limit"


def chunk(name: bytes, content: bytes) -> bytes:
    """Encode a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, colours: int, data: bytes, extra: bytes = b"") -> bytes:
    """Encode a PNG file with any pixel data, and with additional chunks after its header."""
    header = struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def heavy_png() -> bytes:
    """Encode a valid image of 66 kB whose 63 comments decompress to 1 MiB each."""
    comment = b"comment\0\0" + zlib.compress(bytes(2**20), 9)
    return png(28, 28, 0, bytes(28 * 29), chunk(b"zTXt", comment) * 63)


def upload_bytes(file: bytes) -> bytes:
    """Encode a form that uploads a file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return head.encode() + file + f"\r\n--{BOUNDARY}--\r\n".encode()


def post(path: str, kind: str, body: bytes) -> bytes:
    """Encode a POST request with the header Connection: close."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def status_of(answer: bytes) -> int | None:
    """Parse the status of a response; None if there is none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else None


@contextlib.contextmanager
def connections(where: Address, count: int) -> Iterator[list[socket.socket]]:
    """Open `count` connections."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(where, timeout=PATIENCE)) for _ in range(count)]


def send_forever(where: Address, first: bytes, more: bytes, seconds: float) -> Statuses:
    """Send `first`, then `more` repeatedly until the server closes the connection.

    If it has not done so after `seconds`, the status 0 is counted.
    """
    until, answer = time.monotonic() + seconds, b""
    with contextlib.suppress(ConnectionError), socket.create_connection(where, timeout=PATIENCE) as connection:
        connection.sendall(first)
        connection.setblocking(False)
        rest = memoryview(more)
        while time.monotonic() < until:
            try:
                rest = rest[connection.send(rest) :] or memoryview(more)
            except BlockingIOError:
                time.sleep(0.001)
            with contextlib.suppress(BlockingIOError):
                answer = connection.recv(4096)
                break
        else:
            return Counter([0])
    return Counter([status_of(answer)])


def endless_headers(where: Address, seconds: float = 6.0) -> Statuses:
    """Send headers without end."""
    return send_forever(where, b"GET / HTTP/1.1\r\nHost: a\r\n", b"a: b\r\n" * 10_000, seconds)


def endless_header(where: Address, seconds: float = 6.0) -> Statuses:
    """Send one endless header."""
    return send_forever(where, b"GET / HTTP/1.1\r\nHost: a\r\na: ", b"b" * 60_000, seconds)


def endless_address(where: Address, seconds: float = 6.0) -> Statuses:
    """Send an endless address."""
    return send_forever(where, b"GET /", b"b" * 60_000, seconds)


def endless_trailers(where: Address, seconds: float = 6.0) -> Statuses:
    """Send trailers, the headers after a chunked body, without end."""
    head = b"POST /maze HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return send_forever(where, head + b"2\r\n{}\r\n0\r\n", b"a: b\r\n" * 10_000, seconds)


def compressed_comments(where: Address, count: int = 20) -> Statuses:
    """Upload images on many connections at the same time, each with comments that decompress to 63 MiB."""
    request = post("/predict/image", f"multipart/form-data; boundary={BOUNDARY}", upload_bytes(heavy_png()))
    statuses: Statuses = Counter()
    with connections(where, count) as opened:
        for connection in opened:
            connection.sendall(request)
        for connection in opened:
            answer = b""
            with contextlib.suppress(OSError):
                answer = connection.recv(4096)
            statuses[status_of(answer)] += 1
    return statuses


def never_reading(where: Address, count: int = 300, seconds: float = 12.0) -> Statuses:
    """Request the model cards repeatedly on many connections without reading a response."""
    requests = b"GET /models HTTP/1.1\r\nHost: a\r\n\r\n" * 1_000
    until, closed = time.monotonic() + seconds, set()
    with connections(where, count) as opened:
        for connection in opened:
            connection.setblocking(False)
        while time.monotonic() < until:
            for connection in set(opened) - closed:
                try:
                    connection.send(requests)
                except BlockingIOError:
                    continue
                except OSError:
                    closed.add(connection)
            time.sleep(0.05)
    return Counter({None: len(closed), 0: count - len(closed)})


def silent(where: Address, count: int = 300, seconds: float = 3.0) -> Statuses:
    """Open many connections and send nothing."""
    with connections(where, count):
        time.sleep(seconds)
    return Counter()


def half_bodies(where: Address, count: int = 300, seconds: float = 3.0) -> Statuses:
    """Send large bodies without their last byte on many connections."""
    request = post("/predict", "application/json", bytes(200_000))
    with connections(where, count) as opened:
        for connection in opened:
            with contextlib.suppress(OSError):
                connection.settimeout(0.05)
                connection.sendall(request[:-1])
        time.sleep(seconds)
        answers = []
        for connection in opened:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                answers.append(connection.recv(4096))
    return Counter(status_of(answer) for answer in answers if answer)


ATTACKS: tuple[Callable[[Address], Statuses], ...] = (
    endless_headers,
    endless_header,
    endless_address,
    endless_trailers,
    compressed_comments,
    never_reading,
    silent,
    half_bodies,
)
