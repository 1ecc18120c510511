"""Worker processes that visit the stops of the tour in parallel; each loads torch once.

They are spawned, not forked: a fork of a process whose threads have computed can hang. A worker that dies is replaced,
and its stop fails.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from companion import tour_visit
from companion.tour_stops import Stop
from companion.tour_visit import Request, Visit

PATIENCE = 10.0
"""Seconds that a worker has to end after it is asked to stop."""

CONTEXT = multiprocessing.get_context("spawn")


def serve(connection: Connection, device: str) -> None:
    """Call the functions that are sent through a connection and send their results, until it is closed."""
    # Ctrl-C reaches every process of the terminal. Workers ignore it, because the main process terminates them. A
    # handler, unlike SIG_IGN, is not inherited by the programs that a stop may start.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        try:
            connection.send(tour_visit.get_ready(device))
        except ValueError as error:
            connection.send(error)
        while True:
            function, *arguments = connection.recv()
            connection.send(function(*arguments))
    except EOFError:
        return  # the connection is closed
    except (OSError, KeyboardInterrupt):
        os._exit(1)  # at once: a normal exit with torch takes longer


class Worker:
    """A worker process and the connection to it."""

    def __init__(self, device: str) -> None:
        self.connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=serve, args=(theirs, device))
        self.process.start()
        theirs.close()  # so that the connection closes when the process ends
        self.stop: Stop | None = None

    def answer(self) -> Any:
        """Receive the result of a call; raises RuntimeError if the process has died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise RuntimeError(f"its process has died, exit code {self.process.exitcode}") from None

    def ask(self, function: Callable, *arguments: Any) -> None:
        """Send a function to call."""
        with contextlib.suppress(BrokenPipeError):  # the process has died: `answer` raises
            self.connection.send((function, *arguments))


class Workers:
    """Pool of workers that are stopped at the end of a block: `with Workers(2, "cpu") as workers: ...`."""

    def __init__(self, count: int, device: str) -> None:
        self.device = device
        # otherwise numpy's matrix products use threads of their own, on the cores of other workers
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self.workers = [Worker(device) for _ in range(count)]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for worker in self.workers:
            worker.connection.close()  # ends a worker that waits
            if kind is not None:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def get_ready(self) -> dict[str, Any]:
        """Wait for the workers; return their description of the machine. Raises ValueError if the device is absent."""
        answers = [worker.answer() for worker in self.workers]
        if isinstance(answers[0], ValueError):
            raise answers[0]
        return answers[0]

    def ask(self, function: Callable, *arguments: Any) -> Any:
        """Call a function in one worker while the others wait."""
        self.workers[0].ask(function, *arguments)
        return self.workers[0].answer()

    def visit(self, stops: Sequence[Stop], request: Request, *, in_order: bool = False) -> Iterator[Visit]:
        """Visit all stops, the longest first unless `in_order`; yield each visit when it ends."""
        waiting = list(stops) if in_order else longest_first(stops)
        while waiting or self.at_work():
            for worker in self.workers:
                stop = next((stop for stop in waiting if not self.misses(stop, waiting)), None)
                if worker.stop is None and stop is not None:
                    waiting.remove(stop)
                    worker.stop = stop
                    worker.ask(tour_visit.visit, stop, request)
            ready = wait([worker.connection for worker in self.workers if worker.stop])
            for worker in [worker for worker in self.workers if worker.connection in ready]:
                yield self.end(worker)

    def at_work(self) -> list[Stop]:
        """Return the stops that are being visited."""
        return [worker.stop for worker in self.workers if worker.stop]

    def misses(self, stop: Stop, waiting: Sequence[Stop]) -> bool:
        """Return whether a stop needs the results of another stop that has not ended."""
        return any(other.module == stop.needs for other in (*waiting, *self.at_work()))

    def end(self, worker: Worker) -> Visit:
        """Return the visit of a worker; replace the worker if it has died."""
        stop, worker.stop = worker.stop, None
        assert stop is not None
        try:
            return worker.answer()
        except RuntimeError as error:
            visit = Visit(stop)
            visit.fail(str(error))
            self.workers[self.workers.index(worker)] = replacement = Worker(self.device)
            replacement.answer()
            return visit


def longest_first(stops: Sequence[Stop]) -> list[Stop]:
    """Sort stops by their seconds plus those of the stop that needs them, so that all workers end at about one time."""
    waits = {stop.needs: stop.seconds for stop in stops if stop.needs}
    return sorted(stops, key=lambda stop: stop.seconds + waits.get(stop.module, 0), reverse=True)
