"""Programs killed at random moments and resumed: the list is complete, and different weights are detected."""

import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from common import cli, killtest
from common.config import chapter_and_name
from common.files import read_json
from common.records import ledger, tables
from test_house import PROGRAMS


def test_every_program_that_keeps_checkpoints_and_weights_is_killed():
    resumable = {
        cli._name(module)
        for module in PROGRAMS
        if {"epochs", "save"} <= set(re.findall(r"\brun\.(\w+)\(", Path(module.__file__ or "").read_text()))
    }
    assert resumable == set(killtest.PROGRAMS)
    assert len(resumable) >= 20


@pytest.mark.parametrize("words", killtest.PROGRAMS.values(), ids=list(killtest.PROGRAMS))
def test_the_commands_are_understood(words, monkeypatch):
    door, program, *flags = words.split()
    module = next(m for m in PROGRAMS if chapter_and_name(m.__name__) == (door.removesuffix(".train"), program))
    asked = []
    monkeypatch.setattr(module, "train", asked.append)
    cli.main(module, arguments=[program, *flags])
    assert len(asked) == 1


def test_different_weights_are_detected(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        save_file({"w": torch.zeros(3)}, folder / "model.safetensors")
    assert killtest.same_weights(one, other)
    save_file({"w": torch.tensor([0.0, 0.0, 1e-30])}, other / "model.safetensors")
    assert not killtest.same_weights(one, other)
    save_file({"w": torch.zeros(3)}, other / "model.safetensors")
    save_file({"w": torch.zeros(3)}, other / "more.safetensors")
    assert not killtest.same_weights(one, other)
    (one / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=f"a run must save its weights, got {one}"):
        killtest.same_weights(one, other)


def run_main(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["killtest", *words])
    try:
        killtest.main()
    except SystemExit as stop:
        return stop.code  # pyright: ignore[reportReturnType]
    return 0


@pytest.mark.parametrize("identical", [True, False])
def test_the_verdict_is_printed_and_is_the_exit_code(monkeypatch, tmp_path, capsys, identical):
    moments = []

    def pretend(words: Sequence[str], out, generator):
        moments.append(generator.random())
        return killtest.Outcome(words[1], 1.5, 3, words[1] == "vae", identical or words[1] != "vae")

    monkeypatch.setattr(killtest, "kill_and_resume", pretend)
    code = run_main(monkeypatch, "vae", "gan", "--out", str(tmp_path))
    assert code == (0 if identical else 1)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("vae             killed after 1.5 s, 3 epochs, with a checkpoint; resumed: ")
    assert said[0].endswith("identical weights" if identical else "DIFFERENT WEIGHTS")
    assert said[1].endswith("3 epochs, without a checkpoint; resumed: identical weights")
    assert said[2] == f"{1 + identical} of 2 programs have the weights of the undisturbed run"
    assert moments[0] != moments[1]
    run_main(monkeypatch, "gan", "--out", str(tmp_path))
    assert moments[2] == moments[1], "the moment depends on the other programs"
    run_main(monkeypatch, "gan", "--seed", "1", "--out", str(tmp_path))
    assert moments[3] != moments[1]


def test_a_mistake_is_one_line(monkeypatch, capsys):
    assert run_main(monkeypatch, "vea") == 2
    assert "the programs are regression, simple" in capsys.readouterr().err
    assert run_main(monkeypatch, "vae", "--record") == 2
    assert "--record needs every program" in capsys.readouterr().err


def test_in_the_record_every_program_has_identical_weights():
    entry = tables.read_record("killtest")
    assert {outcome["program"] for outcome in entry["outcomes"]} == set(killtest.PROGRAMS)
    count = float(len(killtest.PROGRAMS))
    assert entry["metrics"]["programs"] == entry["metrics"]["resumed_identically"] == ledger.spread([count])
    assert all(outcome["identical"] for outcome in entry["outcomes"])


@pytest.mark.slow
def test_a_program_is_killed_and_resumed(tmp_path):
    words = ["ch02_nn.train", "fizzbuzz", "--steps", "60", "--hidden-size", "16"]
    outcome = killtest.kill_and_resume(words, tmp_path, random.Random(0))
    assert outcome.program == "fizzbuzz"
    assert outcome.identical
    (whole,), (killed,) = ((tmp_path / name).glob("*/*/*") for name in ("whole", "killed"))
    assert (whole / "summary.json").exists()
    assert read_json(killed / "config.json")["config"]["run"]["resume"] is False, (
        "it was started without --resume, then resumed"
    )
    assert read_json(killed / "summary.json")["config"]["run"]["resume"] is True


def test_a_failing_training_reports_its_last_line(tmp_path):
    with pytest.raises(ValueError, match=r"fizzbuzz failed; last line of its output: .*No module named .chxx"):
        killtest.kill_and_resume(["chxx.train", "fizzbuzz"], tmp_path, random.Random(0))
