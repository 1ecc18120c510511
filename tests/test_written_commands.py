"""Commands in READMEs and docstrings: each one runs, with small settings and embedded data."""

import dataclasses
import importlib.util
import re
import runpy
import shlex
import sys
import textwrap
import typing
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from ch06_cnn.architectures.classics import NETWORKS
from ch07_dqn.mazes.learning_curves import AGENTS
from ch10_deploy.attack.attacks import silent
from common import benchmark, cli
from common.config import RunOptions, deciding_fields, default_of
from common.data.words import vector_files
from common.data.words.vector_files import write_vectors
from common.drawing import plots
from conftest import ROOT, fit_classifiers_once
from small_settings import CONSTANTS
from test_house import CHAPTERS, programs, write_named_config, written_commands

EMBEDDED = [
    *("curve", "delayed", "digits", "diabetes", "houses", "photographs", "shapes", "planted", "pydoc", "grammar"),
    *("scenes", "german", "stories", "cells", "grid", "ring"),
]

SHORTER = {
    "all_epochs": 1,
    "annealed_chains": 10,
    "batch_size": 32,
    "batch_sizes": (16, 32),
    "budget": 0.1,
    "budgets": (0.1, 0.2),
    "chapters": (1,),
    "classes": 100,
    "compile": False,
    "connections": 4,
    "environment_steps": 400,
    "epochs": 1,
    "feature_size": 16,
    "folds": 2,
    "hidden_size": 16,
    "image_size": 32,
    "importance_samples": 50,
    "lags": (5,),
    "large_tests": 2,
    "likelihood_images": 10,
    "loader_batch_size": 16,
    "mazes": 64,
    "measurements": 2,
    "pretraining_epochs": 1,
    "processes": 1,
    "ratings": (1_000,),
    "requests": 40,
    "restarts": 2,
    "rounds": 1,
    "samples": 40,
    "sampling_steps": 3,
    "scratch_epochs": 1,
    "seconds": 0.01,
    "seeds": 1,
    "sizes": (64, 128),
    "starts": 1,
    "steps": 20,
    "temperatures": 50,
    "tests": 10,
    "threshold": 0.0,
    "timesteps": 20,
    "training_steps": 3,
    "width": 8,
    "workers": 1,
}

FEWER: dict[str, dict[str, object]] = {
    "ch06_cnn.architectures.classics": {
        "NETWORKS": {name: NETWORKS[name] for name in ("lenet", "resnet", "stochastic-depth", "vgg")}
    },
    "ch07_dqn.mazes.learning_curves": {"AGENTS": {"dqn": AGENTS["dqn"]}},
    "ch10_deploy.attack.fuzzing": {"ATTACKS": (silent,)},
}
"""Fewer networks, agents and attacks; the chapters' own tests compare all agents and run all attacks."""

FILES = {
    "my_novel.txt": "It was a dark and stormy night. The rain fell in torrents. " * 400,
    "sales.csv": "day,units\n" + "".join(f"{day},{100 + day % 7 * 10 + day % 5}\n" for day in range(400)),
    "vectors.txt": "king 0.1 0.2\nqueen 0.3 0.1\nman 0.1 0.4\n",
    "train.csv": "Id,MSSubClass,LotArea,PoolQC,SalePrice\n"
    + "".join(f"{n},{n % 3 * 20},{8_000 + 37 * n % 900},{'NA' if n % 4 else 'Gd'},{100_000 + n}\n" for n in range(100)),
    "test.csv": "Id,MSSubClass,LotArea,PoolQC\n101,20,8100,NA\n102,40,NA,Gd\n",
    "dialogue.tsv": "".join(f"What is {n} and one?\tIt is {n + 1}.\n" for n in range(300)),
    "fra.txt": "".join(f"I see {n} cats.\tJe vois {n} chats.\n" for n in range(300)),
}


@pytest.fixture(scope="module", autouse=True)
def _one_classifier():
    with pytest.MonkeyPatch.context() as patch:
        fit_classifiers_once(patch)
        yield


@pytest.fixture(autouse=True)
def _empty_pictures(monkeypatch):
    """Write empty pictures: figures are composed here, and rendered in the tests of the chapters."""
    monkeypatch.setattr(plots, "save", lambda _, path: Image.new("L", (1, 1)).save(path))


def shortened(config, folder, **places):
    """Return the Config with small settings, embedded data, its runs in `folder`, and `places` as further settings."""
    limit = 60 if "ch06" in type(config).__module__ else 300  # deep networks take long for each image
    resume = "auto" if config.run.resume else False  # the run that a written --resume names does not exist
    run = dataclasses.replace(config.run, device="cpu", threads=1, limit=limit, out=folder, resume=resume)
    run = dataclasses.replace(run, tensorboard=run.tensorboard and importlib.util.find_spec("tensorboard") is not None)
    changes: dict[str, object] = {"run": run}
    changes |= {name: value for name, value in places.items() if hasattr(config, name)}
    for name, value in SHORTER.items():
        if hasattr(config, name):
            now = getattr(config, name)
            if isinstance(now, str) or (name == "environment_steps" and not now):  # 0: epochs or budget set the length
                continue
            if isinstance(now, tuple) and not isinstance(value, tuple):
                value = (value,)
            changes[name] = min(now, value) if isinstance(now, int | float) and now else value
    if getattr(config, "cutoffs", ()):
        changes["cutoffs"] = (10, 20)  # the embedded vocabulary is small
    if isinstance(getattr(config, "classes", None), tuple):
        changes["classes"] = config.classes[:2]  # held-out classes, not a number of classes
    if hasattr(config, "hidden_sizes"):
        changes["hidden_sizes"] = tuple(min(size, 64) for size in config.hidden_sizes)
    if hasattr(config, "style"):  # the named files do not exist, and published weights may be missing
        features = ("random",) if isinstance(config.features, tuple) else "random"
        changes |= {"content": "flower", "style": "mosaic", "size": 48, "features": features, "folder": None}
        changes |= {"images": 8, "width": 4} if hasattr(config, "images") else {}
    if hasattr(config, "epochs") and hasattr(config, "budget"):
        changes["epochs"] = config.epochs and 1
    if hasattr(config, "data") and "data" not in places and not getattr(config, "text", None):
        allowed = str(typing.get_type_hints(type(config))["data"])
        changes["data"] = next(d for d in [config.data, *EMBEDDED] if d in EMBEDDED and d in allowed)
        if changes["data"] != config.data and hasattr(config, "folder"):
            changes["folder"] = None  # it belongs to the other data set
        for field in dataclasses.fields(config):  # the other data set has its own defaults
            if "data" in deciding_fields(field) and getattr(config, field.name) == default_of(field, config):
                changes.setdefault(field.name, None)
    return dataclasses.replace(config, **changes)


ALREADY_RAN: dict[tuple[str, str, str], dict[str, float]] = {}
"""Metrics of programs by their settings, since some commands differ only in settings that are replaced."""


def assert_runs(chapter, command, monkeypatch, folder, **places):
    """Run a written command in this process with small settings; fail if it does not complete."""
    finished = []
    with monkeypatch.context() as patch:
        for module in programs(chapter):

            def run(config, *data, module=module, train=module.train):
                short = shortened(config, folder, **places)
                if config.run.out.is_relative_to(folder):  # another program runs it, and reads its results
                    return train(
                        dataclasses.replace(short, run=dataclasses.replace(short.run, out=config.run.out)), *data
                    )
                nowhere = dataclasses.replace(short, run=dataclasses.replace(short.run, out=Path()))
                key = module.__name__, str(nowhere), str(places)
                if key not in ALREADY_RAN:
                    ALREADY_RAN[key] = train(short, *data)
                finished.append(ALREADY_RAN[key])
                return ALREADY_RAN[key]

            patch.setattr(module, "train", run)
        for name, constants in (CONSTANTS | FEWER).items():
            for constant, value in constants.items():
                patch.setattr(f"{name}.{constant}", value)

        def measure(module, config, measure=benchmark.measure):
            small = {"batch_size": 16} if hasattr(config, "batch_size") else {}
            finished.append(measure(module, dataclasses.replace(config, **small), rounds=2))
            return finished[-1]

        patch.setattr(benchmark, "measure", measure)
        patch.setattr(benchmark, "ROUND_SECONDS", 0.001)
        patch.setattr(sys, "argv", ["train", *shlex.split(command)])
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # the module is already imported
            runpy.run_module(f"{chapter}.train", run_name="__main__")
    assert finished


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chapter", "command"),
    [
        (chapter, command)
        for chapter in CHAPTERS
        if chapter not in ("ch09_pipeline", "ch10_deploy")
        for command in written_commands(chapter)
        if "--help" not in command
    ],
)
def test_command_runs(chapter, command, monkeypatch, tmp_path):
    if command.startswith("peers"):
        pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed: pip install '.[peers]'")
    for name in set(shlex.split(command)) & set(FILES):
        (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    if vector_files.GLOVE in command:
        write_vectors(tmp_path / "data" / vector_files.GLOVE_FILE, ["the", "was"], torch.ones(2, 50), "glove")
    write_named_config(chapter, command, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert_runs(chapter, command, monkeypatch, tmp_path)


@pytest.mark.slow
def test_commands_of_the_pipeline_run_one_after_another(monkeypatch, tmp_path, warm_python):
    pytest.importorskip("snakemake", reason="Snakemake is not installed: pip install '.[pipeline]'")
    monkeypatch.setattr(sys, "executable", warm_python)
    monkeypatch.chdir(tmp_path)
    for command in ("", "status", "graph", "provenance"):  # the first one creates the results for the others
        assert command in written_commands("ch09_pipeline")
        assert_runs("ch09_pipeline", command, monkeypatch, tmp_path, data=None, model=None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")  # raised in schemathesis
@pytest.mark.parametrize("command", written_commands("ch10_deploy"))
def test_command_of_deployment_runs(command, monkeypatch, tmp_path, trained, models):
    places = {"models": ("digits",), "runs": trained} if not command or "export" in command else {"models": models}
    assert_runs("ch10_deploy", command, monkeypatch, tmp_path, data="embedded", **places)


def test_the_program_that_contributing_adds_is_complete(monkeypatch, tmp_path, capsys):
    found = re.search(
        r"^   ```python\n(.*?)^   ```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M | re.S
    )
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
