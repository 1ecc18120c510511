"""Run a server in a separate process while a block runs."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ch10_deploy.attack.probing import memory_of

PATIENCE = 60.0
"""Maximum number of seconds for the server to start, and to exit."""

LAST_OUTPUT = 500
"""Maximum number of characters of the server's output in an error message."""


@dataclass(frozen=True)
class Running:
    """A running server."""

    process: "subprocess.Popen[str]"
    url: str
    seconds: float
    """Time in seconds from the start of the process until it listened."""
    stderr: TextIO
    """The server's stderr: errors and the access log."""

    def where(self) -> tuple[str, int]:
        """Return the address and port on which the server listens."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def log(self) -> list[str]:
        """Return the lines that the server has written to stderr."""
        self.stderr.seek(0)
        return self.stderr.read().splitlines()

    def memory(self) -> int:
        """Return the server's resident memory in bytes; raises OSError if the system does not report it."""
        return memory_of(self.process.pid)

    def processor_seconds(self) -> float:
        """Return the CPU time of the server in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime and stime


def url_of(process: "subprocess.Popen[str]", stderr: TextIO) -> str:
    """Wait for the server's first line and return the URL in it; kill the process if the line does not arrive in time.

    Raises ChildProcessError with the server's last output.
    """
    assert process.stdout is not None
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()  # also returns when the process exits
        if line.startswith("serving"):
            return line.split()[-1]
        code = process.wait()
    finally:
        timer.cancel()
    stderr.seek(0)
    last = " ".join(stderr.read()[-LAST_OUTPUT:].split()) or "no output"
    raise ChildProcessError(f"the server did not start (exit code {code}): {last}")


@contextlib.contextmanager
def running(models: Path, *words: str) -> Iterator[Running]:
    """Start a server on a free port of this machine, and stop it after the block.

    Raises ChildProcessError, with the server's last output, if it does not start in time.
    """
    command = [sys.executable, "-m", "ch10_deploy.serve", "--models", str(models), "--port", "0", *words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEPLOY_")}
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
        try:
            url = url_of(process, stderr)
            yield Running(process, url, time.perf_counter() - began, stderr)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            if process.stdout is not None:
                process.stdout.close()
