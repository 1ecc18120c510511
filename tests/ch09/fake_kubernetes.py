"""A server with the part of the Kubernetes API that Snakemake uses; the container of a Job runs on this machine.

Each pod starts in an empty folder, with a given environment in place of that of its image. The volume is not mounted:
tests use the same path in the profile and on this machine.
"""

import json
import re
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERBS = {"POST": "create", "DELETE": "delete"}


class Cluster:
    """State of the server: the Jobs as they were created, their processes, and the kinds of requests."""

    def __init__(self, folder: Path, environment: dict[str, str], failing: str) -> None:
        self.folder = folder
        self.environment = environment
        self.failing = failing
        """A part of a command; the first pod with it fails before it does anything."""
        self.jobs: dict[str, Any] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.requests: set[tuple[str, str, str]] = set()
        """API group, resource and verb, as in a Role."""

    def container(self, name: str) -> dict[str, Any]:
        """Return the only container of a Job."""
        (container,) = self.jobs[name]["spec"]["template"]["spec"]["containers"]
        return container

    def start(self, body: dict[str, Any]) -> None:
        """Start the container of a Job."""
        name = body["metadata"]["name"]
        self.jobs[name] = body
        home = self.folder / name
        home.mkdir(parents=True)
        words = [*self.container(name)["command"], *self.container(name)["args"]]
        if self.failing and self.failing in words[-1]:
            words, self.failing = ["false"], ""
        with (self.folder / f"{name}.log").open("w") as log:
            self.processes[name] = subprocess.Popen(words, cwd=home, env=self.environment, stdout=log, stderr=log)

    def status(self, name: str) -> dict[str, int]:
        """Return the status of a Job."""
        code = self.processes[name].poll()
        return {} if code is None else {"succeeded" if code == 0 else "failed": 1}


@contextmanager
def serve(cluster: Cluster):
    """Serve a cluster on a free port of this machine; yield the configuration for its clients."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            """Answer a request of any method."""
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            path = self.path.partition("?")[0]
            parts = re.fullmatch(r"/(?:api|apis/(\w+))/v1/namespaces/[\w-]+/(\w+)(?:/([\w-]+))?(/status)?", path)
            assert parts, path
            group, resource, name, part = parts.groups(default="")
            verb = VERBS.get(self.command, "get" if name else "list")
            cluster.requests.add((group, resource + part, verb))
            reply: dict[str, Any] = {"items": []} if verb == "list" else body
            if (resource, verb) == ("jobs", "create"):
                cluster.start(body)
            elif part:
                reply = {"metadata": {"name": name}, "status": cluster.status(name)}
            content = json.dumps(reply).encode()
            self.send_response(201 if verb == "create" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815  # names that http.server looks up

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the base class
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "tests",
                "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
                "clusters": [{"name": "tests", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": "tests", "user": {}}],
            }
        finally:
            server.shutdown()
            thread.join()
