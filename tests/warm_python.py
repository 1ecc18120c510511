"""Run the Python programs that tests start in forks of a server process that has already done the slow imports.

Many tests start programs in separate processes, each of which would spend seconds of CPU time on importing torch or
Snakemake. One server process, shared by all workers of a test run, imports them once. The fixture `warm_python` returns
the path of a client program that replaces `sys.executable`, and the fixture `warm` sets it. The client passes its
arguments, environment, folder and open files to the server, which forks; it exits with the exit code or the signal of
the fork. Modules, arguments and files are those of the real command; only the imports are shared.

`-m MODULE`, `-c CODE` and `FILE`, optionally after `-u` and `-W`, run in a fork. Other calls, and all calls on systems
without pidfd (Linux has it), run in a new Python process. A fork ends when its client ends.
"""

import atexit
import contextlib
import fcntl
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = (
    *("torch", "torch._dynamo", "torch.distributed.run", "matplotlib.figure", "sklearn.datasets"),
    *("common.drawing.plots", "ch06_cnn.convolution.cnn"),
)
"""Modules that nearly every program imports; torch imports `torch._dynamo` at the first step of an optimizer."""
STAGES = ("prepare", "train", "evaluate", "compare", "publish", "predict")
ENGINES = (
    *("ch09_pipeline.train", *(f"ch09_pipeline.stages.{stage}" for stage in STAGES)),
    *("snakemake.cli", "kfp", "kfp.local", "kfp.compiler"),
)
DVC = ("dvc.cli", "dvc.repo", *(f"dvc.commands.{name}" for name in ("add", "checkout", "init")))
WHEN_CALLED = {"ch09_pipeline": ENGINES, "snakemake": ENGINES, "kfp": ENGINES, "dvc": DVC}
"""Modules that are imported when a module of this package is first called."""
FREE_DESCRIPTOR = 200
"""File descriptors from here on do not collide with those of a client."""


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory) -> Iterator[str]:
    """Yield the path of the client program; start the server unless another worker has started it."""
    if not hasattr(os, "pidfd_open"):
        yield sys.executable
        return
    shared = "PYTEST_XDIST_WORKER" in os.environ
    home = tmp_path_factory.getbasetemp().parent if shared else tmp_path_factory.mktemp("warm")
    with (home / "warm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place = home / "warm"
        holder = hold(place.read_text()) if place.exists() else None
        if holder is None:  # the first worker, or one that starts after the others have finished
            place.write_text(str(start()))
            holder = hold(place.read_text())
    assert holder is not None
    with holder:
        yield str(Path(place.read_text()) / "python")


@pytest.fixture
def warm(warm_python, monkeypatch):
    """Make the processes that this test starts with `sys.executable` skip the slow imports."""
    monkeypatch.setattr(sys, "executable", warm_python)


def start() -> Path:
    """Start the server; return the folder of its socket and of the client program."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))  # the path of a socket has a maximum length
    client = folder / "python"
    client.write_text(
        f"#!{sys.executable} -IS\n" + CLIENT.format(python=sys.executable, address=str(folder / "socket"))
    )
    client.chmod(0o755)
    path = os.pathsep.join([str(ROOT), str(ROOT / "ch09_pipeline/plugins")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    # the command returns when the server is ready
    subprocess.run([sys.executable, __file__, str(folder)], cwd=ROOT, env=environment, check=True)
    return folder


def hold(folder: str) -> socket.socket | None:
    """Keep the server alive until the returned connection is closed; None if the server has exited."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(Path(folder) / "socket"))
    except OSError:
        connection.close()
        return None
    connection.sendall((0).to_bytes(8, "big"))
    return connection


CLIENT = """\
import os, sys
rest, filters = sys.argv[1:], []
while rest and rest[0] in ("-u", "-W"):
    filters += rest[1:2] if rest[0] == "-W" else []
    rest = rest[1 + (rest[0] == "-W"):]
if not rest or (rest[0].startswith("-") and rest[0] not in ("-m", "-c")):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
import json, socket
kind, words = (rest[0], rest[1:]) if rest[0] in ("-m", "-c") else ("", rest)
files = [n for n in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{{n}}")]
call = dict(kind=kind, words=words, filters=filters, folder=os.getcwd(), environment=dict(os.environ), files=files)
body = json.dumps(dict(call, python=sys.argv[0])).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [len(body).to_bytes(8, "big")], files)
    server.sendall(body)
    code = int(server.makefile().readline())
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def serve(folder: Path) -> None:
    """Import the modules, then fork for each client, until all connections from `hold` are closed."""
    load(MODULES)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(100)
        if os.fork():
            os._exit(0)  # `start` waits for this exit
        listener.settimeout(30)
        holders = [listener.accept()[0]]  # the first connection is that of the worker that started the server
        holders[0].recv(8)
        listener.settimeout(None)
        while holders:
            for ready in select.select([listener, *holders], [], [])[0]:
                if ready is not listener:
                    holders.remove(ready)
                    ready.close()
                    continue
                client, _ = listener.accept()
                head, received, _, _ = socket.recv_fds(client, 8, FREE_DESCRIPTOR)
                size = int.from_bytes(head, "big")
                if not size:
                    holders.append(client)
                    continue
                with client.makefile("rb") as stream:
                    call = json.loads(stream.read(size))
                if call["kind"] == "-m":
                    load(WHEN_CALLED.get(call["words"][0].partition(".")[0], ()))
                with contextlib.suppress(ChildProcessError):
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass
                if os.fork() == 0:
                    listener.close()
                    for holder in holders:
                        holder.close()
                    answer(client, call, received)
                for number in received:
                    os.close(number)
                client.close()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def load(names: tuple[str, ...]) -> None:
    """Import modules; those of extras that are not installed are skipped."""
    if sys.modules.keys() >= {*names[:1]}:
        return
    for name in names:
        with contextlib.suppress(ModuleNotFoundError):
            __import__(name)
    gc.collect()
    gc.freeze()  # keeps the memory of these objects shared with the forks


def answer(client: socket.socket, call: dict, received: list[int]) -> None:
    """Run a client's program in a fork; send the exit code to the client, or kill the program if the client exits."""
    child = os.fork()
    if child == 0:
        run_program(call, received)
    for number in received:
        os.close(number)
    handle = os.pidfd_open(child)
    if client in select.select([client, handle], [], [])[0]:  # the client has exited
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        client.sendall(f"{code}\n".encode())
    os._exit(0)


def run_program(call: dict, received: list[int]) -> None:
    """Set a client's files, folder, environment and arguments, and run its program as the main program."""
    os.setsid()
    kept = [fcntl.fcntl(number, fcntl.F_DUPFD, FREE_DESCRIPTOR) for number in received]
    os.closerange(0, FREE_DESCRIPTOR)
    for number, target in zip(kept, call["files"], strict=False):
        os.dup2(number, target)
        os.close(number)
    sys.stdin, sys.stdout, sys.stderr = (
        open(n, "rw"[n > 0], buffering=1, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        for n, errors in enumerate(("strict", "strict", "backslashreplace"))
    )
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    for text in call["filters"]:
        warnings.simplefilter(text)
    kind, (program, *words) = call["kind"], call["words"]
    sys.executable, sys.path[0] = call["python"], call["folder"]
    sys.path[1:1] = filter(None, call["environment"].get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = [{"-c": "-c"}.get(kind, program), *words]
    code: object = None
    try:
        if kind == "-c":
            sys.modules["__main__"] = main = types.ModuleType("__main__")
            exec(compile(program, "<string>", "exec"), main.__dict__)
        elif kind == "-m":
            if not hasattr(sys.modules.get(program), "__path__"):  # for a package, __main__ is run
                sys.modules.pop(program, None)
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = str(Path(program).resolve().parent)
            runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code or 0)  # skip the cleanup of the interpreter, which takes a second


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
