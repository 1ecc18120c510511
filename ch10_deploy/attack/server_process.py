"""A server in a process of its own, for as long as a block lasts."""

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
"""Seconds that a server may take to begin, and to end."""

LAST_WORDS = 500
"""Characters that are repeated of what it said."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    process: "subprocess.Popen[str]"
    url: str
    seconds: float
    """From the start of the process to the moment at which it listened."""
    said: TextIO
    """What it writes to stderr: errors and the access log."""

    def where(self) -> tuple[str, int]:
        """Give the address and the port on which it listens."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def log(self) -> list[str]:
        """Give the lines that it has written to stderr until now."""
        self.said.seek(0)
        return self.said.read().splitlines()

    def memory(self) -> int:
        """Give the bytes of memory that the server holds; raises OSError where the system does not tell."""
        return memory_of(self.process.pid)

    def processor_seconds(self) -> float:
        """Give the seconds that processors have worked for the server, however long they let it wait."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime and stime


def url_of(process: "subprocess.Popen[str]", said: TextIO) -> str:
    """Wait for the line in which a server says where it listens, its last word; end the process where none comes."""
    assert process.stdout is not None
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()  # ends, too, when the process does
        if line.startswith("serving"):
            return line.split()[-1]
        code = process.wait()
    finally:
        timer.cancel()
    said.seek(0)
    last = " ".join(said.read()[-LAST_WORDS:].split()) or "it said nothing"
    raise ChildProcessError(f"the server did not begin (exit code {code}): {last}")


@contextlib.contextmanager
def running(models: Path, *words: str) -> Iterator[Running]:
    """Start a server on a free port of this machine; end it after the block.

    Raises ChildProcessError, with the last that the server said, where it does not begin in time.
    """
    command = [sys.executable, "-m", "ch10_deploy.serve", "--models", str(models), "--port", "0", *words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEPLOY_")}
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment)
        try:
            url = url_of(process, said)
            yield Running(process, url, time.perf_counter() - began, said)
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
