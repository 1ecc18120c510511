"""Load: counts of the load generator, overload, shutdown without lost requests, fuzzing, and probes."""

import asyncio
import json
import random
import signal
import socket
import threading
import time
from collections import Counter

import httpx
import pytest

from ch10.test_batch import write_model
from ch10_deploy import loadtest
from ch10_deploy.attack import attacks, fuzzing, probing, serving
from ch10_deploy.attack.server_process import running
from ch10_deploy.loadtest import Options, Tally, run_load

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
FULL = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
LATER = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"


class Scripted:
    """A server that answers the requests of a connection with the entries of a script, and then closes it."""

    def __init__(self, *script: bytes | None):
        self.script, self.requests = script, 0
        self.tasks: set[asyncio.Task] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.answer(reader, writer)
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in self.script:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
            except asyncio.IncompleteReadError:
                break
            self.requests += 1
            if answer is None:
                await asyncio.sleep(30)
            for place in range(0, len(answer or b""), 7):  # in small parts, as responses may arrive
                writer.write((answer or b"")[place : place + 7])
                await writer.drain()
                await asyncio.sleep(0)

    def measured(self, **options) -> Tally:
        async def both() -> Tally:
            server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            settings = {"connections": 1, "seconds": 0.4, "patience": 0.3} | options
            tally = await loadtest.load(Options(url=f"http://127.0.0.1:{port}", **settings))
            server.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await asyncio.sleep(0)
            return tally

        return asyncio.run(both())


def test_responses_are_counted_by_status():
    tally = Scripted(OK, FULL, OK, LAST).measured(requests=4)
    assert tally.statuses == {200: 3, 503: 1}
    assert len(tally.milliseconds) == 4
    measures = tally.metrics()
    assert (measures["requests"], measures["refused"], measures["errors"]) == (4, 1, 0)
    assert measures["requests_per_second"] == pytest.approx(3 / tally.seconds)
    assert 0 < measures["p50_ms"] <= measures["p99_ms"] <= measures["slowest_ms"]


def test_the_client_reconnects_after_the_server_has_closed_the_connection():
    server = Scripted(LAST)
    tally = server.measured(requests=5)
    assert tally.statuses == {200: 5}
    assert server.requests == 5
    assert tally.metrics()["errors"] == 0


def test_requests_without_a_response_are_errors():
    tally = Scripted(OK, b"").measured(requests=3)
    assert tally.lost >= 1, "no request was counted as lost"
    assert tally.metrics()["errors"] == tally.lost
    tally = Scripted(OK, None).measured()
    assert (tally.hung, tally.lost, tally.statuses) == (1, 0, {200: 1})
    assert tally.metrics()["errors"] == 1


def test_other_statuses_are_errors():
    tally = Scripted(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", LAST).measured(requests=2)
    assert tally.statuses == {500: 1, 200: 1}
    assert tally.metrics()["errors"] == 1


def test_a_refused_connection_waits_as_long_as_the_server_asks():
    server = Scripted(LATER, OK, LAST)
    tally = server.measured(requests=3, seconds=10)
    assert tally.statuses == {503: 1, 200: 2}
    assert tally.seconds >= 1
    assert max(tally.milliseconds) < 500, "the pause is not latency"
    assert Scripted(LATER, OK).measured().statuses == {503: 1}, "the test ends during a pause"


def test_the_load_test_ends_in_time_and_waits_for_outstanding_responses():
    began = time.perf_counter()
    tally = Scripted(*[OK] * 100_000).measured(connections=3, seconds=0.5)
    assert 0.5 <= time.perf_counter() - began < 3
    assert tally.metrics()["errors"] == 0
    assert tally.statuses[200] > 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--url", "http://93.184.215.14"], "93.184.215.14 is another machine"),
        (["--url", "ftp://127.0.0.1"], "--url must look like http://127.0.0.1:8000"),
        (["--url", "http://127.0.0.1:9"], "no server answers at http://127.0.0.1:9: start a server"),
        (["--seconds", "601"], "--seconds must be above 0 and at most 600"),
        (["--connections", "0"], "--connections must be between 1 and 10,000"),
    ],
)
def test_user_errors_are_one_line(fails, words, message):
    assert message in fails(loadtest.main, words)


@pytest.fixture(scope="module")
def server(models):
    with running(models, "--concurrency", "64", "--drain-seconds", "0") as found:
        yield found


def test_the_command_prints_its_results(server, capsys):
    with pytest.raises(SystemExit) as stop:
        loadtest.main(["--url", server.url, "--requests", "200", "--connections", "4"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert "requests/s answered with 200" in output
    assert "0 lost, 0 hung, 0 not connected" in output


def test_under_overload_requests_are_answered_or_refused_in_time(server):
    probes: list[int] = []

    def probe() -> None:
        for _ in range(5):
            time.sleep(0.4)
            probes.append(httpx.get(f"{server.url}/healthz", timeout=5).status_code)

    prober = threading.Thread(target=probe)
    prober.start()
    tally = run_load(Options(url=server.url, connections=512, seconds=3))
    prober.join(30)
    assert probes == [200] * 5, "a probe, on a new connection, must not wait for other requests"
    assert (tally.lost, tally.hung, tally.unconnected) == (0, 0, 0)
    assert set(tally.statuses) == {200, 503}
    assert tally.statuses[200] > 100
    assert httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200
    assert run_load(Options(url=server.url, connections=8, seconds=0.5)).metrics()["refused"] == 0, (
        "the server has not recovered"
    )


def read_response(connection: socket.socket) -> bytes:
    """Read one complete response; return nothing if the server closes the connection earlier."""
    answer, missing = b"", 1
    while missing > 0:
        part = connection.recv(65_536)
        if not part:
            return b""
        answer += part
        head, gap, body = answer.partition(b"\r\n\r\n")
        if gap:
            missing = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]) - len(body)
    return answer


def send_requests(server, counted: Counter, until: threading.Event) -> None:
    """Send requests over one connection after the other; count a sent request without a response as lost."""
    host, port = server.url.removeprefix("http://").split(":")
    request = loadtest.digit_requests(host)[0]
    while not until.is_set():
        try:
            connection = socket.create_connection((host, int(port)), timeout=20)
        except ConnectionError:
            return  # the server no longer listens, so no request was accepted
        with connection:
            answer = b""
            while not until.is_set():
                try:
                    connection.sendall(request)
                    answer = read_response(connection)
                except ConnectionError:
                    answer = b""
                counted[answer[9:12].decode() or "lost"] += 1
                if b"connection: close" in answer.lower() or not answer:
                    break
        if b"connection: close" in answer.lower():
            return  # a load balancer would continue with another server


def test_sigterm_under_load_loses_no_accepted_request(models):
    with running(models, "--drain-seconds", "3") as server:
        counted, until = Counter(), threading.Event()
        threads = [threading.Thread(target=send_requests, args=(server, counted, until)) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        with httpx.stream("POST", f"{server.url}/generate", json={"length": 2000}, timeout=20) as text:
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert httpx.get(f"{server.url}/readyz").status_code == 503
            assert httpx.get(f"{server.url}/healthz").status_code == 200
            assert len(text.read().decode()) == 2000, "the started response must be completed"
        for thread in threads:
            thread.join(30)
        until.set()
        assert server.process.wait(20) == 0
    assert set(counted) == {"200"}, counted
    assert counted["200"] > 50


def test_sigterm_waits_for_a_started_response(models):
    """Without draining, a text that is being generated is still completed."""
    with (
        running(models, "--drain-seconds", "0") as server,
        httpx.stream("POST", f"{server.url}/generate", json={"length": 2000}, timeout=20) as text,
    ):
        server.process.send_signal(signal.SIGTERM)
        assert len(text.read().decode()) == 2000
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT,)])
def test_a_second_sigterm_or_ctrl_c_does_not_wait_for_the_drain(models, signals):
    with running(models, "--drain-seconds", "600") as server:
        server.process.send_signal(signals[0])
        for again in signals[1:]:
            until = time.monotonic() + 30
            while httpx.get(f"{server.url}/readyz").status_code != 503 and time.monotonic() < until:
                time.sleep(0.05)
            server.process.send_signal(again)
        server.process.wait(60)  # long before the end of the drain


@pytest.mark.slow
def test_malformed_requests_are_refused_and_do_not_increase_memory(server):
    before = server.memory()
    broken = fuzzing.send_malformed(server, 300, random.Random(1))
    invented = fuzzing.send_generated(server, 150, seed=1)
    statuses = broken + invented
    assert statuses.total() >= 450
    assert not [status for status in statuses if status and status >= 500], statuses
    assert {200, 400, 422} <= statuses.keys()
    assert statuses[None] < 30
    assert server.memory() - before < 50e6
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_requests_to_a_killed_server_are_counted_without_an_error(models, monkeypatch):
    import schemathesis

    load = schemathesis.openapi.from_url

    def load_and_kill(url: str):
        schema = load(url)
        server.process.kill()
        server.process.wait()
        return schema

    monkeypatch.setattr(schemathesis.openapi, "from_url", load_and_kill)
    with running(models) as server:
        invented = fuzzing.send_generated(server, 20, seed=1)
        assert set(invented) == {None}
        assert fuzzing.send_malformed(server, 5, random.Random(1)) == {None: 5}


def test_a_server_that_exits_during_the_first_requests_is_reported(models, monkeypatch, options):
    monkeypatch.setattr(
        fuzzing, "send_malformed", lambda server, count, generator: server.process.kill() or server.process.wait()
    )
    with pytest.raises(ChildProcessError, match=r"exited during the first requests \(exit code -9\)"):
        fuzzing.train(fuzzing.Config(models=models, requests=30, run=options))


def test_malformed_requests_are_repeatable_and_differ_from_valid_ones():
    one, two = (list(fuzzing.malformed_requests(40, "x", random.Random(3))) for _ in range(2))
    assert one == two
    good = {request.encoded("x") for request in fuzzing.valid_requests()}
    assert len(good & set(one)) < 5


@pytest.mark.slow
def test_both_programs_record_their_metrics(models, options):
    metrics = serving.train(serving.Config(models=models, connections=4, seconds=0.3, run=options))
    assert metrics["requests_per_second"] > 0
    assert metrics["errors"] == 0
    assert 0 < metrics["p50_ms"] <= metrics["p99_ms"]
    assert 0 < metrics["processor_microseconds"] < 1e5
    metrics = fuzzing.train(fuzzing.Config(models=models, requests=30, run=options))
    assert metrics["requests"] >= 30
    assert (metrics["responses_5xx"], metrics["probes_failed"]) == (0, 0)
    assert metrics["attacks"] == len(attacks.ATTACKS)
    assert metrics["memory_growth_mb"] < 50
    assert 0 < metrics["healthz_p99_ms"] < 30_000
    assert metrics["attacks_healthz_p99_ms"] > 0
    for name in ("serving", "fuzzing"):
        (path,) = options.out.glob(f"ch10_deploy/{name}/*/summary.json")
        assert json.loads(path.read_text())["data"]["name"] == "digits"


def test_percentiles_of_the_probes():
    seen = probing.Watched([float(number) for number in range(1, 101)], failed=0)
    assert (seen.percentile(0.5), seen.percentile(0.99), seen.percentile(1)) == (51, 100, 100)
    seen.failed = 2
    assert seen.percentile(0.99) == 30_000, "a failed probe counts as 30 seconds"


def test_the_server_is_probed_from_another_process(server):
    before = fuzzing.answered(server)
    with probing.watched(server.where(), server.process.pid) as seen:
        pass  # even a block without duration is probed once
    assert seen.failed == 0
    assert len(seen.milliseconds) >= 1
    assert fuzzing.answered(server)[200] >= before[200] + len(seen.milliseconds)
    assert abs(seen.memory - server.memory()) < 20e6
    with socket.create_server(("127.0.0.1", 0)) as closed:
        where = closed.getsockname()
    assert not probing.probe(where)


def test_an_export_without_digits_is_reported_with_the_command(options, tmp_path):
    write_model(tmp_path / "models", "pictures")
    for program in (serving, fuzzing):
        with pytest.raises(FileNotFoundError, match=r"has no model 'digits': export it with .* export --models digits"):
            program.train(program.Config(models=tmp_path / "models", run=options))


def test_a_missing_export_is_reported_with_the_command(options, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for program in (serving, fuzzing):
        with pytest.raises(FileNotFoundError, match=r"export with python -m ch10_deploy.train"):
            program.train(program.Config(run=options))
