"""The console command `companion`, and the package outside a checkout."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from companion import console
from conftest import ROOT
from test_house import CHAPTERS, programs


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_all_programs_and_commands_of_a_chapter_are_listed(chapter):
    found = console.entries(chapter)
    trained = [name for name, entry in found.items() if entry.words[0] == f"{chapter}.train"]
    assert sorted(trained) == sorted(module.__name__.rpartition(".")[2] for module in programs(chapter))
    others = {path.stem for path in (ROOT / chapter).glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert set(found) - set(trained) - {"exercises"} == others - {"train"}
    assert all(entry.description for entry in found.values())


@pytest.mark.parametrize("word", ["6", "06", "ch06", "ch06_cnn"])
def test_a_chapter_has_several_names(word):
    assert console.find_chapter(word) == "ch06_cnn"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rum"], "unknown command 'rum'; did you mean run"),
        (["what"], "unknown command 'what'; choose from run, tour, runs, completion"),
        (["run"], "companion run needs a chapter, as in: companion run ch06 cnn --epochs 1"),
        (["run", "11"], "unknown chapter '11'; choose from ch01, ch02"),
        (["run", "ch06", "cmn"], "unknown program 'cmn' in ch06_cnn; did you mean cnn"),
        (["run", "ch02", "cnn"], "unknown program 'cnn' in ch02_nn; choose from descent, simple"),
        (["completion", "fish"], "companion completion needs a shell: bash or zsh"),
    ],
)
def test_mistakes_are_explained_in_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        console.main(words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_without_words_every_chapter_is_shown(capsys):
    console.main([])
    shown = capsys.readouterr().out
    assert [line[:4] for line in shown.splitlines() if re.match(r"ch\d\d  ", line)] == [
        chapter[:4] for chapter in CHAPTERS
    ]
    assert "  detect " in shown


@pytest.mark.parametrize(
    ("words", "started"),
    [
        (["run", "2"], ["ch02_nn.train"]),
        (["run", "2", "--seed", "1"], ["ch02_nn.train", "--seed", "1"]),
        (["run", "ch02", "simple", "--steps", "9"], ["ch02_nn.train", "simple", "--steps", "9"]),
        (["run", "ch06", "detect", "a.jpg"], ["ch06_cnn.detect", "a.jpg"]),
        (["run", "ch01", "exercises", "3"], ["ch01_graphs.exercises", "3"]),
        (["runs", "--json"], ["common.runs", "--json"]),
    ],
)
def test_words_are_passed_on(words, started, monkeypatch):
    calls = []
    monkeypatch.setattr(console, "start", lambda module, arguments: calls.append([module, *arguments]))
    console.main(words)
    assert calls == [started]


def test_completion(capsys):
    assert console.complete([]) == ["run", "tour", "runs", "completion"]
    assert console.complete(["run"]) == [chapter[:4] for chapter in CHAPTERS]
    assert "detect" in console.complete(["run", "ch06"])
    assert console.complete(["completion"]) == ["bash", "zsh"]
    assert console.complete(["run", "ch06", "cnn"]) == []
    for shell in console.SHELLS:
        console.main(["completion", shell])
        if shutil.which(shell):
            checked = subprocess.run([shell, "-n"], input=capsys.readouterr().out, text=True, capture_output=True)
            assert checked.returncode == 0, checked.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_tab_key_completes_programs(tmp_path):
    command = tmp_path / "companion"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m companion "$@"\n')
    command.chmod(0o755)
    script = """\
source <(companion completion bash)
COMP_WORDS=(companion run ch06 spe)
COMP_CWORD=3
_companion
echo "${COMPREPLY[@]}"
"""
    here = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env=os.environ | here, text=True, capture_output=True)
    assert done.stdout.split() == ["speedrun"], done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from the tracked files, without a network."""
    pytest.importorskip("setuptools", minversion="77")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", str(out), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_is_small_and_complete(wheel):
    assert wheel.stat().st_size < 5e6
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = ("common", "companion", *CHAPTERS)
    wanted = {path.relative_to(ROOT).as_posix() for name in packages for path in (ROOT / name).rglob("*.py")}
    assert wanted <= names
    assert not {name for name in names if name.startswith(("tests/", "results/", "docs/", "runs/"))}
    data = ("ch04_cuda/kernels/*.cpp", "ch09_pipeline/Snakefile", "ch10_deploy/playground/*", "companion/tour.html")
    for pattern in (*data, "ch06_cnn/*.md", "common/py.typed"):
        files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern) if path.is_file()}
        assert files <= names, pattern


@pytest.mark.slow
def test_an_installed_package_works_outside_a_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "here").mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}

    def companion(*words):
        command = [sys.executable, "-m", "companion", *words]
        done = subprocess.run(command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "ch06  " in companion()
    assert "runs/ch02_nn/simple/" in companion("run", "ch02", "simple")
    assert "simple" in companion("runs")
    assert "3 of 3 stops succeeded" in companion("tour", "--chapters", "1", "--jobs", "1", "--out", "tours")
    (report,) = (tmp_path / "here" / "tours").rglob("index.html")
    assert "expression" in report.read_text(encoding="utf-8")
