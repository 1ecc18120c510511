"""Training in a cluster: both manifests are equivalent, and their commands work, tested on one machine."""

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob as TrainJob

from ch06_cnn.speedrun import speedrun
from ch10.test_kubernetes import named, objects, pod_of
from common import cli
from conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

INJECTED = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
"""Variables that the Kubeflow Trainer sets in the pods of a TrainJob with the torch runtime."""


def job() -> dict[str, Any]:
    (found,) = objects("training/job", "Job")
    return found


def train_job() -> dict[str, Any]:
    (found,) = objects("training/kubeflow", "TrainJob")
    return found


def environment_of(entries: list[dict[str, Any]]) -> dict[str, str | None]:
    """Return the values by name; None for values that the cluster sets."""
    return {entry["name"]: entry.get("value") for entry in entries}


def test_the_train_job_is_valid_for_the_trainer():
    """The Trainer's models drop unknown fields, so a round trip must not change the manifest."""
    assert TrainJob.from_dict(train_job()).to_dict() == train_job()  # pyright: ignore[reportOptionalMemberAccess]
    for path in (["spec"], ["spec", "trainer"], ["spec", "runtimePatches", 0, "trainingRuntimeSpec"]):
        broken = train_job()
        place: Any = broken
        for step in path:
            place = place[step]
        place["numOfNodes"] = 2
        assert TrainJob.from_dict(broken).to_dict() != broken  # pyright: ignore[reportOptionalMemberAccess]


def test_the_train_job_refers_to_the_runtime_of_the_trainer():
    spec = train_job()["spec"]
    assert train_job()["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
    assert spec["runtimeRef"]["name"] == "torch-distributed"
    (patch,) = spec["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    (container,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
    assert (replicated["name"], container["name"]) == ("node", "node")  # as in the runtime
    assert "env" not in container  # the Trainer rejects it there
    assert not INJECTED & environment_of(spec["trainer"]["env"]).keys()  # the Trainer sets these


def test_both_manifests_run_the_same_training():
    plain, kubeflow = job()["spec"], train_job()["spec"]
    pod = pod_of(job())
    (container,) = pod["containers"]
    trainer = kubeflow["trainer"]
    for field in ("image", "command", "args"):
        assert container[field] == trainer[field]
    assert container["resources"] == trainer["resourcesPerNode"]
    environment = environment_of(container["env"])
    assert environment.keys() == INJECTED | environment_of(trainer["env"]).keys()
    assert environment.items() >= environment_of(trainer["env"]).items()
    assert environment["PET_NNODES"] == str(plain["completions"]) == str(trainer["numNodes"])
    assert environment["PET_NPROC_PER_NODE"] == str(trainer["numProcPerNode"])
    replicated = kubeflow["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
    template = replicated["template"]["spec"]["template"]
    (patched,) = template["spec"]["containers"]
    assert template["spec"]["securityContext"] == pod["securityContext"]
    assert template["spec"]["volumes"] == pod["volumes"]
    assert patched["securityContext"] == container["securityContext"]
    assert patched["volumeMounts"] == container["volumeMounts"]
    assert template["metadata"]["labels"].items() <= plain["template"]["metadata"]["labels"].items()


def test_the_pods_of_the_job_can_connect_to_each_other():
    things = objects("training/job")
    spec, name = job()["spec"], job()["metadata"]["name"]
    service = named(things, "Service", pod_of(job())["subdomain"])
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True  # the pods connect before they are ready
    environment = environment_of(pod_of(job())["containers"][0]["env"])
    assert environment["PET_MASTER_ADDR"] == f"{name}-0.{service['metadata']['name']}"
    (port,) = service["spec"]["ports"]
    assert environment["PET_MASTER_PORT"] == str(port["port"])
    assert spec["completionMode"] == "Indexed"
    assert spec["parallelism"] == spec["completions"], "all pods must run at the same time"
    (rank,) = [entry for entry in pod_of(job())["containers"][0]["env"] if entry["name"] == "PET_NODE_RANK"]
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert rank["valueFrom"]["fieldRef"] == {"apiVersion": "v1", "fieldPath": index} or (
        rank["valueFrom"]["fieldRef"] == {"fieldPath": index}
    )
    policy = named(things, "NetworkPolicy", "training")["spec"]
    among = {"podSelector": policy["podSelector"]}
    assert policy["ingress"] == [{"from": [among]}]
    assert policy["egress"][0] == {"to": [among]}
    assert {(port["port"], port["protocol"]) for port in policy["egress"][1]["ports"]} == {(53, "UDP"), (53, "TCP")}


def test_the_arguments_of_the_job_are_valid(monkeypatch):
    (container,) = pod_of(job())["containers"]
    assert container["command"] == ["torchrun", "-m", "ch06_cnn.train"]
    configs = []
    monkeypatch.setattr(speedrun, "train", configs.append)
    importlib.import_module("ch06_cnn.train")
    cli.main(speedrun, arguments=container["args"])
    (config,) = configs
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    environment = environment_of(container["env"])
    for path in (str(config.run.out), environment["DATA_DIR"]):
        assert path is not None
        assert any(path.startswith(f"{mount}/") for mount in mounts), f"{path} is not on a volume"
    assert environment["OMP_NUM_THREADS"] == container["resources"]["limits"]["cpu"]
    assert config.run.resume == "auto", "a restarted Job must resume"


PROGRAM = """
import hashlib, runpy, sys
from pathlib import Path
from safetensors.torch import save
from common import distributed
from common.run import Run
original = Run.save
def save_and_hash(self, model):
    weights = {name: value.data.contiguous() for name, value in model.named_parameters()}
    digests = Path(DIGESTS, f"rank-{distributed.rank()}-of-{distributed.world_size()}")
    digests.write_text(hashlib.sha256(save(weights)).hexdigest())
    original(self, model)
Run.save = save_and_hash
runpy.run_module("ch06_cnn.train", run_name="__main__")
"""


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


DYING = """
import os, runpy, signal
from common import distributed
from common.run import Run
original = Run._checkpoint
def checkpoint_and_die(self, parts):
    original(self, parts)
    if DIES and self._epoch == 1 and distributed.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
Run._checkpoint = checkpoint_and_die
runpy.run_module("ch06_cnn.train", run_name="__main__")
"""


def start_nodes(tmp_path: Path, text: str, epochs: int) -> tuple[list[int], list[tuple[str, str]]]:
    """Run the processes of both pods on this machine; return their exit codes and outputs.

    A node is a torchrun agent with the arguments of the manifest, except for local addresses and folders, fewer epochs
    and less data.
    """
    (container,) = pod_of(job())["containers"]
    program = tmp_path / "program.py"
    program.write_text(text)
    words = [word for word in container["args"] if not word.startswith(("--out", "--epochs"))]
    words += ["--epochs", str(epochs), "--limit", "600", "--device", "cpu", "--threads", "1"]
    words += ["--out", str(tmp_path / "runs")]
    here = {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    agents = []
    for rank in range(job()["spec"]["completions"]):
        given = (
            environment_of(container["env"]) | here | {"PET_NODE_RANK": str(rank), "DATA_DIR": str(tmp_path / "data")}
        )
        environment = {**os.environ, **{name: value for name, value in given.items() if value is not None}}
        agents.append(
            subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", str(program), *words],
                cwd=ROOT,
                env=environment | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        outputs = [agent.communicate(timeout=240) for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    return [agent.returncode for agent in agents], outputs


@pytest.mark.slow
def test_two_nodes_end_with_the_same_weights(tmp_path, warm):
    """Only parameters are compared: running means of batch norm differ, and those of the first node are saved."""
    digests = tmp_path / "digests"
    digests.mkdir()
    codes, outputs = start_nodes(tmp_path, f"DIGESTS = {str(digests)!r}\n{PROGRAM}", epochs=1)
    assert codes == [0, 0], [errors for _, errors in outputs]
    assert sorted(path.name for path in digests.iterdir()) == ["rank-0-of-2", "rank-1-of-2"]
    assert len({path.read_text() for path in digests.iterdir()}) == 1, "the weights of the nodes differ"
    assert "process 1 of 2" in outputs[0][0]
    assert "epoch 1/1" in outputs[0][0]
    assert "epoch 1/1" not in outputs[1][0], "only the first node may report"
    (summary,) = (tmp_path / "runs").glob("*/*/*/summary.json")
    assert json.loads(summary.read_text())["program"] == "speedrun"


@pytest.mark.slow
def test_a_killed_node_resumes_with_the_weights_of_an_uninterrupted_run(tmp_path, warm):
    """One of two nodes gets SIGKILL, and the other ends with an error. The Job runs the same command again."""
    codes, _ = start_nodes(tmp_path, f"DIES = True\n{DYING}", epochs=2)
    assert 0 not in codes
    (folder,) = (tmp_path / "runs").glob("*/*/*")
    assert not (folder / "summary.json").exists()
    codes, outputs = start_nodes(tmp_path, f"DIES = False\n{DYING}", epochs=2)
    assert codes == [0, 0], [errors for _, errors in outputs]
    assert f"resumed  {folder} after epoch 1" in outputs[0][0]
    assert "epoch 1/2" not in outputs[0][0]
    assert (folder / "summary.json").exists()
    assert list((tmp_path / "runs").glob("*/*/*")) == [folder]
    resumed = (folder / "model.safetensors").read_bytes()
    (tmp_path / "runs").rename(tmp_path / "interrupted")
    codes, outputs = start_nodes(tmp_path, f"DIES = False\n{DYING}", epochs=2)
    assert codes == [0, 0], [errors for _, errors in outputs]
    (folder,) = (tmp_path / "runs").glob("*/*/*")
    assert "resumed" not in outputs[0][0]
    assert (folder / "model.safetensors").read_bytes() == resumed, "the weights differ from an uninterrupted run"
