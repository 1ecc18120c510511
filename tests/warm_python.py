"""A Python for tests that has the heavy imports behind it: `python -m ...` as a copy of a process that has them loaded.

A test that runs the pipeline starts dozens of processes, and each spends seconds of processor time on importing torch
or Snakemake. The fixture `warm_python` starts one process that imports them once. What it gives is a program that takes
the place of `sys.executable`: it hands its arguments, environment, folder and open files over, and ends as the copy
ends. The modules, their arguments and their files are those of the real command; only the imports are shared.

Anything but `-m`, and any system without pidfd (Linux has it), gets the real Python. No copy outlives its caller.
"""

import atexit
import contextlib
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
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = ("torch", "matplotlib.figure", "common.drawing.plots", "ch06_cnn.convolution.cnn", "ch09_pipeline.train")
ENGINES = ("snakemake.cli", "kfp", "kfp.local", "kfp.compiler")
STAGES = ("prepare", "train", "evaluate", "compare", "publish", "predict")
HIGH = 200
"""File descriptors from here on are out of the way of those of a caller."""


@pytest.fixture(scope="session")
def warm_python():
    """Start the process that has everything loaded; give the program that takes the place of `sys.executable`."""
    if not hasattr(os, "pidfd_open"):
        yield sys.executable
        return
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket is short
        address, client = Path(folder) / "socket", Path(folder) / "python"
        client.write_text(f"#!{sys.executable} -IS\n" + CLIENT.format(python=sys.executable, address=str(address)))
        client.chmod(0o755)
        path = os.pathsep.join([str(ROOT), str(ROOT / "ch09_pipeline/plugins")])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        words = [sys.executable, __file__, str(address)]
        server = subprocess.Popen(words, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield str(client)
        server.communicate()  # closes its input, which ends it


CLIENT = """\
import os, sys
if len(sys.argv) < 2 or sys.argv[1] != "-m":
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
import json, socket
files = [n for n in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{{n}}")]
call = dict(words=sys.argv[2:], folder=os.getcwd(), environment=dict(os.environ), files=files, python=sys.argv[0])
body = json.dumps(call).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [len(body).to_bytes(8, "big")], files)
    server.sendall(body)
    code = int(server.makefile().readline())
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def serve(address: str) -> None:
    """Import everything, then make a copy for each caller."""
    for name in (*MODULES, *(f"ch09_pipeline.stages.{stage}" for stage in STAGES), *ENGINES):
        with contextlib.suppress(ModuleNotFoundError):  # an extra that is not installed
            __import__(name)
    gc.collect()
    gc.freeze()  # a copy that does not touch these objects need not copy their memory
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen(100)
        print("ready", flush=True)
        while sys.stdin not in select.select([door, sys.stdin], [], [])[0]:  # the tests' end of it is open
            caller, _ = door.accept()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if os.fork() == 0:
                door.close()
                answer(caller)
                return
            caller.close()


def answer(caller: socket.socket) -> None:
    """Run what a caller asks for in a copy of this process; tell the caller how it ended, end it with the caller."""
    head, received, _, _ = socket.recv_fds(caller, 8, HIGH)
    with caller.makefile("rb") as stream:
        call = json.loads(stream.read(int.from_bytes(head, "big")))
    copy = os.fork()
    if copy == 0:
        become(call, received)
    for number in received:
        os.close(number)
    handle = os.pidfd_open(copy)
    if caller in select.select([caller, handle], [], [])[0]:  # it is gone
        with contextlib.suppress(ProcessLookupError):
            os.killpg(copy, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        caller.sendall(f"{code}\n".encode())
    os._exit(0)


def become(call: dict, received: list[int]) -> None:
    """Take a caller's files, folder, environment and arguments, and run its module as the main program."""
    os.setsid()
    import fcntl

    kept = [fcntl.fcntl(number, fcntl.F_DUPFD, HIGH) for number in received]
    os.closerange(0, HIGH)
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
    module, *words = call["words"]
    sys.executable, sys.path[0] = call["python"], call["folder"]
    sys.argv = [module, *words]
    if not hasattr(sys.modules.get(module), "__path__"):  # of a package, __main__ is run
        sys.modules.pop(module, None)
    code: object = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
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
    os._exit(code or 0)  # taking everything apart takes a second, and is of no use to anyone


if __name__ == "__main__":
    serve(sys.argv[1])
