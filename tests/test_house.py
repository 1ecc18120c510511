"""The plan of the house: who may import whom, what a program is made of, what start-up loads."""

import ast
import dataclasses
import importlib
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

from common import benchmark, cli, ledger, tables
from common.config import RunOptions
from common.files import read_json


def programs(chapter: str) -> list[ModuleType]:
    """The programs that a chapter's door knows."""
    known = vars(importlib.import_module(f"{chapter}.train")).values()
    return [module for module in known if isinstance(module, ModuleType) and hasattr(module, "Config")]


CHAPTERS = sorted(path.parent.name for path in ROOT.glob("ch*/__init__.py"))
PROGRAMS = [module for chapter in CHAPTERS for module in programs(chapter)]
FLOOR = {"common": 0, "ch09_pipeline": 2, "ch10_deploy": 2, "tour": 3}


def floor(package: str) -> int:
    return FLOOR.get(package, 1)


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add((node.module or "").split(".")[0])
    return found


def test_imports_run_downwards_only():
    own = {"common", "tour", *CHAPTERS}
    files = [path for package in ("common", *CHAPTERS) for path in (ROOT / package).rglob("*.py")] + [ROOT / "tour.py"]
    assert len(files) > 10
    for path in files:
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for other in (imported_packages(path) & own) - {here}:
            assert floor(other) < floor(here), f"{path.relative_to(ROOT)} imports {other}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_starting_a_chapter_sets_the_thread_policy_before_torch_and_loads_nothing_heavy(chapter):
    script = f"""
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            assert os.environ["GOMP_SPINCOUNT"] == "2000", "torch is loaded before the policy is set"
sys.meta_path.insert(0, Watch())
import {chapter}.train
assert "torch" in sys.modules
heavy = {{"matplotlib", "polars", "sklearn", "torchvision", "pandas"}} & set(sys.modules)
assert not heavy, heavy
"""
    clean = {"PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_thread_policy_keeps_what_the_user_has_set():
    script = "import os, common; print(os.environ['GOMP_SPINCOUNT'])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"GOMP_SPINCOUNT": "77"}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "77"


@pytest.mark.parametrize("module", PROGRAMS, ids=lambda module: module.__name__)
def test_program_has_its_parts(module):
    chapter, _, program = module.__name__.rpartition(".")
    assert f"python -m {chapter}.train {program}" in (module.__doc__ or "")
    config = module.Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.run = None
    assert isinstance(config.run, RunOptions)
    assert callable(module.train)


@pytest.mark.parametrize("module", PROGRAMS, ids=lambda module: module.__name__)
def test_help_explains_every_flag_with_its_default(module, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(module, arguments=[cli._name(module), "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for config in (module.Config(), RunOptions()):
        for name, default in vars(config).items():
            if name != "run":
                switch = "no-" if default is True else ""  # what is on can be switched off
                assert f"--{switch}{name.replace('_', '-')} " in text
    flags = sum(name != "run" for name in vars(module.Config())) + len(vars(RunOptions())) + hasattr(module, "workload")
    assert text.count("(default: ") == flags
    assert module.__doc__ and module.__doc__.splitlines()[0] in text


def written_commands(chapter: str) -> list[str]:
    """Every command of a chapter's door that a README or a docstring shows."""
    files = [ROOT / "README.md", *(path for path in (ROOT / chapter).rglob("*") if path.suffix in (".md", ".py"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    found = re.findall(rf"^\s*(?:torchrun .*-m|python -m) {chapter}\.train(.*)$", text, re.M)
    return sorted({command.partition("#")[0].strip() for command in found})


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_command_that_is_written_down_is_understood(chapter, monkeypatch):
    calls = []
    for module in programs(chapter):
        monkeypatch.setattr(module, "train", lambda config, module=module: calls.append((module, config)))
    monkeypatch.setattr(benchmark, "run_benchmark", lambda package, jobs: calls.append(jobs))
    commands = written_commands(chapter)
    for module in programs(chapter):
        assert any(command.startswith(cli._name(module)) for command in commands), f"{module.__name__} is nowhere shown"
    for command in commands:
        if "--help" in command:
            continue
        calls.clear()
        monkeypatch.setattr(sys, "argv", ["train", *shlex.split(command)])
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # it is imported already
            runpy.run_module(f"{chapter}.train", run_name="__main__")
        assert calls, command


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_readmes_have_one_shape(chapter):
    text = (ROOT / chapter / "README.md").read_text(encoding="utf-8")
    assert re.match(rf"# Chapter {int(chapter[2:4])}: [^\n]+\n\n[A-Z]", text), "a title, and the idea below it"
    places = [
        text.find(part)
        for part in ("| file | what it shows |", f"python -m {chapter}.train", "<!-- ledger: ", "## Exercises")
    ]
    assert -1 not in places
    assert places == sorted(places), "what there is, how it is started, what it gave, what to try"
    assert re.search(r"^## The book's .+ (beside|and) ", text, re.M), "what the book does, beside ours"


def test_readme_tables_are_what_was_recorded():
    assert tables.stale_readmes() == []


def test_every_record_is_shown_and_whole():
    shown = " ".join(match["records"] for path in tables.readmes() for match in tables.TABLE.finditer(path.read_text()))
    records = sorted(set(tables.RESULTS.glob("*.json")) - {tables.RESULTS / "devices.json"})
    assert records
    for path in records:
        if path.stem.startswith("gpu-"):  # those of `make gpu`, which belong to the machine that made them
            continue
        assert path.stem in shown.split(), f"{path.name} is in no README"
        entry = read_json(path)
        assert entry["n"] == len(entry["seeds"]) >= 1
        for figure in entry["metrics"].values():
            assert figure == ledger.spread(figure["values"])
