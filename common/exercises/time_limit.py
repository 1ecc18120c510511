"""Stop a function that does not end, on every operating system and without another process."""

import contextlib
import ctypes
import threading
import time
from collections.abc import Iterator


class TimeExceeded(BaseException):
    """The time limit is over. Not an Exception, so that `except Exception` in the stopped code does not catch it."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeExceeded in the block after some seconds.

    The exception is raised at the next Python instruction: one long call into C, as a matrix product, is not stopped.
    """
    thread, lock = threading.get_ident(), threading.Lock()
    over = False

    def interrupt() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeExceeded))

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            over = True
        timer.cancel()


class TimeBudget:
    """Time limit of several blocks together."""

    def __init__(self, seconds: float) -> None:
        self.seconds = self.left = seconds

    @contextlib.contextmanager
    def spend(self) -> Iterator[None]:
        """Raise TimeExceeded in the block when the budget is spent."""
        start = time.monotonic()
        try:
            with time_limit(max(0.0, self.left)):
                yield
        finally:
            self.left -= time.monotonic() - start
