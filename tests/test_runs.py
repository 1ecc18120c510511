"""Run folders as a whole: list, compare and remove them, and start a program from the settings of one."""

import io
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from ch02_nn import fizzbuzz
from ch03_autoencoder_rbm.digits import autoencoder, feedforward
from common import cli
from common.config import MOST_THREADS, explicit_flags, to_json
from common.run_folders import removal
from common.run_folders.comparison import different_settings
from common.run_folders.lock import FolderLock, is_locked
from common.run_folders.records import find_run, read_history, read_run, read_runs
from common.runs import main
from test_config import Config as EveryField
from test_house import PROGRAMS

DEVICE = "cpu: Some(R) Processor, 1 thread, fp32"


def make_run(
    out: Path,
    place: str,
    *,
    days: float = 0,
    finished: bool = True,
    epochs: int = 2,
    metrics: dict[str, float] | None = None,
    data: str = "digits",
    **settings,
) -> Path:
    """Write the files of a run that was last used some days ago."""
    folder = out / place
    folder.mkdir(parents=True)
    chapter, program = folder.parent.parent.name, folder.parent.name
    record = {
        "chapter": chapter,
        "program": program,
        "config": {"epochs": 2, "rate": 0.1, **settings, "run": {"seed": 0, "out": "runs", "resume": False}},
        "data": {"name": data, "embedded": True, "sha256": ""},
    }
    write(folder / "config.json", record)
    rows = [{"epoch": n, "steps": 5, "train_loss": 1 / n, "valid_accuracy": 0.5 + n / 10} for n in range(1, epochs + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        known = metrics or {"test_accuracy": 0.9, "train_seconds": 3.0}
        outcome = {"metrics": known, "seconds": 4.25, "steps": 10, "device": DEVICE, "versions": {"torch": "2.14"}}
        write(folder / "summary.json", {**record, **outcome})
        (folder / "model.safetensors").write_bytes(b"x" * 1000)
    age(folder, days)
    return folder


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def age(folder: Path, days: float) -> None:
    """Make a folder look as if it was last changed some days ago."""
    then = time.time() - days * 86_400
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (then, then), follow_symlinks=False)


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "runs"
    make_run(folder, "ch06_cnn/cnn/20260101-100000-s0", days=50, data="cifar-10", metrics={"test_accuracy": 0.76})
    make_run(
        folder, "ch06_cnn/cnn/20260102-100000-s1", days=40, data="cifar-10", metrics={"test_accuracy": 0.77}, rate=0.2
    )
    make_run(folder, "ch08_vae/vae/20260103-100000-s0", days=20, metrics={"test_elbo": -90.0, "train_seconds": 9.0})
    make_run(folder, "ch08_vae/vae/20260104-100000-s0", days=2, finished=False, epochs=3)
    return folder


def listed(out: Path, capsys, *words: str) -> list[dict]:
    main(["--out", str(out), "--json", *words])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# List.


def test_the_list_shows_what_a_run_is(out, capsys):
    main(["--out", str(out)])
    heading, newest, *_, oldest, total = capsys.readouterr().out.splitlines()
    assert heading.split() == ["run", "chapter", "program", "data", "metric", "seconds", "device", "date", "state"]
    assert newest.split("  ")[0] == "20260104-100000-s0"
    assert "valid accuracy 0.8, epoch 3" in newest and newest.endswith("2026-01-04 10:00  interrupted")
    for part in ("ch06_cnn", "cnn", "cifar-10", "test accuracy 0.76", "4.2", "cpu, 1 thread, fp32", "finished"):
        assert part in oldest
    assert total == "4 runs"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), ["0104", "0103", "0102", "0101"]),
        (("--reverse",), ["0101", "0102", "0103", "0104"]),
        (("--chapter", "ch06"), ["0102", "0101"]),
        (("--program", "vae", "--limit", "1"), ["0104"]),
        (("--data", "cifar"), ["0102", "0101"]),
        (("--state", "interrupted"), ["0104"]),
        (("--text", "Rate 0.2"), ["0102"]),
        (("--sort", "metric", "--state", "finished"), ["0102", "0101", "0103"]),
        (("--sort", "seconds"), ["0101", "0102", "0103", "0104"]),
        (("--sort", "program"), ["0101", "0102", "0103", "0104"]),
    ],
)
def test_runs_are_filtered_and_sorted(out, capsys, words, names):
    found = [Path(entry["folder"]).name[4:8] for entry in listed(out, capsys, *words)]
    assert found == names


def test_an_empty_list_tells_how_many_runs_there_are(out, tmp_path, capsys):
    main(["--out", str(out), "--chapter", "ch6"])
    empty = tmp_path / "empty"
    empty.mkdir()
    main(["--out", str(empty)])
    assert capsys.readouterr().out == f"0 runs match, of 4 in {out}\nno runs in {empty}\n"
    assert listed(out, capsys, "--chapter", "ch6") == []


def test_json_holds_settings_and_metrics(out, capsys):
    (entry,) = listed(out, capsys, "--text", "0103-100000")
    assert (entry["metric"], entry["value"], entry["seconds"]) == ("test_elbo", -90.0, 4.25)
    assert entry["settings"] == {"epochs": 2, "rate": 0.1, "seed": 0, "out": "runs", "resume": False}
    assert entry["metrics"] == {"test_elbo": -90.0, "train_seconds": 9.0}
    assert (entry["date"], entry["state"], entry["device"]) == ("2026-01-03T10:00:00", "finished", DEVICE)


def test_runs_at_any_depth_are_found_but_not_runs_within_runs(out, capsys):
    make_run(out, "ledger/ch02/net/0/ch02_nn/simple/20260105-100000-s0")
    make_run(out, "ch08_vae/vae/20260103-100000-s0/inner/a/20260106-100000-s0")
    (out / "notes").mkdir()
    (out / "notes" / "config.json").write_text('{"model_type": "other"}')
    chapters = [entry["chapter"] for entry in listed(out, capsys, "--sort", "chapter")]
    assert chapters == ["ch02_nn", "ch06_cnn", "ch06_cnn", "ch08_vae", "ch08_vae"]


def test_a_locked_run_is_running(out, capsys):
    folder = out / "ch08_vae/vae/20260104-100000-s0"
    assert not is_locked(folder)
    lock = FolderLock(folder)
    assert is_locked(folder)
    assert listed(out, capsys)[0]["state"] == "running"
    lock.release(forget=False)
    assert not is_locked(folder)
    (folder / ".holder.json").write_text("{}")  # the holder was killed
    assert listed(out, capsys)[0]["state"] == "interrupted"


def test_a_run_that_is_being_created_is_running(tmp_path):
    folder = tmp_path / "ch02_nn" / "simple" / "20260101-100000-s0"
    folder.mkdir(parents=True)
    assert read_run(folder, tmp_path).state == "broken"
    lock = FolderLock(folder)
    assert read_run(folder, tmp_path).state == "running"
    lock.release(forget=True)


BROKEN = [
    "",
    "{",
    "[]",
    "[1]",
    "3",
    "null",
    '{"chapter": 3}',
    '{"chapter": "a", "program": "b", "config": []}',
    "[" * 9999,
]


@pytest.mark.parametrize("name", ["config.json", "summary.json"])
@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_broken_files_are_listed_as_such(out, capsys, name, content):
    finished = name == "summary.json"
    folder = make_run(out, "ch02_nn/simple/20260105-100000-s0", finished=finished)
    (folder / name).write_text(content)
    (folder / "metrics.jsonl").write_bytes(b'\xff\n{"epoch"\n[]\n')
    entry = listed(out, capsys)[0]
    assert (entry["state"], entry["chapter"], entry["program"]) == ("broken", "ch02_nn", "simple")
    main(["--out", str(out)])
    output = capsys.readouterr().out
    assert output.splitlines()[-2].startswith(f"broken: {folder}: ")
    assert output.splitlines()[-1] == "5 runs"


def test_half_written_folders_are_listed_as_such(out, capsys):
    empty = out / "ch02_nn/simple/20260105-100000-s0"
    empty.mkdir(parents=True)
    directory = make_run(out, "ch02_nn/simple/20260106-100000-s0", finished=False)
    (directory / "config.json").unlink()
    (directory / "config.json").mkdir()
    entries = listed(out, capsys, "--state", "broken")
    assert [entry["folder"] for entry in entries] == [str(directory), str(empty)]
    assert entries[1]["problem"] == "config.json is missing"


def test_the_last_complete_epoch_counts(out):
    folder = out / "ch08_vae/vae/20260104-100000-s0"
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "train')
    assert read_run(folder, out).metrics["epoch"] == 3
    assert [row["epoch"] for row in read_history(folder)] == [1, 2, 3]
    (folder / "metrics.jsonl").unlink()
    assert read_run(folder, out).metrics == {}


def test_links_are_not_followed(out, tmp_path, capsys):
    elsewhere = make_run(tmp_path / "other", "ch02_nn/simple/20260105-100000-s0", days=99)
    (out / "ch02_nn").symlink_to(elsewhere.parent.parent)
    (out / "ch06_cnn/cnn/20260109-100000-s0").symlink_to(elsewhere)
    assert len(listed(out, capsys)) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lst"], "unknown command 'lst'; choose from list, compare, remove"),
        (["--sort", "size"], "invalid choice 'size'"),
        (["--limit", "0"], "--limit must be at least 1, got 0"),
        (["--out", "nowhere"], "nowhere is not a folder: name the folder of the runs with --out"),
        (["compare", "x"], "compare needs at least two runs, got x"),
        (["compare", "x", "y", "--out", "RUNS"], "no run in RUNS has 'x' in its name: python -m common.runs lists"),
        (["compare", "ch06", "0103", "--out", "RUNS"], "2 runs have 'ch06' in their names (ch06_cnn/cnn/2026"),
        (["compare", "0103", "vae/20260103", "--out", "RUNS"], "compare needs different runs, got "),
        (["compare", "0103", "0104", "--picture", "x.gif"], "--picture must name a file that ends with .png, got"),
        (["remove"], "--older-than must be a number and min, h, d or w, as 30d, got nothing"),
        (["remove", "--older-than", "30"], "--older-than must be a number and min, h, d or w, as 30d, got 30"),
        (["remove", "--older-than", "30m"], "got 30m"),
        (["remove", "--older-than", "30d", "--out", "RUNS"], "add --yes to remove them without being asked"),
    ],
)  # fmt: skip
def test_a_user_error_is_one_line(out, fails, monkeypatch, words, message):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    words = [str(out) if word == "RUNS" else word for word in words]
    assert message.replace("RUNS", str(out)) in fails(main, words)


# Compare.


def test_a_comparison_shows_differences_metrics_and_curves(out, capsys):
    main(["compare", "20260101", "20260102", str(out / "ch08_vae/vae/20260104-100000-s0"), "--out", str(out)])
    output = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert lines[0] == f"A {out}/ch06_cnn/cnn/20260101-100000-s0 (finished)"
    assert "--rate 0.1 0.2 0.1" in lines
    assert "program cnn cnn vae" in lines
    assert "loaded data cifar-10 cifar-10 digits" in lines
    assert "test accuracy 0.76 0.77" in lines
    assert not any("--epochs" in line or "--out" in line for line in lines), "equal settings are not shown"
    picture = out / "comparison.png"
    assert lines[-1] == f"curves: {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_runs_without_epochs_have_no_curves(out, capsys):
    for folder in out.glob("ch06_cnn/cnn/*"):
        (folder / "metrics.jsonl").unlink()
    main(["compare", "20260101", "20260102", "--out", str(out), "--picture", str(out / "c.png")])
    assert capsys.readouterr().out.endswith("no curves: no run has logged an epoch\n")
    assert not (out / "c.png").exists()


def test_a_setting_that_one_run_lacks_is_a_difference(out):
    make_run(out, "ch06_cnn/cnn/20260107-100000-s0", data="cifar-10", dropout=0.5)
    runs = [find_run(name, out) for name in ("20260101", "20260107")]
    assert different_settings(runs) == {"--dropout": [None, 0.5]}


def test_a_broken_run_is_not_compared(out, fails):
    (out / "ch08_vae/vae/20260103-100000-s0/summary.json").write_text("{")
    error = fails(main, ["compare", "20260103", "20260104", "--out", str(out)])
    assert "20260103-100000-s0 cannot be compared, got" in error


def test_the_figure_has_one_line_per_run_and_panel(out):
    from common.drawing import plots

    histories = {name: read_history(find_run(name, out).folder) for name in ("0101-", "0104-")}
    histories["0104-"] = [{"epoch": row["epoch"], "train_loss": row["train_loss"]} for row in histories["0104-"]]
    figure = plots.compared_curves(histories, ["train_loss", "valid_accuracy"])
    first, second = figure.axes
    assert [np.size(line.get_xdata()) for line in first.lines] == [2, 3]
    assert [np.size(line.get_xdata()) for line in second.lines] == [2, 0]
    assert np.array_equal(first.lines[1].get_ydata(), [1, 1 / 2, 1 / 3])


# Remove.


def remove(out: Path, *words: str) -> set[str]:
    """Remove runs; return the names of the folders that are gone."""
    before = set(out.glob("*/*/*"))
    main(["remove", "--out", str(out), *words])
    return {path.name[4:8] for path in before - set(out.glob("*/*/*"))}


def test_runs_older_than_a_time_are_removed(out, capsys):
    assert remove(out, "--older-than", "30d", "--yes") == {"0101", "0102"}
    output = capsys.readouterr().out
    assert "20260101-100000-s0" in output and "20260103" not in output
    assert output.splitlines()[-1] == "removed 2 of 2 run folders, 0.0 MB"
    assert remove(out, "--older-than", "30d", "--yes") == set()
    assert capsys.readouterr().out.startswith("no run to remove")


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (("--older-than", "1d"), {"0101", "0102", "0103", "0104"}),
        (("--older-than", "1d", "--chapter", "ch08"), {"0103", "0104"}),
        (("--older-than", "24h", "--state", "interrupted"), {"0104"}),
        (("--older-than", "6w", "--data", "cifar"), {"0101"}),
        (("--older-than", "1d", "--text", "rate 0.2"), {"0102"}),
        (("--older-than", "99d"), set()),
    ],
)
def test_the_filters_of_the_list_apply(out, words, gone):
    assert remove(out, *words, "--yes") == gone


@pytest.mark.parametrize(("answer", "number"), [("y", 2), ("", 0), ("n", 0), ("no", 0)])
def test_it_asks_and_shows_the_size(out, monkeypatch, answer, number):
    asked = []
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or answer)
    (out / "ch06_cnn/cnn/20260101-100000-s0/inner").mkdir()
    (out / "ch06_cnn/cnn/20260101-100000-s0/inner/large").write_bytes(b"x" * 2_000_000)
    age(out / "ch06_cnn/cnn/20260101-100000-s0", 50)
    assert len(remove(out, "--older-than", "30d")) == number
    assert asked == ["remove 2 run folders, 2.0 MB? [y/N] "]


def test_a_change_of_any_file_makes_a_run_young(out):
    with (out / "ch06_cnn/cnn/20260101-100000-s0/metrics.jsonl").open("a") as file:
        file.write("{}\n")
    assert remove(out, "--older-than", "30d", "--yes") == {"0102"}


def test_a_running_run_is_kept(out, capsys):
    folder = out / "ch06_cnn/cnn/20260101-100000-s0"
    lock = FolderLock(folder)
    age(folder, 50)
    assert remove(out, "--older-than", "30d", "--yes") == {"0102"}
    assert f"kept: {folder} is running" in capsys.readouterr().out
    lock.release(forget=True)


def test_a_run_that_starts_between_question_and_removal_is_kept(out, capsys, monkeypatch):
    folder = out / "ch06_cnn/cnn/20260101-100000-s0"
    locks = []
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("builtins.input", lambda _: locks.append(FolderLock(folder)) or "y")
    assert remove(out, "--older-than", "30d") == {"0102"}
    assert f"kept: {folder}: {folder} is in use by process {os.getpid()}" in capsys.readouterr().out
    assert (folder / "model.safetensors").exists()
    locks[0].release(forget=True)


def test_only_run_folders_are_removed(out, tmp_path, capsys):
    """Broken folders, renamed runs, runs in a foreign place, other folders and the targets of links are kept."""
    broken = make_run(out, "ch02_nn/simple/20250101-100000-s0", days=99)
    (broken / "config.json").unlink()
    (broken / "summary.json").write_text("{")
    renamed = make_run(out, "ch02_nn/simple/my-best-run", days=99)
    moved = make_run(out, "ch02_nn/simple/20250102-100000-s0", days=99)
    moved = moved.rename(out / "ch06_cnn" / moved.name)
    other = out / "ch02_nn/simple/thesis"
    other.mkdir()
    (other / "text").write_text("")
    elsewhere = make_run(tmp_path / "other", "ch02_nn/simple/20250103-100000-s0", days=99)
    (out / "ch02_nn/simple/20250103-100000-s0").symlink_to(elsewhere)
    inside = out / "ch06_cnn/cnn/20260101-100000-s0"
    (inside / "data").symlink_to(elsewhere.parent)
    (inside / "file").symlink_to(elsewhere / "config.json")
    for folder in (broken, moved, other, inside):
        age(folder, 99)
    remove(out, "--older-than", "30d", "--yes")
    assert not inside.exists()
    assert all(path.exists() for path in (broken, renamed, moved, other))
    assert len(list(elsewhere.iterdir())) == 4
    assert f"kept: {broken} is broken" in capsys.readouterr().out


def test_a_removal_that_was_cut_short_can_be_repeated(out, monkeypatch, capsys):
    folder = out / "ch06_cnn/cnn/20260101-100000-s0"
    (folder / "inner").mkdir()

    def fail(path):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(removal.shutil, "rmtree", fail)
        assert not removal.remove_folder(folder)
    assert "Permission denied" in capsys.readouterr().out
    assert not is_locked(folder)
    assert read_run(folder, out).state in ("finished", "interrupted"), "it still is a run folder"
    assert removal.remove_folder(folder)
    assert not folder.exists()


# Start from a saved config.json.


@pytest.fixture
def started(monkeypatch):
    """A function that starts feedforward with flags and returns its Config; it is not trained."""
    configs = []
    monkeypatch.setattr(feedforward, "train", configs.append)

    def start(*words) -> feedforward.Config:
        cli.main(feedforward, autoencoder, arguments=["feedforward", *map(str, words)])
        return configs.pop()

    return start


def saved(path: Path, program: str = "feedforward", **changes) -> Path:
    config = to_json(feedforward.Config())
    for name, value in changes.items():
        part = config["run"] if name in config["run"] else config
        part[name] = value
    write(path, {"chapter": "ch03_autoencoder_rbm", "program": program, "config": config, "data": None})
    return path


def test_a_run_from_its_own_config_has_the_same_weights(options):
    config = fizzbuzz.Config(hidden_size=64, steps=20, learning_rate=0.003, run=replace(options, limit=300, seed=3))
    fizzbuzz.train(config)
    (first,) = config.run.out.glob("*/*/*")
    again = options.out.with_name("again")
    cli.main(fizzbuzz, arguments=["fizzbuzz", "--config", str(first), "--out", str(again)])
    (second,) = again.glob("*/*/*")
    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    there, here = (json.loads((folder / "config.json").read_text())["config"] for folder in (first, second))
    there["run"]["out"] = str(again)
    assert there == here


def test_flags_override_the_file(started, tmp_path):
    path = saved(tmp_path / "c.json", epochs=7, shift=3, seed=4, limit=50, threads=10**6, out="/there", resume=True)
    config = started("--config", path)
    assert (config.epochs, config.shift, config.run.seed, config.run.limit) == (7, 3, 4, 50)
    assert config.run.threads == MOST_THREADS
    assert (config.run.out, config.run.resume) == (Path("runs"), False), "these belong to one run only"
    config = started("--seed", 5, f"--config={path}", "--epochs", 9)
    assert (config.epochs, config.shift, config.run.seed) == (9, 3, 5)
    assert started() == feedforward.Config()


def test_defaults_follow_the_setting_that_decides_them():
    settings = to_json(EveryField(name="b", height=9))
    settings |= settings.pop("run")
    flags = explicit_flags(settings, EveryField)
    kind = cli.Measurement[EveryField]
    assert cli.parse(kind, flags, prog="", description="").config == EveryField(name="b", height=9)


def test_a_dependent_default_is_not_frozen_by_the_file(monkeypatch, tmp_path):
    from ch03_autoencoder_rbm.films import recommender

    configs = []
    monkeypatch.setattr(recommender, "train", configs.append)
    config = recommender.Config()
    write(tmp_path / "c.json", {"chapter": "ch03_autoencoder_rbm", "program": "recommender", "config": to_json(config)})
    words = ["recommender", "--config", str(tmp_path / "c.json"), "--visible", "binary"]
    cli.main(recommender, arguments=words)
    assert configs == [recommender.Config(visible="binary")]


@pytest.mark.parametrize("module", PROGRAMS[::8], ids=lambda module: module.__name__)
def test_every_config_survives_the_file(module):
    settings = to_json(module.Config())
    settings |= settings.pop("run")
    flags = explicit_flags({**settings, "seed": 3}, module.Config)
    found = cli.parse(cli.Measurement[module.Config], flags, prog="", description="").config
    assert found == replace(module.Config(), run=replace(module.Config().run, seed=3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochz": 3}, "c.json: unknown setting epochz; did you mean epochs?"),
        ({"colour": "red"}, "c.json: unknown setting colour; remove it from the file, if it is outdated"),
        ({"data": "emnist"}, "c.json: invalid choice 'emnist' for argument '--data'"),
        ({"epochs": "many"}, "c.json: --epochs: expected INT, got many"),
        ({"batch_size": 0}, "c.json: --batch-size must be a number above 0, got 0"),
        ({"batch_size": [1, 2]}, "c.json: --batch-size takes one value, got [1, 2]"),
        ({"batch_size": {}}, "c.json: --batch-size takes one value, got {}"),
        ({"limit": -1}, "c.json: --limit must be at least 1, got -1"),
        ({"program": "autoencoder"}, "another program: start it with python -m ch03_autoencoder_rbm.train autoencoder"),
    ],
)
def test_a_bad_setting_is_named_with_its_file(started, fails, tmp_path, changes, message):
    path = saved(tmp_path / "c.json", **changes)
    error = fails(started, "--config", path)
    assert message in error
    assert str(path) in error


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"chapter": "a", "program": "b", "config": 3}', "7"])
def test_a_file_that_is_no_config_is_refused(started, fails, tmp_path, content):
    path = tmp_path / "c.json"
    path.write_text(content)
    error = fails(started, "--config", path)
    assert str(path) in error
    assert "is not" in error


def test_a_missing_file_is_named(started, fails, tmp_path):
    assert "--config" in fails(started, "--config")
    assert f"--config {tmp_path}/config.json does not exist" in fails(started, "--config", tmp_path)
    error = fails(cli.main, feedforward, autoencoder, arguments=["--config", "x"])
    assert "--config needs a program name: python -m ch03_autoencoder_rbm.train feedforward --config x" in error


def test_a_setting_that_the_file_lacks_has_its_default(started, tmp_path, capsys):
    path = saved(tmp_path / "c.json", epochs=7)
    record = json.loads(path.read_text())
    del record["config"]["shift"], record["config"]["run"]["precision"]
    write(path, record)
    assert started("--config", path) == replace(feedforward.Config(), epochs=7)
    assert capsys.readouterr().out == f"config   {path} does not have shift: default used\n"


def test_runs_are_read_one_at_a_time(out):
    runs = read_runs(out)
    assert next(runs).name == "ch06_cnn/cnn/20260101-100000-s0"
    assert [run.state for run in runs] == ["finished", "finished", "interrupted"]
