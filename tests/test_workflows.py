"""The workflows of GitHub: valid, with pinned actions, and with commands that exist."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
JOBS = [(path.stem, name, job) for path in WORKFLOWS for name, job in yaml.safe_load(path.read_text())["jobs"].items()]
NAMES = [f"{workflow}-{name}" for workflow, name, _ in JOBS]


def schema_errors(schema, path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_follow_the_schema(path, tmp_path):
    pytest.importorskip("check_jsonschema")
    assert not schema_errors("github-workflows", path)
    broken = tmp_path / "broken.yml"
    broken.write_text(path.read_text().replace("runs-on:", "run-on:"))
    assert "runs-on" in schema_errors("github-workflows", broken)


def test_dependabot_follows_the_schema():
    pytest.importorskip("check_jsonschema")
    assert not schema_errors("dependabot", ROOT / ".github" / "dependabot.yml")


def test_zizmor_finds_no_security_problem():
    tool = Path(sys.executable).with_name("zizmor")
    if not tool.exists():
        pytest.skip("zizmor is not installed")
    command = [str(tool), "--offline", "--no-progress", str(ROOT / ".github")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("job", [job for *_, job in JOBS], ids=NAMES)
def test_commands_of_workflows_exist(job):
    makefile = (ROOT / "Makefile").read_text()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        for target in re.findall(r"\bmake ([\w-]+)", command):
            assert re.search(rf"^{target}:", makefile, re.M), target
        for script in re.findall(r"(?:^|\s)(\.ci/\S+)", command):
            assert os.access(ROOT / script, os.X_OK), script
        for program in re.findall(r"python (\w+\.py)", command):
            assert (ROOT / program).is_file(), program


def test_the_audit_fails_if_it_cannot_look_up_a_package():
    steps = next(job["steps"] for *_, name, job in JOBS if name == "audit")
    (audit,) = [step["run"] for step in steps if step.get("run", "").startswith("pip-audit")]
    assert {"--strict", "constraints.txt"} <= set(audit.split())


def test_the_oldest_supported_python_is_tested():
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    versions = next(job["strategy"]["matrix"]["python"] for *_, name, job in JOBS if name == "fast")
    assert versions[0] == oldest
    assert all(isinstance(version, str) for version in versions), "3.10 without quotes is 3.1"


def test_hooks_run_tools_that_the_makefile_installs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text()
    for hook in hooks:
        assert hook["entry"].replace(".venv/bin", "$(BIN)") in makefile
