"""Processes that visit the stops of the tour side by side; each loads torch once.

They are started anew instead of forked: a fork of a process whose threads have computed can hang. One that dies takes
its stop along and is replaced.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import tour_visit
from tour_stops import Stop
from tour_visit import Request, Visit

PATIENCE = 10.0
"""Seconds that a worker has to finish after it is asked to stop."""

CONTEXT = multiprocessing.get_context("spawn")


def serve(connection: Connection, device: str) -> None:
    """Do what is asked through a connection, until it is closed."""
    # Ctrl-C reaches every process of the terminal. The tour's own alone decides, and then tells the others to end; a
    # handler, unlike SIG_IGN, is not handed on to the programs that a stop may start.
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
        return  # there is nothing more to do
    except (OSError, KeyboardInterrupt):
        os._exit(1)  # at once: torch has much to do at a usual end


class Worker:
    """A process, and the end of the connection through which it is asked."""

    def __init__(self, device: str) -> None:
        self.connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=serve, args=(theirs, device))
        self.process.start()
        theirs.close()  # so that the end of the process closes the connection
        self.stop: Stop | None = None

    def answer(self) -> Any:
        """Receive what was asked for; raises RuntimeError where the process has died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise RuntimeError(f"its process has died, exit code {self.process.exitcode}") from None

    def ask(self, function: Callable, *arguments: Any) -> None:
        """Ask for a function's result."""
        with contextlib.suppress(BrokenPipeError):  # it has died: `answer` tells
            self.connection.send((function, *arguments))


class Workers:
    """Workers that are stopped when the block is left: `with Workers(2, "cpu") as workers: ...`."""

    def __init__(self, count: int, device: str) -> None:
        self.device = device
        # numpy's matrix products have threads of their own, and other workers need the cores
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self.workers = [Worker(device) for _ in range(count)]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for worker in self.workers:
            worker.connection.close()  # ends one that waits
            if kind is not None:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def get_ready(self) -> dict[str, Any]:
        """Wait for the workers; give what they say of the machine. Raises ValueError for an absent device."""
        said = [worker.answer() for worker in self.workers]
        if isinstance(said[0], ValueError):
            raise said[0]
        return said[0]

    def ask(self, function: Callable, *arguments: Any) -> Any:
        """Let one worker compute a function while the others wait."""
        self.workers[0].ask(function, *arguments)
        return self.workers[0].answer()

    def visit(self, stops: Sequence[Stop], request: Request, *, in_order: bool = False) -> Iterator[Visit]:
        """Visit all stops, the longest first unless in order; yield each when it is done."""
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
        """List the stops that are being visited."""
        return [worker.stop for worker in self.workers if worker.stop]

    def misses(self, stop: Stop, waiting: Sequence[Stop]) -> bool:
        """Tell whether a stop goes on with the results of another that is not done."""
        return any(other.module == stop.needs for other in (*waiting, *self.at_work()))

    def end(self, worker: Worker) -> Visit:
        """Take the visit of a worker; replace one that has died."""
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
    """Order stops by their seconds and those of what waits for them, so that the workers end at about the same time."""
    waits = {stop.needs: stop.seconds for stop in stops if stop.needs}
    return sorted(stops, key=lambda stop: stop.seconds + waits.get(stop.module, 0), reverse=True)
