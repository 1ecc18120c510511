"""Measure the latency of `/healthz` and the memory of a server while another program loads it.

The probes run in a separate process, so that the load generator does not delay them:

    python -m ch10_deploy.attack.probing 127.0.0.1 8000 1234  # address, port, process id; runs until stdin ends

Each probe opens a new connection, as Kubernetes does.
"""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

INTERVAL = 0.02
"""Seconds between probes."""

PATIENCE = 30.0
"""Seconds after which a probe counts as failed."""

PROBE = b"GET /healthz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"


@dataclass
class Watched:
    """Results of the probes; empty until the block of `watched` ends."""

    milliseconds: list[float] = field(default_factory=list)
    failed: int = 0
    memory: int = 0
    """Peak memory of the server, in bytes."""

    def percentile(self, share: float) -> float:
        """Compute a percentile of the latency in milliseconds (0.99: the 99th); a failed probe counts as 30 s."""
        times = sorted(self.milliseconds) + [1e3 * PATIENCE] * self.failed
        return times[min(int(share * len(times)), len(times) - 1)]


def memory_of(process: int) -> int:
    """Return the resident memory of a process in bytes; raises OSError if the system does not report it."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return 1024 * int(line.split()[1])
    raise OSError("this system does not report the memory of a process")


def probe(where: tuple[str, int]) -> bool:
    """Request `/healthz` over a new connection; return whether the status was 200."""
    answer = b""
    with contextlib.suppress(OSError), socket.create_connection(where, timeout=PATIENCE) as connection:
        connection.sendall(PROBE)
        while part := connection.recv(4096):
            answer += part
    return answer.startswith(b"HTTP/1.1 200 ")


def watch(where: tuple[str, int], process: int, ended: threading.Event) -> Watched:
    """Probe at least once, and until `ended` is set."""
    observed = Watched()
    while True:
        began = time.perf_counter()
        if probe(where):
            observed.milliseconds.append(1e3 * (time.perf_counter() - began))
        else:
            observed.failed += 1
        with contextlib.suppress(OSError):
            observed.memory = max(observed.memory, memory_of(process))
        if ended.wait(INTERVAL):
            return observed


@contextlib.contextmanager
def watched(where: tuple[str, int], process: int) -> Iterator[Watched]:
    """Probe a server from another process while the block runs."""
    words = [sys.executable, "-m", "ch10_deploy.attack.probing", where[0], str(where[1]), str(process)]
    observed = Watched()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as prober:
        try:
            assert prober.stdout is not None
            prober.stdout.readline()  # the prober has started
            yield observed
        finally:
            output, _ = prober.communicate()
    vars(observed).update(json.loads(output))


def main() -> None:
    """Probe until standard input ends; print the results as JSON."""
    host, port, process = sys.argv[1:]
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("watching", flush=True)
    print(json.dumps(vars(watch((host, int(port)), int(process), ended))))


if __name__ == "__main__":
    main()
