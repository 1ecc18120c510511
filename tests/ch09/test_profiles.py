"""The profiles for Slurm and Kubernetes: dry runs of the pipeline, and runs in clusters that this machine imitates."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ch09.fake_kubernetes import Cluster, serve
from ch09.test_pipeline import run, write_batches, write_pictures
from ch09_pipeline import engine, graph, pipeline, status
from ch09_pipeline.card import read_card
from ch09_pipeline.engine import Event, Job
from ch09_pipeline.pipeline import Config
from common.config import RunOptions
from conftest import ROOT

pytest.importorskip("snakemake", reason="Snakemake is not installed: pip install '.[pipeline]'")

MANIFESTS = ROOT / "ch09_pipeline" / "cluster"
NAMES = ["kubernetes", "slurm"]
STAGES = ["prepare batch-1", "prepare test-1", "train nodropout", "evaluate nodropout", "compare", "publish", "predict"]
JOBS = ["prepare", "train nodropout", "evaluate nodropout", "predict"]
"""Jobs that reach the cluster: the batches share one, and two stages are local."""
LOGS = [
    *("compare.log", "evaluate/nodropout.log", "predict.log", "prepare/batch-1.log", "prepare/test-1.log"),
    *("publish.log", "train/nodropout.log"),
]

plugins = pytest.mark.skipif(
    any(importlib.util.find_spec(f"snakemake_executor_plugin_{name}") is None for name in NAMES)
    or importlib.util.find_spec("snakemake_storage_plugin_fs") is None,
    reason="Snakemake's plugins for clusters are not installed: pip install '.[clusters]'",
)


def read_yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def copy_profile(name: str, folder: Path, **changes: object) -> str:
    """Copy a profile as a user does: with the settings that are comments, and with other values."""
    text = (engine.PROFILES / name / "config.yaml").read_text(encoding="utf-8")
    text, settings = re.subn(r"^( +)# (\w+: \S+)$", r"\1\2", text, flags=re.MULTILINE)
    assert settings >= 2
    content = {**yaml.safe_load(text), **{key.replace("_", "-"): value for key, value in changes.items()}}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(folder)


def make_config(home: Path) -> Config:
    """Write two batches and three new images to a folder; return settings for them."""
    data, new = write_batches(home / "data", ["batch-1", "test-1"]), write_pictures(home / "new")
    options = RunOptions(device="cpu", precision="fp32", threads=1, out=home / "runs")
    return Config(data=data, new=new, variants=("nodropout",), epochs=1, threshold=0, jobs=2, run=options)


@dataclass(frozen=True)
class Local:
    """A run without a profile, and the settings for other runs on the same data."""

    config: Config
    work: Path

    def assert_equal(self, work: Path) -> None:
        """Check that another work folder contains the same results."""
        for name in ("train/nodropout/model.safetensors", "publish/model.safetensors", "prepare/batch-1.safetensors"):
            assert (work / name).read_bytes() == (self.work / name).read_bytes(), name
        for name in ("predict/0.png.csv", "predict/1.png.csv", "compare/comparison.csv"):
            assert (work / name).read_text() == (self.work / name).read_text(), name
        ours, theirs = (read_card(folder / "publish/card.json") for folder in (work, self.work))
        assert ours.lineage[0] == theirs.lineage[0]
        assert ours.facts["metrics"] == theirs.facts["metrics"]
        for folder in (work / "logs", self.work / "logs"):
            assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.log")) == LOGS


@pytest.fixture(scope="module")
def local(tmp_path_factory, warm_python) -> Local:
    """A run on this machine, to compare those of the clusters with."""
    config = make_config(tmp_path_factory.mktemp("local"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", warm_python)
        run(config)
    return Local(config, pipeline.work_folder(config.run, config.data))


def due(work: Path) -> list[str]:
    return [job.name for job in engine.plan(work)]


def plan_with_threads(work: Path) -> tuple[list[Job], dict[str, int]]:
    """List all jobs as `engine.plan` does, and the threads of the rules that have more than one."""
    with engine._stopping(engine.start(work, "--cores", "2", "--dry-run", "--forceall")) as running:
        jobs = [event.job for event in engine.read_events(running.events) if event.job.rule != "all"]
        assert running.process.wait() == 0
        running.messages.seek(0)
        text = running.messages.read().decode()
    rules = re.findall(r"^(?:local)?rule (\w+):\n((?: .*\n)+)", text, re.MULTILINE)
    found = {rule: re.search(r"^ +threads: (\d+)$", lines, re.MULTILINE) for rule, lines in rules}
    assert {"train", "publish"} <= set(found), text
    return jobs, {rule: int(threads[1]) for rule, threads in found.items() if threads}


# Profiles.


@plugins
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("warm")
def test_a_dry_run_lists_all_jobs_and_runs_none(tmp_path, name):
    config = make_config(tmp_path)
    config = replace(config, profile=name, dry_run=True, run=replace(config.run, threads=2))
    metrics, output = run(config)
    work = pipeline.work_folder(config.run, config.data)
    assert metrics == {"jobs": len(STAGES)}
    assert "prepare  batch-1, test-1: not made yet\n" in output
    assert output.endswith("jobs     7 due; nothing was run\n")
    assert sorted(due(work)) == sorted(STAGES), "status and graph use the same profile"
    assert not {path.name for path in work.iterdir()} & {"prepare", "train", "predict", "published.json"}
    planned, threads = plan_with_threads(work)
    assert threads == {"train": 2, "evaluate": 2, "predict": 2}, "--threads is the number of CPUs of these jobs"
    jobs = graph.job_graph(planned, ())
    edges = {(jobs.nodes[tail]["rule"], jobs.nodes[head]["rule"]) for tail, head in jobs.edges}
    assert edges == {
        *(("prepare", "train"), ("prepare", "evaluate"), ("train", "evaluate"), ("evaluate", "compare")),
        *(("train", "publish"), ("compare", "publish"), ("publish", "predict")),
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_of_a_profile_exists_and_repeated_jobs_get_more_memory(name):
    profile = read_yaml(engine.PROFILES / name / "config.yaml")
    assert profile["executor"] == name
    named = {*profile["set-resources"], *profile["groups"]}
    assert named <= set(pipeline.STAGES)
    assert profile["retries"] == 1
    for resources in (profile["default-resources"], *profile["set-resources"].values()):
        assert resources["mem_mb"].startswith("attempt * ")


def test_limits_of_the_profiles():
    profiles = {name: read_yaml(engine.PROFILES / name / "config.yaml") for name in NAMES}
    for profile in profiles.values():
        assert profile["jobs"] > 10, "more than a group of batches"
    assert profiles["slurm"]["latency-wait"] >= 60, "NFS clients cache attributes for up to a minute"
    assert profiles["slurm"]["slurm-init-seconds-before-status-checks"] < 40, "the default; most jobs are shorter"


def test_a_dry_run_does_not_change_the_settings_of_another_run(tmp_path):
    config = make_config(tmp_path)
    work = pipeline.work_folder(config.run, config.data)
    work.mkdir(parents=True)
    with engine.locked(work), pytest.raises(ValueError, match=r"^another run uses "):
        pipeline.train(replace(config, dry_run=True))
    assert not (work / engine.SETTINGS).exists()


def test_a_profile_is_a_name_or_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: True)
    assert engine.find_profile("slurm") == engine.PROFILES / "slurm"
    (tmp_path / "config.yaml").write_text("executor: local\n")
    monkeypatch.chdir(tmp_path.parent)
    assert engine.find_profile(tmp_path.name) == tmp_path
    with pytest.raises(ValueError, match=r"^--profile nowhere: not kubernetes or slurm, and not a folder with a conf"):
        engine.find_profile("nowhere")


def test_a_missing_plugin_is_reported_before_anything_is_written(tmp_path, monkeypatch):
    config = make_config(tmp_path)
    monkeypatch.setattr(engine, "find_spec", lambda name: None if name.startswith("snakemake_executor") else True)
    message = r"^--profile slurm: snakemake-executor-plugin-slurm is not installed: pip install '\.\[clusters\]'$"
    for data in (config.data, None):
        with pytest.raises(ValueError, match=message):
            pipeline.train(replace(config, data=data, profile="slurm"))
        assert not config.run.out.exists()
    (tmp_path / "config.yaml").write_text("executor: local\n")
    assert engine.find_profile(str(tmp_path)) == tmp_path, "Snakemake itself contains this executor"


def test_the_number_of_jobs_is_that_of_the_profile_unless_given(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(engine, "start", lambda work, *flags, lock=None: calls.append(flags) or pytest.fail("started"))
    for profile, parallel in ((None, 2), ("/p", 2), ("/p", None)):
        (tmp_path / engine.SETTINGS).write_text(json.dumps({"profile": profile}))
        with pytest.raises(pytest.fail.Exception):
            next(engine.run(tmp_path, parallel, 0))
    assert calls == [("--cores", "2", "--keep-going"), ("--jobs", "2", "--keep-going"), ("--keep-going",)]


def test_a_repeated_job_that_succeeds_is_no_failure(tmp_path, monkeypatch):
    job = Job(1, "train", "dropout", "not made yet")
    events = [Event("start", job), Event("error", job), Event("start", job), Event("finish", job)]
    monkeypatch.setattr(engine, "read_events", lambda lines: iter(events))
    monkeypatch.setattr(engine, "command", lambda work, *flags, descriptor: [sys.executable, "-c", ""])
    assert [event.kind for event in engine.run(tmp_path, 1, 0)] == ["start", "start", "finish"]
    events.append(Event("error", job))
    with pytest.raises(ValueError, match=r"^train dropout: it exited without output$"):
        list(engine.run(tmp_path, 1, 0))


# A run with Slurm's commands.


@plugins
@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_slurm_gets_every_job_with_its_resources(local, tmp_path, monkeypatch):
    state, commands = tmp_path / "state", tmp_path / "bin"
    state.mkdir()
    commands.mkdir()
    for name in ("sbatch", "srun", "sacct", "sinfo", "sacctmgr", "squeue", "scontrol", "scancel"):
        (commands / name).symlink_to(Path(__file__).with_name("fake_slurm.py"))
    monkeypatch.setenv("FAKE_SLURM", str(state))
    monkeypatch.setenv("PATH", str(commands), prepend=":")
    changes = {"slurm_init_seconds_before_status_checks": 1, "latency_wait": 5}
    profile = copy_profile("slurm", tmp_path / "my-profile", **changes)
    options = replace(local.config.run, out=tmp_path / "runs")
    config = replace(local.config, profile=profile, jobs=None, run=options)
    metrics, _ = run(config)
    work = pipeline.work_folder(options, config.data)
    assert metrics["jobs"] == len(STAGES)
    local.assert_equal(work)

    submitted = [json.loads(path.read_text()) for path in sorted(state.glob("*.json"))]
    assert [entry["folder"] for entry in submitted] == [str(work)] * len(JOBS)
    lines = {}
    for entry in submitted:
        words = dict(pairwise(entry["words"]))
        lines[words["--comment"].removeprefix("rule_").replace("_wildcards_", " ")] = (entry["words"], words)
    assert sorted(lines) == sorted(["prepare_prepare", *JOBS[1:]])
    expected = {
        "prepare_prepare": ("1000", "10", "my-partition"),
        "train nodropout": ("4000", "240", "my-gpu-partition"),
        "evaluate nodropout": ("2000", "10", "my-partition"),
        "predict": ("2000", "10", "my-partition"),
    }
    for name, (memory, minutes, partition) in expected.items():
        words, values = lines[name]
        assert (values["--mem"], values["-t"], values["-p"], values["-A"]) == (memory, minutes, partition, "my-account")
        assert ("--gpus=1" in words) == (name == "train nodropout")
    assert "--cpus-per-task=2" in lines["prepare_prepare"][0], "both batches at the same time"
    assert "--cpus-per-task=1" in lines["train nodropout"][0]

    assert due(work) == []
    assert run(replace(config, profile=None, dry_run=True))[0] == {"jobs": 0}, (
        "without the profile, nothing is due either"
    )


# A run with the API of Kubernetes.


@plugins
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
@pytest.mark.usefixtures("warm")
def test_kubernetes_gets_a_pod_for_every_job(local, tmp_path, monkeypatch):
    volume, commands = tmp_path / "volume", tmp_path / "bin"
    commands.mkdir()
    for name, line in (("python", f'exec {sys.executable} "$@"'), ("pip", f'echo "$@" >> {tmp_path}/installed')):
        (commands / name).write_text(f"#!/bin/sh\n{line}\n")
        (commands / name).chmod(0o755)
    shutil.copytree(local.config.data, volume / "data")
    shutil.copytree(local.config.new, volume / "new")
    profile = copy_profile(
        "kubernetes",
        tmp_path / "my-profile",
        kubernetes_persistent_volumes=[f"pipeline:{volume}"],
        seconds_between_status_checks=1,
    )
    options = replace(local.config.run, out=volume / "runs")
    config = replace(local.config, data=volume / "data", new=volume / "new", profile=profile, jobs=None, run=options)
    environment = {"PATH": f"{commands}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    cluster = Cluster(tmp_path / "pods", {**environment, "OMP_NUM_THREADS": "1"}, failing="train:variant=nodropout")
    with serve(cluster) as client:
        (tmp_path / ".kube").mkdir()
        (tmp_path / ".kube" / "config").write_text(yaml.safe_dump(client))
        monkeypatch.setenv(
            "HOME", str(tmp_path)
        )  # KUBECONFIG is read when the client is imported, as in warm processes
        monkeypatch.delenv("KUBECONFIG", raising=False)
        metrics, _ = run(config)
    work = pipeline.work_folder(options, config.data)
    assert metrics["jobs"] == len(STAGES)
    local.assert_equal(work)
    assert due(work) == []
    assert status.train(status.Config(config.data, options)) == {"jobs": 0, "quarantined": 1}

    limits = []
    for job in cluster.jobs.values():
        kubernetes_validate.validate({"apiVersion": "batch/v1", "kind": "Job", **job}, "1.35", strict=True)
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == "deep-learning-pipeline:0.1.0"
        assert {"name": "pipeline", "mountPath": str(volume)} in container["volumeMounts"]
        assert {"name": "pipeline", "persistentVolumeClaim": {"claimName": "pipeline"}} in pod["volumes"]
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        assert container["resources"]["limits"]["ephemeral-storage"] in ("2000M", "4000M"), "two batches share a pod"
        limits.append(
            (container["resources"]["limits"]["memory"], container["resources"]["limits"].get("nvidia.com/gpu"))
        )
    assert limits == [("1000M", None), ("4000M", "1"), ("8000M", "1"), ("2000M", None), ("2000M", None)]
    installed = (tmp_path / "installed").read_text().splitlines()
    assert {line.split()[-1] for line in installed} == {"snakemake-storage-plugin-fs"}
    (role,) = [thing for thing in manifests() if thing["kind"] == "Role"]
    rules = [(rule["apiGroups"], rule["resources"], rule["verbs"]) for rule in role["rules"]]
    allowed = {
        (group, kind, verb) for groups, kinds, verbs in rules for group in groups for kind in kinds for verb in verbs
    }
    assert cluster.requests <= allowed
    assert allowed - cluster.requests == {("", "pods", "delete"), ("", "pods/log", "get")}, "only after a failure"


# The manifests and the image.


def manifests() -> list[dict[str, Any]]:
    files = read_yaml(MANIFESTS / "kustomization.yaml")["resources"]
    return [thing for name in files for thing in yaml.safe_load_all((MANIFESTS / name).read_text(encoding="utf-8"))]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_manifests_are_valid_and_agree_with_the_profile():
    done = subprocess.run(["kubectl", "kustomize", MANIFESTS], capture_output=True, text=True, check=True)
    things = {thing["kind"]: thing for thing in yaml.safe_load_all(done.stdout)}
    assert sorted(things) == ["Job", "Namespace", "PersistentVolumeClaim", "Role", "RoleBinding", "ServiceAccount"]
    for thing in things.values():
        for version in ("1.35", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(thing, version, strict=True)
    profile = read_yaml(engine.PROFILES / "kubernetes" / "config.yaml")
    pod = things["Job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == profile["container-image"]
    namespaces = {thing["metadata"].get("namespace") for kind, thing in things.items() if kind != "Namespace"}
    assert namespaces == {profile["kubernetes-namespace"]} == {things["Namespace"]["metadata"]["name"]}
    volume, path = profile["kubernetes-persistent-volumes"][0].split(":")
    assert things["PersistentVolumeClaim"]["metadata"]["name"] == volume
    assert {"name": volume, "mountPath": path} in container["volumeMounts"]
    assert pod["serviceAccountName"] == things["ServiceAccount"]["metadata"]["name"]
    assert things["RoleBinding"]["subjects"][0]["namespace"] == profile["kubernetes-namespace"]
    assert container["command"] == ["python", "-m", "ch09_pipeline.train"]
    words = dict(word.removeprefix("--").split("=") for word in container["args"][1:])
    assert words == {"profile": "kubernetes", "out": f"{path}/runs"}


def test_the_image_is_built_as_the_page_says_and_hadolint_reports_nothing():
    path = MANIFESTS / "Dockerfile"
    tool = Path(sys.executable).with_name("hadolint")
    if not tool.exists():
        pytest.skip("hadolint is not installed")
    done = subprocess.run([tool, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
    text = path.read_text(encoding="utf-8")
    page = (ROOT / "ch09_pipeline" / "README.md").read_text(encoding="utf-8")
    for line in (line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#     docker build")):
        assert line in page
    image = read_yaml(engine.PROFILES / "kubernetes" / "config.yaml")["container-image"]
    assert f"--tag {image} " in text
    assert text.count("--constraint /app/constraints.txt") == 2
    assert text.rstrip().splitlines()[-2] == "USER 10001:10001"
