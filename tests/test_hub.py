"""Load models from run folders: `common.runs.load`, and the entries of hubconf.py for torch.hub."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_model
from torch import nn

import common.runs
from ch02_nn import simple
from ch03_autoencoder_rbm.digits import feedforward
from ch05_rnn.language import language_model
from common.config import chapter_and_name, to_json
from common.data.text.vocabulary import Vocabulary
from conftest import ROOT
from test_house import PROGRAMS

WITHOUT_ENTRY = {
    "ch01_graphs.regression": "compares variants of one step",
    "ch02_nn.simple": "three weights",
    "ch02_nn.tables.tables": "restores several models of tables with named columns",
    "ch06_cnn.style.style": "the model is one picture",
    "ch07_dqn.mazes.book": "reproduces the errors of the book",
}


def hub(entry: str, **words) -> Any:
    return torch.hub.load(str(ROOT), entry, source="local", **words)


def local_entries() -> dict[str, Callable[..., Any]]:
    """Return the entries as torch.hub finds them: callables without an underscore."""
    from torch.hub import _import_module

    module = _import_module("hubconf", str(ROOT / "hubconf.py"))
    return {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("_")}


def save_run(out: Path, module, config, model: nn.Module, number: int = 0) -> Path:
    """Write the files from which a program restores its model."""
    chapter, program = chapter_and_name(module.__name__)
    folder = out / chapter / program / f"20260101-00000{number}-s0"
    folder.mkdir(parents=True)
    record = {"chapter": chapter, "program": program, "config": to_json(config), "data": None}
    for name in ("config.json", "summary.json"):
        (folder / name).write_text(json.dumps(record))
    save_model(model, str(folder / "model.safetensors"))
    return folder


@pytest.fixture
def run(tmp_path):
    return save_run(tmp_path, feedforward, feedforward.Config(), feedforward.FeedForward())


def weights(model: nn.Module) -> list[float]:
    return [value for parameter in model.parameters() for value in parameter.flatten()[:5].tolist()]


def test_a_run_is_loaded_by_the_program_that_made_it(run):
    model, config = common.runs.load(run)
    assert isinstance(model, feedforward.FeedForward)
    assert not model.training
    assert config == feedforward.Config()
    expected, _ = feedforward.restore(run)
    pixels = torch.rand(3, 784)
    assert model(pixels).equal(expected(pixels))
    assert weights(common.runs.load(str(run))[0]) == weights(model)


def test_torch_hub_loads_the_named_or_the_newest_run(run, tmp_path, monkeypatch):
    named = hub("digits", run=str(run))
    assert isinstance(named, nn.Module)
    assert not named.training
    assert weights(named) == weights(feedforward.restore(run)[0])
    newer = save_run(tmp_path, feedforward, feedforward.Config(), feedforward.FeedForward(), number=1)
    assert weights(hub("digits", runs=str(tmp_path))) == weights(feedforward.restore(newer)[0]) != weights(named)
    monkeypatch.chdir(tmp_path.parent)
    tmp_path.rename(tmp_path.parent / "runs")
    assert weights(hub("digits")) == weights(feedforward.restore(Path("runs") / newer.relative_to(tmp_path))[0])


def test_a_language_model_comes_with_its_vocabulary(tmp_path):
    vocabulary, config = Vocabulary(("a", "b", "c")), language_model.Config(hidden_size=8, data="pydoc")
    folder = save_run(tmp_path, language_model, config, language_model.make_model(3, config))
    vocabulary.save(folder / "vocabulary.json")
    model, loaded = hub("language_model", run=str(folder))
    assert loaded == vocabulary
    logits, _ = model(torch.tensor([[0], [2]]), model.initial_state(1))
    assert logits.shape == (2, 1, 3)


def test_every_program_that_saves_a_model_has_an_entry():
    calls = {inspect.getsource(entry): entry for entry in local_entries().values()}
    covered = {source.rpartition('_restored("')[2].partition('"')[0]: entry for source, entry in calls.items()}
    saving = {
        module.__name__
        for module in PROGRAMS
        if hasattr(module, "restore") and module.restore.__module__ == module.__name__
    }
    assert covered.keys() | WITHOUT_ENTRY.keys() == saving
    assert not covered.keys() & WITHOUT_ENTRY.keys()
    for module, entry in covered.items():
        chapter, program = chapter_and_name(module)
        assert f"`{chapter}.train {program}`" in (entry.__doc__ or ""), "the docstring does not name the program"


@pytest.mark.parametrize("entry", sorted(local_entries()))
def test_without_a_run_an_entry_names_the_command_that_trains_one(entry, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no finished run: train one with python -m ch\d\d_\w+\.train \w+"):
        hub(entry, runs=str(tmp_path))


def test_a_run_of_another_program_is_refused(run):
    with pytest.raises(ValueError, match=r"is a run of ch03_autoencoder_rbm\.digits\.feedforward, not of ch06_cnn"):
        hub("cnn", run=str(run))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"chapter": "ch03_autoencoder_rbm", "program": "lost"}, "the program 'lost', which ch03_autoencoder_rbm does"),
        ({"chapter": "ch77_lost", "program": "x"}, "names the chapter ch77_lost, which cannot be imported"),
        ({"chapter": "os", "program": "path"}, "is not the config.json of a run: its chapter is 'os'"),
        ({"chapter": "ch03_autoencoder_rbm.x", "program": "path"}, "is not the config.json of a run"),
        ({"chapter": 3}, "its chapter is 3"),
        ([], "its chapter is None"),
        ({"chapter": "ch02_nn", "program": "descent"}, "a run of ch02_nn.descent, which does not save a model"),
        ({"chapter": "ch05_rnn", "program": "restarts"}, "restarts, which does not save a model"),
    ],
)
def test_an_unknown_program_is_one_error(tmp_path, record, message):
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message):
        common.runs.load(tmp_path)


def test_what_is_missing_is_named(run):
    with pytest.raises(FileNotFoundError, match="is not a run folder: it has no"):
        common.runs.load(run.parent)
    (run / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors does not exist: has this run finished\?"):
        common.runs.load(run)


def test_the_config_comes_last(tmp_path):
    folder = save_run(tmp_path, simple, simple.Config(), simple.Net().to(torch.float64))
    model, *others, config = common.runs.load(folder)
    assert isinstance(model, nn.Module)
    assert others == []
    assert isinstance(config, simple.Config)
