"""A real server over loopback: responses of uvicorn, limits of heads and connections, and attacks.

Requests through httpx's ASGITransport bypass uvicorn, so its headers and the limits of connections are tested here.
"""

import contextlib
import ctypes
import json
import re
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ch10_deploy import serve
from ch10_deploy.attack import attacks, fuzzing, probing
from ch10_deploy.attack.server_process import Running, running
from ch10_deploy.server import connections, gate
from ch10_deploy.server.connections import ConnectionTable
from ch10_deploy.server.gate import Limits
from conftest import ROOT

LIMITS = Limits()
GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def server(models) -> Iterator[Running]:
    with running(models, "--drain-seconds", "0", "--timeout", "2") as found:
        yield found


def exchange(server: Running, data: bytes, *, ends: bool = True) -> bytes:
    """Send bytes and read until the server closes the connection or, with `ends=False`, until the end of a response."""
    with socket.create_connection(server.where(), timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while (part := connection.recv(65_536)) and (ends or not answer.endswith(b"}")):
                answer += part
                if not ends and answer.endswith(b"}"):
                    break
        return answer


def is_healthy(connection: socket.socket) -> bool:
    """Request /healthz on a connection that stays open; return whether the status is 200."""
    connection.sendall(GET)
    answer = b""
    while not answer.endswith(b"}"):
        part = connection.recv(65_536)
        assert part, "the server has closed the connection"
        answer += part
    return answer.startswith(b"HTTP/1.1 200 ")


def head_of(answer: bytes) -> tuple[int, httpx.Headers]:
    first, *lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    pairs = [line.partition(b": ") for line in lines]
    return int(first[9:12]), httpx.Headers([(name, value) for name, _, value in pairs])


def wait_for(condition, seconds: float = 15.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(condition())


# Responses of uvicorn.

MESSAGES = {
    "good": (GET, 200),
    "unknown": (b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
    "no HTTP": (b"hello\r\n\r\n", 400),
    "no version": (b"GET / HTTP/9.9\r\n\r\n", 400),
    "bad header": (b"GET / HTTP/1.1\r\na b: c\r\n\r\n", 400),
    "two lengths": (b"POST /maze HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "bad chunk": (b"POST /maze HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
    "long head": (b"GET / HTTP/1.1\r\nA: " + b"a" * LIMITS.head + b"\r\n\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
    "long address": (b"GET /" + b"a" * LIMITS.head + b" HTTP/1.1\r\n\r\n", 414),
}


@pytest.mark.parametrize("message", MESSAGES)
def test_responses_of_the_real_server_have_the_security_headers(server, message):
    data, expected = MESSAGES[message]
    status, headers = head_of(exchange(server, data, ends=expected != 200))
    assert status == expected
    for name, value in gate.HEADERS:
        assert headers.get_list(name.decode()) == [value.decode()]
    assert "server" not in headers
    assert "date" in headers
    assert re.fullmatch("[0-9a-f]{16}", headers["x-request-id"])
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) > 0
    assert (headers.get("connection") == "close") == (expected != 200)


@pytest.mark.parametrize("message", ["no HTTP", "many headers", "long address"])
def test_invalid_requests_get_a_json_error(server, message):
    body = exchange(server, MESSAGES[message][0]).partition(b"\r\n\r\n")[2]
    problem = json.loads(body)
    assert set(problem) == {"detail", "field"}
    assert problem["detail"] in {
        "this is not HTTP/1.1",
        "a request may have at most 100 headers",
        "address and headers of a request may have at most 16,384 bytes",
    }


def test_a_head_up_to_the_limits_is_accepted(server):
    most = b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * LIMITS.headers + b"\r\n"
    assert head_of(exchange(server, most, ends=False))[0] == 200
    size = LIMITS.head - len("/healthz") - len("A") - 4
    assert head_of(exchange(server, b"GET /healthz HTTP/1.1\r\nA: %s\r\n\r\n" % (b"a" * size), ends=False))[0] == 200
    over = b"GET /healthz HTTP/1.1\r\nA: %s\r\n\r\n" % (b"a" * (size + 1))
    assert head_of(exchange(server, over))[0] == 431


def test_the_limit_applies_to_each_head_separately(server):
    """The requests arrive together on one connection; their total size exceeds the limit."""
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\nA: %s\r\n\r\n" % (b"a" * 10_000)
    last = request.replace(b"Host", b"Connection: close\r\nHost")
    assert exchange(server, 3 * request + last).count(b"HTTP/1.1 200 ") == 4


@pytest.mark.parametrize("path", ["/", "/playground/page.js", "/healthz", "/readyz", "/metrics", "/models", "/films"])
def test_head_equals_get_without_the_body(server, path):
    got, head = httpx.get(server.url + path), httpx.head(server.url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # the counters change
        assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


def test_head_is_rejected_if_there_is_no_get(server):
    answer = httpx.head(f"{server.url}/predict")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_upgrades_to_other_protocols_are_ignored(server, protocol):
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" % protocol.encode()
    )
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + upgrade + b"Sec-WebSocket-Version: 13\r\n\r\n"
    before = len(server.log())
    answer = exchange(server, request + GET)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1, "data after the request must be ignored"
    assert server.log()[before:] == [], "uvicorn's advice to install a library must not fill the log"


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait up to five seconds, since a request is logged after its response has been sent."""
    for _ in range(100):
        if condition():
            return
        time.sleep(0.05)


def test_requests_are_logged_with_the_ids_of_their_responses(server):
    mine = {"x-request-id": "trace-1.A_b"}
    assert httpx.get(f"{server.url}/films?limit=1", headers=mine).headers["x-request-id"] == "trace-1.A_b"
    forged = httpx.post(f"{server.url}/no where%0a", headers={"x-request-id": 'a" b'})
    assert re.fullmatch("[0-9a-f]{16}", forged.headers["x-request-id"])
    long = httpx.get(f"{server.url}/{'x' * 500}", headers={"x-request-id": "x" * 65}).headers["x-request-id"]
    assert len(long) == 16
    _, broken = head_of(exchange(server, b"hello\r\n\r\n"))
    refused = httpx.head(f"{server.url}/nowhere").headers["x-request-id"]
    wait_until(lambda: refused in server.log()[-1])
    lines = {line["id"]: line for line in map(json.loads, server.log()[-5:])}
    first = lines["trace-1.A_b"]
    assert (first["method"], first["path"], first["status"], first["client"]) == ("GET", "/films", 200, "127.0.0.1")
    assert first["bytes"] > 10
    assert 0 < first["ms"] < 60_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert (lines[forged.headers["x-request-id"]]["path"], forged.status_code) == ("/no%20where%0a", 404)
    assert len(lines[long]["path"]) == 200
    assert (lines[broken["x-request-id"]]["status"], lines[broken["x-request-id"]]["method"]) == (400, "-")
    assert (lines[refused]["method"], lines[refused]["bytes"]) == ("HEAD", 0)


def test_successful_probes_are_not_logged(server):
    before = len(server.log())
    for path in ("healthz", "readyz", "metrics"):
        httpx.get(f"{server.url}/{path}")
    assert httpx.post(f"{server.url}/healthz").status_code == 405
    wait_until(lambda: len(server.log()) > before)
    assert [json.loads(line)["status"] for line in server.log()[before:]] == [405]


def test_the_access_log_can_be_disabled(models):
    with running(models, "--no-access-log", "--drain-seconds", "0") as server:
        assert httpx.get(f"{server.url}/films").status_code == 200
        assert server.log() == []


def test_invalid_requests_are_counted(server):
    before = fuzzing.answered(server)
    exchange(server, MESSAGES["many headers"][0])
    assert (fuzzing.answered(server) - before)[431] == 1


def listening(server: Running) -> list[str]:
    """Return the socket inodes of the server's listening file descriptors."""
    lines = Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]
    state = {line.split()[9]: line.split()[3] for line in lines}
    found = []
    for number in range(LIMITS.connections):
        with contextlib.suppress(OSError):
            target = str(Path(f"/proc/{server.process.pid}/fd/{number}").readlink())
            inode = target.removeprefix("socket:[").rstrip("]")
            found += [inode] if state.get(inode) == "0A" else []
    return found


def test_the_port_has_32_listeners(server):
    found = listening(server)
    assert len(found) == serve.LISTENERS == 32
    assert len(set(found)) == 1


def test_settings_of_uvicorn(monkeypatch):
    monkeypatch.setattr(serve, "BACKLOG", 77)
    the_gate = gate.Gate(lambda *_: None, Limits(seconds=7.5, connections=5), gate.Metrics())  # pyright: ignore
    config: Any = serve.uvicorn_config(None, the_gate)
    assert config.backlog == 77
    with serve.listen("127.0.0.1", 0) as port:  # tcp(7): of a listener, tcpi_sacked is the backlog
        for side, size in serve.SOCKET_BYTES.items():
            assert port.getsockopt(socket.SOL_SOCKET, side) in (size, 2 * size), "Linux doubles the value"
        assert struct.unpack_from("=I", port.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 28) == (77,)
    assert config.timeout_keep_alive == 75, "must exceed the usual 60 s of load balancers"
    assert config.timeout_graceful_shutdown == 8
    assert (config.server_header, config.access_log, config.lifespan, config.ws) == (False, False, "off", "none")
    assert config.http.keywords["table"].most == 5
    assert config.http.keywords["gate"] is the_gate


def test_large_blocks_of_memory_are_allocated_with_mmap(monkeypatch, tmp_path):
    script = """
import ctypes
from ch10_deploy import serve
libc = ctypes.CDLL(None)
class Blocks(ctypes.Structure):  # malloc.h: mallinfo2
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks a b c d e f".split()]
libc.mallinfo2.restype = Blocks
libc.malloc.restype = ctypes.c_void_p
serve.return_large_blocks()
before = libc.mallinfo2().hblks
kept = [libc.malloc(2 * serve.LARGE_BLOCK) for _ in range(200)]
assert libc.mallinfo2().hblks - before > 100, "only the first blocks may come from the heap"
"""
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("this C library is not glibc")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    called = []
    monkeypatch.setattr(serve, "return_large_blocks", lambda: called.append(True))
    with pytest.raises(FileNotFoundError):
        serve.serve(serve.Options(models=tmp_path))
    assert called


def test_ipv6_addresses_are_supported():
    try:
        port = serve.listen("::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with port:
        assert port.family == socket.AF_INET6


# Attacks.


@pytest.mark.parametrize(
    ("attack", "status"),
    [
        (attacks.endless_headers, 431),
        (attacks.endless_header, 431),
        (attacks.endless_address, 414),
        (attacks.endless_trailers, 431),
    ],
)
def test_an_endless_head_is_refused(server, attack, status):
    """The client may lose the response while it continues to send, but the server has counted it."""
    memory, before = server.memory(), fuzzing.answered(server)
    assert attack(server.where(), 6.0).keys() <= {status, None}
    assert (fuzzing.answered(server) - before)[status] == 1, "the connection was not closed by this limit"
    assert server.memory() - memory < 10e6


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"GET / HTTP/1.1\r\n", b"aaaa:\r\n" * 5_000),  # one header with an endless name, for the parser
        (b"", b"\r\n" * 10_000),  # line ends before a request
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 20_000),  # a chunk's extension
    ],
)
def test_data_without_parser_events_are_limited(server, first, more):
    before = fuzzing.answered(server)
    assert attacks.send_forever(server.where(), first, more, 6.0).keys() <= {431, 400, None}
    refused = fuzzing.answered(server) - before
    assert refused[431] + refused[400] >= 1


def test_a_disconnect_ends_a_text_with_queued_requests_behind_it(server):
    """Uvicorn notifies only the last request of a connection of a disconnect, so the first one would continue."""
    text = b'{"length": 2000}'
    head = b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    lines = len(server.log())
    for _ in range(3):
        with socket.create_connection(server.where(), timeout=20) as connection:
            connection.sendall(head % len(text) + text + GET)
            connection.recv(100)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
    assert wait_for(lambda: "requests_running 0.0" in httpx.get(f"{server.url}/metrics").text)
    written = [json.loads(line)["bytes"] for line in server.log()[lines:] if '"/generate"' in line]
    assert len(written) == 3
    assert max(written) < 2_000, "the text was generated to its end"
    assert [line for line in server.log()[lines:] if not line.startswith("{")] == [], "tracebacks"


def test_compressed_comments_are_not_decompressed(server):
    before = server.processor_seconds()
    assert attacks.compressed_comments(server.where(), 20) == {200: 20}
    assert server.processor_seconds() - before < 2, "decompression takes a third of a second each"


def test_incomplete_bodies_are_limited_and_their_memory_is_returned(server):
    """60 MB arrive on 300 connections; without mmap for large blocks, 40 MB or more remained in use."""
    before = server.memory()
    with probing.watched(server.where(), server.process.pid) as seen:
        statuses = attacks.half_bodies(server.where(), 300, 0.5)
    assert statuses.keys() <= {503, 408, None}
    assert seen.failed == 0
    assert max(seen.memory, server.memory()) - before < 35e6


def test_clients_that_never_read_are_disconnected(server):
    before, lines = server.memory(), len(server.log())
    seen = attacks.never_reading(server.where(), 50, 1.0)
    assert server.memory() - before < 50e6
    assert seen.total() == 50
    assert wait_for(lambda: open_connections(server) <= 1)
    assert [line for line in server.log()[lines:] if not line.startswith("{")] == [], "tracebacks"
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def open_connections(server: Running) -> int:
    own = f":{server.where()[1]:04X}"
    lines = Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(field[1].endswith(own) and field[3] == "01" for field in fields)


def test_a_connection_with_an_unread_response_is_closed(server):
    """The responses fill the buffers of client and server; then the client neither reads nor closes."""
    request = b"GET /playground/style.css HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(server.where())
        connection.settimeout(0.2)
        sent = 0
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < 3_000:  # slowly, so that each request is answered or buffered before the next one
                connection.send(request)
                sent += 1
                time.sleep(0.001 if sent % 10 else 0.01)
        assert wait_for(lambda: open_connections(server) == 0), "the connection is still open"


def test_pipelined_requests_are_answered_up_to_the_limit(server):
    answer = exchange(server, GET * 1_000)
    assert answer.count(b"HTTP/1.1 200 ") == 1 + LIMITS.pipelined
    few = exchange(server, GET * 7 + GET.replace(b"Host", b"Connection: close\r\nHost"))
    assert few.count(b"HTTP/1.1 200 ") == 8


def test_invalid_data_after_a_request_do_not_affect_its_response(server):
    answer = exchange(server, b"POST /maze HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                              b"Content-Length: 2\r\n\r\n{}" + b"hello\r\n\r\n")  # fmt: skip
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["path"], "the response must be complete"


def test_a_new_connection_replaces_the_one_that_has_waited_longest(models):
    with (
        running(models, "--connections", "10", "--drain-seconds", "0") as server,
        attacks.connections(server.where(), 10) as opened,
    ):
        assert wait_for(lambda: open_connections(server) == 10)
        assert is_healthy(opened[0])  # so it is the most recently used
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        with contextlib.suppress(ConnectionError):
            assert opened[1].recv(10) == b"", "the connection was not closed"
        assert is_healthy(opened[0])


def test_probes_are_answered_with_a_low_limit_of_open_files(models):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        try:
            server = stack.enter_context(running(models, "--drain-seconds", "0"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        opened = stack.enter_context(attacks.connections(server.where(), 300))
        for _ in range(20):
            assert probing.probe(server.where())
        assert is_healthy(opened[-1]), "the newest connection must be served"
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        assert not [line for line in server.log() if "Too many open files" in line]


def test_the_limit_of_open_files_limits_the_connections(monkeypatch):
    def given(files: int) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))

    taken = serve.LISTENERS + connections.SPARE + serve.OTHER_FILES
    given(256)
    assert serve.connection_limit(1_024) == 256 - taken
    given(10_000)
    assert serve.connection_limit(1_024) == 1_024
    given(resource.RLIM_INFINITY)
    assert serve.connection_limit(1_024) == 1_024
    given(taken + 1)
    assert serve.connection_limit(1_024) == 1
    given(taken)
    with pytest.raises(ValueError, match=f"the limit of open files must be above {taken}: raise it with ulimit -n"):
        serve.connection_limit(1_024)


class FakeConnection:
    """A connection that records whether it was aborted."""

    def __init__(self, waits: bool):
        self.waits, self.aborted, self.transport = waits, False, self

    def waits_for_client(self) -> bool:
        return self.waits

    def abort(self) -> None:
        self.aborted = True


def test_connections_in_use_are_not_closed():
    table: ConnectionTable = ConnectionTable(2)
    busy = [FakeConnection(False) for _ in range(2 + connections.SPARE)]
    for one in busy:
        table.enter(one)  # pyright: ignore[reportArgumentType]
    assert not any(one.aborted for one in busy)
    late = FakeConnection(True)
    table.enter(late)  # pyright: ignore[reportArgumentType]
    assert late.aborted
    assert late not in table.open
    table.leave(busy[0])  # pyright: ignore[reportArgumentType]
    assert len(table.open) == 1 + connections.SPARE
