"""The stages with other engines: Pachyderm specifications, a Kubeflow pipeline, data versions with DVC."""

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import typing
from copy import deepcopy
from pathlib import Path

import pytest

from ch09.test_pipeline import run, write_batches, write_pictures
from ch09_pipeline import engine, pipeline, rehearse
from ch09_pipeline.card import checksum, read_card
from ch09_pipeline.contract import files_of
from ch09_pipeline.pipeline import Config
from common.config import RunOptions
from conftest import ROOT

SPECIFICATIONS = {path.stem: json.loads(path.read_text()) for path in sorted(rehearse.SPECIFICATIONS.glob("*.json"))}


def needs(module: str, extra: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed: pip install '.[{extra}]'")


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """Two training batches, one test batch, and three new images, one of them broken."""
    home = tmp_path_factory.mktemp("sources")
    return {"data": write_batches(home / "data", ["batch-1", "batch-2", "test-1"]), "new": write_pictures(home / "new")}


# Pachyderm.


def check(value: object, kind: typing.Any, where: str) -> None:
    """Raise ValueError if JSON does not match a message of the SDK, whose own parser ignores unknown fields."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is list and isinstance(value, list):
        for number, item in enumerate(value):
            check(item, parts[0], f"{where}[{number}]")
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            check(item, parts[1], f"{where}.{key}")
    elif dataclasses.is_dataclass(kind) and isinstance(value, dict):
        fields = {camel(name): hint for name, hint in typing.get_type_hints(kind).items() if not name.startswith("_")}
        for key, item in value.items():
            if key not in fields:
                raise ValueError(f"{where}: {typing.cast(type, kind).__name__} has no field {key}")
            check(item, fields[key], f"{where}.{key}")
    elif kind is float and type(value) in (int, float):
        pass
    elif kind not in (str, int, bool) or type(value) is not kind:
        raise ValueError(f"{where} is {value!r}, not {kind}")


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def check_specification(specification: dict) -> None:
    from pachyderm_sdk.api import pps

    check(specification, pps.CreatePipelineRequest, specification.get("pipeline", {}).get("name", "?"))


@needs("pachyderm_sdk", "pachyderm")
@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_a_specification_has_only_fields_of_the_sdk(name):
    from pachyderm_sdk.api import pps

    specification = SPECIFICATIONS[name]
    check_specification(specification)
    request = pps.CreatePipelineRequest().from_dict(specification)
    assert request.pipeline.name == name
    assert request.transform.cmd == specification["transform"]["cmd"]
    assert request.parallelism_spec.constant == specification.get("parallelismSpec", {}).get("constant", 0)
    known = {"data", "new", *SPECIFICATIONS}
    assert rehearse.repositories_of(specification["input"]) <= known
    words = specification["transform"]["cmd"]
    assert words[:2] == ["python", "-m"]
    assert importlib.util.find_spec(words[2]), words[2]
    assert words[words.index("--out") + 1] == "/pfs/out"


@needs("pachyderm_sdk", "pachyderm")
@pytest.mark.parametrize(
    ("place", "key", "value", "message"),
    [
        ((), "paralelismSpec", {"constant": 4}, "CreatePipelineRequest has no field paralelismSpec"),
        ((), "parallelism_spec", {"constant": 4}, "CreatePipelineRequest has no field parallelism_spec"),
        (("parallelismSpec",), "constant", "4", r"parallelismSpec.constant is '4', not <class 'int'>"),
        (("transform",), "cmd", "python -m x", r"transform.cmd is 'python -m x', not"),
        (("transform",), "cmds", [], "Transform has no field cmds"),
        (("transform",), "cmd", ["python", 3], r"transform.cmd\[1\] is 3, not <class 'str'>"),
        (("input", "pfs"), "globb", "/*", "PfsInput has no field globb"),
        (
            ("input",),
            "cross",
            [{"pfs": {"repository": "x"}}],
            r"input.cross\[0\].pfs: PfsInput has no field repository",
        ),
        ((), "datumTries", True, "datumTries is True, not <class 'int'>"),
        ((), "description", ["x"], "description is"),
    ],
)
def test_a_typo_in_a_specification_is_detected(place, key, value, message):
    specification = deepcopy(SPECIFICATIONS["prepare"])
    inner = specification
    for step in place:
        inner = inner[step]
    inner[key] = value
    with pytest.raises(ValueError, match=message):
        check_specification(specification)


def test_pipelines_with_several_workers_have_several_datums(sources):
    """With the glob `/`, as in the book's specification, there is one datum, and only one worker has work."""
    repositories = {"data": sources["data"], "new": sources["new"]}
    for name, source in (("prepare", "data"), ("predict", "new")):
        entry = SPECIFICATIONS[name]
        assert entry["parallelismSpec"]["constant"] > 1
        (pfs,) = (
            part["pfs"] for part in entry["input"].get("cross", [entry["input"]]) if part["pfs"]["repo"] == source
        )
        assert len(rehearse.datums_of({"pfs": pfs}, repositories)) == 3


def test_datums_of_globs_crosses_and_unions(tmp_path):
    for name in ("a/x", "a/y", "b/z", "c/sub/w"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    repositories = {name: tmp_path / name for name in "abc"}

    def pfs(repo, glob, **named):
        return {"pfs": {"repo": repo, "glob": glob, **named}}

    def names(source):
        datums = rehearse.datums_of(source, repositories)
        return [{mount: [path.name for path in files] for mount, files in datum.items()} for datum in datums]

    assert names(pfs("a", "/")) == [{"a": ["x", "y"]}]
    assert names(pfs("a", "/*")) == [{"a": ["x"]}, {"a": ["y"]}]
    assert names(pfs("c", "/*")) == [{"c": ["w"]}]
    crossed = {"cross": [pfs("a", "/*"), pfs("b", "/")]}
    assert names(crossed) == [{"a": ["x"], "b": ["z"]}, {"a": ["y"], "b": ["z"]}]
    united = {"union": [pfs("a", "/", name="m"), pfs("b", "/", name="m")]}
    assert names(united) == [{"m": ["x", "y"]}, {"m": ["z"]}]
    assert rehearse.repositories_of({"cross": [crossed, united, pfs("c", "/")]}) == {"a", "b", "c"}


def test_pipelines_are_sorted_topologically():
    order = [entry["pipeline"]["name"] for entry in rehearse.topological_order(list(SPECIFICATIONS.values()))]
    for name, entry in SPECIFICATIONS.items():
        assert all(
            order.index(other) < order.index(name) for other in rehearse.repositories_of(entry["input"]) & set(order)
        )
    loop = [{"pipeline": {"name": a}, "input": {"pfs": {"repo": b, "glob": "/"}}} for a, b in ("xy", "yx")]
    with pytest.raises(ValueError, match="the pipelines x, y depend on each other"):
        rehearse.topological_order(loop)


def test_a_datum_has_only_its_files_and_failures_are_reported(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("one", "two"):
        (tmp_path / "in" / name).write_text(name)
    shell = ["python", "-c", "import sys, shutil; shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)"]
    entry = {"pipeline": {"name": "copy"}, "input": {"pfs": {"repo": "in", "glob": "/*"}}}
    entry["transform"] = {"cmd": [*shell, "/pfs/in", "/pfs/out"]}
    home = rehearse.rehearse([entry], {"in": tmp_path / "in"}, tmp_path / "out", {})["copy"]
    assert {path.name: path.read_text() for path in files_of([home])} == {"one": "one", "two": "two"}
    same = {**entry, "transform": {"cmd": ["python", "-c", "import sys; open(sys.argv[1], 'w').close()", "/pfs/out/x"]}}
    with pytest.raises(ValueError, match="two datums of copy write x"):
        rehearse.rehearse([same], {"in": tmp_path / "in"}, tmp_path / "same", {})
    broken = {**entry, "transform": {"cmd": ["python", "-c", "raise SystemExit('out of luck')"]}}
    with pytest.raises(ValueError, match="failed: out of luck"):
        rehearse.rehearse([broken], {"in": tmp_path / "in"}, tmp_path / "broken", {})


def test_a_pipeline_without_a_datum_is_an_error(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").write_text("")
    entry = {"pipeline": {"name": "copy"}, "input": {"pfs": {"repo": "in", "glob": "/*.bin"}}}
    entry["transform"] = {"cmd": ["python", "-c", ""]}
    with pytest.raises(ValueError, match=r"^copy has no datum: a glob matches no file in in$"):
        rehearse.rehearse([entry], {"in": tmp_path / "in"}, tmp_path / "out", {})


@pytest.fixture(scope="module")
def rehearsed(sources, tmp_path_factory, warm_python) -> dict[str, Path]:
    """Repositories after the commands of all specifications have run, each datum in its own /pfs."""
    out = tmp_path_factory.mktemp("pachyderm") / "out"
    flags = {"--epochs": 1, "--threshold": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", warm_python)
        return rehearse.rehearse(list(SPECIFICATIONS.values()), sources, out, flags)


@pytest.mark.slow
def test_all_specifications_run(rehearsed):
    names = {name: sorted(str(path.relative_to(home)) for path in files_of([home])) for name, home in rehearsed.items()}
    assert names["prepare"] == [
        f"{name}.{kind}" for name in ("batch-1", "batch-2", "test-1") for kind in ("json", "safetensors")
    ]
    assert "dropout/model.safetensors" in names["train"]
    assert "nodropout/model.safetensors" in names["train-nodropout"]
    assert {"dropout/confusion.png", "nodropout/confusion.png"} <= set(names["evaluate"])
    assert "comparison.csv" in names["compare"]
    assert "model.safetensors" in names["publish"]
    assert [name for name in names["predict"] if name.endswith(".csv")] == ["0.png.csv", "1.png.csv", "broken.png.csv"]
    assert read_card(rehearsed["predict"] / "broken.png.json").facts["quarantined"]
    assert read_card(rehearsed["train"] / "dropout/card.json").facts["class_names"][0] == "disc"


# Kubeflow.


@needs("kfp", "kubeflow")
def test_the_kubeflow_pipeline_compiles(tmp_path, command, warm):
    import yaml

    done = command("ch09_pipeline.kubeflow", "--compile", str(tmp_path / "pipeline.yaml"))
    assert done.returncode == 0, done.stderr
    specification = next(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text()))
    tasks = specification["root"]["dag"]["tasks"]
    assert tasks["publish"]["dependentTasks"] == ["compare", "train", "train-2"]
    assert tasks["predict"]["dependentTasks"] == ["importer-2", "publish"]
    variants = [
        tasks[name]["inputs"]["parameters"]["variant"]["runtimeValue"]["constant"] for name in ("train", "train-2")
    ]
    assert variants == ["dropout", "nodropout"]
    images = {
        entry["container"]["image"]
        for entry in specification["deploymentSpec"]["executors"].values()
        if "container" in entry
    }
    assert images == {"deep-learning-companion:0.1.0"}
    assert images == {entry["transform"]["image"] for entry in SPECIFICATIONS.values()}
    done = command("ch09_pipeline.kubeflow", "--compile", str(tmp_path / "pipeline.txt"))
    assert done.returncode == 2
    assert "must end in .yaml" in done.stderr


@needs("kfp", "kubeflow")
def test_a_failed_kubeflow_run_prints_one_line(tmp_path, command, warm):
    (tmp_path / "empty").mkdir()
    words = ["--new", str(tmp_path / "empty"), "--out", str(tmp_path / "kfp")]
    done = command("ch09_pipeline.kubeflow", "--data", str(tmp_path / "nowhere"), *words)
    assert done.returncode == 2
    assert "error: --data must be a folder, got " in done.stderr
    done = command("ch09_pipeline.kubeflow", "--data", str(tmp_path / "empty"), *words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: "), done.stderr
    assert 'kubeflow.py", line' not in done.stderr, "a traceback of the suite was printed"
    assert "no batch (*.bin)" in done.stdout + done.stderr


@needs("kfp", "kubeflow")
@pytest.mark.slow
def test_kubeflow_on_this_machine_and_pachyderm_train_the_same_model(sources, rehearsed, tmp_path, command, warm):
    words = [
        "--data",
        sources["data"],
        "--new",
        sources["new"],
        "--epochs",
        1,
        "--threshold",
        0,
        "--out",
        tmp_path / "kfp",
    ]
    done = command("ch09_pipeline.kubeflow", *map(str, words))
    assert done.returncode == 0, done.stderr
    (home,) = (tmp_path / "kfp").glob("shapes-*")
    published = home / "publish/published/model.safetensors"
    assert checksum(published) == checksum(rehearsed["publish"] / "model.safetensors")
    assert sorted(path.name for path in home.glob("predict/predictions/*.csv")) == [
        "0.png.csv",
        "1.png.csv",
        "broken.png.csv",
    ]


# DVC.


@needs("dvc", "data-versions")
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_checking_out_earlier_data_reruns_only_the_affected_jobs(tmp_path, warm):
    home = tmp_path / "repository"
    data = write_batches(home / "data", ["batch-1", "batch-2", "batch-3", "test-1"])
    names = {f"GIT_{who}_{what}": "reader@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **names, "HOME": str(tmp_path), "DVC_NO_ANALYTICS": "1"}

    def call(*words: str) -> None:
        command = [sys.executable, "-m", *words] if words[0] == "dvc" else list(words)
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def keep(message: str) -> None:
        call("dvc", "add", "--quiet", "data")
        call("git", "add", "data.dvc", ".gitignore")
        call("git", "commit", "--quiet", "--message", message)

    call("git", "init", "--quiet")
    call("dvc", "init", "--quiet")
    keep("three batches")
    options = RunOptions(device="cpu", precision="fp32", threads=1, out=tmp_path / "runs")
    config = Config(
        data=data, new=write_pictures(tmp_path / "new"), variants=("nodropout",), epochs=1, threshold=0, run=options
    )
    run(config)
    work = pipeline.work_folder(options, data)
    first = checksum(work / "publish/model.safetensors")
    (data / "batch-2.bin").write_bytes((data / "batch-3.bin").read_bytes())
    keep("replace the second batch")
    metrics, _ = run(config)
    assert metrics["jobs"] == 1 + 5
    assert checksum(work / "publish/model.safetensors") != first
    call("git", "checkout", "--quiet", "HEAD~1", "--", "data.dvc")
    call("dvc", "checkout", "--quiet")
    assert [job.name for job in engine.plan(work) if job.rule == "prepare"] == ["prepare batch-2"]
    metrics, _ = run(config)
    assert metrics["jobs"] == 1 + 5
    assert checksum(work / "publish/model.safetensors") == first


# Packaging.


def test_files_other_than_python_are_installed():
    kept = setuptools_settings()["package-data"]["ch09_pipeline"]
    package = ROOT / "ch09_pipeline"
    found = {path for pattern in kept for path in package.glob(pattern)}
    assert found == {
        path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".md")
    }


def test_the_plugin_is_installed_beside_the_engine():
    """The engine looks for the plugin beside its own file, so the installed packages must include its folder."""
    setuptools = pytest.importorskip("setuptools")
    patterns = setuptools_settings()["packages"]["find"]["include"]
    packages = setuptools.find_namespace_packages(str(ROOT), include=patterns)
    assert "ch09_pipeline.plugins.snakemake_logger_plugin_events" in packages
    assert Path(engine.__file__).parent / "plugins" == engine.PLUGINS


def setuptools_settings() -> dict[str, typing.Any]:
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
