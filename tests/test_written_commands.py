"""Every command that a README or a docstring shows runs: the very command, cut short, on embedded data."""

import dataclasses
import importlib.util
import re
import runpy
import shlex
import sys
import textwrap
import typing
import warnings

import pytest
from conftest import ROOT
from test_house import CHAPTERS, programs, written_commands

from common import benchmark, cli
from common.config import RunOptions

EMBEDDED = ["digits", "shapes", "planted", "pydoc", "grammar"]

SHORTER = {
    "annealed_chains": 10,
    "batch_sizes": (16, 32),
    "budget": 0.5,
    "compile": False,
    "epochs": 1,
    "importance_samples": 50,
    "lags": (5,),
    "large_tests": 2,
    "likelihood_images": 10,
    "mazes": 64,
    "pretraining_epochs": 1,
    "processes": 1,
    "ratings": (1_000,),
    "rounds": 1,
    "samples": 40,
    "seconds": 0.01,
    "sizes": (64, 128),
    "starts": 1,
    "steps": 20,
    "temperatures": 50,
    "tests": 10,
    "training_steps": 3,
    "workers": 1,
}

FILES = {
    "my_novel.txt": "It was a dark and stormy night. The rain fell in torrents. " * 400,
    "sales.csv": "day,units\n" + "".join(f"{day},{100 + day % 7 * 10 + day % 5}\n" for day in range(400)),
    "fra.txt": "".join(f"I see {n} cats.\tJe vois {n} chats.\n" for n in range(300)),
}


def shortened(config, folder):
    """The Config with less of everything that takes time, embedded data, and its run below a folder."""
    changes: dict[str, object] = {"run": dataclasses.replace(config.run, device="cpu", limit=300, out=folder)}
    for name, value in SHORTER.items():
        if hasattr(config, name):
            now = getattr(config, name)
            if isinstance(now, str):
                continue
            changes[name] = min(now, value) if isinstance(now, int | float) and now else value
    if hasattr(config, "hidden_sizes"):
        changes["hidden_sizes"] = tuple(min(size, 64) for size in config.hidden_sizes)
    if hasattr(config, "epochs") and hasattr(config, "budget"):
        changes["epochs"] = config.epochs and 1
    if hasattr(config, "data") and not getattr(config, "text", None):
        allowed = str(typing.get_type_hints(type(config))["data"])
        changes["data"] = next(d for d in [config.data, *EMBEDDED] if d in EMBEDDED and d in allowed)
    return dataclasses.replace(config, **changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chapter", "command"),
    [(chapter, command) for chapter in CHAPTERS for command in written_commands(chapter) if "--help" not in command],
)
def test_command_runs(chapter, command, monkeypatch, tmp_path):
    for name in set(shlex.split(command)) & set(FILES):
        (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark, "ROUND_SECONDS", 0.001)
    finished = []
    for module in programs(chapter):

        def run(config, train=module.train):
            finished.append(train(shortened(config, tmp_path)))

        monkeypatch.setattr(module, "train", run)
    monkeypatch.setattr(
        benchmark, "measure", lambda *job, measure=benchmark.measure: finished.append(1) or measure(*job, rounds=2)
    )
    monkeypatch.setattr(sys, "argv", ["train", *shlex.split(command)])
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # the door is imported already
        runpy.run_module(f"{chapter}.train", run_name="__main__")
    assert finished


def test_the_program_that_the_readme_adds_is_whole(monkeypatch, tmp_path, capsys):
    found = re.search(r"^   ```python\n(.*?)^   ```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert found
    path = tmp_path / "my_program.py"
    path.write_text(textwrap.dedent(found[1]), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("ch02_nn.my_program", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    cli.main(module, arguments=["my_program", "--steps", "300", "--out", str(tmp_path)])
    assert "distance" in capsys.readouterr().out
    metrics = module.train(module.Config(steps=300, run=RunOptions(out=tmp_path)))
    assert metrics["test_distance"] < 1e-6
