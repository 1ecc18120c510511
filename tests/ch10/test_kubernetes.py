"""Manifests: validation by the schemas of Kubernetes, and consistency, which schemas do not check."""

import copy
import functools
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import onnxruntime
import pytest
import yaml

from ch06_cnn.speedrun import speedrun
from ch10.test_batch import write_model
from ch10_deploy import serve
from ch10_deploy.batch import Options as BatchOptions
from ch10_deploy.inference import models
from ch10_deploy.server.app import create_app
from ch10_deploy.server.gate import PROBES
from common import cli
from conftest import ROOT

DEPLOY = ROOT / "ch10_deploy" / "cluster"
OVERLAYS = ["kubernetes/overlays/cpu", "kubernetes/overlays/gpu", "kubernetes/overlays/canary"]
WITHOUT_SERVER = ["kubernetes/batch", "training/job", "training/kubeflow"]
EVERYTHING = [*OVERLAYS, *WITHOUT_SERVER]
VERSIONS = ["1.35", "1.36", kubernetes_validate.latest_version()]
"""From the first version of Kubernetes with image volumes enabled by default, to the newest installed schema."""

OTHERS = {"HTTPRoute", "TrainJob"}
"""Kinds without a schema of Kubernetes: HTTPRoute is tested below, TrainJob in ch10/test_training.py."""

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@functools.cache
def built(folder: str) -> tuple[dict[str, Any], ...]:
    done = subprocess.run(["kubectl", "kustomize", DEPLOY / folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # for example, a deprecated field
    return tuple(yaml.safe_load_all(done.stdout))


def objects(folder: str, kind: str | None = None) -> list[dict[str, Any]]:
    return [copy.deepcopy(thing) for thing in built(folder) if kind in (None, thing["kind"])]


def named(things: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    found = [thing for thing in things if thing["kind"] == kind and thing["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def workloads(things: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [thing for thing in things if thing["kind"] in ("Deployment", "Job")]


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    return workload["spec"]["template"]["spec"]


def selected(things: list[dict[str, Any]], labels: dict[str, str]) -> list[str]:
    """Return the names of the workloads whose pods have these labels."""
    return [
        thing["metadata"]["name"]
        for thing in workloads(things)
        if labels.items() <= thing["spec"]["template"]["metadata"]["labels"].items()
    ]


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield all keys with their values, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


@needs_kubectl
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", EVERYTHING)
def test_objects_are_valid_according_to_the_strict_schema(folder, version):
    known = [thing for thing in objects(folder) if thing["kind"] not in OTHERS]
    assert known, "no object was validated"
    for thing in known:
        kubernetes_validate.validate(thing, version, strict=True)  # raises for an invalid object


@needs_kubectl
def test_the_strict_schema_rejects_a_typo_and_a_wrong_type():
    (deployment,) = objects("kubernetes/overlays/cpu", "Deployment")
    pod_of(deployment)["terminationGracePeriod"] = 30
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)
    (deployment,) = objects("kubernetes/overlays/cpu", "Deployment")
    pod_of(deployment)["containers"][0]["env"][0]["value"] = 8
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


@needs_kubectl
@pytest.mark.parametrize("folder", EVERYTHING)
def test_objects_are_in_the_namespace_and_have_unique_names(folder):
    things = objects(folder)
    assert {thing["metadata"].get("namespace") for thing in things if thing["kind"] != "Namespace"} == {"deep-learning"}
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in things]
    assert len(names) == len(set(names))


@needs_kubectl
@pytest.mark.parametrize("folder", EVERYTHING)
def test_selectors_match_the_intended_pods(folder):
    things = objects(folder)
    for thing in things:
        name, spec = thing["metadata"]["name"], thing.get("spec", {})
        match thing["kind"]:
            case "Deployment" | "PodDisruptionBudget":
                assert selected(things, spec["selector"]["matchLabels"]) == [name]
            case "Service":
                assert selected(things, spec["selector"]) == [name]
            case "NetworkPolicy" if spec["podSelector"] and folder != "training/kubeflow":
                assert selected(things, spec["podSelector"]["matchLabels"])
            case "HorizontalPodAutoscaler":
                target = named(things, spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])
                assert target["apiVersion"] == spec["scaleTargetRef"]["apiVersion"]
                assert "replicas" not in target["spec"], (
                    "applying the file must not reset the autoscaler's number of replicas"
                )
                for container in pod_of(target)["containers"]:
                    assert "cpu" in container["resources"]["requests"], "utilisation is relative to the requested CPU"
        for constraint in (workload for workload in workloads([thing])):
            for spread in pod_of(constraint).get("topologySpreadConstraints", []):
                assert selected(things, spread["labelSelector"]["matchLabels"]) == [name]


@needs_kubectl
@pytest.mark.parametrize("folder", EVERYTHING)
def test_named_ports_exist(folder):
    things = objects(folder)
    ports = {
        workload["metadata"]["name"]: {
            port["name"]: port["containerPort"]
            for container in pod_of(workload)["containers"]
            for port in container.get("ports", [])
        }
        for workload in workloads(things)
    }
    for thing in things:
        spec = thing.get("spec", {})
        if thing["kind"] == "Service":
            (target,) = selected(things, spec["selector"])
            assert {port["targetPort"] for port in spec["ports"]} <= ports[target].keys()
        if thing["kind"] == "NetworkPolicy" and spec["podSelector"]:
            named_ports = {
                port["port"]
                for rule in spec.get("ingress", [])
                for port in rule.get("ports", [])
                if isinstance(port["port"], str)
            }
            for target in selected(things, spec["podSelector"]["matchLabels"]):
                assert named_ports <= ports[target].keys()
        for workload in workloads([thing]):
            for container in pod_of(workload)["containers"]:
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    if probe in container:
                        assert container[probe]["httpGet"]["port"] in {port["name"] for port in container["ports"]}


@needs_kubectl
@pytest.mark.parametrize("folder", OVERLAYS)
def test_probes_and_prometheus_use_paths_that_need_no_key(folder, tmp_path):
    write_model(tmp_path, "digits")
    app = create_app(tmp_path)
    answered = {route.path for route in app.routes if "GET" in getattr(route, "methods", ())}  # pyright: ignore[reportAttributeAccessIssue]
    for deployment in objects(folder, "Deployment"):
        (container,) = pod_of(deployment)["containers"]
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        probes = [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
        paths = [*probes, annotations["prometheus.io/path"]]
        assert paths == ["/healthz", "/readyz", "/healthz", "/metrics"]
        assert set(paths) <= answered
        assert set(paths) <= set(PROBES), "the path requires the key"
        (port,) = container["ports"]
        assert port["containerPort"] == serve.Options().port == int(annotations["prometheus.io/port"])


@needs_kubectl
@pytest.mark.parametrize("folder", OVERLAYS)
def test_environment_and_mounts_match_the_options_of_the_server(folder):
    for deployment in objects(folder, "Deployment"):
        pod = pod_of(deployment)
        (container,) = pod["containers"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        options = cli.parse(serve.Options, serve.flags_of(environment), prog="serve", description="")
        assert len(serve.flags_of(environment)) == 2 * len(environment), "a variable that the server does not read"
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert {mount["name"] for mount in mounts.values()} == volumes.keys()
        assert "image" in volumes[mounts[str(options.models)]["name"]]
        assert options.api_key_file is not None
        assert "secret" in volumes[mounts[str(options.api_key_file.parent)]["name"]]
        unwritable = [path for path, mount in mounts.items() if mount.get("readOnly")]
        assert sorted(unwritable) == ["/models", "/run/secrets/deploy"]
        worst = options.drain_seconds + options.timeout + 1  # serve.py: drain, then uvicorn's graceful shutdown
        assert worst + 5 <= pod["terminationGracePeriodSeconds"], (
            "the server may be killed before its responses are complete"
        )
        probe = container["readinessProbe"]
        assert options.drain_seconds >= probe["periodSeconds"] * 1.5, (
            "the drain ends before a readiness probe has failed"
        )


def violations(pod: dict[str, Any]) -> list[str]:
    """List violations of the profile `restricted` of the Pod Security Standards, and of further rules."""
    found = []
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True:
        found.append("may be root")
    if not context.get("runAsUser", 0) > 0:
        found.append("no user id")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("any system call")
    for flag in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(flag):
            found.append(flag)
    if pod.get("automountServiceAccountToken") is not False:
        found.append("a token of the cluster")
    allowed = {"configMap", "downwardAPI", "emptyDir", "image", "persistentVolumeClaim", "projected", "secret"}
    found += [f"volume {volume['name']}" for volume in pod.get("volumes", []) if not allowed & volume.keys()]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            found.append("privilege escalation")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            found.append("capabilities")
        if own.get("readOnlyRootFilesystem") is not True:
            found.append("writable root")
        if own.get("privileged") or own.get("runAsUser") == 0 or own.get("runAsNonRoot") is False:
            found.append("overrules the pod")
        if not {"cpu", "memory"} <= container.get("resources", {}).get("requests", {}).keys():
            found.append("no requests")
        if "memory" not in container.get("resources", {}).get("limits", {}):
            found.append("no limit of memory")
    return found


@needs_kubectl
@pytest.mark.parametrize("folder", [*OVERLAYS, "kubernetes/batch", "training/job"])
def test_pods_are_restricted(folder):
    pods = [pod_of(workload) for workload in workloads(objects(folder))]
    assert pods
    for pod in pods:
        assert violations(pod) == []
    for change, expected in (
        (lambda pod: pod["securityContext"].update(runAsNonRoot=False), "may be root"),
        (lambda pod: pod["securityContext"].pop("seccompProfile"), "any system call"),
        (lambda pod: pod.update(hostNetwork=True), "hostNetwork"),
        (lambda pod: pod.pop("automountServiceAccountToken"), "a token of the cluster"),
        (lambda pod: pod["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"), "writable root"),
        (lambda pod: pod["containers"][0]["securityContext"].update(capabilities={"add": ["NET_RAW"]}), "capabilities"),
        (lambda pod: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}), "volume host"),
        (lambda pod: pod["containers"][0]["resources"].pop("limits"), "no limit of memory"),
    ):
        broken = copy.deepcopy(pods[0])
        change(broken)
        assert violations(broken) == [expected]


@needs_kubectl
def test_the_namespace_enforces_restrictions_and_denies_traffic():
    things = objects("kubernetes/overlays/cpu")
    (namespace,) = [thing for thing in things if thing["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    policies = {thing["metadata"]["name"]: thing["spec"] for thing in things if thing["kind"] == "NetworkPolicy"}
    assert policies.keys() == {"default-deny", "server-http"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies["server-http"]["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    assert policies["server-http"]["policyTypes"] == ["Ingress"]


@needs_kubectl
@pytest.mark.parametrize("folder", EVERYTHING)
def test_references_are_defined_or_explained(folder):
    things = objects(folder)
    page = (DEPLOY.parent / "CLUSTER.md").read_text(encoding="utf-8")
    for key, value in walk(things):
        match key:
            case "persistentVolumeClaim":
                named(things, "PersistentVolumeClaim", value["claimName"])
            case "secret" | "secretRef" | "secretKeyRef":
                name = value.get("secretName") or value["name"]
                assert f"kubectl create secret generic {name} " in page
            case "serviceAccountName" | "configMap" | "configMapRef" | "configMapKeyRef":
                raise AssertionError(f"{key} {value} is not defined")
            case "image" | "reference" if isinstance(value, str):
                assert re.fullmatch(r"deep-learning-(server|models|training):\d[\w.-]*", value), (
                    "an image without a tag"
                )


@needs_kubectl
@pytest.mark.parametrize("folder", OVERLAYS)
def test_autoscaler_and_budget_keep_a_pod_running(folder):
    things = objects(folder)
    scalers = [thing for thing in things if thing["kind"] == "HorizontalPodAutoscaler"]
    assert len(scalers) == len(objects(folder, "Deployment"))
    for thing in scalers:
        scaler = thing["spec"]
        assert scaler["minReplicas"] >= 2
        assert scaler["maxReplicas"] > scaler["minReplicas"]
        (metric,) = scaler["metrics"]
        assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
        budget = named(things, "PodDisruptionBudget", thing["metadata"]["name"])["spec"]
        assert budget["maxUnavailable"] < scaler["minReplicas"]


ROUTE = {  # the fields of HTTPRoute (Gateway API v1) that are used here
    "apiVersion": None,
    "kind": None,
    "metadata": {"name": None, "namespace": None, "labels": {"app.kubernetes.io/part-of": None}},
    "spec": {
        "parentRefs": [{"name": None, "namespace": None}],
        "hostnames": [None],
        "rules": [
            {
                "matches": [{"path": {"type": None, "value": None}}],
                "backendRefs": [{"name": None, "port": None, "weight": None}],
            }
        ],
    },
}


def has_shape(value: Any, shape: Any) -> bool:
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(key in shape and has_shape(value[key], shape[key]) for key in value)
    if isinstance(shape, list):
        return isinstance(value, list) and all(has_shape(inner, shape[0]) for inner in value)
    return not isinstance(value, dict | list)


@needs_kubectl
def test_the_canary_has_other_models_and_receives_a_tenth_of_the_requests():
    things = objects("kubernetes/overlays/canary")
    route = named(things, "HTTPRoute", "server")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert has_shape(route, ROUTE)
    (rule,) = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert {backend["name"]: backend["weight"] for backend in rule["backendRefs"]} == {
        "server": 90,
        "server-canary": 10,
    }
    pods = []
    for backend, track in zip(rule["backendRefs"], ("stable", "canary"), strict=True):
        service = named(things, "Service", backend["name"])
        assert service["spec"]["selector"]["track"] == track
        assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}
        (target,) = selected(things, service["spec"]["selector"])
        pods.append(pod_of(named(things, "Deployment", target)))
    references = [volume["image"].pop("reference") for pod in pods for volume in pod["volumes"] if "image" in volume]
    assert len(set(references)) == 2, "both versions have the same models"
    for pod in pods:
        pod.pop("topologySpreadConstraints")  # each version spreads its own pods
    assert pods[0] == pods[1], "the versions differ in more than their models"
    parent = route["spec"]["parentRefs"][0]
    page = " ".join((DEPLOY.parent / "CLUSTER.md").read_text(encoding="utf-8").split())
    assert f"`{parent['name']}` in the namespace `{parent['namespace']}`" in page


@needs_kubectl
def test_the_gpu_overlay_requests_a_gpu_and_the_cuda_image():
    things = objects("kubernetes/overlays/gpu")
    deployment = named(things, "Deployment", "server")
    pod = pod_of(deployment)
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["image"].endswith("-cuda")
    tag = container["image"].partition(":")[2]
    assert f"--tag deep-learning-server:{tag} --build-arg 'ONNXRUNTIME=onnxruntime-gpu" in (
        " ".join((DEPLOY.parent / "CLUSTER.md").read_text(encoding="utf-8").replace("\\\n", " ").split())
    )
    gpus = [group for group in groups() if group["spec"].get("nodeLabels")]
    for group in gpus:
        assert pod["nodeSelector"].items() <= group["spec"]["nodeLabels"].items()
        for taint in group["spec"]["taints"]:
            key, _, effect = re.fullmatch(r"([^=]+)=(\w+):(\w+)", taint).groups()  # pyright: ignore[reportOptionalMemberAccess]
            assert {"key": key, "operator": "Exists", "effect": effect} in pod["tolerations"]
    assert gpus
    rolling = deployment["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 1, "maxSurge": 0}, "a new pod waits for the GPU of the old one"


def test_cuda_is_used_if_the_build_supports_it(monkeypatch):
    assert models.providers() == ["CPUExecutionProvider"]
    loaded = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loaded.append(True), raising=False)
    several = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: several)
    assert models.providers() == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert loaded


@needs_kubectl
def test_the_batch_job_matches_the_options_of_the_program():
    (job,) = objects("kubernetes/batch", "Job")
    spec = job["spec"]
    (container,) = pod_of(job)["containers"]
    assert container["command"] == ["python", "-m", "ch10_deploy.batch"]
    options = cli.parse(BatchOptions, container["args"], prog="batch", description="")
    assert spec["completionMode"] == "Indexed"  # sets JOB_COMPLETION_INDEX
    assert options.shards == spec["completions"] >= spec["parallelism"]
    assert options.shard is None, "all pods have the same shard"
    mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    for path in (options.models, options.images, options.out):
        assert any(Path(path or "").is_relative_to(mount) for mount in mounts), f"{path} is on no volume"
    rules = {rule["action"]: rule for rule in spec["podFailurePolicy"]["rules"]}
    codes = rules["FailIndex"]["onExitCodes"]
    assert (codes["containerName"], codes["values"]) == (container["name"], [cli.USER_ERROR])
    assert rules["Ignore"]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]


def cluster() -> dict[str, Any]:
    return next(yaml.safe_load_all((DEPLOY / "kops" / "cluster.yaml").read_text(encoding="utf-8")))


def groups() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kops" / "cluster.yaml").read_text(encoding="utf-8")))[1:]


def test_the_cluster_file_is_consistent_and_secure():
    name, spec = cluster()["metadata"]["name"], cluster()["spec"]
    for side in ("kubernetesApiAccess", "sshAccess"):
        assert spec[side]
        assert all(int(cidr.rpartition("/")[2]) >= 24 for cidr in spec[side]), f"{side} is public"
    assert spec["authorization"] == {"rbac": {}}
    assert spec["kubelet"]["anonymousAuth"] is False
    assert set(spec["topology"].values()) == {"private"}
    assert spec["metricsServer"]["enabled"], "the autoscaler needs metrics"
    assert spec["networking"] == {"cilium": {}}, "others, such as kubenet, ignore NetworkPolicies"
    assert ".".join(spec["kubernetesVersion"].split(".")[:2]) in VERSIONS
    assert spec["configBase"].endswith(name)
    subnets = {subnet["name"]: subnet["type"] for subnet in spec["subnets"]}
    roles = {group["metadata"]["name"]: group["spec"]["role"] for group in groups()}
    assert sorted(roles.values()) == ["Master", "Node", "Node"]
    for group in groups():
        assert group["metadata"]["labels"]["kops.k8s.io/cluster"] == name
        assert {subnets[subnet] for subnet in group["spec"]["subnets"]} == {"Private"}
        assert group["spec"]["instanceMetadata"] == {"httpTokens": "required", "httpPutResponseHopLimit": 1}
        assert group["spec"]["rootVolumeEncryption"] is True
    for etcd in spec["etcdClusters"]:
        for member in etcd["etcdMembers"]:
            assert roles[member["instanceGroup"]] == "Master"
            assert member["encryptedVolume"] is True


def test_manifests_contain_no_secrets_and_no_public_access():
    files = [path for path in DEPLOY.rglob("*") if path.suffix == ".yaml" or "Dockerfile" in path.name]
    assert len(files) > 20
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"AKIA[0-9A-Z]{16}|AWS_(ACCESS|SECRET)|PRIVATE KEY|password", text, re.I), path
        assert not re.search(r"(0\.0\.0\.0|::)/0|envsubst|hostPath|type: (NodePort|LoadBalancer)$", text, re.M), path


def page_commands() -> list[str]:
    """List the commands in the code blocks of the page, with continued lines joined."""
    page = (DEPLOY.parent / "CLUSTER.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S)).replace("\\\n", " ")
    return [line.partition(" # ")[0].strip() for line in blocks.splitlines()]


@needs_kubectl
def test_commands_of_the_page_have_existing_paths_and_valid_flags(monkeypatch):
    commands = page_commands()
    assert len(commands) > 25
    for command in commands:
        for path in re.findall(r"(?<![\w/])ch10_deploy/[\w./-]+", command):
            assert (ROOT / path).exists(), path
    text = "\n".join(commands)
    for folder in EVERYTHING:
        assert f"kubectl apply --kustomize ch10_deploy/cluster/{folder}\n" in text + "\n"
    for match in re.finditer(r"^python -m ch10_deploy\.batch (.*)$", text, re.M):
        cli.parse(BatchOptions, shlex.split(match[1]), prog="batch", description="")
    configs = []
    monkeypatch.setattr(speedrun, "train", configs.append)
    for match in re.finditer(r"torchrun -m ch06_cnn\.train (.*)$", text, re.M):
        cli.main(speedrun, arguments=shlex.split(match[1]))
    assert len(configs) == 2
    for tag in ("deep-learning-server:0.1.0", "deep-learning-models:1", "deep-learning-training:0.1.0"):
        assert f"--tag {tag} " in text
        assert any(tag in str(thing) for folder in EVERYTHING for thing in built(folder))


def set_images(words: list[str], folder: Path) -> None:
    """Replace `kustomize edit set image`, which kubectl lacks."""
    path = folder / "kustomization.yaml"
    file = yaml.safe_load(path.read_text(encoding="utf-8"))
    images = {image["name"]: image for image in file["images"]}
    for name, _, image in (word.partition("=") for word in words):
        place, _, tag = image.rpartition(":")
        images[name] = {"name": name, "newName": place, "newTag": tag}
    file["images"] = [images[name] for name in sorted(images)]
    path.write_text(yaml.safe_dump(file), encoding="utf-8")


@needs_kubectl
def test_the_registry_is_set_in_one_place(tmp_path):
    (words,) = [shlex.split(command) for command in page_commands() if command.startswith("kustomize edit set image ")]
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    set_images(words[4:], tmp_path / "kubernetes" / "versions")
    for folder in [*OVERLAYS, "kubernetes/batch"]:
        before, after = (
            [
                value
                for key, value in walk(list(built(where)))
                if key in ("image", "reference") and isinstance(value, str)
            ]
            for where in (folder, str(tmp_path / folder))
        )
        assert before
        assert after == [f"registry.example.com/{image}" for image in before], folder


def test_the_metrics_on_the_page_exist(tmp_path):
    write_model(tmp_path, "digits")
    names = {family.name for family in create_app(tmp_path).state.gate.metrics.registry.collect()}
    page = (DEPLOY.parent / "CLUSTER.md").read_text(encoding="utf-8")
    assert {"requests", "request_seconds"} <= names
    assert "`requests_total` and `request_seconds`" in page
