"""Container images: checks of the Dockerfiles and, with buildah, a build and a run of the server's image."""

import ast
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from ch10.test_batch import grey, idx, rows, write_model
from ch10_deploy import serve
from conftest import ROOT

DEPLOY = ROOT / "ch10_deploy" / "cluster"
DOCKERFILES = [DEPLOY / "Dockerfile", DEPLOY / "Dockerfile.models", DEPLOY / "training" / "Dockerfile"]
USER = 10001


def instructions(path: Path) -> list[tuple[str, str]]:
    """List the instructions of a Dockerfile, without comments and with continued lines joined."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined) if word]


def last_stage(path: Path) -> dict[str, str]:
    found = instructions(path)
    start = max(number for number, (word, _) in enumerate(found) if word == "FROM")
    return dict(found[start:])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_hadolint_reports_nothing(path):
    done = subprocess.run([Path(sys.executable).parent / "hadolint", path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


@pytest.mark.parametrize("path", [DOCKERFILES[0], DOCKERFILES[2]], ids=lambda path: str(path.relative_to(DEPLOY)))
def test_an_image_has_a_minor_version_as_base_and_runs_without_root_and_shell(path):
    (base,) = [rest for word, rest in instructions(path) if word == "ARG" and rest.startswith("BASE=")]
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-\w+", base)
    assert [rest for word, rest in instructions(path) if word == "FROM"] == ["${BASE} AS build", "${BASE}"]
    final = last_stage(path)
    assert final["USER"] == f"{USER}:{USER}"
    assert isinstance(json.loads(final["CMD"]), list)  # a shell would not forward SIGTERM
    text = path.read_text(encoding="utf-8")
    assert text.count("--constraint constraints.txt") == 1
    assert "http" not in text.replace("http://127.0.0.1", ""), "package indexes are passed as a secret"


def test_the_server_image_matches_the_settings_of_the_server():
    final = last_stage(DOCKERFILES[0])
    assert json.loads(final["CMD"]) == ["python", "-m", "ch10_deploy.serve", "--host", "0.0.0.0"]
    assert final["EXPOSE"] == str(serve.Options().port)
    environment = dict(word.split("=", 1) for word in final["ENV"].split())
    known = {name for name in environment if serve.flags_of({name: "x"})}
    assert known == {"DEPLOY_MODELS", "DEPLOY_PORT"} == {name for name in environment if name.startswith("DEPLOY_")}
    assert environment["DEPLOY_PORT"] == final["EXPOSE"]


def requirements_lines(path: Path, folder: Path, **arguments: str) -> list[str]:
    """Run the command of the Dockerfile that writes requirements.txt, with build arguments; return the lines."""
    defaults = [rest.partition("=") for word, rest in instructions(path) if word == "ARG"]
    values = {name: value.strip('"') for name, _, value in defaults} | arguments
    (command,) = [rest for word, rest in instructions(path) if word == "RUN" and "> requirements.txt" in rest]
    shutil.copy(ROOT / "pyproject.toml", folder)
    here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **values}
    subprocess.run(["sh", "-c", command], cwd=folder, env=here, check=True)
    return (folder / "requirements.txt").read_text().splitlines()


def test_the_dockerfiles_install_requirements_of_pyproject(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert requirements_lines(DOCKERFILES[2], tmp_path) == project["dependencies"]
    lines = requirements_lines(DOCKERFILES[0], tmp_path)
    assert {re.split(r"[\[<>=]", line)[0] for line in lines} == requirements()
    assert set(lines) <= {*project["dependencies"], *project["optional-dependencies"]["serve"]}
    cuda = "onnxruntime-gpu[cuda,cudnn]==1.31.1"
    other = requirements_lines(DOCKERFILES[0], tmp_path, ONNXRUNTIME=cuda)
    assert set(other) - set(lines) == {cuda}
    assert {line.partition(">")[0] for line in set(lines) - set(other)} == {"onnxruntime"}
    with pytest.raises(subprocess.CalledProcessError):
        requirements_lines(DOCKERFILES[0], tmp_path, CORE="numpy pilow")


def imports_of(start: str) -> tuple[set[str], set[str]]:
    """Return what a module imports when it is loaded: modules of the suite, and names of other packages."""
    own, others, ahead = set(), set(), [start]
    while ahead:
        name = ahead.pop()
        path = ROOT / Path(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in own or not path.is_file():
            continue
        own.add(name)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            found = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            for other in found:
                top = other.partition(".")[0]
                if top in ("common", "ch10_deploy"):
                    ahead += [top, other]
                elif top not in sys.stdlib_module_names:
                    others.add(top)
    return own, others


def requirements() -> set[str]:
    """Return the packages that the Dockerfile installs: the extra `serve`, and those in its argument CORE."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (core,) = [rest for word, rest in instructions(DOCKERFILES[0]) if word == "ARG" and rest.startswith("CORE=")]
    names = {re.split(r"[\[<>=]", line)[0] for line in project["optional-dependencies"]["serve"]}
    wanted = set(json.loads(core.removeprefix("CORE=")).split())
    assert wanted <= {re.split(r"[\[<>=]", line)[0] for line in project["dependencies"]}
    return names | wanted


@pytest.mark.parametrize("start", ["ch10_deploy.serve", "ch10_deploy.batch"])
def test_programs_of_the_image_import_only_installed_packages(start):
    own, others = imports_of(start)
    installed_with = {"pydantic_core": "fastapi", "pydantic": "fastapi", "starlette": "fastapi", "anyio": "fastapi"}
    distribution_names = {"prometheus_client": "prometheus-client", "PIL": "pillow"}
    assert {installed_with.get(name, distribution_names.get(name, name)) for name in others} <= requirements()
    assert {"ch10_deploy", "common", "ch10_deploy.inference.models"} <= own
    assert "onnxruntime" in others


def test_compose_has_the_restrictions_of_the_cluster():
    composition = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    server = composition["services"]["server"]
    assert server["build"] == {"context": "..", "dockerfile": "ch10_deploy/cluster/Dockerfile"}
    versions = yaml.safe_load((DEPLOY / "kubernetes" / "versions" / "kustomization.yaml").read_text(encoding="utf-8"))
    tags = {image["name"]: image["newTag"] for image in versions["images"]}
    assert server["image"] == f"deep-learning-server:{tags['deep-learning-server']}"
    port = last_stage(DOCKERFILES[0])["EXPOSE"]
    assert server["ports"] == [f"127.0.0.1:{port}:{port}"], "the port is open to the network"
    (volume,) = server["volumes"]
    assert (volume["target"], volume["read_only"]) == ("/models", True)
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert server["security_opt"] == ["no-new-privileges:true"]
    options = serve.Options()
    assert options.drain_seconds + options.timeout + 1 < int(server["stop_grace_period"].removesuffix("s"))


# Build and run of the server's image. Of the training image (6 GB) only the build context is checked.

PACKAGES = [
    "python3",
    "bash",
    "dash",
    "coreutils",
    "findutils",
    "grep",
    "sed",
    "tar",
    "passwd",
    "libc-bin",
    "libstdc++6",
]
"""Debian packages that the Dockerfile uses from python:3.11-slim-bookworm, in addition to pip."""


def missing_requirement() -> str:
    """Return the reason why no image can be built on this machine; empty if one can."""
    missing = [tool for tool in ("buildah", "dpkg-query", "unshare", "chroot") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    if os.geteuid() != 0:
        return "building needs root"
    if not Path("/usr/bin/python3.11").exists() or sys.version_info[:2] != (3, 11):
        return "the replacement of the base image needs Debian with Python 3.11"
    return ""


class Store:
    """Images and containers in a temporary folder, which is removed after the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        self.secret = folder / "pip.conf"
        folder.mkdir()

    def __call__(self, *words: str | Path) -> str:
        """Run buildah; return its output."""
        where = ["--root", self.folder / "images", "--runroot", self.folder / "run"]
        done = subprocess.run(["buildah", *where, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout.strip()

    def build(self, dockerfile: Path, context: Path, tag: str, *words: str) -> None:
        """Build an image from a Dockerfile; pip's settings are a secret, and packages come from a folder."""
        pip = ["--secret", f"id=pip,src={self.secret}", "--volume", f"{self.wheels}:/wheels:ro"]
        how = ["--format", "docker", "--isolation", "chroot", "--network", "host", "--pull-never"]
        self("build", *how, *pip, *words, "--file", dockerfile, "--tag", tag, context)

    def mounted(self, tag: str) -> Path:
        """Mount a container of an image; return the folder."""
        return Path(self("mount", self("from", "--pull-never", tag)))


def make_base(store: Store) -> None:
    """Build a replacement for python:3.11-slim-bookworm from this machine's Debian packages and pip."""
    root = store.folder / "debian"
    root.mkdir()
    kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    apt = ["apt-cache", "depends", "--recurse", "--installed", *(f"--no-{kind}" for kind in kinds), *PACKAGES]
    names = re.findall(r"^[a-z0-9]\S*$", subprocess.check_output(apt, text=True), re.M)
    listed = subprocess.check_output(["dpkg-query", "--listfiles", *sorted(set(names))], text=True).splitlines()
    for name in dict.fromkeys(listed):
        if not os.path.lexists(name) or re.match("/usr/share/(doc|man|locale)/", name):
            continue
        source = Path(name)
        target = root / source.parent.resolve().relative_to("/") / source.name  # /lib is a link to /usr/lib
        if source.is_dir() and not source.is_symlink():
            target.mkdir(parents=True, exist_ok=True)
            target.chmod(source.stat().st_mode & 0o7777)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    for name, line in (
        ("passwd", "root:x:0:0:root:/root:/bin/sh"),
        ("group", "root:x:0:"),
        ("shadow", "root:*:::::::"),
    ):
        (root / "etc" / name).write_text(line + "\n")
    (root / "usr" / "bin" / "python").symlink_to("python3")
    shutil.copytree(
        str(metadata.distribution("pip").locate_file("pip")), root / "usr" / "lib" / "python3" / "dist-packages" / "pip"
    )
    subprocess.run(["ldconfig", "-r", root], check=True)
    container = store("from", "scratch")
    store("add", "--quiet", container, root, "/")
    store("commit", "--quiet", "--format", "docker", container, "localhost/base")
    store("rm", container)
    shutil.rmtree(root)


def fetch_packages(store: Store) -> None:
    """Download the packages that the image installs, with pip's settings of this machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = [line for line in project["dependencies"] if line.partition(">")[0] in requirements()]
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", store.wheels]
    words += ["--constraint", ROOT / "constraints.txt", *core, *project["optional-dependencies"]["serve"]]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"the package index cannot be imports_of: {done.stderr[-300:]}")


CACHE = Path("/var/lib/containers/cache")
"""Cache of layers that buildah writes here, independently of --root."""


@contextmanager
def filled_store(folder: Path) -> Iterator[Store]:
    """Build the server's image; remove everything afterwards."""
    store = Store(folder)
    cached = CACHE.exists()
    try:
        store.secret.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        fetch_packages(store)
        make_base(store)
        store.build(DOCKERFILES[0], ROOT, "localhost/server", "--build-arg", "BASE=localhost/base")
        yield store
    finally:
        for words in (("umount", "--all"), ("rm", "--all"), ("rmi", "--all", "--force")):
            store(*words)
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in [mount for mount in reversed(mounts) if Path(mount).is_relative_to(folder)]:
            subprocess.run(["umount", mount], check=True)
        shutil.rmtree(folder)
        if not cached:
            shutil.rmtree(CACHE, ignore_errors=True)
            with suppress(OSError):  # other programs use the folder
                CACHE.parent.rmdir()


def inside(image: tuple[Path, dict[str, Any]], command: list[str], mounts: dict[str, Path], **more: str) -> list[str]:
    """Build a command that runs `command` as in a container: read-only files, user and environment of the image.

    The started process is replaced by the command, so signals and exit codes are those of the command.
    """
    root, settings = image
    environment = [*settings["Env"], *(f"{name}={value}" for name, value in more.items())]
    lines = [f"mount --bind {root} {root}"]
    for target, source in mounts.items():
        (root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)  # as container engines do
        lines.append(f"mount --bind {source} {root}{target}")
    lines += [f"mount -o remount,bind,ro {root}", f"mount -t tmpfs tmpfs {root}/tmp", f"mount -t proc proc {root}/proc"]
    words = ["env", "--ignore-environment", f"--chdir={settings['WorkingDir']}", *environment, *command]
    script = " && ".join([*lines, f'exec chroot --userspec={settings["User"]} {root} "$@"'])
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words]


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, json.loads(data)


def check_settings(image):
    _, settings = image
    assert settings["User"] == f"{USER}:{USER}"
    assert settings["Cmd"] == ["python", "-m", "ch10_deploy.serve", "--host", "0.0.0.0"]
    assert settings["ExposedPorts"] == {"8000/tcp": {}}
    assert settings["Healthcheck"]["Test"][0] == "CMD"


def check_contents(image, store):
    root, _ = image
    installed = {
        path.name.partition("-")[0].lower() for path in root.glob("venv/lib/python3.11/site-packages/*.dist-info")
    }
    assert {"onnxruntime", "fastapi", "uvicorn", "numpy"} <= installed
    assert not {"torch", "pip", "setuptools", "matplotlib"} & installed
    assert sorted(path.name for path in (root / "app").iterdir()) == ["ch10_deploy", "common"]
    assert not list(root.glob("app/ch10_deploy/*.md")) and not (root / "app/ch10_deploy/kubernetes").exists()
    size = sum(path.lstat().st_size for path in (root / "venv").rglob("*") if not path.is_symlink())
    assert size < 300e6, f"{size / 1e6:.0f} MB of packages"
    assert not (root / "etc/pip.conf").exists(), "the secret is in a layer"
    assert "find-links" not in store("inspect", "--type", "image", "localhost/server")


def check_versions(image):
    root, _ = image
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    found = {}
    for path in root.glob("venv/lib/python3.11/site-packages/*.dist-info"):
        name, _, version = path.name.removesuffix(".dist-info").rpartition("-")
        found[name.lower().replace("_", "-")] = version
    assert len(found) > 20
    assert {name: pins.get(name) for name in found} == found


def check_serving(image, folder):
    """Check health, readiness and predictions; after SIGTERM not ready, still correct predictions, and exit code 0."""
    _, settings = image
    write_model(folder / "models", "digits")
    (folder / "models").chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    more = {"DEPLOY_PORT": str(port), "DEPLOY_DRAIN_SECONDS": "3"}
    mounts = {"/models": folder / "models"}
    command = inside(image, settings["Cmd"], mounts, **more)
    check = inside(image, settings["Healthcheck"]["Test"][1:], {}, **more)
    write = subprocess.run(inside(image, ["touch", "/tmp/x", "/app/x"], {}), capture_output=True, text=True)
    assert write.stderr.count("\n") == 1 and "'/app/x': Read-only file system" in write.stderr
    assert subprocess.run(check, capture_output=True).returncode != 0, "healthy before the start"
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        assert f"0.0.0.0:{port}" in server.stdout.readline()
        assert ask(port, "GET", "/readyz") == (200, {"status": "ready", "models": ["digits"]})
        status, answer = ask(port, "POST", "/predict", {"pixels": grey(7)[0].tolist()})
        assert (status, answer["label"]) == (200, "7")
        assert subprocess.run(check, capture_output=True).returncode == 0
        status_of = Path(f"/proc/{server.pid}/status").read_text()
        assert re.search(rf"^Uid:\s+{USER}\s+{USER}\s+{USER}\s+{USER}$", status_of, re.M)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert ask(port, "GET", "/readyz")[0] == 503
        assert ask(port, "POST", "/predict", {"pixels": grey(3)[0].tolist()})[1]["label"] == "3"
        assert server.wait(timeout=15) == 0
    finally:
        server.kill()
        server.communicate()


def check_batch(image, folder):
    write_model(folder / "models", "digits")
    for name in ("images", "predictions"):
        (folder / name).mkdir()
    os.chown(folder / "predictions", USER, USER)
    (folder / "images" / "x-idx3-ubyte").write_bytes(idx(grey(1, 2, 3, 4)))
    mounts = {f"/{name}": folder / name for name in ("models", "images", "predictions")}
    words = ["python", "-m", "ch10_deploy.batch", "--models=/models", "--model=digits", "--images=/images"]
    command = inside(image, [*words, "--out=/predictions", "--shards=2"], mounts, JOB_COMPLETION_INDEX="1")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["label"] for row in rows(folder / "predictions" / "00001-of-00002.csv")] == ["3", "4"]


def check_models_image(store, folder):
    write_model(folder / "models", "digits")
    store.build(DOCKERFILES[1], folder / "models", "localhost/models")
    root = store.mounted("localhost/models")
    assert sorted(path.name for path in root.iterdir() if path.is_file()) == ["digits.json", "digits.onnx"]
    for path in (folder / "models").iterdir():
        assert (root / path.name).read_bytes() == path.read_bytes()
        assert (root / path.name).stat().st_mode & 0o444 == 0o444, "the server cannot read the file"


def check_training_context(store, folder):
    """Check that only the programs are sent to the build of the training image."""
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    ignore = ("--ignorefile", f"{DOCKERFILES[2]}.dockerignore")
    store.build(folder / "Dockerfile", ROOT, "localhost/context", *ignore)
    root = store.mounted("localhost/context")
    chapters = {path.parent.name for path in ROOT.glob("ch*/__init__.py")}
    found = {path.name for path in root.iterdir()} - {"wheels"}  # mount point of the packages
    assert found == {*chapters, "common", "pyproject.toml", "constraints.txt"}
    assert (root / "ch06_cnn" / "train.py").is_file()
    assert list(root.glob("ch04_cuda/kernels/*.cpp"))
    assert not [*root.rglob("*.md"), *root.glob("ch10_deploy/**/*.yaml")]


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_requirement()), reason=missing_requirement())
def test_the_server_image_is_built_and_works(tmp_path):
    """One test, since the build takes a minute and tests may be distributed over processes."""
    with filled_store(tmp_path / "store") as store:
        settings = json.loads(store("inspect", "--type", "image", "localhost/server"))["Docker"]["config"]
        image = store.mounted("localhost/server"), settings
        check_settings(image)
        check_contents(image, store)
        check_versions(image)
        check_serving(image, tmp_path / "serving")
        check_batch(image, tmp_path / "batch")
        check_models_image(store, tmp_path / "models")
        check_training_context(store, tmp_path / "context")
    assert not (tmp_path / "store").exists()
    assert str(tmp_path) not in Path("/proc/mounts").read_text(encoding="utf-8")
