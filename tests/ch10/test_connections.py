"""A real server over loopback: what uvicorn itself answers, and what attacks on its connections come to.

What goes through httpx's ASGITransport never meets uvicorn: headers, limits of heads and connections are tested here.
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
from ch10_deploy.server.connections import Crowd
from ch10_deploy.server.gate import Limits
from conftest import ROOT

LIMITS = Limits()
GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def server(models) -> Iterator[Running]:
    with running(models, "--drain-seconds", "0", "--timeout", "2") as found:
        yield found


def exchange(server: Running, data: bytes, *, ends: bool = True) -> bytes:
    """Send bytes and read all that comes until the server hangs up, or until an answer ends."""
    with socket.create_connection(server.where(), timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while (part := connection.recv(65_536)) and (ends or not answer.endswith(b"}")):
                answer += part
                if not ends and answer.endswith(b"}"):
                    break
        return answer


def asked(connection: socket.socket) -> bool:
    """Ask for the server's health on a connection that stays open; tell whether it is well."""
    connection.sendall(GET)
    answer = b""
    while not answer.endswith(b"}"):
        part = connection.recv(65_536)
        assert part, "the server hung up"
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


# What uvicorn answers.

SPOKEN = {
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


@pytest.mark.parametrize("spoken", SPOKEN)
def test_every_answer_of_the_real_server_carries_the_headers_that_browsers_heed(server, spoken):
    data, expected = SPOKEN[spoken]
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


@pytest.mark.parametrize("spoken", ["no HTTP", "many headers", "long address"])
def test_what_is_no_request_is_refused_in_the_form_of_all_refusals(server, spoken):
    body = exchange(server, SPOKEN[spoken][0]).partition(b"\r\n\r\n")[2]
    problem = json.loads(body)
    assert set(problem) == {"detail", "field"}
    assert problem["detail"] in {
        "this is not HTTP/1.1",
        "a request may have at most 100 headers",
        "address and headers of a request may have at most 16,384 bytes",
    }


def test_a_head_up_to_the_limits_is_read(server):
    most = b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * LIMITS.headers + b"\r\n"
    assert head_of(exchange(server, most, ends=False))[0] == 200
    size = LIMITS.head - len("/healthz") - len("A") - 4
    assert head_of(exchange(server, b"GET /healthz HTTP/1.1\r\nA: %s\r\n\r\n" % (b"a" * size), ends=False))[0] == 200
    over = b"GET /healthz HTTP/1.1\r\nA: %s\r\n\r\n" % (b"a" * (size + 1))
    assert head_of(exchange(server, over))[0] == 431


def test_heads_are_counted_each_for_itself(server):
    """On one connection, in one piece: a total over all would refuse the second."""
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\nA: %s\r\n\r\n" % (b"a" * 10_000)
    last = request.replace(b"Host", b"Connection: close\r\nHost")
    assert exchange(server, 3 * request + last).count(b"HTTP/1.1 200 ") == 4


@pytest.mark.parametrize("path", ["/", "/playground/page.js", "/healthz", "/readyz", "/metrics", "/models", "/films"])
def test_head_is_as_get_without_the_body(server, path):
    got, head = httpx.get(server.url + path), httpx.head(server.url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # what is counted goes on
        assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


def test_head_is_refused_where_there_is_no_get(server):
    answer = httpx.head(f"{server.url}/predict")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_no_other_protocol_is_spoken(server, protocol):
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" % protocol.encode()
    )
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + upgrade + b"Sec-WebSocket-Version: 13\r\n\r\n"
    before = len(server.log())
    answer = exchange(server, request + GET)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1, "nothing behind it is read"
    assert server.log()[before:] == [], "uvicorn's advice to install a library would fill the log"


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait up to five seconds: a request is logged after its answer has been sent."""
    for _ in range(100):
        if condition():
            return
        time.sleep(0.05)


def test_requests_are_logged_with_the_ids_that_their_answers_carry(server):
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


def test_probes_that_succeed_are_not_logged(server):
    before = len(server.log())
    for path in ("healthz", "readyz", "metrics"):
        httpx.get(f"{server.url}/{path}")
    assert httpx.post(f"{server.url}/healthz").status_code == 405
    wait_until(lambda: len(server.log()) > before)
    assert [json.loads(line)["status"] for line in server.log()[before:]] == [405]


def test_the_access_log_can_be_switched_off(models):
    with running(models, "--no-access-log", "--drain-seconds", "0") as server:
        assert httpx.get(f"{server.url}/films").status_code == 200
        assert server.log() == []


def test_what_does_not_parse_is_counted(server):
    before = fuzzing.answered(server)
    exchange(server, SPOKEN["many headers"][0])
    assert (fuzzing.answered(server) - before)[431] == 1


def listening(server: Running) -> list[str]:
    """The server's file descriptors that listen, by the inode of their socket."""
    lines = Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]
    state = {line.split()[9]: line.split()[3] for line in lines}
    found = []
    for number in range(LIMITS.connections):
        with contextlib.suppress(OSError):
            target = str(Path(f"/proc/{server.process.pid}/fd/{number}").readlink())
            inode = target.removeprefix("socket:[").rstrip("]")
            found += [inode] if state.get(inode) == "0A" else []
    return found


def test_the_port_is_listened_on_many_times(server):
    found = listening(server)
    assert len(found) == serve.LISTENERS == 32
    assert len(set(found)) == 1


def test_uvicorn_is_told_what_is_promised(monkeypatch):
    monkeypatch.setattr(serve, "BACKLOG", 77)
    measured = gate.Gate(lambda *_: None, Limits(seconds=7.5, connections=5), gate.Measures())  # pyright: ignore
    config: Any = serve.uvicorn_config(None, measured)
    assert config.backlog == 77
    with serve.listen("127.0.0.1", 0) as port:  # tcp(7): of a listener, tcpi_sacked is the backlog
        for side, size in serve.SOCKET_BYTES.items():
            assert port.getsockopt(socket.SOL_SOCKET, side) in (size, 2 * size), "Linux doubles it"
        assert struct.unpack_from("=I", port.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 28) == (77,)
    assert config.timeout_keep_alive == 75, "above the 60 s after which load balancers give up idle connections"
    assert config.timeout_graceful_shutdown == 8
    assert (config.server_header, config.access_log, config.lifespan, config.ws) == (False, False, "off", "none")
    assert config.http.keywords["crowd"].most == 5
    assert config.http.keywords["gate"] is measured


def test_large_blocks_of_memory_are_returned_to_the_system(monkeypatch, tmp_path):
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
assert libc.mallinfo2().hblks - before > 100, "the first fill what is free already"
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


def test_addresses_of_version_6_are_listened_on():
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
def test_a_head_that_never_ends_is_refused(server, attack, status):
    """The client may lose the answer while it goes on sending; the server has counted it."""
    memory, before = server.memory(), fuzzing.answered(server)
    assert attack(server.where(), 6.0).keys() <= {status, None}
    assert (fuzzing.answered(server) - before)[status] == 1, "it was not the time limit that ended it"
    assert server.memory() - memory < 10e6


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"GET / HTTP/1.1\r\n", b"aaaa:\r\n" * 5_000),  # for the parser one header whose name grows
        (b"", b"\r\n" * 10_000),  # before a request
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 20_000),  # behind a chunk's size
    ],
)
def test_what_the_parser_says_nothing_of_is_bounded_too(server, first, more):
    before = fuzzing.answered(server)
    assert attacks.send_forever(server.where(), first, more, 6.0).keys() <= {431, 400, None}
    refused = fuzzing.answered(server) - before
    assert refused[431] + refused[400] >= 1


def test_who_leaves_ahead_of_queued_requests_is_noticed(server):
    """Uvicorn tells only the last request of a connection that its client is gone; the first one writes on."""
    text = b'{"length": 2000}'
    head = b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    lines = len(server.log())
    for _ in range(3):
        with socket.create_connection(server.where(), timeout=20) as connection:
            connection.sendall(head % len(text) + text + GET)
            connection.recv(100)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leave with a reset
    assert wait_for(lambda: "requests_running 0.0" in httpx.get(f"{server.url}/metrics").text)
    written = [json.loads(line)["bytes"] for line in server.log()[lines:] if '"/generate"' in line]
    assert len(written) == 3
    assert max(written) < 2_000, "it was written to its end, for nobody"
    assert [line for line in server.log()[lines:] if not line.startswith("{")] == [], "tracebacks"


def test_compressed_comments_are_not_unpacked(server):
    before = server.processor_seconds()
    assert attacks.compressed_comments(server.where(), 20) == {200: 20}
    assert server.processor_seconds() - before < 2, "unpacked, each takes a third of a second"


def test_bodies_that_never_end_are_held_up_to_a_limit_and_their_memory_is_returned(server):
    """60 MB arrive on 300 connections; without own blocks for the large ones, 40 MB and more remained."""
    before = server.memory()
    with probing.watched(server.where(), server.process.pid) as seen:
        statuses = attacks.half_bodies(server.where(), 300, 0.5)
    assert statuses.keys() <= {503, 408, None}
    assert seen.failed == 0
    assert max(seen.memory, server.memory()) - before < 35e6


def test_who_never_reads_is_dropped_in_time(server):
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


def test_an_answer_that_nobody_reads_is_given_up_even_where_the_client_stays(server):
    """The answers of one connection fill the buffers of both systems; then the client does nothing at all."""
    request = b"GET /playground/style.css HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(server.where())
        connection.settimeout(0.2)
        sent = 0
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < 3_000:  # one after the other, each as soon as the one before is answered or buffered
                connection.send(request)
                sent += 1
                time.sleep(0.001 if sent % 10 else 0.01)
        assert wait_for(lambda: open_connections(server) == 0), "the server still holds it"


def test_requests_ahead_of_their_answers_are_bounded_and_those_before_are_answered(server):
    answer = exchange(server, GET * 1_000)
    assert answer.count(b"HTTP/1.1 200 ") == 1 + LIMITS.pipelined
    few = exchange(server, GET * 7 + GET.replace(b"Host", b"Connection: close\r\nHost"))
    assert few.count(b"HTTP/1.1 200 ") == 8


def test_a_bad_request_behind_good_ones_waits_for_their_answers(server):
    answer = exchange(server, b"POST /maze HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                              b"Content-Length: 2\r\n\r\n{}" + b"hello\r\n\r\n")  # fmt: skip
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["path"], "it is whole"


def test_a_newcomer_takes_the_place_of_the_one_that_has_waited_longest(models):
    with (
        running(models, "--connections", "10", "--drain-seconds", "0") as server,
        attacks.connections(server.where(), 10) as opened,
    ):
        assert wait_for(lambda: open_connections(server) == 10)
        assert asked(opened[0])  # it has been of use since
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        with contextlib.suppress(ConnectionError):
            assert opened[1].recv(10) == b"", "the server hung up"
        assert asked(opened[0])


def test_probes_are_answered_though_the_system_lets_few_files_be_open(models):
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
        assert asked(opened[-1]), "the youngest are served"
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        assert not [line for line in server.log() if "Too many open files" in line]


def test_the_limit_of_open_files_bounds_the_connections(monkeypatch):
    def given(files: int) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))

    taken = serve.LISTENERS + connections.SPARE + serve.OTHER_FILES
    given(256)
    assert serve.most_connections(1_024) == 256 - taken
    given(10_000)
    assert serve.most_connections(1_024) == 1_024
    given(resource.RLIM_INFINITY)
    assert serve.most_connections(1_024) == 1_024
    given(taken + 1)
    assert serve.most_connections(1_024) == 1
    given(taken)
    with pytest.raises(ValueError, match=f"the limit of open files must be above {taken}: raise it with ulimit -n"):
        serve.most_connections(1_024)


class Computing:
    """A connection that waits for its client, or does not."""

    def __init__(self, waits: bool):
        self.waits, self.aborted, self.transport = waits, False, self

    def waits_for_client(self) -> bool:
        return self.waits

    def abort(self) -> None:
        self.aborted = True


def test_no_connection_is_closed_while_the_server_works_for_it():
    crowd: Crowd = Crowd(2)
    busy = [Computing(False) for _ in range(2 + connections.SPARE)]
    for one in busy:
        crowd.enter(one)  # pyright: ignore[reportArgumentType]
    assert not any(one.aborted for one in busy)
    late = Computing(True)
    crowd.enter(late)  # pyright: ignore[reportArgumentType]
    assert late.aborted
    assert late not in crowd.open
    crowd.leave(busy[0])  # pyright: ignore[reportArgumentType]
    assert len(crowd.open) == 1 + connections.SPARE
