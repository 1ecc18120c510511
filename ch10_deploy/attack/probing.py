"""Watch a server while something else keeps it busy: how long `/healthz` takes, and how much memory the server holds.

This runs in a process of its own, so that whoever keeps the server busy does not hold up the clock:

    python -m ch10_deploy.attack.probing 127.0.0.1 8000 1234  # address, port and process id; ends with its input

Each probe opens a connection, as those of Kubernetes do.
"""

import contextlib
import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

INTERVAL = 0.02
"""Seconds from one probe to the next."""

PATIENCE = 30.0
"""Seconds after which a probe counts as failed."""

PROBE = b"GET /healthz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"


@dataclass
class Watched:
    """What the probes saw; filled in when the watch ends."""

    milliseconds: list[float] = field(default_factory=list)
    failed: int = 0
    memory: int = 0
    """Most bytes that the server held."""

    def percentile(self, share: float) -> float:
        """Give the time within which a share of the probes was answered; a failed one never was."""
        times = sorted(self.milliseconds) + [math.inf] * self.failed
        return times[min(int(share * len(times)), len(times) - 1)] if times else math.inf


def memory_of(process: int) -> int:
    """Give the bytes of memory that a process holds; raises OSError where the system does not tell."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return 1024 * int(line.split()[1])
    raise OSError("this system does not tell how much memory a process holds")


def probe(where: tuple[str, int]) -> bool:
    """Ask `/healthz` over a new connection; tell whether the answer was 200."""
    answer = b""
    with contextlib.suppress(OSError), socket.create_connection(where, timeout=PATIENCE) as connection:
        connection.sendall(PROBE)
        while part := connection.recv(4096):
            answer += part
    return answer.startswith(b"HTTP/1.1 200 ")


def watch(where: tuple[str, int], process: int, ended: threading.Event) -> Watched:
    """Probe until told to end."""
    observed = Watched()
    while not ended.wait(INTERVAL):
        began = time.perf_counter()
        if probe(where):
            observed.milliseconds.append(1e3 * (time.perf_counter() - began))
        else:
            observed.failed += 1
        with contextlib.suppress(OSError):
            observed.memory = max(observed.memory, memory_of(process))
    return observed


@contextlib.contextmanager
def watched(where: tuple[str, int], process: int) -> Iterator[Watched]:
    """Watch a server, from another process, for as long as a block lasts."""
    words = [sys.executable, "-m", "ch10_deploy.attack.probing", where[0], str(where[1]), str(process)]
    observed = Watched()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as prober:
        try:
            assert prober.stdout is not None
            prober.stdout.readline()  # it has begun
            yield observed
        finally:
            said, _ = prober.communicate()
    vars(observed).update(json.loads(said))


def main() -> None:
    """Watch until standard input ends; write down the observations."""
    host, port, process = sys.argv[1:]
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("watching", flush=True)
    print(json.dumps(vars(watch((host, int(port)), int(process), ended))))


if __name__ == "__main__":
    main()
